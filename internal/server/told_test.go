package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"abaca/internal/server"
	"abaca/internal/test/serve"
)

// A mishap is a kind of failure: what it breaks, what a tenant then asks for, and what the tenant is told.
type mishap struct {
	says  string
	root  bool // whether it takes root
	does  func(*misfortune)
	tells string
}

// A misfortune is a server with a share and a backup of it, to which something happens.
type misfortune struct {
	*testing.T
	*serve.Server
	tenant        *serve.Client
	share, backup string
	hidden        []string // what no tenant may read
}

func (m *misfortune) must(err error) {
	m.Helper()
	if err != nil {
		m.Fatal(err)
	}
}

func (m *misfortune) mount(dir, options string) {
	m.Helper()
	m.must(unix.Mount("none", dir, "tmpfs", 0, options))
	m.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			m.Error(err)
		}
	})
}

// again starts the server anew, after something was done to what it keeps or with another configuration.
func (m *misfortune) again(change func(*server.Config), options ...server.Option) {
	m.Helper()
	m.Stop()
	c := m.Config
	if change != nil {
		change(&c)
	}
	m.Server = serve.StartWith(m.T, c, append(options, server.WithAuthenticator(people{}))...)
	m.tenant = by(m.Server, m.tenant.Token)
}

// elsewhere has the tenant ask for something while the back end takes no work, and the server know another one instead after that.
func (m *misfortune) elsewhere(status int, key, method, path string, body any) (answer object) {
	m.Helper()
	by(m.Server, "root:admins:admin").Must(200, "", "PUT", "/services/disable", object{"host": "abaca@local", "binary": "manila-share"})
	answer = m.tenant.Must(status, key, method, path, body)
	m.again(func(c *server.Config) {
		c.Backends = []server.BackendConfig{{Name: "new", Driver: "directory", Path: filepath.Join(c.DataDir, "new")}}
	}, server.WithSearch(0))
	return answer
}

func (m *misfortune) repository() string { return filepath.Join(m.Config.DataDir, "repository") }

// noRepository puts a file where the project's repository was.
func (m *misfortune) noRepository() {
	m.Helper()
	m.again(func(*server.Config) {
		entries, err := os.ReadDir(m.repository())
		m.must(err)
		for _, e := range entries {
			path := filepath.Join(m.repository(), e.Name())
			m.must(os.RemoveAll(path))
			m.must(os.WriteFile(path, []byte("what was here is gone"), 0o600))
		}
	})
}

func (m *misfortune) backUp(ends string) string {
	m.Helper()
	id := m.tenant.Must(202, "share_backup", "POST", "/share-backups", object{"share_backup": object{"share_id": m.share}})["id"].(string)
	m.tenant.AtRest("/share-backups/"+id, "share_backup", ends)
	return id
}

func (m *misfortune) restore(ends string) {
	m.Helper()
	m.tenant.Must(202, "restore", "POST", "/share-backups/"+m.backup+"/action", object{"restore": nil})
	m.tenant.AtRest("/shares/"+m.share, "share", ends)
}

func (m *misfortune) fill(dir string) {
	m.Helper()
	err := os.WriteFile(filepath.Join(dir, "filler"), make([]byte, 64<<20), 0o600)
	if !errors.Is(err, unix.ENOSPC) {
		m.Fatalf("the file system is not full: %v", err)
	}
}

func (m *misfortune) snapshot(ends string) string {
	m.Helper()
	id := m.tenant.Must(202, "snapshot", "POST", "/snapshots", object{"snapshot": object{"share_id": m.share}})["id"].(string)
	m.tenant.AtRest("/snapshots/"+id, "snapshot", ends)
	return id
}

const internal = "an internal error"

var mishaps = []mishap{
	{"a backup of a share whose directory is gone", false, func(m *misfortune) {
		m.must(os.RemoveAll(m.Share(m.share)))
		m.backUp("error")
	}, "002 create share backup {}: the share's directory cannot be opened"},
	{"a restore into a share whose directory is gone", false, func(m *misfortune) {
		m.must(os.RemoveAll(m.Share(m.share)))
		m.restore("backup_restoring_error")
	}, "028 restore share backup {}: the share's directory cannot be opened"},
	{"a backup into a repository that cannot be opened", false, func(m *misfortune) {
		m.noRepository()
		m.backUp("error")
	}, "002 create share backup {}: the storage of backups fails"},
	{"a restore from a repository that cannot be opened", false, func(m *misfortune) {
		m.noRepository()
		m.restore("backup_restoring_error")
	}, "028 restore share backup {}: the storage of backups fails"},
	{"a deletion from a repository that cannot be opened", false, func(m *misfortune) {
		m.noRepository()
		m.tenant.Must(202, "", "DELETE", "/share-backups/"+m.backup, nil)
		m.tenant.AtRest("/share-backups/"+m.backup, "share_backup", "error")
	}, "007 delete share backup {}: the storage of backups fails"},
	{"a snapshot into a repository that cannot be opened", false, func(m *misfortune) {
		m.noRepository()
		m.snapshot("error")
	}, "002 create share snapshot {}: the storage of backups fails"},
	{"the deletion of a snapshot from a repository that cannot be opened", false, func(m *misfortune) {
		id := m.snapshot("available")
		m.noRepository()
		m.tenant.Must(202, "", "DELETE", "/snapshots/"+id, nil)
		m.tenant.AtRest("/snapshots/"+id, "snapshot", "error_deleting")
	}, "007 delete share snapshot {}: the storage of backups fails"},
	{"a restore where the project's key is damaged", false, func(m *misfortune) {
		m.again(func(*server.Config) {
			keys, err := filepath.Glob(filepath.Join(m.repository(), "*", "secret"))
			m.must(err)
			for _, key := range keys {
				m.must(os.WriteFile(key, []byte("what was here is gone"), 0o600))
			}
		})
		m.restore("backup_restoring_error")
	}, "028 restore share backup {}: " + internal},
	{"a share of a back end that is configured no more", false, func(m *misfortune) {
		body := object{"share_backup": object{"share_id": m.share}}
		id := m.elsewhere(202, "share_backup", "POST", "/share-backups", body)["id"].(string)
		m.tenant.AtRest("/share-backups/"+id, "share_backup", "error")
	}, "002 create share backup {}: the share's back end is not configured"},
	{"a share that no directory can be made for", false, func(m *misfortune) {
		m.must(os.RemoveAll(filepath.Join(m.Config.DataDir, "shares")))
		id := m.tenant.Must(200, "share", "POST", "/shares", object{"share": object{"share_proto": "NFS", "size": 1}})["id"].(string)
		m.tenant.AtRest("/shares/"+id, "share", "error")
	}, "002 create share: " + internal},
	{"a share with the files of a snapshot that cannot be read", false, func(m *misfortune) {
		id := m.snapshot("available")
		m.noRepository()
		share := m.tenant.Must(200, "share", "POST", "/shares", object{"share": object{"share_proto": "NFS", "size": 1, "snapshot_id": id}})["id"].(string)
		m.tenant.AtRest("/shares/"+share, "share", "error")
	}, "002 create share: the storage of backups fails"},
	{"damage that a restore meets", false, func(m *misfortune) {
		m.must(serve.FlipBit(m.Config.DataDir))
		m.must(os.Remove(filepath.Join(m.Share(m.share), "large")))
		m.restore("backup_restoring_error")
	}, "028 restore share backup {}: 1 entries could not be restored:\n\"large\": saved data is missing or damaged"},
	{"a directory that is another file system's", true, func(m *misfortune) {
		m.mount(filepath.Join(m.Share(m.share), "inner"), "size=64k")
		m.backUp("available")
	}, "002 create share backup {}: 1 file could not be read or written whole:\n\"inner\": "},
	{"a share that cannot be deleted", false, func(m *misfortune) {
		m.tenant.Must(202, "", "DELETE", "/share-backups/"+m.backup, nil)
		m.tenant.AtRest("/share-backups/"+m.backup, "share_backup", "gone")
		m.elsewhere(202, "", "DELETE", "/shares/"+m.share, nil)
		m.tenant.AtRest("/shares/"+m.share, "share", "error_deleting")
	}, "007 delete share: the share's back end is not configured"},
	{"a restore into a full file system", true, func(m *misfortune) {
		dir := m.Share(m.share)
		m.mount(dir, "size=1m,mode=0777")
		m.fill(dir)
		m.must(os.Rename(filepath.Join(dir, "filler"), filepath.Join(dir, "large"))) // which is not the backup's
		m.must(os.Chmod(dir, 0o777))
		m.restore("backup_restoring_error")
	}, "028 restore share backup {}: the share's file system is full"},
	{"a backup that the repository has no room for", true, func(m *misfortune) {
		m.again(func(*server.Config) {
			copied := filepath.Join(m.TempDir(), "copied")
			copyTree(m.T, m.repository(), copied)
			m.mount(m.repository(), "size=6m,mode=0700")
			copyTree(m.T, copied+"/.", m.repository())
		})
		m.must(os.WriteFile(filepath.Join(m.Share(m.share), "more"), random(8<<20), 0o600))
		m.backUp("error")
	}, "002 create share backup {}: the storage of backups is full"},
}

func TestATenantIsToldOfEachKindOfFailureAndNothingOfTheServer(t *testing.T) {
	t.Parallel()
	for _, test := range mishaps {
		t.Run(test.says, func(t *testing.T) {
			t.Parallel() // most of the time is waited for storages to recover
			if test.root && os.Geteuid() != 0 {
				t.Skip("NOT TESTED: mounting takes root")
			}
			m := &misfortune{T: t, Server: serve.Start(t, server.WithAuthenticator(people{}))}
			m.tenant = by(m.Server, "ann:demo:member")
			host, err := os.Hostname()
			m.must(err)
			key, err := os.ReadFile(m.Config.MasterKeyFile)
			m.must(err)
			m.hidden = []string{m.Config.DataDir, host, strings.TrimSpace(string(key)), "/tmp", "goroutine", ".go:"}
			m.share = m.tenant.NewShare("docs")
			m.must(os.Mkdir(filepath.Join(m.Share(m.share), "inner"), 0o755))
			m.must(os.WriteFile(filepath.Join(m.Share(m.share), "large"), random(2<<20), 0o600))
			m.backup = m.tenant.NewBackup(m.share)
			test.does(m)
			m.isTold(test.tells)
			m.learnsNothing()
		})
	}
}

// isTold finds the one message, which says what was wanted and names a request that was made.
func (m *misfortune) isTold(want string) {
	m.Helper()
	_, answer := m.tenant.Do("GET", "/messages", nil)
	list := answer["messages"].([]any)
	if len(list) != 1 {
		m.Fatalf("the tenant is told %v", list)
	}
	o := list[0].(object)
	text := fmt.Sprintf("%v %v", o["action_id"], o["user_message"])
	before, after, _ := strings.Cut(want, "{}")
	if !strings.HasPrefix(text, before) || !strings.Contains(text, after) {
		m.Errorf("the tenant is told %q, want %q", text, want)
	}
	id, _ := o["request_id"].(string)
	if !slices.ContainsFunc(audits(m.T, m.Server), func(a object) bool { return a["request_id"] == id && a["event"] == "request" }) {
		m.Errorf("the message's request id is %q", id)
	}
	if o["resource_type"] != "SHARE" || o["project_id"] != "demo" {
		m.Errorf("the message is about %v %v of %v", o["resource_type"], o["resource_id"], o["project_id"])
	}
}

// learnsNothing reads all that a tenant can read.
func (m *misfortune) learnsNothing() {
	m.Helper()
	for _, path := range []string{"/messages", "/shares/detail", "/share-backups/detail", "/snapshots/detail", "/types", "/limits"} {
		_, answer := m.tenant.Do("GET", path, nil)
		b, err := json.Marshal(answer)
		m.must(err)
		text := strings.ReplaceAll(string(b), m.URL, "") // which the tenant knows
		for _, secret := range m.hidden {
			if strings.Contains(text, secret) {
				m.Errorf("%s tells %q: %s", path, secret, text)
			}
		}
	}
}

func TestATenantIsToldOfARefusedTarget(t *testing.T) {
	s := serve.Start(t, server.WithAuthenticator(people{}))
	ann, eve, root := by(s, "ann:demo:member"), by(s, "eve:other:member"), by(s, "root:admins:admin")
	share, small := ann.NewShare("docs"), ann.NewShare("small")
	foreign, public := eve.NewShare("private"), root.Must(200, "share", "POST", "/shares",
		object{"share": object{"share_proto": "NFS", "size": 1, "is_public": true}})["id"].(string)
	root.AtRest("/shares/"+public, "share", "available")
	backup := ann.NewBackup(share)
	restore := func(c *serve.Client, target any, status int) string {
		t.Helper()
		key := map[int]string{400: "badRequest", 403: "forbidden", 404: "itemNotFound"}[status]
		return c.Must(status, key, "POST", "/share-backups/"+backup+"/action", object{"restore": target})["message"].(string)
	}
	root.Must(202, "", "POST", "/shares/"+small+"/action", object{"reset_status": object{"status": "error"}})
	told := []struct {
		by            *serve.Client
		target, about string
		status        int
	}{
		{ann, small, small, 400},
		{ann, foreign, share, 404},
		{ann, "00000000-0000-4000-8000-000000000000", share, 404},
		{ann, public, share, 403},
	}
	var answers []string
	for range 3 { // once is enough
		answers = nil
		for _, r := range told {
			answers = append(answers, restore(r.by, r.target, r.status))
		}
	}
	restore(ann, strings.Repeat("x", 10_000), 404)
	restore(ann, "no\x00id", 400)
	restore(eve, small, 404) // the backup is not hers: no target was looked at
	root.Must(202, "", "POST", "/shares/"+share+"/action", object{"reset_status": object{"status": "error"}})
	restore(ann, nil, 400) // no target was named

	_, answer := ann.Do("GET", "/messages?sort_dir=asc", nil)
	list := answer["messages"].([]any)
	if len(list) != len(told) {
		t.Fatalf("told are %v", list)
	}
	for i, m := range list {
		o, want := m.(object), fmt.Sprintf("restore share backup %s: the target share was refused: %s", backup, answers[i])
		if o["user_message"] != want || o["action_id"] != "028" || o["detail_id"] != "032" || o["resource_id"] != told[i].about || o["request_id"] == nil {
			t.Errorf("%v, want %q about %s", o, want, told[i].about)
		}
	}
	if _, answer := eve.Do("GET", "/messages", nil); len(answer["messages"].([]any)) != 0 {
		t.Errorf("whose share it is was told %v", answer)
	}
}

func TestAnOldRequestIsToldWithItsOwnId(t *testing.T) {
	// Who asks is known to whoever does the work later, in another process.
	dir := t.TempDir()
	inside := make(chan struct{}, 1)
	first := serve.StartIn(t, dir, server.WithAuthenticator(people{}), server.WithStep(func(ctx context.Context, name string) error {
		if name != "create_backup: opened" {
			return nil
		}
		inside <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}))
	ann := by(first, "ann:demo:member")
	share := ann.NewShare("docs")
	ann.Must(202, "share_backup", "POST", "/share-backups", object{"share_backup": object{"share_id": share}})
	<-inside
	first.Stop()
	if err := os.RemoveAll(first.Share(share)); err != nil {
		t.Fatal(err)
	}
	second := serve.StartIn(t, dir, server.WithAuthenticator(people{}))
	by(second, "ann:demo:member").AtRest("/shares/"+share, "share", "available")
	m := &misfortune{T: t, Server: second, tenant: by(second, "ann:demo:member")}
	m.isTold("002 create share backup {}: the share's directory cannot be opened")
}

// random returns bytes that do not compress, the same ones each time.
func random(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{}).Read(b)
	return b
}

package server_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"abaca"
	"abaca/internal/server"
	"abaca/internal/test/faultfs"
	"abaca/internal/test/serve"
)

// never is longer than any test takes, soon is not.
const (
	never = time.Hour
	soon  = time.Second
)

// remote is a server with a back end on a file server that can be made to hang, beside one that cannot.
type remote struct {
	*serve.Server
	t  *testing.T
	fs *faultfs.FS
}

const remoteHost = "abaca@remote#remote"

func startRemote(t *testing.T, fs *faultfs.FS, trees, others int, options ...server.Option) *remote {
	t.Helper()
	c, err := serve.Config(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	c.Workers.Trees, c.Workers.Others = trees, others
	c.Backends = []server.BackendConfig{
		{Name: "local", Driver: "directory", Path: filepath.Join(c.DataDir, "shares")},
		{Name: "remote", Driver: "directory", Path: fs.Dir},
	}
	return &remote{Server: serve.StartWith(t, c, options...), t: t, fs: fs}
}

// adopt asks for a directory of the remote back end to become a share.
func (s *remote) adopt(name string) (status int, id string) {
	s.t.Helper()
	status, answer := s.Do("POST", "/shares/manage", object{"share": object{
		"service_host": remoteHost, "export_path": filepath.Join(s.fs.Dir, name), "protocol": "NFS", "name": name,
	}})
	if status == http.StatusOK {
		id = answer["share"].(object)["id"].(string)
	}
	return status, id
}

// remoteShare makes a share with files on the remote back end.
func (s *remote) remoteShare(name string) string {
	s.t.Helper()
	dir := filepath.Join(s.fs.Dir, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		s.t.Fatal(err)
	}
	plant(s.t, dir)
	status, id := s.adopt(name)
	if status != http.StatusOK {
		s.t.Fatalf("manage: %d", status)
	}
	s.AtRest("/shares/"+id, "share", "available")
	return id
}

// localShare makes a share with files on the other.
func (s *remote) localShare(name string) string {
	id := s.NewShare(name)
	plant(s.t, s.Share(id))
	return id
}

func (s *remote) beginBackup(share string) string {
	s.t.Helper()
	return s.Must(202, "share_backup", "POST", "/share-backups", object{"share_backup": object{"share_id": share}})["id"].(string)
}

func (s *remote) reset(path string, to abaca.Status) {
	s.t.Helper()
	s.Must(202, "", "POST", path+"/action", object{"reset_status": object{"status": to}})
}

// answers asks what clients ask, of which nothing may touch the file server.
func (s *remote) answers(share string) {
	s.t.Helper()
	began := time.Now()
	for _, path := range []string{
		"/shares/detail", "/shares/" + share, "/shares/" + share + "/export_locations", "/share-backups/detail", "/services", "/snapshots/detail",
		"/shares?export_location_path=127.0.0.1:" + s.fs.Dir + "/docs",
	} {
		if status, answer := s.Do("GET", path, nil); status != http.StatusOK {
			s.t.Errorf("GET %s: %d %v", path, status, answer)
		}
	}
	until(s.t, func() error { // right after a start nobody has looked for work yet
		if status, text := fetch(s.t, "GET", s.URL+"/healthcheck"); status != http.StatusOK {
			return fmt.Errorf("healthcheck: %d %s", status, text)
		}
		return nil
	})
	if took := time.Since(began); took > 10*time.Second {
		s.t.Errorf("the answers took %v", took)
	}
}

func TestABackEndThatHangsAtTheStartHoldsNobodyUp(t *testing.T) {
	fs := faultfs.Mount(t)
	if err := os.Mkdir(filepath.Join(fs.Dir, "docs"), 0o755); err != nil {
		t.Fatal(err)
	}
	h := fs.HangUp(fs.Dir)
	s := startRemote(t, fs, 1, 1)
	share := s.localShare("local")
	s.NewBackup(share)
	s.answers(share)
	if status, _ := s.adopt("docs"); status != http.StatusServiceUnavailable {
		t.Errorf("a request that needs the back end: %d", status)
	}
	typed := object{"share_type": object{"name": "far", "extra_specs": object{"driver_handles_share_servers": false, "share_backend_name": "remote"}}}
	s.Must(200, "share_type", "POST", "/types", typed)
	made := object{"share": object{"share_proto": "NFS", "size": 1, "share_type": "far"}}
	waiting := s.Must(200, "share", "POST", "/shares", made)["id"].(string)
	s.NewBackup(s.localShare("another")) // although there is one worker for shares
	h.End()
	s.AtRest("/shares/"+waiting, "share", "available")
	status, id := s.adopt("docs")
	if status != http.StatusOK {
		t.Fatalf("once the back end answers: %d", status)
	}
	s.AtRest("/shares/"+id, "share", "available")
}

func TestWhatAClientWaitsForNeverWaitsForAFileServer(t *testing.T) {
	fs := faultfs.Mount(t)
	s := startRemote(t, fs, 1, 1)
	share := s.remoteShare("docs")
	if err := os.Mkdir(filepath.Join(fs.Dir, "more"), 0o755); err != nil {
		t.Fatal(err)
	}
	h := fs.HangUp(fs.Dir)
	var asking sync.WaitGroup
	for range 12 { // more than may hang at a time
		asking.Go(func() {
			began := time.Now()
			if status, _ := s.adopt("more"); status != http.StatusServiceUnavailable {
				t.Errorf("manage: %d", status)
			}
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("manage took %v", took)
			}
		})
	}
	asking.Wait()
	s.answers(share)
	h.End()
	s.Until("/shares", "shares", "adopted", func(object) bool {
		status, _ := s.adopt("more")
		return status == http.StatusOK
	})
}

func TestAShareThatHangsInABackupCostsOneSlot(t *testing.T) {
	for _, test := range []struct {
		says    string
		trees   int
		silence time.Duration
	}{
		{"and another is free", 2, never},
		{"which it lends", 1, soon},
	} {
		t.Run(test.says, func(t *testing.T) {
			fs := faultfs.Mount(t)
			s := startRemote(t, fs, test.trees, 1, server.WithSilence(test.silence, soon))
			share := s.remoteShare("docs")
			h := fs.HangUp(filepath.Join(fs.Dir, "docs"), "Open", "Read")
			backup := s.beginBackup(share)
			<-h.Met
			s.answers(share)
			s.NewBackup(s.localShare("local"))
			s.NewBackup(s.remoteShare("beside"))
			h.End()
			s.AtRest("/share-backups/"+backup, "share_backup", "available")
			kept := filepath.Join(t.TempDir(), "kept")
			copyTree(t, filepath.Join(fs.Dir, "docs"), kept)
			s.Restore(backup)
			equal(t, kept, filepath.Join(fs.Dir, "docs"))
		})
	}
}

func TestADeadFileServerIsGivenNoMoreWork(t *testing.T) {
	fs := faultfs.Mount(t)
	// By the time that a slot is lent it is known that the back end does not answer: it is asked every five seconds.
	s := startRemote(t, fs, 1, 1, server.WithSilence(10*time.Second, soon))
	var shares, backups []string
	for _, name := range []string{"a", "b", "c", "d"} {
		shares = append(shares, s.remoteShare(name))
	}
	h := fs.HangUp(fs.Dir)
	for _, share := range shares {
		backups = append(backups, s.beginBackup(share))
	}
	<-h.Met
	for _, name := range []string{"one", "two", "three"} {
		s.NewBackup(s.localShare(name))
	}
	h.End()
	for _, backup := range backups {
		s.AtRest("/share-backups/"+backup, "share_backup", "available")
	}
}

func TestABackupThatHangsCanBeCancelled(t *testing.T) {
	t.Run("in calls that nothing ends", func(t *testing.T) { cancelBackup(t, (*faultfs.FS).HangUp) })
	t.Run("in calls that signals end", func(t *testing.T) { cancelBackup(t, (*faultfs.FS).HangUpInterruptibly) })
}

func cancelBackup(t *testing.T, hangUp func(fs *faultfs.FS, path string, ops ...string) *faultfs.Hang) {
	fs := faultfs.Mount(t)
	s := startRemote(t, fs, 1, 1, server.WithSilence(soon, never))
	share := s.remoteShare("docs")
	h := hangUp(fs, filepath.Join(fs.Dir, "docs"), "Read")
	backup := s.beginBackup(share)
	<-h.Met
	s.reset("/share-backups/"+backup, abaca.Error)
	s.AtRest("/share-backups/"+backup, "share_backup", "error")
	s.AtRest("/shares/"+share, "share", "available")
	s.Must(202, "", "DELETE", "/share-backups/"+backup, nil)
	s.AtRest("/share-backups/"+backup, "share_backup", "gone")
	h.End()
	s.NewBackup(share)
	s.Stop() // which waits for the worker that hung
	again := serve.StartWith(t, s.Config)
	vol := &abaca.Volume{}
	var err error
	if vol.Root, err = os.Open(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	defer vol.Close()
	if _, err := again.Manager.Engine.Restore(t.Context(), "admin", abaca.Ref(backup), vol, nil); err == nil {
		t.Error("what hung has brought the data of the deleted backup back")
	}
}

func TestARestoreThatHangsCanBeCancelledAndWritesNothingAfterwards(t *testing.T) {
	fs := faultfs.Mount(t)
	s := startRemote(t, fs, 1, 1, server.WithSilence(soon, never))
	dir := filepath.Join(fs.Dir, "docs")
	share := s.remoteShare("docs")
	backup := s.NewBackup(share)
	for _, name := range []string{"big", "small", "other"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	h := fs.HangUp(dir, "Write")
	s.Must(202, "restore", "POST", "/share-backups/"+backup+"/action", object{"restore": nil})
	<-h.Met
	s.reset("/share-backups/"+backup, abaca.Available)
	s.AtRest("/share-backups/"+backup, "share_backup", "available")
	s.AtRest("/shares/"+share, "share", "backup_restoring_error")
	s.NewBackup(s.localShare("local")) // in the slot that the restore has lent
	s.reset("/shares/"+share, abaca.Available)
	// Nothing tells from outside that the worker has heard of it, which it has once its lease is over.
	<-time.After(s.Config.Workers.Lease)
	before, caught := fs.Changes(), h.Caught()
	h.End()
	s.Stop()
	// What hung is done, and the files that it was done to are removed.
	if changed := fs.Changes() - before; changed > 2*caught {
		t.Errorf("%d changes after %d calls had hung", changed, caught)
	}
	again := serve.StartWith(t, s.Config)
	again.Restore(backup)
	for _, name := range []string{"big", "small", "other"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}

func TestAShareThatHangsElsewhereCostsOneSlot(t *testing.T) {
	for _, test := range []struct {
		says, op string
		begin    func(s *remote) (path string)
		reset    abaca.Status
		ends     string // how it ends when nobody resets it
	}{
		{"when it is measured", "ReadDir", func(s *remote) string {
			_, id := s.adopt("docs")
			return "/shares/" + id
		}, abaca.Error, "available"},
		{"when it is deleted", "Unlink", func(s *remote) string {
			_, id := s.adopt("docs")
			s.AtRest("/shares/"+id, "share", "available")
			s.Must(202, "", "DELETE", "/shares/"+id, nil)
			return "/shares/" + id
		}, abaca.Error, "gone"},
		{"when it is made", "Mkdir", func(s *remote) string {
			s.Must(200, "share_type", "POST", "/types", object{"share_type": object{
				"name": "far", "extra_specs": object{"driver_handles_share_servers": false, "share_backend_name": "remote"},
			}})
			made := object{"share": object{"share_proto": "NFS", "size": 1, "share_type": "far"}}
			return "/shares/" + s.Must(200, "share", "POST", "/shares", made)["id"].(string)
		}, abaca.Error, "available"},
	} {
		for _, cancel := range []bool{false, true} {
			name := test.says
			if cancel {
				name += ", and is cancelled"
			}
			t.Run(name, func(t *testing.T) {
				fs := faultfs.Mount(t)
				s := startRemote(t, fs, 1, 1, server.WithSilence(soon, never))
				dir := filepath.Join(fs.Dir, "docs")
				if err := os.Mkdir(dir, 0o755); err != nil {
					t.Fatal(err)
				}
				plant(t, dir)
				h := fs.HangUp(fs.Dir, test.op)
				path := test.begin(s)
				<-h.Met
				s.NewShare("local")
				if !cancel {
					h.End()
					s.AtRest(path, "share", test.ends)
					return
				}
				s.reset(path, test.reset)
				s.AtRest(path, "share", string(test.reset))
				h.End()
				s.Stop()
				again := serve.StartWith(t, s.Config)
				again.AtRest(path, "share", string(test.reset))
			})
		}
	}
}

func TestAStopDoesNotWaitForAShareThatHangs(t *testing.T) {
	fs := faultfs.Mount(t)
	s := startRemote(t, fs, 1, 1, server.WithSilence(never, soon))
	share := s.remoteShare("docs")
	h := fs.HangUp(filepath.Join(fs.Dir, "docs"), "Read")
	backup := s.beginBackup(share)
	<-h.Met
	began := time.Now()
	s.Stop()
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("the stop took %v", took)
	}
	again := &remote{Server: serve.StartWith(t, s.Config), t: t, fs: fs}
	again.answers(share)
	h.End()
	again.AtRest("/share-backups/"+backup, "share_backup", "available")
	again.Restore(backup)
}

package server_test

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"abaca/internal/server"
	"abaca/internal/test/serve"
)

// withPolicy is withUsers with a policy file.
func withPolicy(t *testing.T, text string) server.Config {
	t.Helper()
	c := withUsers(t)
	writePolicy(t, c, text)
	return c
}

// writePolicy puts a policy file into the data directory, all at once.
func writePolicy(t *testing.T, c server.Config, text string) {
	t.Helper()
	path := filepath.Join(c.DataDir, "policy.yaml")
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// A question is a request by somebody, and the status of the answer to it.
type question struct {
	name   string
	client *serve.Client
	method string
	path   string
	body   any
	status int
}

func askAll(t *testing.T, questions []question) {
	t.Helper()
	for _, q := range questions {
		if status, answer := q.client.Do(q.method, q.path, q.body); status != q.status {
			t.Errorf("%s: %s %s: %d, want %d: %v", q.name, q.method, q.path, status, q.status, answer)
		}
	}
}

func TestAPolicyFileGrantsAndRefuses(t *testing.T) {
	s := serve.StartWith(t, withPolicy(t, `
"share_backup:delete": "rule:context_is_admin or user_id:%(user_id)s"
"share_backup:create": "rule:context_is_admin or role:member and user_id:%(user_id)s"
"share_backup:restore": "rule:my_operators or rule:project-member and user_id:%(user_id)s"
"share_backup:reset_status": "(role:support or rule:context_is_admin) and project_id:%(project_id)s"
"share_backup:get_all_project": "rule:context_is_admin or role:auditor"
"quota_set:show": "role:auditor or rule:project-reader"
"quota_set:update": "role:auditor"
"share:reset_status": "role:support"
"share_type:create": "role:support"
"share_types_extra_spec:index": "@"
"share:create_public_share": "role:member"
"share:set_public_share": "user_id:%(user_id)s"
"share_snapshot:get_snapshot": "user_id:%(user_id)s"
"message:get": "!"
my_operators: "role:operator and 'p1':%(project_id)s"
context_is_admin: "role:cloud_admin"
`))
	ann, ben, zoe := as(t, s, "ann", "p1", "member"), as(t, s, "ben", "p1", "member"), as(t, s, "zoe", "p2", "member")
	sue, sam := as(t, s, "sue", "p1", "support"), as(t, s, "sam", "p2", "support")
	olga, otto := as(t, s, "olga", "p1", "operator"), as(t, s, "otto", "p2", "operator")
	audit, root, admin := as(t, s, "audit", "p3", "auditor"), as(t, s, "root", "p3", "cloud_admin"), as(t, s, "admin", "p3", "admin")
	share := ann.NewShare("docs")
	backup, bens := ann.NewBackup(share), ben.NewShare("ben's")
	public := ann.Must(200, "share", "POST", "/shares", object{"share": object{"share_proto": "NFS", "size": 1, "is_public": true}})["id"].(string)
	ann.AtRest("/shares/"+public, "share", "available")
	frozen := ann.NewShare("frozen")
	snapshot := ann.Must(202, "snapshot", "POST", "/snapshots", object{"snapshot": object{"share_id": frozen}})["id"].(string)
	ann.AtRest("/snapshots/"+snapshot, "snapshot", "available")
	at := "/share-backups/" + backup
	toError, toAvailable := object{"reset_status": object{"status": "error"}}, object{"reset_status": object{"status": "available"}}
	from := object{"share": object{"share_proto": "NFS", "size": 1, "snapshot_id": snapshot}}
	const unknown = "/share-backups/00000000-0000-0000-0000-000000000000"
	askAll(t, []question{
		{"who did not make a backup does not delete it", ben, "DELETE", at, nil, 403},
		{"that there is none is told to whoever may delete their own", ben, "DELETE", unknown, nil, 404},
		{"who does not own the share does not back it up", ben, "POST", "/share-backups", object{"share_backup": object{"share_id": share}}, 403},
		{"nor restores a backup that is not theirs", ben, "POST", at + "/action", object{"restore": nil}, 403},
		{"nor does its owner restore it into a share that is another user's", ann, "POST", at + "/action", object{"restore": bens}, 403},
		{"an operator of the rule's project does", olga, "POST", at + "/action", object{"restore": bens}, 202},
		{"one of another project is refused before anything is looked up", otto, "POST", at + "/action", object{"restore": nil}, 403},
	})
	ann.AtRest("/shares/"+bens, "share", "available")
	ann.AtRest(at, "share_backup", "available")
	askAll(t, []question{
		{"support resets its project's backups", sue, "POST", at + "/action", toError, 202},
		{"and back", sue, "POST", at + "/action", toAvailable, 202},
		{"another project's it does not find", sam, "POST", at + "/action", toError, 404},
		{"nor unknown ones", sam, "POST", unknown + "/action", toError, 404},
		{"a member resets none", ann, "POST", at + "/action", toError, 403},
		{"an administrator may do what needs no right in the project", root, "GET", at, nil, 200},
		{"and is refused what the rule gives to the backup's project alone", root, "POST", at + "/action", toError, 403},
		{"the role admin says nothing where the file names another", admin, "GET", "/services", nil, 403},
		{"nor does it see others' backups", admin, "GET", at, nil, 404},
		{"support does not find another project's private share", sam, "POST", "/shares/" + share + "/action", toError, 404},
		{"nor changes a public one", sam, "POST", "/shares/" + public + "/action", toError, 404},
		{"an auditor does not see the backups that it lists", audit, "GET", at, nil, 403},
		{"an auditor sees their own quota", audit, "GET", "/quota-sets/p3", nil, 200},
		{"and sets it", audit, "PUT", "/quota-sets/p3", object{"quota_set": object{"backups": 5}}, 200},
		{"but not another project's", audit, "GET", "/quota-sets/p1", nil, 403},
		{"whatever the rule says", audit, "PUT", "/quota-sets/p1", object{"quota_set": object{"backups": 5}}, 403},
		{"what is closed is closed to administrators", root, "GET", "/messages/x", nil, 403},
		{"a share is made public by its owner", ben, "PUT", "/shares/" + share, object{"share": object{"is_public": true}}, 403},
		{"and by nobody else", ann, "PUT", "/shares/" + share, object{"share": object{"is_public": true}}, 200},
		{"a public share is shown to every project's readers", zoe, "GET", "/shares/" + share, nil, 200},
		{"and changed by none of their members", zoe, "PUT", "/shares/" + share, object{"share": object{"display_name": "n"}}, 403},
		{"a share is made from a snapshot by who may see it", ben, "POST", "/shares", from, 403},
		{"and by nobody else", ann, "POST", "/shares", from, 200},
		{"who made a backup deletes it", ann, "DELETE", at, nil, 202},
	})
	_, all := audit.Do("GET", "/share-backups/detail?all_tenants=1", nil)
	if all["error"] != nil || all["forbidden"] == nil {
		t.Errorf("share_backup:get_all is not asked before get_all_project: %v", all)
	}
}

func TestWhoListsAllProjectsByTheFileSeesNoMoreOfThem(t *testing.T) {
	s := serve.StartWith(t, withPolicy(t, `"share_backup:get_all_project": "role:auditor"`))
	ann, ben, audit := as(t, s, "ann", "p1", "member"), as(t, s, "ben", "p2", "reader"), as(t, s, "audit", "p3", "auditor", "reader")
	backup := ann.NewBackup(ann.NewShare("docs"))
	for _, test := range []struct {
		client *serve.Client
		query  string
		want   int
	}{{audit, "?all_tenants=1", 1}, {audit, "", 0}, {ben, "?all_tenants=1", 0}, {ann, "?all_tenants=1", 1}} {
		_, answer := test.client.Do("GET", "/share-backups/detail"+test.query, nil)
		list, _ := answer["share_backups"].([]any)
		if len(list) != test.want {
			t.Errorf("%q lists %v", test.query, answer)
		}
		for _, b := range list {
			if _, shown := b.(object)["host"]; shown {
				t.Errorf("what only administrators see is shown: %v", b)
			}
		}
	}
	askAll(t, []question{
		{"a listed backup is not there", audit, "GET", "/share-backups/" + backup, nil, 404},
		{"nor deleted", audit, "DELETE", "/share-backups/" + backup, nil, 403},
	})
}

func TestTheServerFollowsItsPolicyFile(t *testing.T) {
	s := serve.StartWith(t, withPolicy(t, ""))
	ann := as(t, s, "ann", "p1", "member")
	share := ann.NewShare("docs")
	shown := func(o object) bool { return o != nil }
	writePolicy(t, s.Config, `"share:get": "!"`)
	ann.Until("/shares/"+share, "share", "hidden by the file", func(o object) bool { return !shown(o) })
	writePolicy(t, s.Config, "{}")
	ann.Until("/shares/"+share, "share", "shown again", shown)
}

func TestAWrongPolicyIsAWrongSetting(t *testing.T) {
	for _, text := range []string{"share_bakcup:create: '@'", "share:get: 'role:'", "share:get: ["} {
		c := withPolicy(t, text)
		s, err := server.Open(t.Context(), c, slog.New(slog.DiscardHandler))
		if err == nil {
			s.Close()
		}
		_, ok := errors.AsType[server.SettingError](err)
		if want := filepath.Join(c.DataDir, "policy.yaml") + ":1: "; !ok || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v, want %s…", text, err, want)
		}
	}
	c := withUsers(t)
	c.Auth.PolicyFile = filepath.Join(t.TempDir(), "missing")
	if _, err := server.Open(t.Context(), c, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a policy file that is named and missing is passed over")
	}
}

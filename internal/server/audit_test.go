package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"abaca"
	"abaca/internal/auth"
	"abaca/internal/server"
	"abaca/internal/test/serve"
)

// people are callers who say by their token who they are: user:project:role.
type people struct{}

func (people) Authenticate(r *http.Request) (abaca.Caller, error) {
	who := strings.Split(r.Header.Get("X-Auth-Token"), ":")
	if len(who) != 3 {
		return abaca.Caller{}, auth.Unauthorized("The request needs a token.")
	}
	roles := map[string][]string{"reader": {"reader"}, "member": {"member", "reader"}, "admin": {"admin", "manager", "member", "reader"}}
	return abaca.Caller{User: who[0], Project: abaca.ProjectID(who[1]), Roles: roles[who[2]]}, nil
}

// by returns a client of the same server that is somebody else.
func by(s *serve.Server, token string) *serve.Client {
	c := *s.Client
	c.Token = token
	return &c
}

// audits returns the lines of a server's audit log.
func audits(t *testing.T, s *serve.Server) (list []object) {
	t.Helper()
	b, err := os.ReadFile(s.Config.Log.Audit)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		var o object
		if err := json.Unmarshal([]byte(line), &o); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		list = append(list, o)
	}
	return list
}

// brief is what a test compares of a line.
func brief(o object, names map[string]string) string {
	named := func(v any) any {
		if name, ok := names[fmt.Sprint(v)]; ok {
			return name
		}
		return v
	}
	text := fmt.Sprintf("%v %v %v %v %v by %v of %v", o["event"], o["action"], o["resource_type"], named(o["resource_id"]), o["outcome"], o["user_id"], o["project_id"])
	for _, key := range []string{"owner_project_id", "status"} {
		if v, ok := o[key]; ok {
			text += fmt.Sprintf(" %s=%v", strings.TrimSuffix(key, "_project_id"), v)
		}
	}
	if v, ok := o["share_id"]; ok {
		text += fmt.Sprintf(" share=%v", named(v))
	}
	return text
}

func TestCallsThatChangeThingsAndEndsOfWorkAreAudited(t *testing.T) {
	s := serve.Start(t, server.WithAuthenticator(people{}))
	demo, other, reader, root := by(s, "ann:demo:member"), by(s, "eve:other:member"), by(s, "rita:demo:reader"), by(s, "root:admins:admin")
	names := map[string]string{}
	share := demo.NewShare("a secret name")
	names[share] = "S"
	backup := demo.NewBackup(share)
	names[backup] = "B"
	demo.Must(200, "share_backup", "GET", "/share-backups/"+backup, nil)
	other.Must(404, "itemNotFound", "DELETE", "/share-backups/"+backup, nil)
	other.Must(400, "badRequest", "POST", "/share-backups", object{"share_backup": object{"share_id": share, "name": "a secret name"}})
	reader.Must(403, "forbidden", "PUT", "/share-backups/"+backup, object{"share_backup": object{"name": "a secret name"}})
	demo.Must(404, "itemNotFound", "POST", "/share-backups/"+backup+"/action", object{"restore": "../../a secret name"})
	demo.Must(400, "badRequest", "POST", "/share-backups/"+backup+"/action", object{"a secret name": nil})
	by(s, "nobody").Must(401, "error", "DELETE", "/share-backups/"+backup, nil)
	root.Must(200, "quota_set", "PUT", "/quota-sets/demo", object{"quota_set": object{"backups": 1}})
	demo.Must(413, "overLimit", "POST", "/share-backups", object{"share_backup": object{"share_id": share}})
	root.Must(202, "", "DELETE", "/share-backups/"+backup, nil)
	demo.AtRest("/share-backups/"+backup, "share_backup", "gone")
	s.Stop() // after which every end has been told

	want := []string{
		"request share:create share S accepted by ann of demo owner=demo status=200",
		"end create_share share S done by ann of demo owner=demo",
		"request share_backup:create share_backup B accepted by ann of demo owner=demo status=202 share=S",
		"end create_backup share_backup B done by ann of demo owner=demo",
		"request share_backup:delete share_backup B refused by eve of other owner=demo status=404",
		"request share_backup:create share_backup <nil> refused by eve of other status=400 share=S",
		"request share_backup:update share_backup B refused by rita of demo owner=demo status=403",
		"request share_backup:restore share_backup B refused by ann of demo owner=demo status=404",
		"request unknown share_backup B refused by ann of demo owner=demo status=400",
		"request quota_set:update quota_set demo accepted by root of admins owner=demo status=200",
		"request share_backup:create share_backup <nil> refused by ann of demo status=413 share=S",
		"request share_backup:delete share_backup B accepted by root of admins owner=demo status=202",
		"end delete_backup share_backup B done by root of admins owner=demo",
	}
	var got []string
	form := regexp.MustCompile(`^req-[0-9a-f-]{36}$`)
	requests := map[string]string{} // by id, the action
	for _, o := range audits(t, s) {
		got = append(got, brief(o, names))
		id, _ := o["request_id"].(string)
		if !form.MatchString(id) {
			t.Errorf("%v has the request id %q", o, id)
		}
		switch o["event"] {
		case "request":
			requests[id] = fmt.Sprint(o["resource_type"])
			if o["remote_addr"] != "127.0.0.1" || len(o["roles"].([]any)) == 0 {
				t.Errorf("who asked is unclear in %v", o)
			}
		case "end":
			if requests[id] != o["resource_type"] {
				t.Errorf("%v is the end of a request on a %q", o, requests[id])
			}
		}
	}
	// An end may overtake the line of the request that it ends.
	for _, line := range want {
		found := -1
		for i, g := range got {
			if g == line {
				found = i
				break
			}
		}
		if found < 0 {
			t.Errorf("missing: %s", line)
			continue
		}
		got = append(got[:found], got[found+1:]...)
	}
	for _, line := range got {
		t.Errorf("too much: %s", line)
	}
	raw, err := os.ReadFile(s.Config.Log.Audit)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(raw), "secret") || strings.Contains(string(raw), "ann:demo") {
		t.Errorf("the audit log tells too much:\n%s", raw)
	}
}

func TestAFailureAndAResetAreEndsAndAnotherTryIsNot(t *testing.T) {
	option, reached, _ := stopping("create_backup: opened")
	s := serve.Start(t, option)
	share := s.NewShare("docs")
	backup := s.Must(202, "share_backup", "POST", "/share-backups", object{"share_backup": object{"share_id": share}})["id"].(string)
	<-reached
	s.Must(202, "", "POST", "/share-backups/"+backup+"/action", object{"reset_status": object{"status": "error"}})
	if err := os.RemoveAll(s.Share(share)); err != nil {
		t.Fatal(err)
	}
	failed := s.Must(202, "share_backup", "POST", "/share-backups", object{"share_backup": object{"share_id": share}})["id"].(string)
	s.AtRest("/share-backups/"+failed, "share_backup", "error")
	s.Stop()
	names := map[string]string{share: "S", backup: "B", failed: "F"}
	var ends []string
	for _, o := range audits(t, s) {
		if o["event"] == "end" {
			ends = append(ends, brief(o, names))
		}
	}
	want := []string{
		"end create_share share S done by admin of admin owner=admin",
		"end create_backup share_backup B reset by admin of admin owner=admin",
		"end create_backup share_backup F failed by admin of admin owner=admin",
	}
	if strings.Join(ends, "\n") != strings.Join(want, "\n") {
		t.Errorf("the ends are\n%s", strings.Join(ends, "\n"))
	}
}

func TestTheAuditIsWhereTheConfigurationSays(t *testing.T) {
	dir := t.TempDir()
	c, err := serve.Config(filepath.Join(dir, "data"))
	if err != nil {
		t.Fatal(err)
	}
	if c.Log.Audit != filepath.Join(dir, "data", "audit.log") {
		t.Errorf("by default it is in %s", c.Log.Audit)
	}
	c.Log.Audit = "off"
	s := serve.StartWith(t, c)
	s.NewShare("docs")
	if _, err := os.Stat(filepath.Join(dir, "data", "audit.log")); !os.IsNotExist(err) {
		t.Errorf("off makes a file: %v", err)
	}
}

package server_test

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"abaca"
	"abaca/internal/auth"
	"abaca/internal/server"
	"abaca/internal/test/serve"
)

// withUsers is a configuration that knows callers by a users file.
func withUsers(t *testing.T) server.Config {
	t.Helper()
	c, err := serve.Config(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	c.Auth.Strategy = "local"
	return c
}

// as returns a client of the server as a new user.
func as(t *testing.T, s *serve.Server, name string, project abaca.ProjectID, roles ...string) *serve.Client {
	t.Helper()
	token, _, err := s.Config.Users().Add(t.Context(), auth.User{Name: name, Project: project, Roles: roles}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	c := serve.NewClient(t, s.Endpoint())
	c.Token = token
	return c
}

// ask sends a request and returns the answer without its body.
func ask(t *testing.T, url, token string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Auth-Token", token)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp
}

func TestLocalUsersEachWorkInTheirProject(t *testing.T) {
	s := serve.StartWith(t, withUsers(t))
	ann, bob := as(t, s, "ann", "p1", "member"), as(t, s, "bob", "p2", "member")
	reader, root := as(t, s, "rita", "p1", "reader"), as(t, s, "root", "office", "admin")
	share := ann.NewShare("docs")
	if err := os.WriteFile(filepath.Join(s.Share(share), "file"), []byte("as it was"), 0o600); err != nil {
		t.Fatal(err)
	}
	backup := ann.NewBackup(share)
	if err := os.Remove(filepath.Join(s.Share(share), "file")); err != nil {
		t.Fatal(err)
	}
	ann.Restore(backup)
	if text, err := os.ReadFile(filepath.Join(s.Share(share), "file")); string(text) != "as it was" {
		t.Errorf("%q, %v", text, err)
	}
	again := object{"share_backup": object{"share_id": share}}
	restore := object{"restore": nil}
	for _, test := range []struct {
		name   string
		client *serve.Client
		method string
		path   string
		body   any
		status int
	}{
		{"the owner sees it below the project too", ann, "GET", "/p1/share-backups/" + backup, nil, 200},
		{"another project's member does not see it", bob, "GET", "/share-backups/" + backup, nil, 404},
		{"not below their project either", bob, "GET", "/p2/share-backups/" + backup, nil, 404},
		{"cannot restore it", bob, "POST", "/share-backups/" + backup + "/action", restore, 404},
		{"cannot delete it", bob, "DELETE", "/share-backups/" + backup, nil, 404},
		{"cannot back up the share, which Manila answers with 400 where there is none", bob, "POST", "/share-backups", again, 400},
		{"a reader sees it", reader, "GET", "/share-backups/" + backup, nil, 200},
		{"a reader cannot back up", reader, "POST", "/share-backups", again, 403},
		{"a reader cannot restore", reader, "POST", "/share-backups/" + backup + "/action", restore, 403},
		{"a member is no administrator", ann, "GET", "/services", nil, 403},
		{"an administrator is", root, "GET", "/services", nil, 200},
		{"and sees it", root, "GET", "/share-backups/" + backup, nil, 200},
	} {
		if status, answer := test.client.Do(test.method, test.path, test.body); status != test.status {
			t.Errorf("%s: %s %s: %d, want %d: %v", test.name, test.method, test.path, status, test.status, answer)
		}
	}
	if _, answer := bob.Do("GET", "/share-backups", nil); len(answer["share_backups"].([]any)) != 0 {
		t.Errorf("another project's member is told of %v", answer)
	}
	if resp := ask(t, s.Endpoint()+"/p1/share-backups/"+backup, bob.Token); resp.StatusCode != 404 {
		t.Errorf("below the other project: %d", resp.StatusCode)
	}
	if status, _ := s.Do("GET", "/shares", nil); status != 401 { // whose token is of no authentication
		t.Errorf("anybody: %d", status)
	}
}

func TestAProjectCalledLikeAResourceDoesNotHideIt(t *testing.T) {
	s := serve.Start(t)
	s.Token = "ann:shares"
	share := s.NewShare("docs")
	s.Must(200, "share", "GET", "/shares/"+share, nil)
	s.Must(404, "itemNotFound", "GET", "/shares/shares", nil)
}

func TestRemovingAUserRefusesItsTokensAndLeavesTheData(t *testing.T) {
	s := serve.StartWith(t, withUsers(t))
	ann := as(t, s, "ann", "p1", "member")
	share := ann.NewShare("docs")
	if _, err := s.Config.Users().Remove(t.Context(), "ann"); err != nil {
		t.Fatal(err)
	}
	if status, _ := ann.Do("GET", "/shares/"+share, nil); status != 401 {
		t.Errorf("the removed user: %d", status)
	}
	as(t, s, "eve", "p1", "member").Must(200, "share", "GET", "/shares/"+share, nil)
}

func TestWhileTheUsersFileIsOpenToOthersNobodyIsLetIn(t *testing.T) {
	c := withUsers(t)
	s := serve.StartWith(t, c)
	ann := as(t, s, "ann", "p1", "member")
	ann.Must(200, "", "GET", "/shares", nil)
	if err := os.Chmod(c.Auth.UsersFile, 0o644); err != nil {
		t.Fatal(err)
	}
	if resp := ask(t, s.Endpoint()+"/shares", ann.Token); resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("%d, %v", resp.StatusCode, resp.Header)
	}
	s.Stop()
	_, err := server.Open(t.Context(), c, c.Logger())
	if _, ok := errors.AsType[server.SettingError](err); !ok || !strings.Contains(err.Error(), "0600") || strings.Contains(err.Error(), "\n") {
		t.Errorf("a start fails with %v", err)
	}
}

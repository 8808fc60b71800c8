package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"abaca/internal/server"
	"abaca/internal/test/keystone"
	"abaca/internal/test/serve"
)

// withKeystone is a configuration that knows callers by a Keystone.
func withKeystone(t *testing.T, url string) server.Config {
	t.Helper()
	c, err := server.Load("", []string{"ABACA_AUTH_KEYSTONE_PASSWORD=" + keystone.Password}, map[string]any{
		"data_dir": t.TempDir(), "listen": "127.0.0.1:0", "workers.backoff": "10ms", "workers.lease": "4s",
		"auth.strategy": "keystone", "auth.keystone.auth_url": url, "auth.keystone.username": "abaca",
		"auth.keystone.timeout": "1m", // on a busy machine, too
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// bearing returns a client that sends a token.
func bearing(t *testing.T, s *serve.Server, token string) *serve.Client {
	t.Helper()
	c := serve.NewClient(t, s.Endpoint())
	c.Token = token
	return c
}

// get sends a request with these headers and returns the answer with its body read.
func get(t *testing.T, url string, header http.Header) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header = header
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func TestKeystonesUsersEachWorkInTheirProject(t *testing.T) {
	k := keystone.Start(t)
	var ahead atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	s := serve.StartWith(t, withKeystone(t, k.URL), server.WithClock(now))
	base := strings.TrimSuffix(s.Endpoint(), "/v2")
	as := func(user, project string) *serve.Client {
		return bearing(t, s, k.Token(user, keystone.Project(project)))
	}
	anna, rita, vera, bert, admin := as("anna", "alpha"), as("rita", "alpha"), as("vera", "alpha"), as("bert", "beta"), as("admin", "admin")
	share := anna.NewShare("docs")
	backup := anna.NewBackup(share)

	t.Run("roles and projects count", func(t *testing.T) {
		create := object{"share_backup": object{"share_id": share}}
		for _, test := range []struct {
			client       *serve.Client
			name         string
			method, path string
			body         any
			status       int
		}{
			{anna, "a member", "GET", "/share-backups/" + backup, nil, 200},
			{anna, "a member by the project's URL", "GET", "/" + k.Project("alpha") + "/share-backups/" + backup, nil, 200},
			{anna, "a member by another project's URL", "GET", "/" + k.Project("beta") + "/share-backups/" + backup, nil, 400},
			{anna, "a member resetting", "POST", "/share-backups/" + backup + "/action", object{"reset_status": object{"status": "error"}}, 403},
			{rita, "a reader", "GET", "/share-backups/" + backup, nil, 200},
			{rita, "a reader writing", "POST", "/share-backups", create, 403},
			{vera, "a role without meaning", "GET", "/share-backups/" + backup, nil, 403},
			{bert, "another project's member", "GET", "/share-backups/" + backup, nil, 404},
			{bert, "another project's member writing", "POST", "/share-backups", create, 400},
			{bert, "another project's member deleting", "DELETE", "/share-backups/" + backup, nil, 404},
			{admin, "an administrator", "GET", "/share-backups/" + backup, nil, 200},
			{bearing(t, s, k.Token("admin", keystone.System())), "the system's administrator", "GET", "/share-backups", nil, 403},
			{bearing(t, s, k.Token("admin", keystone.Domain())), "a domain's administrator", "GET", "/share-backups", nil, 403},
			{bearing(t, s, k.Token("admin", nil)), "an unscoped administrator", "GET", "/share-backups", nil, 403},
		} {
			if status, answer := test.client.Do(test.method, test.path, test.body); status != test.status {
				t.Errorf("%s: %d, want %d: %v", test.name, status, test.status, answer)
			}
		}
	})

	t.Run("without a good token there is a challenge as OpenStack words it, whatever else is sent", func(t *testing.T) {
		for name, tokens := range map[string][]string{
			"none": nil, "garbage": {"garbage"}, "expired": {k.Expired}, "two": {anna.Token, admin.Token}, "the same twice": {anna.Token, anna.Token},
		} {
			resp, body := get(t, base+"/v2/share-backups", http.Header{
				"X-Auth-Token": tokens, "X-Roles": {"admin"}, "X-User-Id": {k.User("admin")}, "X-Project-Id": {k.Project("alpha")},
				"X-Identity-Status": {"Confirmed"},
			})
			var said struct {
				Error struct {
					Code           int
					Title, Message string
				}
			}
			if err := json.Unmarshal([]byte(body), &said); err != nil || said.Error.Code != 401 || said.Error.Title != "Unauthorized" || said.Error.Message == "" {
				t.Errorf("%s: %s, %v", name, body, err)
			}
			if resp.StatusCode != 401 || resp.Header.Get("WWW-Authenticate") != `Keystone uri="`+k.URL+`"` ||
				!strings.HasPrefix(resp.Header.Get("X-Openstack-Request-Id"), "req-") {
				t.Errorf("%s: %d, %v", name, resp.StatusCode, resp.Header)
			}
		}
	})

	t.Run("versions and health are for everybody", func(t *testing.T) {
		for path, status := range map[string]int{"/": 300, "/v2/": 200, "/healthcheck": 200} {
			if resp, _ := get(t, base+path, http.Header{}); resp.StatusCode != status {
				t.Errorf("%s: %d", path, resp.StatusCode)
			}
		}
	})

	t.Run("while Keystone is away who is known goes on, and others are asked to come back", func(t *testing.T) {
		newcomer := as("bert", "beta")
		ahead.Add(int64(30 * time.Second))
		anna.Must(200, "share_backup", "GET", "/share-backups/"+backup, nil)
		k.Stop()
		anna.Must(200, "share_backup", "GET", "/share-backups/"+backup, nil)
		resp, body := get(t, base+"/v2/share-backups", http.Header{"X-Auth-Token": {newcomer.Token}})
		if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" || !strings.Contains(body, `"serviceUnavailable"`) {
			t.Errorf("%d, %v, %s", resp.StatusCode, resp.Header, body)
		}
		if resp, _ := get(t, base+"/healthcheck", http.Header{}); resp.StatusCode != 200 {
			t.Errorf("healthcheck: %d", resp.StatusCode)
		}
		ahead.Add(int64(30 * time.Second))
		anna.Must(503, "serviceUnavailable", "GET", "/share-backups/"+backup, nil)
		k.Restart()
		anna.Must(200, "share_backup", "GET", "/share-backups/"+backup, nil)
		newcomer.Must(404, "itemNotFound", "GET", "/share-backups/"+backup, nil)
	})

	t.Run("a token given back is refused within the cache's time", func(t *testing.T) {
		token := as("anna", "alpha")
		token.Must(200, "share_backup", "GET", "/share-backups/"+backup, nil)
		k.Revoke(token.Token)
		ahead.Add(int64(30 * time.Second))
		token.Must(401, "error", "GET", "/share-backups/"+backup, nil)
	})
}

func TestAServerStartsBeforeItsKeystone(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // where nobody answers
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	c := withKeystone(t, "http://"+l.Addr().String())
	var said bytes.Buffer
	s, err := server.Open(t.Context(), c, slog.New(slog.NewTextHandler(&said, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if !strings.Contains(said.String(), "Keystone cannot be asked") || strings.Contains(said.String(), keystone.Password+"\"") {
		t.Errorf("the log says %s", said.String())
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Serve(ctx) }()
	for i := range 3 {
		resp, _ := get(t, s.Endpoint()+"/shares", http.Header{"X-Auth-Token": {strings.Repeat("x", 1+i)}})
		if resp.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("%d", resp.StatusCode)
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(said.String(), "level=ERROR"); n != 1 {
		t.Errorf("whoever reaches the port has %d lines written: %s", n, said.String())
	}
}

func TestAPasswordForKeystoneIsReadFromAFileThatOthersCannotRead(t *testing.T) {
	for _, test := range []struct {
		mode os.FileMode
		text string
		says string
	}{
		{0o600, "secret\n", ""}, {0o640, "secret", ""}, {0o644, "secret", "0640"}, {0o604, "secret", "0640"}, {0o600, "\n", "empty"},
	} {
		path := filepath.Join(t.TempDir(), "password")
		if err := os.WriteFile(path, []byte(test.text), test.mode); err != nil {
			t.Fatal(err)
		}
		c := withKeystone(t, "http://127.0.0.1:1")
		c.Auth.Keystone.Password, c.Auth.Keystone.PasswordFile = "", path
		s, err := server.Open(t.Context(), c, slog.New(slog.DiscardHandler))
		if err == nil {
			s.Close()
		}
		if (err == nil) != (test.says == "") || err != nil && (!strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "secret")) {
			t.Errorf("mode %o, %q: %v", test.mode, test.text, err)
		}
	}
}

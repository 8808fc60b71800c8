// Package serve starts whole servers in tests: a real database, real directories, real HTTP on a free port.
package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"abaca/internal/server"
)

// A Server is a running server and a client of it.
type Server struct {
	*server.Server
	URL    string // without the /v2
	Config server.Config
	Token  string // sent with every request; an administrator's of project admin by default

	t    testing.TB
	stop func()
}

// Start serves from an empty directory until the test ends.
func Start(t testing.TB, options ...server.Option) *Server {
	return StartIn(t, t.TempDir(), options...)
}

// StartIn serves from dir, with what an earlier server left there, until the test ends or Stop is called.
func StartIn(t testing.TB, dir string, options ...server.Option) *Server {
	t.Helper()
	c, err := Config(dir)
	if err != nil {
		t.Fatal(err)
	}
	options = append([]server.Option{server.WithSettle(0)}, options...)
	srv, err := server.Open(context.Background(), c, slog.New(slog.NewTextHandler(logWriter{t}, nil)), options...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ctx) }()
	s := &Server{Server: srv, URL: strings.TrimSuffix(srv.Endpoint(), "/v2"), Config: c, Token: "admin:admin", t: t}
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
		if err := srv.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	t.Cleanup(s.stop)
	return s
}

// Config is a server's in a test: everything below dir, on a free port, quick to try again.
func Config(dir string) (server.Config, error) {
	return server.Load("", nil, map[string]any{
		"data_dir": dir, "listen": "127.0.0.1:0", "workers.backoff": "10ms", "workers.lease": "4s", "log.level": "warn",
	})
}

// Stop stops the server in good order.
func (s *Server) Stop() { s.stop() }

// logWriter sends a server's log to the test's.
type logWriter struct{ t testing.TB }

func (w logWriter) Write(p []byte) (int, error) {
	w.t.Logf("server: %s", bytes.TrimSpace(p))
	return len(p), nil
}

// Share returns the directory of a share that has been made by request.
func (s *Server) Share(id string) string { return filepath.Join(s.Config.DataDir, "shares", id) }

// Do sends a request below /v2 at version 2.99, with a body unless it is nil, and decodes the answer.
func (s *Server) Do(method, path string, body any) (status int, answer map[string]any) {
	s.t.Helper()
	var reader io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			s.t.Fatal(err)
		}
		reader = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.URL+"/v2"+path, reader)
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("X-Auth-Token", s.Token)
	r.Header.Set("X-OpenStack-Manila-API-Version", "2.99")
	r.Header.Set("X-OpenStack-Manila-API-Experimental", "True")
	r.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // it was only read
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	if len(b) > 0 {
		if err := json.Unmarshal(b, &answer); err != nil {
			s.t.Fatalf("%s %s: %s: %v", method, path, b, err)
		}
	}
	return resp.StatusCode, answer
}

// Must is Do for a request that has to be answered with this status; it returns the object below the answer's key, if it names one.
func (s *Server) Must(status int, key, method, path string, body any) map[string]any {
	s.t.Helper()
	got, answer := s.Do(method, path, body)
	if got != status {
		s.t.Fatalf("%s %s: %d, want %d: %v", method, path, got, status, answer)
	}
	if key == "" {
		return nil
	}
	o, ok := answer[key].(map[string]any)
	if !ok {
		s.t.Fatalf("%s %s: there is no %s in %v", method, path, key, answer)
	}
	return o
}

// patience is how long Until asks; it bounds a test that hangs and decides nothing.
const patience = 2 * time.Minute

// Until asks for a resource until it is as wanted, and returns it; nil once it is gone.
func (s *Server) Until(path, key, what string, wanted func(o map[string]any) bool) map[string]any {
	s.t.Helper()
	var o map[string]any
	for end := time.Now().Add(patience); time.Now().Before(end); {
		status, answer := s.Do("GET", path, nil)
		o = nil
		if status == http.StatusOK {
			o, _ = answer[key].(map[string]any)
		}
		if wanted(o) {
			return o
		}
	}
	s.t.Fatalf("%s is not %s in time: %v", path, what, o)
	return nil
}

// AtRest waits until a resource is in a status that no work leaves, and fails the test where it is another one than wanted.
func (s *Server) AtRest(path, key, wanted string) map[string]any {
	s.t.Helper()
	o := s.Until(path, key, "at rest", func(o map[string]any) bool {
		status, _ := o["status"].(string)
		return o == nil || !strings.HasSuffix(status, "ing")
	})
	if got := fmt.Sprint(o["status"]); o == nil && wanted != "gone" || o != nil && got != wanted {
		s.t.Fatalf("%s is %v, want %s", path, o["status"], wanted)
	}
	return o
}

// NewShare makes a share of 1 GiB and returns its id.
func (s *Server) NewShare(name string) string {
	s.t.Helper()
	id := s.Must(200, "share", "POST", "/shares", map[string]any{"share": map[string]any{"share_proto": "NFS", "size": 1, "name": name}})["id"].(string)
	s.AtRest("/shares/"+id, "share", "available")
	return id
}

// NewBackup backs a share up, waits, and returns the backup's id.
func (s *Server) NewBackup(share string) string {
	s.t.Helper()
	body := map[string]any{"share_backup": map[string]any{"share_id": share}}
	id := s.Must(202, "share_backup", "POST", "/share-backups", body)["id"].(string)
	s.AtRest("/share-backups/"+id, "share_backup", "available")
	return id
}

// Restore restores a backup into its own share and waits.
func (s *Server) Restore(backup string) {
	s.t.Helper()
	share := s.Must(202, "restore", "POST", "/share-backups/"+backup+"/action", map[string]any{"restore": nil})["share_id"].(string)
	s.AtRest("/shares/"+share, "share", "available")
}

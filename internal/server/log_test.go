package server_test

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"

	"abaca/internal/test/serve"
	"abaca/internal/test/torture"
)

// A journal keeps a server's log, a JSON object a line.
type journal struct {
	mu    sync.Mutex
	lines []map[string]any
}

func (j *journal) Write(p []byte) (int, error) {
	var line map[string]any
	if err := json.Unmarshal(p, &line); err != nil {
		return 0, err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, line)
	return len(p), nil
}

// of returns the lines whose key has this value.
func (j *journal) of(key string, value any) (lines []map[string]any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, l := range j.lines {
		if l[key] == value {
			lines = append(lines, l)
		}
	}
	return lines
}

// send sends a request with a body and returns the id that it was given.
func send(t *testing.T, s *serve.Server, path, body string, headers ...string) (id string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "POST", s.URL+"/v2"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	headers = append(headers, "X-Auth-Token", "admin:admin", "Content-Type", "application/json",
		"X-OpenStack-Manila-API-Version", "2.99", "X-OpenStack-Manila-API-Experimental", "true")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 202 {
		b, _ := io.ReadAll(resp.Body)
		t.Fatalf("POST %s: %d %s", path, resp.StatusCode, b)
	}
	return resp.Header.Get("x-openstack-request-id")
}

func TestEveryLineOfARequestAndItsWorkCarriesItsID(t *testing.T) {
	c, err := serve.Config(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var log journal
	s := serve.StartLogging(t, c, slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	share := s.NewShare("docs")
	if err := torture.Grow(s.Share(share), 12, 200); err != nil {
		t.Fatal(err)
	}
	backup := s.NewBackup(share)
	if err := serve.FlipBit(s.Config.DataDir); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(s.Share(share)); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(s.Share(share), 0o755); err != nil {
		t.Fatal(err)
	}
	id := send(t, s, "/share-backups/"+backup+"/action", `{"restore": null}`)
	s.AtRest("/shares/"+share, "share", "backup_restoring_error")
	s.Stop() // now all lines are there

	said := map[string]bool{}
	for _, l := range log.of("request_id", id) {
		said[l["msg"].(string)] = true
	}
	for _, msg := range []string{"answered", "an entry could not be restored", "failed", "ended"} { // of the API, the engine, the worker twice
		if !said[msg] {
			t.Errorf("there is no line %q of the request %s", msg, id)
		}
	}
	for _, l := range log.of("operation", "restore_backup") {
		if l["request_id"] != id || l["share_backup_id"] != backup || l["project_id"] != "admin" || l["attempt"] == nil {
			t.Errorf("a line of the work is %v", l)
		}
	}
	if lines := log.of("msg", "an entry could not be restored"); len(lines) == 0 || lines[0]["operation"] != "restore_backup" {
		t.Errorf("the engine says %v", lines)
	}
	for _, l := range log.of("msg", "answered") {
		if l["level"] != "DEBUG" || l["route"] == nil || l["status"] == nil || l["took"] == nil || l["request_id"] == nil {
			t.Errorf("a request's line is %v", l)
		}
	}
}

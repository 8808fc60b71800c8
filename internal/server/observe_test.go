package server_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"abaca/internal/server"
	"abaca/internal/test/serve"
	"abaca/internal/test/torture"
)

// fetch asks for a URL with headers, given as keys and values, of which Host is the name that is asked for.
func fetch(t *testing.T, method, url string, headers ...string) (status int, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
		}
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// until asks every so often, and fails the test where what is wanted does not come in time.
func until(t *testing.T, wanted func() error) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var err error
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); <-tick.C {
		if err = wanted(); err == nil {
			return
		}
	}
	t.Fatal(err)
}

// A scrape has the values of all series, by name and labels as they are written.
type scrape map[string]float64

func metricsOf(t *testing.T, s *serve.Server) (values scrape, text string) {
	t.Helper()
	status, text := fetch(t, "GET", s.MetricsURL())
	if status != 200 {
		t.Fatalf("%d: %s", status, text)
	}
	values = scrape{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if i := strings.LastIndexByte(line, ' '); i > 0 && line[0] != '#' {
			v, err := strconv.ParseFloat(line[i+1:], 64)
			if err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			values[line[:i]] = v
		}
	}
	return values, text
}

// grows waits until these series have grown by so much.
func grows(t *testing.T, s *serve.Server, before scrape, want scrape) (after scrape) {
	t.Helper()
	until(t, func() error {
		after, _ = metricsOf(t, s)
		for series, by := range want {
			if _, known := after[series]; !known {
				return fmt.Errorf("there is no %s", series)
			}
			if got := after[series] - before[series]; got != by {
				return fmt.Errorf("%s has grown by %v, want %v", series, got, by)
			}
		}
		return nil
	})
	return after
}

func operations(operation, outcome string) string {
	return fmt.Sprintf("abaca_operations_total{operation=%q,outcome=%q}", operation, outcome)
}

func TestWhatIsDoneIsCounted(t *testing.T) {
	s := serve.Start(t)
	before, _ := metricsOf(t, s)
	if before["abaca_database_up"] != 1 || before[operations("create_backup", "failed")] != 0 {
		t.Error("a new server is not as new")
	}
	share := s.NewShare("docs")
	var size float64
	for i := range 10 {
		data := bytes.Repeat([]byte{byte(i), 1, 2, 3}, 10_000*(i+1))
		size += float64(len(data))
		if err := os.WriteFile(filepath.Join(s.Share(share), fmt.Sprintf("secret-name-%d", i)), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	backup := s.NewBackup(share)
	after := grows(t, s, before, scrape{
		operations("create_share", "done"): 1, operations("create_backup", "done"): 1,
		"abaca_read_files_total": 10, "abaca_read_bytes_total": size, "abaca_restored_bytes_total": 0,
		`abaca_operation_duration_seconds_count{operation="create_backup"}`:                  1,
		`abaca_operations_running{operation="create_backup"}`:                                0,
		`abaca_operations_waiting{operation="create_backup"}`:                                0,
		`abaca_operations_waiting_oldest_seconds{operation="create_backup"}`:                 0,
		`abaca_http_requests_total{code="202",method="POST",route="/v2/share-backups"}`:      1,
		`abaca_http_request_duration_seconds_count{method="POST",route="/v2/share-backups"}`: 1,
	})
	if stored := after["abaca_stored_bytes_total"]; stored <= 0 || stored > size {
		t.Errorf("%v bytes are stored of %v", stored, size)
	}
	if age := time.Since(time.Unix(int64(after[`abaca_operation_last_success_timestamp_seconds{operation="create_backup"}`]), 0)); age > time.Hour {
		t.Errorf("the latest backup is %v old", age)
	}
	if err := os.Remove(filepath.Join(s.Share(share), "secret-name-9")); err != nil {
		t.Fatal(err)
	}
	s.Restore(backup)
	after = grows(t, s, after, scrape{operations("restore_backup", "done"): 1, "abaca_restored_bytes_total": 400_000, "abaca_restored_files_total": 10, "abaca_read_files_total": 0})

	if err := os.RemoveAll(s.Share(share)); err != nil {
		t.Fatal(err)
	}
	failed := s.Must(202, "share_backup", "POST", "/share-backups", object{"share_backup": object{"share_id": share}})["id"].(string)
	s.AtRest("/share-backups/"+failed, "share_backup", "error")
	after = grows(t, s, after, scrape{operations("create_backup", "failed"): 1, operations("create_backup", "retried"): 2, operations("create_backup", "done"): 0})

	s.Must(202, "", "DELETE", "/share-backups/"+backup, nil)
	s.AtRest("/share-backups/"+backup, "share_backup", "gone")
	fetch(t, "PUT", s.URL+"/v2/no-such/"+share, "X-Auth-Token", "admin:admin")
	fetch(t, "BREW", s.URL+"/v2/shares/"+share, "X-Auth-Token", "admin:admin")
	grows(t, s, after, scrape{
		operations("delete_backup", "done"): 1, `abaca_http_requests_total{code="202",method="DELETE",route="/v2/share-backups/{id}"}`: 1,
		`abaca_http_requests_total{code="404",method="PUT",route="unrouted"}`: 1, `abaca_http_requests_total{code="404",method="other",route="unrouted"}`: 1,
	})
	_, text := metricsOf(t, s)
	for _, secret := range []string{share, backup, failed, "secret-name", s.Config.DataDir, "no-such", "BREW"} {
		if strings.Contains(text, secret) {
			t.Errorf("the metrics show %s", secret)
		}
	}
}

func TestWorkThatWaitsIsCountedAndSoAreLostLeases(t *testing.T) {
	inside := make(chan struct{}, 8)
	dir := t.TempDir()
	c, err := serve.Config(dir)
	if err != nil {
		t.Fatal(err)
	}
	c.Workers.Trees = 1
	s := serve.StartWith(t, c, server.WithStep(func(ctx context.Context, name string) error {
		if name != "create_backup: opened" {
			return nil
		}
		inside <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}))
	before, _ := metricsOf(t, s)
	var backups []string
	for _, share := range []string{s.NewShare("one"), s.NewShare("two")} {
		backups = append(backups, s.Must(202, "share_backup", "POST", "/share-backups", object{"share_backup": object{"share_id": share}})["id"].(string))
	}
	<-inside
	grows(t, s, before, scrape{`abaca_operations_waiting{operation="create_backup"}`: 1, `abaca_operations_running{operation="create_backup"}`: 1})
	until(t, func() error {
		if now, _ := metricsOf(t, s); now[`abaca_operations_waiting_oldest_seconds{operation="create_backup"}`] > 0 {
			return nil
		}
		return fmt.Errorf("what waits does not grow older")
	})
	// What the administrator takes from the worker is a lease lost.
	s.Must(202, "", "POST", "/share-backups/"+backups[0]+"/action", object{"reset_status": object{"status": "error"}})
	s.Must(202, "", "POST", "/share-backups/"+backups[1]+"/action", object{"reset_status": object{"status": "error"}})
	grows(t, s, before, scrape{operations("create_backup", "lease_lost"): 1, `abaca_operations_waiting{operation="create_backup"}`: 0})
}

func TestRepositoriesAreMeasuredAndVerificationsCounted(t *testing.T) {
	dir := t.TempDir()
	first := serve.StartIn(t, dir)
	share := first.NewShare("docs")
	if err := torture.Grow(first.Share(share), 11, 100); err != nil {
		t.Fatal(err)
	}
	first.NewBackup(share)
	first.Stop()
	if err := serve.FlipBit(dir); err != nil {
		t.Fatal(err)
	}
	c, err := serve.Config(dir)
	if err != nil {
		t.Fatal(err)
	}
	c.Verify.SharePerDay = 1
	later := func() time.Time { return time.Now().Add(48 * time.Hour) }
	s := serve.StartWith(t, c, server.WithClock(later))
	after := grows(t, s, scrape{}, scrape{operations("maintain", "done"): 1, operations("verify", "done"): 1, "abaca_repositories": 1})
	if got := after["abaca_repository_stored_bytes"]; got < 1000 || got > float64(size(t, filepath.Join(dir, "repository"))) {
		t.Errorf("the repository has %v bytes", got)
	}
	if after["abaca_verification_findings_total"] < 1 || after["abaca_verified_files_total"] < 1 || after["abaca_verified_bytes_total"] < 1 {
		t.Errorf("the verification counts %v damaged, %v sound", after["abaca_verification_findings_total"], after["abaca_verified_files_total"])
	}
}

func TestMetricsAreForThisMachineUnlessTheyHaveAnAddress(t *testing.T) {
	s := serve.Start(t)
	url := s.MetricsURL()
	if status, _ := fetch(t, "GET", url); status != 200 {
		t.Errorf("this machine is answered %d", status)
	}
	for _, headers := range [][]string{{"X-Forwarded-For", "192.0.2.1"}, {"Forwarded", "for=192.0.2.1"}, {"Via", "1.1 proxy"}, {"Host", "rebound.example"}} {
		if status, body := fetch(t, "GET", url, headers...); status != 404 || strings.Contains(body, "abaca_") {
			t.Errorf("%v is answered %d", headers, status)
		}
	}
	if status, _ := fetch(t, "POST", url); status != 404 {
		t.Errorf("POST is answered %d", status)
	}

	c, err := serve.Config(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	c.Metrics.Listen = "127.0.0.1:0"
	s = serve.StartWith(t, c)
	if status, _ := fetch(t, "GET", s.URL+"/metrics"); status != 404 {
		t.Errorf("the API's address answers %d although the metrics have their own", status)
	}
	if status, body := fetch(t, "GET", s.MetricsURL()); status != 200 || !strings.Contains(body, "abaca_database_up 1") {
		t.Errorf("their own address answers %d", status)
	}
	if status, _ := fetch(t, "GET", s.MetricsURL(), "Host", "rebound.example"); status != 404 {
		t.Errorf("a web page is answered %d", status)
	}
	if status, _ := fetch(t, "GET", strings.TrimSuffix(s.MetricsURL(), "/metrics")+"/v2/"); status != 404 {
		t.Errorf("the API is there too: %d", status)
	}
	until(t, func() error { // which at the start may take a moment
		if status, body := fetch(t, "GET", strings.TrimSuffix(s.MetricsURL(), "/metrics")+"/healthcheck"); status != 200 || body != "OK" {
			return fmt.Errorf("the health is not there: %d %s", status, body)
		}
		return nil
	})
}

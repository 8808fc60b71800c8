package server_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"abaca/internal/server"
	"abaca/internal/test/postgres"
	"abaca/internal/test/serve"
)

func TestAPartThatFailsIsTold(t *testing.T) {
	s := serve.Start(t)
	check := s.URL + "/healthcheck"
	becomes := func(status int, body string) {
		t.Helper()
		until(t, func() error {
			if got, text := fetch(t, "GET", check); got != status || text != body {
				return fmt.Errorf("it answers %d %s, want %d %s", got, text, status, body)
			}
			return nil
		})
	}
	becomes(200, "OK")
	for _, part := range []struct {
		name, body string
		status     int
	}{{"shares", "OK\nBACKEND local", 200}, {"repository", "REPOSITORY", 503}} {
		path := filepath.Join(s.Config.DataDir, part.name)
		if err := os.Rename(path, path+"-away"); err != nil {
			t.Fatal(err)
		}
		becomes(part.status, part.body)
		if _, body := fetch(t, "GET", check+"?detailed"); !strings.Contains(body, s.Config.DataDir) {
			t.Errorf("this machine is not told where: %s", body)
		}
		if _, body := fetch(t, "GET", check+"?detailed", "Via", "1.1 proxy"); strings.Contains(body, s.Config.DataDir) {
			t.Errorf("strangers are told where: %s", body)
		}
		if err := os.Rename(path+"-away", path); err != nil {
			t.Fatal(err)
		}
		becomes(200, "OK")
	}
	disabled := filepath.Join(s.Config.DataDir, "disabled")
	if err := os.WriteFile(disabled, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	becomes(503, "DISABLED BY FILE")
	if err := os.Remove(disabled); err != nil {
		t.Fatal(err)
	}
	becomes(200, "OK")
}

func TestADatabaseThatIsAwayIsToldUntilItIsBack(t *testing.T) {
	cluster := postgres.Start(t)
	s := serve.StartWith(t, on(t, cluster.Database(t, "abaca"), "one", t.TempDir()))
	becomes := func(status int, reasons string, up float64) {
		t.Helper()
		until(t, func() error {
			if got, text := fetch(t, "GET", s.URL+"/healthcheck"); got != status || text != reasons {
				return fmt.Errorf("it answers %d %q, want %d %q", got, text, status, reasons)
			}
			if values, _ := metricsOf(t, s); values["abaca_database_up"] != up {
				return fmt.Errorf("abaca_database_up is %v, want %v", values["abaca_database_up"], up)
			}
			return nil
		})
	}
	becomes(200, "OK", 1)
	cluster.Stop()
	becomes(503, "DATABASE", 0)
	becomes(503, "DATABASE\nWORKERS", 0) // after a while, since they cannot find out what there is to do
	cluster.Restart(t)
	becomes(200, "OK", 1)
}

func TestAServerThatStopsSaysSoFirst(t *testing.T) {
	c, err := serve.Config(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	c.Drain = 2 * time.Second
	inside := make(chan struct{}, 1)
	s := serve.StartWith(t, c, server.WithStep(func(ctx context.Context, name string) error {
		if name != "create_backup: opened" {
			return nil
		}
		inside <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}))
	s.Must(202, "share_backup", "POST", "/share-backups", object{"share_backup": object{"share_id": s.NewShare("docs")}})
	<-inside
	if status, _ := fetch(t, "GET", s.URL+"/healthcheck"); status != 200 {
		t.Fatalf("before, it answers %d", status)
	}
	began := time.Now()
	stopped := make(chan struct{})
	go func() { s.Stop(); close(stopped) }()
	until(t, func() error {
		if got, text := fetch(t, "GET", s.URL+"/healthcheck"); got != 503 || !strings.Contains(text, "DRAINING") {
			return fmt.Errorf("it answers %d %s", got, text)
		}
		return nil
	})
	if status, _ := s.Do("GET", "/shares", nil); status != 200 {
		t.Errorf("requests are answered %d meanwhile", status)
	}
	grows(t, s, scrape{}, scrape{operations("create_backup", "interrupted"): 1, `abaca_operations_waiting{operation="create_backup"}`: 1})
	<-stopped
	if took := time.Since(began); took < c.Drain {
		t.Errorf("it has stopped after %v", took)
	}
}

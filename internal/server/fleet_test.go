package server_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"abaca"
	"abaca/internal/manager"
	"abaca/internal/server"
	"abaca/internal/test/postgres"
	"abaca/internal/test/serve"
)

// fleetConfig is the configuration file with which this test binary is to serve; set in the processes of a fleet alone.
const fleetConfig = "ABACA_TEST_FLEET_CONFIG"

// serveInFleet serves until SIGTERM. It prints where it takes requests, and then what its engine has done, a line each.
func serveInFleet(path string) error {
	c, err := server.Load(path, nil, nil)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	s, err := server.Open(ctx, c, c.Logger(), server.WithSettle(0), server.WithPatience(time.Minute),
		server.WithEngine(func(e manager.Engine) manager.Engine { return ledger{e, func(line string) { fmt.Println(line) }} }))
	if err != nil {
		return err
	}
	fmt.Println("at " + s.Endpoint())
	err = s.Serve(ctx)
	if cerr := s.Close(); err == nil {
		err = cerr
	}
	return err
}

// A ledger is an engine whose deeds are written down: begun, and how they ended.
type ledger struct {
	manager.Engine
	write func(line string)
}

func (l ledger) ended(what, id string, err error) {
	if err != nil {
		l.write("failed " + what + " " + id)
		return
	}
	l.write("done " + what + " " + id)
}

func (l ledger) Save(ctx context.Context, req abaca.SaveRequest, vol *abaca.Volume, report func(abaca.Progress)) (abaca.Ref, abaca.Report, error) {
	l.write("began save " + req.ID)
	var read int64
	ref, rep, err := l.Engine.Save(ctx, req, vol, func(p abaca.Progress) {
		read = p.BytesRead
		report(p)
	})
	l.write(fmt.Sprint("read ", req.ID, " ", read))
	l.ended("save", req.ID, err)
	return ref, rep, err
}

func (l ledger) Restore(ctx context.Context, project abaca.ProjectID, ref abaca.Ref, vol *abaca.Volume, report func(abaca.Progress)) (abaca.Report, error) {
	l.write("began restore " + string(ref))
	rep, err := l.Engine.Restore(ctx, project, ref, vol, report)
	l.ended("restore", string(ref), err)
	return rep, err
}

func (l ledger) Delete(ctx context.Context, project abaca.ProjectID, id string) error {
	l.write("began delete " + id)
	err := l.Engine.Delete(ctx, project, id)
	l.ended("delete", id, err)
	return err
}

// A fleet is processes that share a database, the repositories and the back end "files".
type fleet struct {
	t          *testing.T
	database   string
	repository string
	files      string // of the back end that all have
	key        string
	dirs       map[string]string // of data, by host
	extra      map[string]any    // settings that all have besides
}

func newFleet(t *testing.T, extra map[string]any) *fleet {
	t.Helper()
	f := &fleet{t: t, database: postgres.New(t), repository: t.TempDir(), files: t.TempDir(), key: filepath.Join(t.TempDir(), "key"), dirs: map[string]string{}, extra: extra}
	if err := os.WriteFile(f.key, []byte(strings.Repeat("0123456789abcdef", 4)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return f
}

// A ship is a process of a fleet.
type ship struct {
	*serve.Client // nil of one that takes no requests
	t             *testing.T
	host          string
	cmd           *exec.Cmd
	ended         chan struct{}

	mu    sync.Mutex
	lines []string // of its ledger and its log
	news  chan struct{}
}

// launch starts a process of a host and role with back ends besides "files", or none at all where they are nil.
func (f *fleet) launch(host, role string, backends ...server.BackendConfig) *ship {
	f.t.Helper()
	dir, there := f.dirs[host]
	if !there {
		dir = f.t.TempDir()
		f.dirs[host] = dir
	}
	settings := map[string]any{
		"role": role, "host": host, "listen": "127.0.0.1:0", "data_dir": dir, "database": f.database,
		"workers": map[string]any{"lease": "4s", "backoff": "10ms"}, "log": map[string]any{"level": "info"},
		"quotas": map[string]any{"snapshots": -1, "snapshot_gigabytes": -1, "backups": -1, "backup_gigabytes": -1, "shares": -1, "gigabytes": -1},
	}
	for k, v := range f.extra {
		settings[k] = v
	}
	if role != "api" {
		settings["master_key_file"], settings["repository"] = f.key, "file://"+f.repository
		list := []map[string]any{}
		for _, b := range backends {
			list = append(list, map[string]any{"name": b.Name, "driver": b.Driver, "path": b.Path})
		}
		if len(list) == 0 {
			list = append(list, map[string]any{"name": "files", "driver": "directory", "path": f.files})
		}
		settings["backends"] = list
	}
	text, err := json.Marshal(settings) // which is YAML
	if err != nil {
		f.t.Fatal(err)
	}
	path := filepath.Join(f.t.TempDir(), "abaca.yaml")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		f.t.Fatal(err)
	}
	return f.board(host, path)
}

func (f *fleet) board(host, config string) *ship {
	f.t.Helper()
	s := &ship{t: f.t, host: host, cmd: exec.Command(os.Args[0]), ended: make(chan struct{}), news: make(chan struct{})}
	s.cmd.Env = append(os.Environ(), fleetConfig+"="+config)
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		f.t.Fatal(err)
	}
	log, err := s.cmd.StderrPipe()
	if err != nil {
		f.t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	var reading sync.WaitGroup
	for _, r := range []*bufio.Scanner{bufio.NewScanner(out), bufio.NewScanner(log)} {
		reading.Go(func() {
			for r.Scan() {
				s.heard(r.Text())
			}
		})
	}
	go func() {
		reading.Wait()
		s.cmd.Wait()
		close(s.ended)
	}()
	f.t.Cleanup(func() {
		s.kill()
		if f.t.Failed() {
			s.mu.Lock()
			defer s.mu.Unlock()
			f.t.Logf("%s said:\n%s", host, strings.Join(s.lines[max(0, len(s.lines)-60):], "\n"))
		}
	})
	if at := strings.TrimPrefix(s.says("at "), "at "); at != "" {
		s.Client = serve.NewClient(f.t, at)
	}
	return s
}

func (s *ship) heard(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, line)
	close(s.news)
	s.news = make(chan struct{})
}

// says waits until the process has said a line that holds some text, and returns it.
func (s *ship) says(text string) string {
	s.t.Helper()
	overdue := time.After(5 * time.Minute) // bounds a test that fails, and decides nothing
	for from := 0; ; {
		s.mu.Lock()
		news := s.news
		for ; from < len(s.lines); from++ {
			if strings.Contains(s.lines[from], text) {
				line := s.lines[from]
				s.mu.Unlock()
				return line
			}
		}
		s.mu.Unlock()
		select {
		case <-news:
		case <-s.ended:
			s.t.Fatalf("%s has ended and never said %q", s.host, text)
		case <-overdue:
			s.t.Fatalf("%s never said %q", s.host, text)
		}
	}
}

// said counts the lines that hold some text.
func (s *ship) said(text string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, line := range s.lines {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

func (s *ship) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

// kill ends the process as a power loss would.
func (s *ship) kill() {
	s.cmd.Process.Kill()
	<-s.ended
}

// stop ends it in good order.
func (s *ship) stop() {
	s.t.Helper()
	s.signal(syscall.SIGTERM)
	<-s.ended
}

// shareOn makes a share on a back end, by way of a share type that names it.
func shareOn(t *testing.T, c *serve.Client, backend string) string {
	t.Helper()
	c.Do("POST", "/types", object{"share_type": object{"name": backend, "extra_specs": object{
		"driver_handles_share_servers": "False", "share_backend_name": backend,
	}}})
	id := ""
	until(t, func() error { // a worker says which back ends it reaches once it is up
		status, answer := c.Do("POST", "/shares", object{"share": object{"share_proto": "NFS", "size": 1, "share_type": backend}})
		if status != 200 {
			return fmt.Errorf("making a share is answered with %d: %v", status, answer)
		}
		id = answer["share"].(object)["id"].(string)
		return nil
	})
	return id
}

func states(t *testing.T, c *serve.Client) map[string]string {
	t.Helper()
	_, answer := c.Do("GET", "/services", nil)
	found := map[string]string{}
	for _, item := range answer["services"].([]any) {
		s := item.(object)
		found[s["host"].(string)] = fmt.Sprint(s["status"], " ", s["state"])
	}
	return found
}

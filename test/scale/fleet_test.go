package scale

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"abaca/internal/test/postgres"
	"abaca/internal/test/s3"
	"math/rand/v2"
)

// A fleet is processes of the program on this machine, which share a PostgreSQL, a bucket and the back end "files".
type fleet struct {
	t        testing.TB
	dir      string
	program  string
	rows     *postgres.Cluster
	database string // its URL
	endpoint string // the bucket's, as the processes know it
	bucket   *s3.Server
	refused  atomic.Int64 // how many of a thousand requests to the bucket are answered with 503
	apis     []*member
	workers  []*member
	tenants  []*tenant // of the load, each with what has been acknowledged to it
}

// A member is one of its processes. It may be killed and launched again, and keeps its address.
type member struct {
	f       *fleet
	host    string
	config  string // its configuration file
	address string // host:port
	process *os.Process
	ended   chan struct{}
}

// launch builds the program and starts all that belongs to it.
func launch(t testing.TB, apis, workers int) *fleet {
	t.Helper()
	f := &fleet{t: t, dir: t.TempDir(), rows: postgres.Start(t), bucket: s3.Start(t)}
	f.program = filepath.Join(f.dir, "abaca")
	if out, err := exec.Command("go", "build", "-o", f.program, "abaca/cmd/abaca").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	f.database = f.rows.Database(t, "scale")
	must(t, os.Mkdir(f.files(), 0o755))
	must(t, os.WriteFile(f.keyFile(), []byte(strings.Repeat("0123456789abcdef", 4)+"\n"), 0o600))
	f.endpoint = f.door()
	for i := range apis + workers {
		if i < apis {
			f.apis = append(f.apis, f.join(fmt.Sprintf("api%d", i+1)))
		} else {
			f.workers = append(f.workers, f.join(fmt.Sprintf("worker%d", i-apis+1)))
		}
	}
	return f
}

func (f *fleet) files() string   { return filepath.Join(f.dir, "shares") }
func (f *fleet) keyFile() string { return filepath.Join(f.dir, "master.key") }

// door stands in front of the bucket and turns away as many as refused says. It returns its URL.
func (f *fleet) door() string {
	behind := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: f.bucket.Endpoint})
			r.Out.Host = r.In.Host // which is signed
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if rand.Int64N(1000) < f.refused.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		behind.ServeHTTP(w, r)
	}))
	f.t.Cleanup(server.Close)
	return server.URL
}

// join configures a process and launches it.
func (f *fleet) join(host string) *member {
	f.t.Helper()
	t := f.t
	m := &member{f: f, host: host, config: filepath.Join(f.dir, host+".yaml"), address: "127.0.0.1:0"}
	m.configure()
	m.launch()
	t.Cleanup(func() {
		m.kill()
		if log, err := os.ReadFile(m.log()); err == nil && t.Failed() {
			t.Logf("the end of what %s said:\n%s", host, log[max(0, len(log)-1<<16):])
		}
	})
	return m
}

// configure writes the process's configuration.
func (m *member) configure() {
	f := m.f
	unlimited := map[string]int{"backups": -1, "backup_gigabytes": -1, "shares": -1, "gigabytes": -1}
	role := strings.TrimRight(m.host, "0123456789")
	text, err := json.Marshal(map[string]any{ // which is YAML
		"host": m.host, "role": role, "data_dir": m.data(), "database": f.database, "master_key_file": f.keyFile(),
		"repository": "s3://" + s3.Name + "/abaca", "s3": map[string]any{"endpoint": f.endpoint},
		"backends": []any{map[string]any{"name": "files", "driver": "directory", "path": f.files()}},
		"workers":  map[string]any{"lease": "5s", "trees": 3}, "quotas": unlimited, "log": map[string]any{"level": "info"},
	})
	must(f.t, err)
	must(f.t, os.WriteFile(m.config, text, 0o600))
}

func (m *member) data() string { return filepath.Join(m.f.dir, m.host) }
func (m *member) log() string  { return filepath.Join(m.f.dir, m.host+".log") }

// command is one of the program with the member's configuration.
func (m *member) command(args ...string) *exec.Cmd {
	cmd := exec.Command(m.f.program, append(args, "--config", m.config)...)
	cmd.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID="+m.f.bucket.AccessKey, "AWS_SECRET_ACCESS_KEY="+m.f.bucket.SecretKey)
	return cmd
}

// launch starts the process and returns when it takes requests, or works.
func (m *member) launch() {
	t := m.f.t
	t.Helper()
	cmd := m.command("serve", "--listen", m.address)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	log, err := os.OpenFile(m.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	must(t, err)
	defer log.Close()
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		cmd.Wait()
		text, _ := os.ReadFile(m.log())
		t.Fatalf("%s has not started: %s", m.host, text)
	}
	_, at, _ := strings.Cut(lines.Text(), "http://")
	m.address, _, _ = strings.Cut(at, "/")
	ended := make(chan struct{})
	m.process, m.ended = cmd.Process, ended
	go func() {
		for lines.Scan() { // what to try first
		}
		cmd.Wait()
		close(ended)
	}()
}

// kill ends the process as a power loss would.
func (m *member) kill() {
	m.process.Kill()
	<-m.ended
}

// crash kills the process, leaves it away for so long, and launches it again.
func (m *member) crash(away time.Duration) {
	m.kill()
	pause(away)
	m.launch()
}

// pause is how long an outage lasts; nothing is told about its end.
func pause(d time.Duration) { <-time.After(d) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

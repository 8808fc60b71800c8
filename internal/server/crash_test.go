package server_test

import (
	"bufio"
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"abaca/internal/server"
	"abaca/internal/test/postgres"
	"abaca/internal/test/serve"
	"abaca/internal/test/torture"
)

// The crash test runs this test binary again as the server, which kills itself at a step.
const (
	crashDir      = "ABACA_TEST_CRASH_DIR"  // the server's data directory; set in the server alone
	crashStep     = "ABACA_TEST_CRASH_STEP" // where it kills itself; empty for nowhere
	crashKey      = "ABACA_TEST_CRASH_KEY"  // its key file; empty for the default
	crashDatabase = "ABACA_TEST_CRASH_DATABASE"
	crashAhead    = "ABACA_TEST_CRASH_AHEAD" // by how much its clock is ahead
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		if err := serveUntilKilled(dir, os.Getenv(crashStep)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if path := os.Getenv(fleetConfig); path != "" {
		if err := serveInFleet(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(postgres.Main(m))
}

// serveUntilKilled prints its endpoint, then each step it comes to, a line each.
func serveUntilKilled(dir, at string) error {
	c, err := serve.Config(dir)
	if err != nil {
		return err
	}
	c.Verify.SharePerDay = 1
	by, err := time.ParseDuration(cmp.Or(os.Getenv(crashAhead), "0s"))
	if err != nil {
		return err
	}
	c.Database = server.DatabaseURL(os.Getenv(crashDatabase))
	c.MasterKeyFile = cmp.Or(os.Getenv(crashKey), c.MasterKeyFile)
	s, err := server.Open(context.Background(), c, slog.New(slog.NewTextHandler(os.Stderr, nil)), server.WithSettle(0),
		server.WithClock(func() time.Time { return time.Now().Add(by) }),
		server.WithStep(func(_ context.Context, name string) error {
			fmt.Println(name)
			if name != at {
				return nil
			}
			// The request that led here is to be answered first: what is lost must have been acknowledged.
			os.Stdin.Read(make([]byte, 1))
			return syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}))
	if err != nil {
		return err
	}
	fmt.Println(s.Endpoint())
	return s.Serve(context.Background())
}

// A process is a server in a process of its own and, after a crash, its successor.
type process struct {
	*serve.Client
	t        *testing.T
	dir      string
	database server.DatabaseURL
	ahead    time.Duration // of its clock
	cmd      *exec.Cmd
	stdin    io.WriteCloser
	steps    []string      // that were come to; complete once ended is closed
	ended    chan struct{} // closed when the process has ended
}

func start(t *testing.T, database server.DatabaseURL, at string) *process {
	t.Helper()
	p := &process{t: t, dir: t.TempDir(), database: database}
	t.Cleanup(p.stop)
	p.start(at)
	return p
}

// stop kills the process if it has started.
func (p *process) stop() {
	if p.cmd != nil {
		p.kill()
	}
}

func (p *process) start(at string) {
	p.t.Helper()
	if !p.tryStart(at) {
		p.t.Fatal("the server has not started")
	}
}

// tryStart reports whether the server has started.
func (p *process) tryStart(at string) bool {
	p.t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), crashDir+"="+p.dir, crashDatabase+"="+string(p.database), crashStep+"="+at, crashAhead+"="+p.ahead.String())
	cmd.Stderr = testLog{p.t}
	out, err := cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if p.stdin, err = cmd.StdinPipe(); err != nil {
		p.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		cmd.Wait()
		return false
	}
	p.Client, p.cmd, p.steps, p.ended = serve.NewClient(p.t, lines.Text()), cmd, nil, make(chan struct{})
	go func() {
		for lines.Scan() {
			p.steps = append(p.steps, lines.Text())
		}
		cmd.Wait()
		close(p.ended)
	}()
	return true
}

// kill ends the server as a power loss would, and returns the steps that it came to.
func (p *process) kill() []string {
	p.cmd.Process.Kill()
	<-p.ended
	return p.steps
}

type testLog struct{ t *testing.T }

func (l testLog) Write(b []byte) (int, error) {
	l.t.Logf("server: %s", strings.TrimSpace(string(b)))
	return len(b), nil
}

// A stage is what one operation is done to.
type stage struct {
	*process
	share, backup, snapshot string
	kept                    string // a copy of the share's files as they were backed up
}

// exec and count reach the database past the server, as only a test may.
func (s *stage) exec(t *testing.T, statement string) {
	t.Helper()
	database(t, s.dir, s.database, func(d *sql.DB) error {
		_, err := d.ExecContext(t.Context(), statement)
		return err
	})
}

func (s *stage) count(t *testing.T, rows string) (n int) {
	t.Helper()
	database(t, s.dir, s.database, func(d *sql.DB) error { return d.QueryRowContext(t.Context(), "SELECT count(*) FROM "+rows).Scan(&n) })
	return n
}

func database(t *testing.T, dir string, url server.DatabaseURL, do func(*sql.DB) error) {
	t.Helper()
	driver, name := "sqlite", "file:"+filepath.Join(dir, "abaca.db")+"?_pragma=busy_timeout(10000)"
	if url != "" {
		driver, name = "pgx", string(url)
	}
	d, err := sql.Open(driver, name)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := do(d); err != nil {
		t.Fatal(err)
	}
}

func (s *stage) files() string { return filepath.Join(s.dir, "shares", s.share) }

// A deed is one operation: what has to be there before, the request that the server acknowledges, and what has to be true
// once the work has ended, however often it was interrupted.
type deed struct{ before, request, after func(*testing.T, *stage) }

func withShare(t *testing.T, s *stage) {
	s.share = s.NewShare("docs")
	if err := torture.Grow(s.files(), 11, 150); err != nil {
		t.Fatal(err)
	}
	s.kept = filepath.Join(t.TempDir(), "kept")
	copyTree(t, s.files(), s.kept)
}

func withBackup(t *testing.T, s *stage) {
	withShare(t, s)
	s.backup = s.NewBackup(s.share)
	if _, err := torture.Vandalise(s.files(), 12, 60); err != nil {
		t.Fatal(err)
	}
}

func withSnapshot(t *testing.T, s *stage) {
	withShare(t, s)
	takeSnapshot(t, s)
	s.AtRest("/snapshots/"+s.snapshot, "snapshot", "available")
}

func takeSnapshot(_ *testing.T, s *stage) {
	s.snapshot = s.Must(202, "snapshot", "POST", "/snapshots", object{"snapshot": object{"share_id": s.share}})["id"].(string)
}

// intact restores the backup and finds the files as they were; a second restore changes nothing.
func intact(t *testing.T, s *stage) {
	s.AtRest("/share-backups/"+s.backup, "share_backup", "available")
	s.AtRest("/shares/"+s.share, "share", "available")
	for range 2 {
		s.Restore(s.backup)
		equal(t, s.kept, s.files())
	}
}

var deeds = map[string]deed{
	"create_share": {
		before: func(*testing.T, *stage) {},
		request: func(_ *testing.T, s *stage) {
			s.share = s.Must(200, "share", "POST", "/shares", object{"share": object{"share_proto": "NFS", "size": 1}})["id"].(string)
		},
		after: func(t *testing.T, s *stage) {
			s.AtRest("/shares/"+s.share, "share", "available")
			if _, err := os.Stat(s.files()); err != nil {
				t.Error(err)
			}
		},
	},
	"manage_share": {
		before: func(t *testing.T, s *stage) {
			if err := os.MkdirAll(filepath.Join(s.dir, "shares", "old"), 0o755); err != nil {
				t.Fatal(err)
			}
		},
		request: func(_ *testing.T, s *stage) {
			s.share = s.Must(200, "share", "POST", "/shares/manage", object{"share": object{
				"service_host": "abaca@local#local", "export_path": filepath.Join(s.dir, "shares", "old"), "protocol": "NFS",
			}})["id"].(string)
		},
		after: func(t *testing.T, s *stage) {
			if sh := s.AtRest("/shares/"+s.share, "share", "available"); sh["size"] != 1.0 {
				t.Errorf("the size is %v", sh["size"])
			}
		},
	},
	"create_backup": {
		before: withShare,
		request: func(_ *testing.T, s *stage) {
			body := object{"share_backup": object{"share_id": s.share}}
			s.backup = s.Must(202, "share_backup", "POST", "/share-backups", body)["id"].(string)
		},
		after: intact,
	},
	"restore_backup": {
		before: withBackup,
		request: func(_ *testing.T, s *stage) {
			s.Must(202, "restore", "POST", "/share-backups/"+s.backup+"/action", object{"restore": nil})
		},
		after: intact,
	},
	"delete_backup": {
		before:  withBackup,
		request: func(_ *testing.T, s *stage) { s.Must(202, "", "DELETE", "/share-backups/"+s.backup, nil) },
		after: func(t *testing.T, s *stage) {
			s.AtRest("/share-backups/"+s.backup, "share_backup", "gone")
			s.Must(202, "", "DELETE", "/shares/"+s.share, nil)
			s.AtRest("/shares/"+s.share, "share", "gone")
		},
	},
	"create_snapshot": {
		before:  withShare,
		request: takeSnapshot,
		after: func(_ *testing.T, s *stage) {
			s.AtRest("/snapshots/"+s.snapshot, "snapshot", "available")
		},
	},
	"delete_snapshot": {
		before:  withSnapshot,
		request: func(_ *testing.T, s *stage) { s.Must(202, "", "DELETE", "/snapshots/"+s.snapshot, nil) },
		after: func(_ *testing.T, s *stage) {
			s.AtRest("/snapshots/"+s.snapshot, "snapshot", "gone")
		},
	},
	"verify": {
		before: func(t *testing.T, s *stage) {
			s.share = s.NewShare("docs")
			plant(t, s.files())
			s.backup = s.NewBackup(s.share)
			if err := serve.FlipBit(s.dir); err != nil {
				t.Fatal(err)
			}
		},
		request: func(t *testing.T, s *stage) { s.exec(t, "UPDATE verification_rounds SET due_at = 0") }, // a day has passed
		after: func(t *testing.T, s *stage) {
			s.Until("/messages", "messages", "told", func(object) bool {
				_, answer := s.Do("GET", "/messages?resource_id="+s.share, nil)
				return len(answer["messages"].([]any)) > 0
			})
			s.AtRest("/share-backups/"+s.backup, "share_backup", "available")
			// Its end is one transaction, so that whatever was interrupted it is told and recorded once.
			if told, records := s.count(t, "messages"), s.count(t, "verifications"); told != 1 || records != 1 {
				t.Errorf("%d messages and %d records", told, records)
			}
			tomorrow := time.Now().Add(12 * time.Hour).UnixMicro()
			if s.count(t, fmt.Sprintf("verification_rounds WHERE due_at > %d AND lease_owner IS NULL", tomorrow)) != 1 {
				t.Error("the round has not moved on")
			}
		},
	},
	"delete_share": {
		before:  withShare,
		request: func(_ *testing.T, s *stage) { s.Must(202, "", "DELETE", "/shares/"+s.share, nil) },
		after: func(t *testing.T, s *stage) {
			s.AtRest("/shares/"+s.share, "share", "gone")
			if _, err := os.Stat(s.files()); !os.IsNotExist(err) {
				t.Errorf("the files are there: %v", err)
			}
		},
	},
}

func TestWhateverAKillInterruptsIsFinishedAfterARestart(t *testing.T) {
	t.Parallel()
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		killAtEachStep(t, func() server.DatabaseURL { return "" })
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		t.Parallel()
		killAtEachStep(t, func() server.DatabaseURL { return server.DatabaseURL(postgres.New(t)) })
	})
}

func killAtEachStep(t *testing.T, where func() server.DatabaseURL) {
	var all []string
	for name, d := range deeds {
		s := &stage{process: start(t, where(), "")}
		d.before(t, s)
		d.request(t, s)
		d.after(t, s)
		found := 0
		for _, step := range s.kill() {
			if strings.HasPrefix(step, name+": ") {
				found++
			}
			if !slices.Contains(all, step) {
				all = append(all, step)
			}
		}
		if found == 0 {
			t.Errorf("%s has no step at which it could be killed", name)
		}
	}
	for _, step := range all {
		t.Run(step, func(t *testing.T) {
			name, _, _ := strings.Cut(step, ":")
			d, ok := deeds[name]
			if !ok {
				t.Fatal("no deed comes to this step")
			}
			s := &stage{process: start(t, where(), "")}
			d.before(t, s)
			s.kill()
			s.start(step)
			d.request(t, s)
			if err := s.stdin.Close(); err != nil { // now it may die
				t.Fatal(err)
			}
			<-s.ended
			s.start("")
			d.after(t, s)
			s.consistent(t)
		})
	}
}

// quotasAreTheRows compares what is charged with what is there, of all that is counted.
func quotasAreTheRows(t *testing.T, dir string, url server.DatabaseURL) {
	t.Helper()
	database(t, dir, url, func(d *sql.DB) error {
		wrong, err := chargedAstray(t.Context(), d, "admin")
		for _, w := range wrong {
			t.Error(w)
		}
		return err
	})
}

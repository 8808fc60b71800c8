package server_test

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"abaca/internal/server"
	"abaca/internal/test/postgres"
	"abaca/internal/test/serve"
)

// A stop is where a worker is to stop, once: with an error, or else it hangs there, whatever its context says, until it is let go.
type stop struct {
	fails bool
	there chan struct{} // closed when it is there
	let   chan struct{} // closed when it may go on

	mu   sync.Mutex
	step string   // empty once it was there
	seen []string // steps that were come to
}

func newStop(step string, fails bool) *stop {
	return &stop{step: step, fails: fails, there: make(chan struct{}), let: make(chan struct{})}
}

func (s *stop) stopAt(step string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.step = step
}

func (s *stop) at(_ context.Context, name string) error {
	s.mu.Lock()
	s.seen = append(s.seen, name)
	here := name == s.step
	if here {
		s.step = ""
	}
	s.mu.Unlock()
	if !here {
		return nil
	}
	close(s.there)
	if s.fails {
		return errors.New("this step fails")
	}
	<-s.let
	return nil
}

// A pair is two workers of which the first comes to a stop, and a stage for deeds. The second is there once it is needed.
type pair struct {
	*stage
	t          *testing.T
	one        *serve.Server
	url        string
	repository string
}

func newPair(t *testing.T, where *stop) *pair {
	t.Helper()
	dir := t.TempDir()
	p := &pair{t: t, url: postgres.New(t), repository: filepath.Join(dir, "repository")} // where deeds look for it
	if err := os.Mkdir(p.repository, 0o700); err != nil {
		t.Fatal(err)
	}
	p.stage = &stage{process: &process{t: t, dir: dir, database: server.DatabaseURL(p.url)}}
	p.one = p.worker("one", server.WithStep(where.at))
	p.Client = p.one.Client
	return p
}

// newSingle is a stage with the one server that a file may have: no other could take its work over.
func newSingle(t *testing.T, where *stop) *stage {
	t.Helper()
	c, err := serve.Config(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	c.Verify.SharePerDay = 1
	s := serve.StartWith(t, c, server.WithStep(where.at))
	return &stage{process: &process{t: t, dir: c.DataDir, database: s.Config.Database, Client: s.Client}}
}

func (p *pair) worker(host string, options ...server.Option) *serve.Server {
	p.t.Helper()
	c := on(p.t, p.url, host, filepath.Join(p.dir, "shares"))
	c.Repository, c.MasterKey, c.MasterKeyFile = "file://"+p.repository, server.Secret(strings.Repeat("ab", 32)), ""
	c.Verify.SharePerDay = 1
	return serve.StartWith(p.t, c, options...)
}

// takeOver has the second worker do what the first has stopped in: the first is to take nothing new, and its leases pass.
func (p *pair) takeOver() {
	p.t.Helper()
	p.Must(200, "", "PUT", "/services/disable", object{"host": "one", "binary": "manila-data"})
	p.Client = p.worker("two").Client
	waitFor(p.t, "the take-over", func() bool {
		n := 0
		for table, column := range map[string]string{
			"shares": "lease_until", "share_backups": "lease_until", "share_snapshots": "lease_until", "verification_rounds": "due_at",
		} {
			p.exec(p.t, "UPDATE "+table+" SET "+column+" = 1 WHERE lease_owner = 'one'")
			n += p.count(p.t, table+" WHERE lease_owner = 'one'")
		}
		return n == 0
	})
}

// twice lists the deeds whose end can be looked at again.
var twice = []string{"create_share", "manage_share", "create_backup", "restore_backup", "create_snapshot", "verify"}

func TestWhateverFailsHangsOrReturnsLateTheWorkIsDoneOnceAndRight(t *testing.T) {
	t.Parallel()
	for _, step := range stepsOfAll(t) {
		name, _, _ := strings.Cut(step, ":")
		d := deeds[name]
		t.Run(step+", which fails", func(t *testing.T) {
			t.Parallel()
			for database, begin := range map[string]func(*testing.T, *stop) *stage{
				"PostgreSQL": func(t *testing.T, where *stop) *stage { return newPair(t, where).stage },
				"SQLite":     newSingle,
			} {
				t.Run(database, func(t *testing.T) {
					t.Parallel()
					where := newStop("", true)
					s := begin(t, where)
					d.before(t, s)
					where.stopAt(step)
					d.request(t, s)
					d.after(t, s)
					select {
					case <-where.there:
					default:
						t.Error("the step was not come to")
					}
					s.consistent(t)
				})
			}
		})
		t.Run(step+", which hangs, and returns late", func(t *testing.T) {
			t.Parallel()
			where := newStop("", false)
			p := newPair(t, where)
			d.before(t, p.stage)
			where.stopAt(step)
			d.request(t, p.stage)
			<-where.there
			p.takeOver()
			d.after(t, p.stage)
			p.consistent(t)
			before := p.rows(t)
			close(where.let)
			p.one.Stop() // when it has written whatever it would
			if after := p.rows(t); after != before {
				t.Errorf("who returned late has written: before\n%s\nafter\n%s", before, after)
			}
			p.consistent(t)
			if slices.Contains(twice, name) {
				d.after(t, p.stage)
			}
		})
	}
}

// stepsOfAll does every deed once and returns the steps that they come to.
func stepsOfAll(t *testing.T) (all []string) {
	t.Helper()
	for name, d := range deeds {
		where := newStop("", false)
		p := newPair(t, where)
		d.before(t, p.stage)
		d.request(t, p.stage)
		d.after(t, p.stage)
		p.one.Stop()
		found := 0
		for _, step := range where.seen {
			if strings.HasPrefix(step, name+": ") && !slices.Contains(all, step) {
				all = append(all, step)
				found++
			}
		}
		if found == 0 {
			t.Errorf("%s has no step at which it could stop", name)
		}
	}
	slices.Sort(all)
	return all
}

// consistent checks what is always so when nothing is under way.
func (s *stage) consistent(t *testing.T) {
	t.Helper()
	quotasAreTheRows(t, s.dir, s.database)
	for _, table := range []string{"shares", "share_backups", "share_snapshots"} {
		if n := s.count(t, table+" WHERE lease_owner IS NOT NULL OR lease_until IS NOT NULL"); n != 0 {
			t.Errorf("%d rows of %s are still somebody's work", n, table)
		}
	}
}

// rows is what the tables of resources say, without what passes with time.
func (s *stage) rows(t *testing.T) (all string) {
	t.Helper()
	database(t, s.dir, s.database, func(d *sql.DB) error {
		for _, query := range []string{
			"SELECT id || status || attempt || updated_at || size FROM shares ORDER BY id",
			"SELECT id || status || attempt || updated_at || ref || progress || coalesce(host, '') FROM share_backups ORDER BY id",
			"SELECT id || status || attempt || updated_at || ref FROM share_snapshots ORDER BY id",
			"SELECT id FROM messages ORDER BY id", "SELECT resource || in_use FROM quota_usages ORDER BY resource",
			"SELECT project_id || reached || attempt FROM verification_rounds", "SELECT id FROM verifications ORDER BY id",
		} {
			rows, err := d.QueryContext(t.Context(), query)
			if err != nil {
				return err
			}
			for rows.Next() {
				var line string
				if err := rows.Scan(&line); err != nil {
					return err
				}
				all += line + "\n"
			}
			if err := errors.Join(rows.Err(), rows.Close()); err != nil { //nolint:sqlclosecheck // in a loop: a defer would keep all of them open
				return err
			}
		}
		return nil
	})
	return all
}

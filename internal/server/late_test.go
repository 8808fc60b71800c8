package server_test

import (
	"context"
	"errors"
	"fmt"
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

// A stop is where a worker is to stop, once, and what it does there.
type stop struct {
	step  string
	fails bool          // with an error, at once; else it hangs there, whatever its context says, until release is closed
	there chan struct{} // closed when it is there
	once  sync.Once
	seen  []string // steps that were come to
	mu    sync.Mutex
	let   chan struct{}
	back  chan struct{} // closed when it has gone on
}

func newStop(step string, fails bool) *stop {
	return &stop{step: step, fails: fails, there: make(chan struct{}), let: make(chan struct{}), back: make(chan struct{})}
}

func (s *stop) at(_ context.Context, name string) (err error) {
	s.mu.Lock()
	s.seen = append(s.seen, name)
	s.mu.Unlock()
	if name != s.step {
		return nil
	}
	s.once.Do(func() {
		close(s.there)
		if s.fails {
			err = errors.New("this step fails")
			return
		}
		<-s.let
		close(s.back)
	})
	return err
}

// pair starts two workers, of which the first comes to a stop, and a stage on which deeds are done. The second is not there yet.
func pair(t *testing.T, where *stop) (s *stage, second func()) {
	t.Helper()
	url, dir := postgres.New(t), t.TempDir()
	shares, repository := filepath.Join(dir, "shares"), filepath.Join(dir, "repository")
	if err := os.Mkdir(repository, 0o700); err != nil {
		t.Fatal(err)
	}
	worker := func(host string, options ...server.Option) *serve.Server {
		c := on(t, url, host, shares)
		c.Repository, c.MasterKey, c.MasterKeyFile = "file://"+repository, server.Secret(strings.Repeat("ab", 32)), ""
		c.Verify.SharePerDay = 1
		return serve.StartWith(t, c, options...)
	}
	one := worker("one", server.WithStep(where.at))
	return &stage{process: &process{Client: one.Client, t: t, dir: dir, database: server.DatabaseURL(url)}}, func() { worker("two") }
}

// takeOver makes the lease of the one operation that is under way pass until another worker has it.
func (s *stage) takeOver(t *testing.T) {
	t.Helper()
	waitFor(t, "the take-over", func() bool {
		for _, table := range []string{"shares", "share_backups", "share_snapshots"} {
			s.exec(t, "UPDATE "+table+" SET lease_until = 1 WHERE lease_owner = 'one'")
		}
		s.exec(t, "UPDATE verification_rounds SET due_at = 1 WHERE lease_owner = 'one'")
		n := 0
		for _, table := range []string{"shares", "share_backups", "share_snapshots", "verification_rounds"} {
			n += s.count(t, table+" WHERE lease_owner = 'one'")
		}
		return n == 0
	})
}

func TestWhateverFailsHangsOrReturnsLateTheWorkIsDoneOnceAndRight(t *testing.T) {
	var all []string
	for name, d := range deeds {
		where := newStop("", false)
		s, _ := pair(t, where)
		d.before(t, s)
		d.request(t, s)
		d.after(t, s)
		where.mu.Lock()
		for _, step := range where.seen {
			if strings.HasPrefix(step, name+": ") && !slices.Contains(all, step) {
				all = append(all, step)
			}
		}
		where.mu.Unlock()
	}
	slices.Sort(all)
	for _, step := range all {
		name, _, _ := strings.Cut(step, ":")
		d := deeds[name]
		t.Run(step+", which fails", func(t *testing.T) {
			where := newStop(step, true)
			s, second := pair(t, where)
			d.before(t, s)
			second()
			d.request(t, s)
			d.after(t, s)
			s.consistent(t)
		})
		t.Run(step+", which hangs, and returns late", func(t *testing.T) {
			where := newStop(step, false)
			s, second := pair(t, where)
			d.before(t, s)
			d.request(t, s)
			<-where.there
			second()
			s.takeOver(t)
			d.after(t, s)
			s.consistent(t)
			before := s.rows(t)
			close(where.let)
			<-where.back
			d.after(t, s)
			s.consistent(t)
			if after := s.rows(t); after != before && name != "create_backup" && name != "restore_backup" { // whose d.after restores
				t.Errorf("who returned late has written: before\n%s\nafter\n%s", before, after)
			}
		})
	}
}

// consistent checks what is always so when nothing is under way.
func (s *stage) consistent(t *testing.T) {
	t.Helper()
	quotasAreTheRows(t, s.Client)
	for _, table := range []string{"shares", "share_backups", "share_snapshots"} {
		if n := s.count(t, table+" WHERE lease_owner IS NOT NULL OR lease_until IS NOT NULL"); n != 0 {
			t.Errorf("%d rows of %s are still somebody's work", n, table)
		}
	}
}

// rows is what the tables of resources hold, in a line each.
func (s *stage) rows(t *testing.T) string {
	t.Helper()
	var all []string
	for _, table := range []string{"shares", "share_backups", "share_snapshots", "messages"} {
		all = append(all, fmt.Sprintf("%s: %d", table, s.count(t, table)))
	}
	return strings.Join(all, "\n")
}

package server_test

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"abaca"
	"abaca/internal/db"
	"abaca/internal/manager"
	"abaca/internal/server"
	"abaca/internal/test/postgres"
	"abaca/internal/test/serve"
	"abaca/internal/test/torture"
)

// on configures a server of a host that shares a database, and its back end, with others.
func on(t *testing.T, url, host, shares string) server.Config {
	t.Helper()
	c, err := serve.Config(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	c.Database, c.Host, c.Backends[0].Path = server.DatabaseURL(url), host, shares
	for resource := range c.Quotas {
		c.Quotas[resource] = abaca.Unlimited
	}
	return c
}

// A load asks a server for new shares all the time and keeps what was answered.
type load struct {
	sync.Mutex
	answers map[int]int
	shares  []string // that were acknowledged
}

func (l *load) run(ctx context.Context, s *serve.Server) {
	for ctx.Err() == nil {
		status, answer := s.Do("POST", "/shares", object{"share": object{"share_proto": "NFS", "size": 1}})
		l.Lock()
		l.answers[status]++
		if status == http.StatusOK {
			l.shares = append(l.shares, answer["share"].(object)["id"].(string))
		}
		l.Unlock()
	}
}

// answered waits until there are more answers with this status than before.
func (l *load) answered(status, more int) {
	l.Lock()
	before := l.answers[status]
	l.Unlock()
	for n := before; n < before+more; {
		l.Lock()
		n = l.answers[status]
		l.Unlock()
	}
}

func TestAnOutageOfTheDatabaseIsAnsweredSoAndLosesNothing(t *testing.T) {
	cluster := postgres.Start(t)
	step, inside, release := "create_backup: opened", make(chan struct{}, 8), make(chan struct{})
	s := serve.StartWith(t, on(t, cluster.Database(t, "abaca"), "one", t.TempDir()), server.WithStep(func(ctx context.Context, name string) error {
		if name == step {
			inside <- struct{}{}
			select {
			case <-release:
			case <-ctx.Done():
			}
		}
		return ctx.Err()
	}))
	share := s.NewShare("docs")
	files := filepath.Join(s.Config.Backends[0].Path, share)
	if err := torture.Grow(files, 21, 300); err != nil {
		t.Fatal(err)
	}
	backup := s.Must(202, "share_backup", "POST", "/share-backups", object{"share_backup": object{"share_id": share}})["id"].(string)
	<-inside
	l := load{answers: map[int]int{}}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var asking sync.WaitGroup
	for range 4 {
		asking.Go(func() { l.run(ctx, s) })
	}
	l.answered(200, 8)
	cluster.Stop()
	l.answered(503, 8)
	outage(t, s, share)
	close(release) // the work ends meanwhile, and cannot say so
	l.answered(503, 8)
	cluster.Restart(t)
	l.answered(200, 8)
	stop()
	asking.Wait()
	s.AtRest("/share-backups/"+backup, "share_backup", "available")
	s.AtRest("/shares/"+share, "share", "available")
	for _, id := range l.shares {
		s.AtRest("/shares/"+id, "share", "available")
	}
	for status := range l.answers {
		if status != 200 && status != 503 {
			t.Errorf("answers by status: %v", l.answers)
		}
	}
	t.Logf("answers by status: %v", l.answers)
	quotasAreTheRows(t, s.Config.DataDir, s.Config.Database)
	s.Restore(backup)
}

// outage checks how a server answers while its database is away.
func outage(t *testing.T, s *serve.Server, share string) {
	t.Helper()
	for _, path := range []string{"/v2/shares/" + share, "/v2/share-backups", "/v2/quota-sets/admin", "/healthcheck"} {
		r, err := http.NewRequestWithContext(t.Context(), "GET", s.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Auth-Token", s.Token)
		r.Header.Set("X-OpenStack-Manila-API-Version", "2.99")
		r.Header.Set("X-OpenStack-Manila-API-Experimental", "True")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 503 || path != "/healthcheck" && resp.Header.Get("Retry-After") == "" {
			t.Errorf("%s: %d with the header %v", path, resp.StatusCode, resp.Header)
		}
	}
	for _, ask := range []struct {
		method, path string
		body         any
	}{
		{"POST", "/share-backups", object{"share_backup": object{"share_id": share}}},
		{"DELETE", "/shares/" + share, nil},
		{"POST", "/snapshots", object{"snapshot": object{"share_id": share}}},
		{"PUT", "/quota-sets/admin", object{"quota_set": object{"backups": 3}}},
	} {
		o := s.Must(503, "serviceUnavailable", ask.method, ask.path, ask.body)
		if text := o["message"].(string); !strings.Contains(text, "try again later") || strings.Contains(text, "SQL") {
			t.Errorf("the client is told %q", text)
		}
	}
}

func TestWorkStartsAtOnceInAnotherProcess(t *testing.T) {
	url, shares := postgres.New(t), t.TempDir()
	taken := make(chan struct{})
	serve.StartWith(t, on(t, url, "works", shares), server.WithStep(func(_ context.Context, name string) error {
		if name == "create_share: directory made" {
			taken <- struct{}{}
		}
		return nil
	}))
	asks, err := server.Open(t.Context(), on(t, url, "asks", shares), slog.New(slog.DiscardHandler)) // and never works
	if err != nil {
		t.Fatal(err)
	}
	defer asks.Close()
	var took []time.Duration
	for range 21 {
		_, err := asks.Manager.CreateShare(t.Context(), abaca.Caller{User: "u", Project: "p"}, manager.NewShare{Proto: "NFS", Size: 1})
		if err != nil {
			t.Fatal(err)
		}
		committed := time.Now()
		<-taken
		took = append(took, time.Since(committed))
	}
	slices.Sort(took)
	t.Logf("from the commit to the first step's end: %v at best, %v in the middle, %v at worst", took[0], took[10], took[20])
	if took[10] > 250*time.Millisecond { // looking once a second finds it after half of one
		t.Errorf("half of it took longer than %v", took[10])
	}
}

func TestAHostHasOneServer(t *testing.T) {
	url := postgres.New(t)
	first := serve.StartWith(t, on(t, url, "one", t.TempDir()))
	second := on(t, url, "one", t.TempDir())
	quiet, patience := slog.New(slog.DiscardHandler), server.WithPatience(10*time.Millisecond)
	if s, err := server.Open(t.Context(), second, quiet, patience); !errors.Is(err, db.ErrSeatTaken) {
		t.Errorf("under the same name: %v, %v", s, err)
	}
	first.Stop()
	serve.StartWith(t, second)
}

func TestAServerWithoutTheKeyOfWhatTheDatabaseNamesIsRefused(t *testing.T) {
	url := postgres.New(t)
	first := serve.StartWith(t, on(t, url, "one", t.TempDir()))
	serve.StartWith(t, on(t, url, "two", t.TempDir())).Stop() // nothing is encrypted yet; running, it would take work whose files it has not
	first.NewBackup(first.NewShare("docs"))
	third := on(t, url, "three", t.TempDir())
	s, err := server.Open(t.Context(), third, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "master key") {
		t.Errorf("without a key: %v, %v", s, err)
	}
	key, err := os.ReadFile(first.Config.MasterKeyFile)
	if err == nil {
		err = os.WriteFile(third.MasterKeyFile, key, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	serve.StartWith(t, third)
}

// TestRequestsThatExcludeEachOtherAreNotBothAccepted has two servers asked at the same moment, over and over. No worker runs, so that
// nothing but the requests decides.
func TestRequestsThatExcludeEachOtherAreNotBothAccepted(t *testing.T) {
	url, shares := postgres.New(t), t.TempDir()
	var asked [2]*manager.Manager
	for i, host := range []string{"one", "two"} {
		s, err := server.Open(t.Context(), on(t, url, host, shares), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		asked[i] = s.Manager
	}
	ctx, caller := t.Context(), abaca.Caller{User: "u", Project: "p", Admin: true}
	share := func(shareType string) abaca.ShareID {
		s, err := asked[0].CreateShare(ctx, caller, manager.NewShare{Proto: "NFS", Size: 1, Type: shareType})
		if err == nil {
			err = asked[0].ResetShareStatus(ctx, caller, s.ID, abaca.Available)
		}
		if err != nil {
			t.Fatal(err)
		}
		return s.ID
	}
	manage := func(path string) func(*manager.Manager) error {
		return func(m *manager.Manager) error {
			_, err := m.ManageShare(ctx, caller, manager.Adoption{ServiceHost: "abaca@local#local", Export: filepath.Join(shares, path), Proto: "NFS"})
			return err
		}
	}
	backUp := func(id abaca.ShareID) func(*manager.Manager) error {
		return func(m *manager.Manager) error {
			_, err := m.CreateBackup(ctx, caller, manager.NewBackup{Share: id})
			return err
		}
	}
	for name, pair := range map[string]func(round int) (one, two func(*manager.Manager) error){
		"adopting directories that lie in each other": func(round int) (one, two func(*manager.Manager) error) {
			outer := "outer" + strconv.Itoa(round)
			if err := os.MkdirAll(filepath.Join(shares, outer, "inner"), 0o755); err != nil {
				t.Fatal(err)
			}
			return manage(outer), manage(outer + "/inner")
		},
		"backing a share up twice": func(int) (one, two func(*manager.Manager) error) {
			id := share("")
			return backUp(id), backUp(id)
		},
		"backing a share up and taking a snapshot of it": func(int) (one, two func(*manager.Manager) error) {
			id := share("")
			return backUp(id), func(m *manager.Manager) error {
				_, err := m.CreateSnapshot(ctx, caller, manager.NewSnapshot{Share: id})
				return err
			}
		},
		"backing a share up and forgetting it": func(int) (one, two func(*manager.Manager) error) {
			id := share("")
			return backUp(id), func(m *manager.Manager) error { return m.UnmanageShare(ctx, caller, id) }
		},
		"making a share of a type and removing the type": func(round int) (one, two func(*manager.Manager) error) {
			st, err := asked[0].CreateShareType(ctx, abaca.ShareType{Name: "type" + strconv.Itoa(round), Public: true})
			if err != nil {
				t.Fatal(err)
			}
			return func(m *manager.Manager) error {
					_, err := m.CreateShare(ctx, caller, manager.NewShare{Proto: "NFS", Size: 1, Type: st.Name})
					return err
				}, func(m *manager.Manager) error {
					return m.DeleteShareType(ctx, st.ID)
				}
		},
	} {
		t.Run(name, func(t *testing.T) {
			for round := range 30 {
				one, two := pair(round)
				errs := make(chan error)
				go func() { errs <- one(asked[0]) }()
				go func() { errs <- two(asked[1]) }()
				first, second := <-errs, <-errs
				if (first == nil) == (second == nil) {
					t.Errorf("round %d: %v, %v", round, first, second)
				}
				if refused := cmp.Or(abaca.FaultOf(first), abaca.FaultOf(second)); refused == abaca.Internal || refused == abaca.Unavailable {
					t.Errorf("round %d: one is refused with %v, %v", round, first, second)
				}
			}
		})
	}
}

package engine

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	"abaca"
)

// openProjects returns the projects that have a place in a pool.
func openProjects(p *pool) []abaca.ProjectID {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []abaca.ProjectID
	for id := range p.slots {
		all = append(all, id)
	}
	slices.Sort(all)
	return all
}

func TestMoreRepositoriesThanTheBoundStayOpenOnlyWhileTheyAreUsed(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	e := newEngine(t, t.TempDir(), func(c *Config) { c.Open = 1 })
	a, releaseA, err := e.pool.acquire(ctx, "a", create)
	must(t, err)
	_, releaseB, err := e.pool.acquire(ctx, "b", create)
	must(t, err)
	if got := openProjects(e.pool); !slices.Equal(got, []abaca.ProjectID{"a", "b"}) {
		t.Fatalf("%q are open while both are used", got)
	}
	releaseA()
	if got := openProjects(e.pool); !slices.Equal(got, []abaca.ProjectID{"b"}) {
		t.Fatalf("%q are open when a is not used any more", got)
	}
	releaseB()
	if got := openProjects(e.pool); !slices.Equal(got, []abaca.ProjectID{"b"}) {
		t.Errorf("%q are open within the bound", got)
	}
	again, release, err := e.pool.acquire(ctx, "a", mustExist)
	must(t, err)
	defer release()
	if again == a {
		t.Error("a closed repository was handed out")
	}
}

func TestAnIdleRepositoryIsClosedAndAUsedOneIsNot(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	e := newEngine(t, t.TempDir())
	p := newPool(16, time.Nanosecond, e.openProject, slog.New(slog.DiscardHandler))
	_, releaseUsed, err := p.acquire(ctx, "used", create)
	must(t, err)
	_, releaseIdle, err := p.acquire(ctx, "idle", create)
	must(t, err)
	p.mu.Lock()
	changed := p.changed
	p.mu.Unlock()
	releaseIdle()
	for len(openProjects(p)) == 2 {
		<-changed
		p.mu.Lock()
		changed = p.changed
		p.mu.Unlock()
	}
	if got := openProjects(p); !slices.Equal(got, []abaca.ProjectID{"used"}) {
		t.Errorf("%q are open", got)
	}
	releaseUsed()
	must(t, p.close(ctx))
	if got := openProjects(p); len(got) > 0 {
		t.Errorf("%q are open in a closed pool", got)
	}
	if _, _, err := p.acquire(ctx, "used", mustExist); err == nil {
		t.Error("a closed pool opened a repository")
	}
}

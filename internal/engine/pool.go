package engine

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"abaca"
)

// A pool keeps repositories open between operations. Users of one project share one repository. There may be more
// open than its limit as long as all of them are in use.
type pool struct {
	limit int
	idle  time.Duration
	open  func(context.Context, abaca.ProjectID, demand) (*repository, error)
	log   *slog.Logger

	mu      sync.Mutex
	slots   map[abaca.ProjectID]*slot
	closing bool
	changed chan struct{} // closed, and replaced, whenever a repository was given back or closed

	stop    context.CancelFunc
	stopped chan struct{}
}

// A slot is one project's place in the pool.
type slot struct {
	gate  chan struct{} // holds a token while the repository is being opened or closed
	repo  *repository   // nil while closed; guarded by the gate
	users int           // guarded by pool.mu, as the rest
	used  time.Time     // when the last user left
	gone  bool          // whether it was discarded, and is closed when the last user leaves
}

var errClosing = errors.New("the engine is being closed")

func newPool(limit int, idle time.Duration, open func(context.Context, abaca.ProjectID, demand) (*repository, error), log *slog.Logger) *pool {
	ctx, stop := context.WithCancel(context.Background())
	p := &pool{
		limit: limit, idle: idle, open: open, log: log,
		slots: map[abaca.ProjectID]*slot{}, changed: make(chan struct{}),
		stop: stop, stopped: make(chan struct{}),
	}
	go p.closeIdle(ctx)
	return p
}

// acquire returns a project's repository, open, and a function that gives it back.
func (p *pool) acquire(ctx context.Context, project abaca.ProjectID, d demand) (*repository, func(), error) {
	p.mu.Lock()
	if p.closing {
		p.mu.Unlock()
		return nil, nil, errClosing
	}
	s := p.slots[project]
	if s == nil {
		s = &slot{gate: make(chan struct{}, 1)}
		p.slots[project] = s
	}
	s.users++
	p.mu.Unlock()

	release := func() { p.release(ctx, project, s) }
	select {
	case s.gate <- struct{}{}:
	case <-ctx.Done():
		release()
		return nil, nil, ctx.Err()
	}
	var err error
	if s.repo == nil {
		s.repo, err = p.open(ctx, project, d)
	}
	r := s.repo
	<-s.gate
	if err != nil {
		release()
		return nil, nil, err
	}
	return r, sync.OnceFunc(release), nil
}

func (p *pool) release(ctx context.Context, project abaca.ProjectID, s *slot) {
	p.mu.Lock()
	s.users--
	s.used = time.Now()
	over := len(p.slots) > p.limit
	last := s.gone && s.users == 0
	p.signal()
	p.mu.Unlock()
	if last {
		_ = p.shut(context.WithoutCancel(ctx), project, s) // it has logged its error
	}
	if over {
		_ = p.closeUnused(context.WithoutCancel(ctx), func(*slot) bool { return true }, p.limit) // it has logged its error
	}
}

// signal wakes who waits for a change; p.mu is held.
func (p *pool) signal() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// closeUnused closes repositories without users, longest unused first, until no more than keep are left.
func (p *pool) closeUnused(ctx context.Context, may func(*slot) bool, keep int) error {
	var errs error
	for {
		p.mu.Lock()
		var victim *slot
		var project abaca.ProjectID
		if len(p.slots) > keep {
			for id, s := range p.slots {
				if s.users == 0 && may(s) && (victim == nil || s.used.Before(victim.used)) {
					victim, project = s, id
				}
			}
		}
		if victim == nil {
			p.mu.Unlock()
			return errs
		}
		delete(p.slots, project) // whoever comes now opens it anew, which Kopia's multi-writer format allows
		p.signal()
		p.mu.Unlock()
		errs = errors.Join(errs, p.shut(ctx, project, victim))
	}
}

// shut closes a slot's repository, which nobody uses or can find any more.
func (p *pool) shut(ctx context.Context, project abaca.ProjectID, s *slot) error {
	if s.repo == nil {
		return nil
	}
	err := s.repo.close(ctx)
	if err != nil {
		p.log.Error("closing a repository", "project_id", project, "error", err)
	}
	return err
}

// discard has whoever comes next open a project's repository anew. Where r is not nil, that is done only if r is what is open.
func (p *pool) discard(ctx context.Context, project abaca.ProjectID, r *repository) {
	p.mu.Lock()
	s := p.slots[project]
	if s == nil || s.gone || r != nil && s.repo != r {
		p.mu.Unlock()
		return
	}
	delete(p.slots, project)
	s.gone = true
	idle := s.users == 0
	p.mu.Unlock()
	if idle {
		_ = p.shut(context.WithoutCancel(ctx), project, s) // it has logged its error
	}
}

func (p *pool) closeIdle(ctx context.Context) {
	defer close(p.stopped)
	tick := time.NewTicker(max(p.idle/4, time.Second))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			_ = p.closeUnused(context.WithoutCancel(ctx), func(s *slot) bool { return now.Sub(s.used) > p.idle }, 0) // logged
		}
	}
}

// close waits for all users and closes all repositories.
func (p *pool) close(ctx context.Context) error {
	p.stop()
	select {
	case <-p.stopped:
	case <-ctx.Done():
		return ctx.Err()
	}
	p.mu.Lock()
	p.closing = true
	for p.busy() {
		changed := p.changed
		p.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
		p.mu.Lock()
	}
	p.mu.Unlock()
	closed := make(chan error, 1)
	go func() {
		closed <- p.closeUnused(context.WithoutCancel(ctx), func(*slot) bool { return true }, 0)
	}()
	select {
	case err := <-closed:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// busy reports whether anybody uses a repository; p.mu is held.
func (p *pool) busy() bool {
	for _, s := range p.slots {
		if s.users > 0 {
			return true
		}
	}
	return false
}

package manager

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"abaca"
	"abaca/internal/db"
)

// A lease is how work is kept: beat extends it, and is called when a third of it is over or, where there is
// news to be written with it, within a second.
type lease struct {
	asked time.Duration // when the claim was sent, on the clock of Uptime
	beat  func(ctx context.Context, until time.Time) error
	news  func() bool // nil where there never is any
}

// A hold is what a worker knows of its own lease: that it lasts until a time on a clock which nobody sets and which also runs while the
// process is stopped or the machine sleeps. Once it is lost it stays so, whatever the database says later.
type hold struct {
	uptime func() time.Duration
	until  atomic.Int64 // on that clock, in nanoseconds
	lost   atomic.Bool
}

// margin is the part of a lease, its last, in which its worker does nothing any more: that much the clocks of workers may differ, and that
// long a system call may take which had begun before.
const margin = 6

func (m *Manager) holdFrom(asked time.Duration) *hold {
	h := &hold{uptime: m.Uptime}
	h.until.Store(int64(asked + m.Lease - m.Lease/margin))
	return h
}

// check is the guard of the work, see abaca.WithGuard.
func (h *hold) check() error {
	if h.lost.Load() || h.uptime() >= time.Duration(h.until.Load()) {
		h.lost.Store(true)
		return fmt.Errorf("%w: it has passed", db.ErrLeaseLost)
	}
	return nil
}

// underLease does something while its lease is beaten forward. Where the lease is lost, or has passed because the database did
// not answer or the process did not run, the work is cancelled, its guard forbids any change to a share, and db.ErrLeaseLost is returned.
func (m *Manager) underLease(ctx context.Context, l lease, do func(context.Context) error) error {
	h := m.holdFrom(l.asked)
	ctx, cancel := context.WithCancelCause(abaca.WithGuard(ctx, h.check))
	defer cancel(nil)
	var keeper errgroup.Group
	stop := make(chan struct{})
	keeper.Go(func() error { m.keepLease(ctx, cancel, l, h, stop); return nil })
	err := do(ctx)
	close(stop)
	keeper.Wait()
	if cause := context.Cause(ctx); errors.Is(cause, db.ErrLeaseLost) {
		return cause
	}
	if herr := h.check(); herr != nil {
		return herr
	}
	return err
}

// keepLease beats a lease until stop is closed or the lease is lost.
func (m *Manager) keepLease(ctx context.Context, cancel context.CancelCauseFunc, l lease, h *hold, stop <-chan struct{}) {
	tick := time.NewTicker(min(look, m.Lease/8))
	defer tick.Stop()
	latest := l.asked
	for {
		select {
		case <-stop:
			return
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := h.check(); err != nil {
			cancel(err)
			return
		}
		asked := m.Uptime()
		if (l.news == nil || !l.news()) && asked-latest < m.Lease/3 {
			continue
		}
		// The database is given no more time than there is, so that the work stops on time where it does not answer.
		bounded, done := context.WithTimeout(ctx, time.Duration(h.until.Load())-asked)
		err := l.beat(bounded, m.now().Add(m.Lease))
		done()
		switch {
		case err == nil:
			latest = asked
			h.until.Store(int64(asked + m.Lease - m.Lease/margin))
		case errors.Is(err, db.ErrLeaseLost):
			h.lost.Store(true)
			cancel(err)
			return
		}
	}
}

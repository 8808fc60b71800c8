package manager

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"abaca"
	"abaca/internal/db"
)

// look is how long waiting work may go unnoticed by a process that was not woken for it.
const look = time.Second

// A work is the second half of an operation. do moves the bytes and may be run again from its start at any time; done and
// failed write, in the transaction that ends the operation, what goes with its success or failure beside the subject's status.
type work interface {
	do(ctx context.Context, report func(abaca.Progress)) error
	done(ctx context.Context, tx *db.Tx) error
	failed(ctx context.Context, tx *db.Tx, reason string) error
}

func (m *Manager) workOf(job db.Job) work {
	switch job.Operation.Name {
	case abaca.CreateBackup.Name:
		return &createBackup{Manager: m, id: abaca.BackupID(job.ID), job: job}
	case abaca.RestoreBackup.Name:
		return &restoreBackup{Manager: m, id: abaca.BackupID(job.ID), job: job}
	case abaca.DeleteBackup.Name:
		return &deleteBackup{Manager: m, id: abaca.BackupID(job.ID), job: job}
	case abaca.CreateShare.Name:
		return &createShare{Manager: m, id: abaca.ShareID(job.ID), job: job}
	case abaca.ManageShare.Name:
		return &manageShare{Manager: m, id: abaca.ShareID(job.ID), job: job}
	case abaca.DeleteShare.Name:
		return &deleteShare{Manager: m, id: abaca.ShareID(job.ID), job: job}
	case abaca.CreateSnapshot.Name:
		return &createSnapshot{Manager: m, id: abaca.SnapshotID(job.ID), job: job}
	case abaca.DeleteSnapshot.Name:
		return &deleteSnapshot{Manager: m, id: abaca.SnapshotID(job.ID), job: job}
	}
	panic("no work for operation " + job.Operation.Name)
}

// Run works until ctx ends, then waits for what is under way to stop. Work that a crash or a stop interrupted goes on first. The
// error is db.ErrSeatTaken where another process works under the same host's name.
func (m *Manager) Run(ctx context.Context) error {
	n, err := m.DB.Adopt(ctx, m.Host, m.now())
	if err != nil && ctx.Err() == nil {
		return err
	}
	if n > 0 {
		m.Log.Info("taking up interrupted work", "operations", n)
	}
	var heavy, light []abaca.Operation
	for _, op := range abaca.Operations {
		if op.Heavy {
			heavy = append(heavy, op)
		} else {
			light = append(light, op)
		}
	}
	lanes, ctx := errgroup.WithContext(ctx)
	lanes.Go(func() error {
		return m.DB.Attend(ctx, m.Host, m.Patience, m.wake, func(err error) { m.Log.Warn("the database has gone away", "error", err) })
	})
	lanes.Go(func() error { m.newLane(heavy, m.Heavy, m.HeavyPerProject, m.wakes[0]).run(ctx); return nil })
	lanes.Go(func() error { m.newLane(light, m.Light, 0, m.wakes[1]).run(ctx); return nil })
	lanes.Go(func() error { m.keepHouse(ctx); return nil })
	lanes.Go(func() error { m.keepVerifying(ctx); return nil })
	return lanes.Wait()
}

// run does one job to its end, whichever that is.
func (m *Manager) run(ctx context.Context, t *task) {
	job, log := t.job, t.log
	began := m.now()
	w := m.workOf(job)
	err := errors.New("the worker died each time")
	if job.Tries <= m.Tries {
		err = m.attempt(ctx, t, w)
	}
	// Whatever ended the work, its end is still to be written.
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), m.Lease)
	defer cancel()
	if errors.Is(err, db.ErrLeaseLost) {
		log.Warn("the work is no longer ours", "error", err)
		return
	}
	var outcome string
	werr := m.endAfterOutage(after, func() (werr error) {
		outcome, werr = m.end(after, log, job, w, err, ctx.Err() != nil)
		return werr
	})
	if werr != nil {
		log.Error("writing the end of the work; it will be done again", "error", werr)
		return
	}
	if outcome != "" {
		m.auditEnd(job, outcome, began)
	}
	log.Debug("ended", "took", m.now().Sub(began), "error", err)
	m.wake()
}

// endAfterOutage writes the end of work, once the database answers if it does so before ctx ends.
func (m *Manager) endAfterOutage(ctx context.Context, end func() error) error {
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		err := end()
		if abaca.FaultOf(err) != abaca.Unavailable {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

// attempt does the work under a lease that is kept alive meanwhile, together with the progress.
func (m *Manager) attempt(ctx context.Context, t *task, w work) error {
	job := t.job
	shown := 0 // of the goroutine that beats alone
	percent := func() int {
		if p := t.latest.Load(); p != nil {
			return max(shown, p.Percent())
		}
		return shown
	}
	l := lease{
		news: func() bool { return percent() != shown },
		beat: func(ctx context.Context, until time.Time) error {
			now := percent()
			err := m.DB.Transact(ctx, func(tx *db.Tx) error {
				if now != shown && job.Operation.Heavy {
					if err := tx.SetProgress(ctx, job, now, m.now()); err != nil {
						return err
					}
				}
				return tx.Beat(ctx, job, until)
			})
			if err == nil {
				shown = now
			}
			return err
		},
	}
	return m.underLease(ctx, l, func(ctx context.Context) error {
		return w.do(ctx, func(p abaca.Progress) { t.report(p, m.now()) })
	})
}

// A lease is how work is kept: beat extends it, and is called when a third of it is over or, where there is
// news to be written with it, within a second.
type lease struct {
	beat func(ctx context.Context, until time.Time) error
	news func() bool // nil where there never is any
}

// underLease does something while its lease is beaten forward. Where the lease is lost, or has passed because the database did
// not answer, the work is cancelled and db.ErrLeaseLost returned.
func (m *Manager) underLease(ctx context.Context, l lease, do func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var keeper errgroup.Group
	stop := make(chan struct{})
	keeper.Go(func() error { m.keepLease(ctx, cancel, l, stop); return nil })
	err := do(ctx)
	close(stop)
	keeper.Wait()
	if cause := context.Cause(ctx); errors.Is(cause, db.ErrLeaseLost) {
		return cause
	}
	return err
}

// keepLease beats a lease until stop is closed or the lease is lost.
func (m *Manager) keepLease(ctx context.Context, cancel context.CancelCauseFunc, l lease, stop <-chan struct{}) {
	tick := time.NewTicker(min(look, m.Lease/4))
	defer tick.Stop()
	until := m.now().Add(m.Lease)
	for {
		select {
		case <-stop:
			return
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := m.now()
		if (l.news == nil || !l.news()) && until.Sub(now) > m.Lease*2/3 {
			continue
		}
		err := l.beat(ctx, now.Add(m.Lease))
		switch {
		case err == nil:
			until = now.Add(m.Lease)
		case errors.Is(err, db.ErrLeaseLost):
			cancel(err)
			return
		case m.now().After(until):
			cancel(fmt.Errorf("%w: %w", db.ErrLeaseLost, err))
			return
		}
	}
}

// end writes how a job ended: done, to be tried again, or failed. The outcome is empty where it is not over.
func (m *Manager) end(ctx context.Context, log *slog.Logger, job db.Job, w work, err error, stopping bool) (outcome string, _ error) {
	now := m.now()
	if err == nil {
		return abaca.OutcomeDone, m.DB.Transact(ctx, func(tx *db.Tx) error {
			if err := w.done(ctx, tx); err != nil {
				return err
			}
			return tx.Settle(ctx, job, job.Operation.Subject.Done, "", now)
		})
	}
	if stopping {
		log.Info("interrupted; the work goes on when a worker takes it up")
		return "", m.DB.Transact(ctx, func(tx *db.Tx) error { return tx.Release(ctx, job, now, true, "interrupted") })
	}
	if abaca.FaultOf(err) == abaca.Unavailable {
		log.Warn("what the work needs does not answer; it goes on when a worker takes it up", "error", err, "in", m.Backoff)
		return "", m.DB.Transact(ctx, func(tx *db.Tx) error { return tx.Release(ctx, job, now.Add(m.Backoff), true, err.Error()) })
	}
	if job.Tries < m.Tries && !errors.Is(err, abaca.ErrPermanent) {
		pause := m.Backoff << (job.Tries - 1)
		log.Warn("failed; it will be tried again", "error", err, "in", pause)
		return "", m.DB.Transact(ctx, func(tx *db.Tx) error { return tx.Release(ctx, job, now.Add(pause), false, err.Error()) })
	}
	log.Error("failed", "error", err)
	return abaca.OutcomeFailed, m.DB.Transact(ctx, func(tx *db.Tx) error {
		if err := w.failed(ctx, tx, forTenant(err)); err != nil {
			return err
		}
		return tx.Settle(ctx, job, job.Operation.Subject.Failed, err.Error(), now)
	})
}

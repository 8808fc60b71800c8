package manager

import (
	"context"
	"errors"
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

// Run works until ctx ends, then waits for what is under way to stop. The worker must have been registered. Work that a crash or a stop
// interrupted goes on first. The error is db.ErrSeatTaken where another process works under the same host's name.
func (m *Manager) Run(ctx context.Context) error {
	if m.heir {
		n, err := m.DB.Adopt(ctx, m.Host, m.now())
		if err != nil && ctx.Err() == nil {
			return err
		}
		if n > 0 {
			m.Log.InfoContext(ctx, "taking up interrupted work", "operations", n)
		}
	}
	lanes, working := errgroup.WithContext(ctx)
	lanes.Go(func() error {
		return m.DB.Attend(working, m.Host, m.Patience, m.wake, func(err error) { m.Log.WarnContext(ctx, "the database has gone away", "error", err) })
	})
	for _, l := range m.lanes {
		lanes.Go(func() error { l.run(working); return nil })
	}
	lanes.Go(func() error { m.keepHouse(working); return nil })
	lanes.Go(func() error { m.keepVerifying(working); return nil })
	lanes.Go(func() error { m.keepService(working); return nil })
	err := lanes.Wait()
	if !errors.Is(err, db.ErrSeatTaken) { // else the name is another's
		m.leave(ctx)
	}
	return err
}

// run does one job to its end, whichever that is.
func (m *Manager) run(ctx context.Context, t *task) {
	job := t.job
	ctx, ended := m.watch(ctx, job.Operation.Name)
	outcome := abaca.OutcomeInterrupted // also where its end cannot be written
	defer func() { ended(outcome) }()
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
		outcome = abaca.OutcomeLeaseLost
		m.Log.WarnContext(ctx, "the work is no longer ours", "error", err)
		return
	}
	var written string
	werr := m.endAfterOutage(after, func() (werr error) {
		written, werr = m.end(after, job, w, err, ctx.Err() != nil)
		return werr
	})
	if errors.Is(werr, db.ErrLeaseLost) {
		outcome = abaca.OutcomeLeaseLost
		m.Log.WarnContext(ctx, "the work is no longer ours", "error", werr)
		return
	}
	if werr != nil {
		m.Log.ErrorContext(ctx, "writing the end of the work; it will be done again", "error", werr)
		return
	}
	if outcome = written; outcome == abaca.OutcomeDone || outcome == abaca.OutcomeFailed {
		m.auditEnd(job, outcome, began)
	}
	m.Log.DebugContext(ctx, "ended", "took", m.now().Sub(began), "error", err)
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
		asked: t.asked,
		news:  func() bool { return percent() != shown },
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

// end writes how a job ended: done, to be tried again, or failed.
func (m *Manager) end(ctx context.Context, job db.Job, w work, err error, stopping bool) (outcome string, _ error) {
	now := m.now()
	if err == nil {
		return abaca.OutcomeDone, m.DB.Transact(ctx, func(tx *db.Tx) error {
			if err := tx.Hold(ctx, job); err != nil {
				return err
			}
			if err := w.done(ctx, tx); err != nil {
				return err
			}
			return tx.Settle(ctx, job, job.Operation.Subject.Done, "", now)
		})
	}
	if stopping {
		m.Log.InfoContext(ctx, "interrupted; the work goes on when a worker takes it up")
		return abaca.OutcomeInterrupted, m.DB.Transact(ctx, func(tx *db.Tx) error { return tx.Release(ctx, job, now, true, "interrupted") })
	}
	if abaca.FaultOf(err) == abaca.Unavailable {
		m.Log.WarnContext(ctx, "what the work needs does not answer; it goes on when a worker takes it up", "error", err, "in", m.Backoff)
		return abaca.OutcomeInterrupted, m.DB.Transact(ctx, func(tx *db.Tx) error { return tx.Release(ctx, job, now.Add(m.Backoff), true, err.Error()) })
	}
	if job.Tries < m.Tries && !errors.Is(err, abaca.ErrPermanent) {
		pause := m.Backoff << (job.Tries - 1)
		m.Log.WarnContext(ctx, "failed; it will be tried again", "error", err, "in", pause)
		return abaca.OutcomeRetried, m.DB.Transact(ctx, func(tx *db.Tx) error { return tx.Release(ctx, job, now.Add(pause), false, err.Error()) })
	}
	m.Log.ErrorContext(ctx, "failed", "error", err)
	return abaca.OutcomeFailed, m.DB.Transact(ctx, func(tx *db.Tx) error {
		if herr := tx.Hold(ctx, job); herr != nil {
			return herr
		}
		if err := w.failed(ctx, tx, forTenant(err)); err != nil {
			return err
		}
		return tx.Settle(ctx, job, job.Operation.Subject.Failed, err.Error(), now)
	})
}

package manager

import (
	"context"
	"time"

	"abaca"
	"abaca/internal/db"
)

// auditEnd tells of an operation that has come to its end. began is when it was claimed, zero where it was stopped.
func (m *Manager) auditEnd(job db.Job, outcome string, began time.Time) {
	if m.Audit == nil {
		return
	}
	m.Audit(abaca.Audit{
		Event: abaca.AuditEnd, Caller: job.Asked, Action: job.Operation.Name, Resource: string(job.Operation.Kind), ID: job.ID,
		Owner: job.Project, Outcome: outcome, Began: began, Ended: m.now(),
	})
}

// auditReset tells of an operation that an administrator has stopped; nil is none.
func (m *Manager) auditReset(job *db.Job) {
	if job != nil {
		m.auditEnd(*job, abaca.OutcomeReset, time.Time{})
	}
}

// resetting runs a transaction that writes a status by hand, and tells of the work that it stopped.
func (m *Manager) resetting(ctx context.Context, f func(*db.Tx) (stopped *db.Job, err error)) error {
	var stopped *db.Job
	err := m.DB.Transact(ctx, func(tx *db.Tx) (err error) {
		stopped, err = f(tx)
		return err
	})
	if err == nil {
		m.auditReset(stopped)
	}
	return err
}

// reset writes a status by hand and returns the work that this stops, nil for none.
func (m *Manager) reset(ctx context.Context, tx *db.Tx, kind abaca.Kind, id string, to abaca.Status) (stopped *db.Job, err error) {
	job, working, err := tx.Underway(ctx, kind, id)
	if err != nil {
		return nil, err
	}
	if working {
		stopped = &job
	}
	return stopped, tx.Reset(ctx, kind, id, to, m.now())
}

package manager

import (
	"context"

	"abaca"
	"abaca/internal/db"
)

// DeleteShare accepts the deletion of a share and of all its files. With force, which is for administrators, any status will do.
// A share that has backups or snapshots stays.
func (m *Manager) DeleteShare(ctx context.Context, caller abaca.Caller, id abaca.ShareID, force bool) error {
	op, refused := abaca.DeleteShare, abaca.Forbidden
	if force {
		refused = abaca.Invalid
	}
	var stopped *db.Job
	err := m.DB.Transact(ctx, func(tx *db.Tx) error {
		stopped = nil
		s, err := ownShare(ctx, tx, caller, id, abaca.NotFound)
		if err != nil {
			return err
		}
		if err := independent(ctx, tx, s, refused); err != nil {
			return err
		}
		if err := mustReach(ctx, tx, s); err != nil {
			return err
		}
		now := m.now()
		if force {
			job, working, err := tx.Underway(ctx, abaca.KindShare, string(id))
			if err != nil || working && job.Operation.Name == op.Name {
				return err // it is being deleted already
			}
			if stopped, err = m.reset(ctx, tx, abaca.KindShare, string(id), abaca.Error); err != nil {
				return err
			}
		}
		ok, err := tx.Begin(ctx, op, string(id), s.Backend, caller, now)
		if err == nil && !ok {
			err = abaca.Errorf(refused, "Share %s cannot be deleted; its status is %s.", id, s.Status)
		}
		return err
	})
	if err == nil {
		m.auditReset(stopped)
		m.wake()
	}
	return err
}

// independent refuses what would leave backups or snapshots without their share.
func independent(ctx context.Context, tx *db.Tx, s abaca.Share, refused abaca.Fault) error {
	backups, snapshots, err := tx.Dependents(ctx, s.ID)
	if err == nil && backups+snapshots > 0 {
		err = abaca.Errorf(refused, "Share %s has %d backups and %d snapshots; delete those first.", s.ID, backups, snapshots)
	}
	return err
}

// deleteShare is the work half.
type deleteShare struct {
	*Manager
	id  abaca.ShareID
	job db.Job
}

func (w *deleteShare) do(ctx context.Context, _ func(abaca.Progress)) error {
	s, err := w.DB.Share(ctx, w.id, "")
	if err != nil {
		return err
	}
	b, err := w.backendOf(s)
	if err != nil {
		return err
	}
	if err := w.step(ctx, "delete_share: taken up"); err != nil {
		return err
	}
	if err := b.Remove(ctx, s.Path); err != nil {
		return err
	}
	return w.step(ctx, "delete_share: files removed")
}

func (w *deleteShare) done(ctx context.Context, tx *db.Tx) error {
	s, err := tx.Share(ctx, w.id, "")
	if err != nil {
		return err
	}
	return tx.ChargeAnyway(ctx, s.Project, abaca.ShareCost(s.Size).Negative())
}

func (w *deleteShare) failed(ctx context.Context, tx *db.Tx, reason string) error {
	s, err := tx.Share(ctx, w.id, "")
	if err != nil {
		return err
	}
	return w.tell(ctx, tx, about(w.job, s.ID, actionDelete, "delete share"+": "+reason))
}

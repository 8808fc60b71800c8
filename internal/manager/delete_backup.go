package manager

import (
	"context"

	"abaca"
	"abaca/internal/db"
)

// DeleteBackup accepts the deletion of a backup: its data goes first, then its row and what it cost.
func (m *Manager) DeleteBackup(ctx context.Context, caller abaca.Caller, id abaca.BackupID) error {
	err := m.DB.Transact(ctx, func(tx *db.Tx) error {
		b, err := tx.Backup(ctx, id, caller.Scope())
		if err != nil {
			return err
		}
		ok, err := tx.Begin(ctx, abaca.DeleteBackup, string(id), "", caller, m.now())
		if err == nil && !ok {
			err = abaca.Errorf(abaca.Invalid, "Share backup %s cannot be deleted; its status is %s.", id, b.Status)
		}
		return err
	})
	if err == nil {
		m.wake()
	}
	return err
}

// deleteBackup is the work half.
type deleteBackup struct {
	*Manager
	id  abaca.BackupID
	job db.Job
}

func (w *deleteBackup) do(ctx context.Context, _ func(abaca.Progress)) error {
	b, err := w.DB.Backup(ctx, w.id, "")
	if err != nil {
		return err
	}
	// From here on the data may be gone: whoever resets the status by hand must not be offered it for a restore.
	if err := w.DB.Transact(ctx, func(tx *db.Tx) error { return tx.ForgetData(ctx, w.job) }); err != nil {
		return err
	}
	if err := w.step(ctx, "delete_backup: taken up"); err != nil {
		return err
	}
	if err := w.Engine.Delete(ctx, b.Project, string(w.id)); err != nil {
		return err
	}
	return w.step(ctx, "delete_backup: data deleted")
}

func (w *deleteBackup) done(ctx context.Context, tx *db.Tx) error {
	b, err := tx.Backup(ctx, w.id, "")
	if err != nil {
		return err
	}
	return tx.ChargeAnyway(ctx, b.Project, abaca.BackupCost(b.Size).Negative())
}

func (w *deleteBackup) failed(ctx context.Context, tx *db.Tx, reason string) error {
	b, err := tx.Backup(ctx, w.id, "")
	if err != nil {
		return err
	}
	return w.tell(ctx, tx, about(w.job, b.Share, actionDelete, "delete share backup "+string(w.id)+": "+reason))
}

package manager

import (
	"context"

	"abaca"
	"abaca/internal/db"
)

// A Text is a change to a name or description: untouched where Set is false, removed where Value is nil.
type Text struct {
	Set   bool
	Value *string
}

func (t Text) over(old *string) *string {
	if t.Set {
		return t.Value
	}
	return old
}

// UpdateBackup changes a backup's name and description, in any status. Where nothing is to be changed, nothing is.
func (m *Manager) UpdateBackup(ctx context.Context, caller abaca.Caller, id abaca.BackupID, name, description Text) (b abaca.Backup, err error) {
	err = m.DB.Transact(ctx, func(tx *db.Tx) error {
		if b, err = tx.Backup(ctx, id, caller.Scope()); err != nil || !name.Set && !description.Set {
			return err
		}
		b.Name, b.Description, b.UpdatedAt = name.over(b.Name), description.over(b.Description), m.now()
		return tx.UpdateBackup(ctx, b)
	})
	return b, err
}

// ResetBackupStatus writes a backup's status by hand. It starts no work. Work under way on the backup is stopped, and the
// share that it held goes to rest as it would after a failure, since nobody else would free it.
func (m *Manager) ResetBackupStatus(ctx context.Context, caller abaca.Caller, id abaca.BackupID, to abaca.Status) error {
	return m.resetting(ctx, func(tx *db.Tx) (*db.Job, error) {
		b, err := tx.Backup(ctx, id, caller.Scope())
		if err != nil {
			return nil, err
		}
		job, working, err := tx.Underway(ctx, abaca.KindBackup, string(id))
		if err != nil || working && to == b.Status {
			return nil, err
		}
		if working {
			if err := m.abandon(ctx, tx, job.Operation, b); err != nil {
				return nil, err
			}
		}
		return m.reset(ctx, tx, abaca.KindBackup, string(id), to)
	})
}

func (m *Manager) abandon(ctx context.Context, tx *db.Tx, op abaca.Operation, b abaca.Backup) error {
	switch op.Name {
	case abaca.CreateBackup.Name:
		return m.freeShare(ctx, tx, b.Share, op.Share.During, op.Share.Failed)
	case abaca.RestoreBackup.Name:
		return m.freeShare(ctx, tx, b.Target, op.Share.During, op.Share.Failed)
	}
	return nil
}

package manager

import (
	"context"
	"errors"

	"abaca"
	"abaca/internal/db"
)

// Shred destroys a project's key and all that is saved of it, for good. Where the project has backups or snapshots that is refused, but
// with force they are deleted: their rows are moved to deleting first, so that a crash leaves nothing that looks as though it could be
// restored, and the workers, or those of the next start, remove them. Shares and their files stay. It may be repeated.
func (m *Manager) Shred(ctx context.Context, project abaca.ProjectID, force bool) error {
	if err := m.deleteSaved(ctx, project, func(have int) error {
		if !force {
			return abaca.Errorf(abaca.Conflict, "Project %s has %d backups and snapshots; --force deletes them.", project, have)
		}
		return nil
	}); err != nil {
		return err
	}
	if err := m.Engine.Shred(ctx, project); err != nil {
		return err
	}
	return m.deleteLost(ctx, project)
}

// A savedRow is a backup or snapshot, with the operation that deletes it.
type savedRow struct {
	delete abaca.Operation
	id     string
	status abaca.Status
}

func savedRows(ctx context.Context, tx *db.Tx, project abaca.ProjectID) (rows []savedRow, err error) {
	backups, err := tx.Backups(ctx, db.BackupFilter{Project: project}, db.Page{})
	if err != nil {
		return nil, err
	}
	for _, b := range backups {
		rows = append(rows, savedRow{abaca.DeleteBackup, string(b.ID), b.Status})
	}
	snapshots, err := tx.Snapshots(ctx, db.SnapshotFilter{Project: project}, db.Page{})
	for _, s := range snapshots {
		rows = append(rows, savedRow{abaca.DeleteSnapshot, string(s.ID), s.Status})
	}
	return rows, err
}

// deleteSaved asks for the deletion of all that a project has saved, unless may says no. What is at work is in the way.
func (m *Manager) deleteSaved(ctx context.Context, project abaca.ProjectID, may func(have int) error) error {
	return m.DB.Transact(ctx, func(tx *db.Tx) error {
		rows, err := savedRows(ctx, tx, project)
		if err != nil {
			return err
		}
		for _, r := range rows {
			if err := may(len(rows)); err != nil {
				return err
			}
			if r.status == r.delete.Subject.During {
				continue
			}
			ok, err := tx.Begin(ctx, r.delete, r.id, "", abaca.Caller{}, m.now())
			if err == nil && !ok {
				err = abaca.Errorf(abaca.Conflict, "%s %s is busy; its status is %s.", r.delete.Kind, r.id, r.status)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// deleteLost asks for the deletion of what became available while the key was being destroyed.
func (m *Manager) deleteLost(ctx context.Context, project abaca.ProjectID) error {
	found, err := m.Engine.Found(ctx, project)
	if err != nil {
		return err
	}
	there := map[string]bool{}
	for _, f := range found {
		there[f.ID] = true
	}
	return m.DB.Transact(ctx, func(tx *db.Tx) error {
		rows, err := savedRows(ctx, tx, project)
		for _, r := range rows {
			if r.status == abaca.Available && !there[r.id] {
				_, berr := tx.Begin(ctx, r.delete, r.id, "", abaca.Caller{}, m.now())
				err = errors.Join(err, berr)
			}
		}
		return err
	})
}

package manager

import (
	"context"
	"errors"

	"abaca"
	"abaca/internal/db"
)

// RestoreBackup accepts the restore of a backup into its own share or, where target is not empty, into another one.
// It returns the share that is written to.
func (m *Manager) RestoreBackup(ctx context.Context, caller abaca.Caller, id abaca.BackupID, target abaca.ShareID) (abaca.ShareID, error) {
	concerned, named := abaca.ShareID(""), target
	err := m.DB.Transact(ctx, func(tx *db.Tx) error {
		concerned = ""
		b, err := tx.Backup(ctx, id, caller.Scope())
		if err != nil {
			return err
		}
		if !abaca.RestoreBackup.Subject.Allows(b.Status) {
			return abaca.Errorf(abaca.Invalid, "Share backup %s cannot be restored; its status is %s.", id, b.Status)
		}
		if target == "" {
			target = b.Share
		}
		concerned = b.Share // until it is known that the target is the caller's
		s, err := ownShare(ctx, tx, caller, target, abaca.NotFound)
		if err != nil {
			return err
		}
		concerned = s.ID
		if err := restorable(b, s); err != nil {
			return err
		}
		if err := mustReach(ctx, tx, s); err != nil {
			return err
		}
		now := m.now()
		move := abaca.RestoreBackup.Share
		ok, err := tx.MoveShare(ctx, s.ID, move.From, move.During, now)
		if err == nil && !ok {
			err = busy(s)
		}
		if err != nil {
			return err
		}
		if err := tx.SetRestoreTarget(ctx, id, s.ID); err != nil {
			return err
		}
		ok, err = tx.Begin(ctx, abaca.RestoreBackup, string(id), s.Backend, caller, now)
		if err == nil && !ok {
			err = abaca.Errorf(abaca.Invalid, "Share backup %s is busy.", id)
		}
		return err
	})
	if err != nil {
		if concerned != "" {
			m.TellRefused(ctx, caller, id, named, concerned, err)
		}
		return "", err
	}
	m.wake()
	return target, nil
}

// restorable says whether this backup can be restored into this share.
func restorable(b abaca.Backup, s abaca.Share) error {
	switch {
	case !abaca.RestoreBackup.Share.Allows(s.Status):
		return busy(s)
	case b.Size > s.Size:
		return abaca.Errorf(abaca.Invalid, "Share backup %s was made of %d GiB and does not fit share %s of %d GiB.", b.ID, b.Size, s.ID, s.Size)
	case b.Ref == "":
		return abaca.Errorf(abaca.Invalid, "Share backup %s holds no data.", b.ID)
	}
	return nil
}

// restoreBackup is the work half.
type restoreBackup struct {
	*Manager
	id  abaca.BackupID
	job db.Job
	b   abaca.Backup
	rep abaca.Report
}

func (w *restoreBackup) do(ctx context.Context, report func(abaca.Progress)) (err error) {
	began := w.now()
	if w.b, err = w.DB.Backup(ctx, w.id, ""); err != nil {
		return err
	}
	s, err := w.DB.Share(ctx, w.b.Target, "")
	if err != nil {
		return err
	}
	if err := w.step(ctx, "restore_backup: taken up"); err != nil {
		return err
	}
	vol, err := w.open(ctx, s, "")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, vol.Close()) }()
	if err := w.step(ctx, "restore_backup: opened"); err != nil {
		return err
	}
	if w.rep, err = w.Engine.Restore(ctx, w.b.Project, w.b.Ref, vol, report); err != nil {
		return err
	}
	if err := w.step(ctx, "restore_backup: restored"); err != nil {
		return err
	}
	return w.settle(ctx, began)
}

func (w *restoreBackup) done(ctx context.Context, tx *db.Tx) error {
	if err := tx.SetRestored(ctx, w.id); err != nil {
		return err
	}
	if text := marked(w.rep); text != "" {
		if err := w.tell(ctx, tx, w.told(w.b, text)); err != nil {
			return err
		}
	}
	return w.freeShare(ctx, tx, w.b.Target, abaca.RestoreBackup.Share.During, abaca.RestoreBackup.Share.Done)
}

func (w *restoreBackup) told(b abaca.Backup, text string) abaca.Message {
	return about(w.job, b.Target, actionRestore, "restore share backup "+string(w.id)+": "+text)
}

func (w *restoreBackup) failed(ctx context.Context, tx *db.Tx, reason string) error {
	b, err := tx.Backup(ctx, w.id, "")
	if err != nil {
		return err
	}
	if err := w.tell(ctx, tx, w.told(b, reason)); err != nil {
		return err
	}
	return w.freeShare(ctx, tx, b.Target, abaca.RestoreBackup.Share.During, abaca.RestoreBackup.Share.Failed)
}

package manager

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"abaca"
	"abaca/internal/db"
)

// A NewBackup is what a tenant asks for.
type NewBackup struct {
	Share             abaca.ShareID
	Name, Description *string
	WithOptions       bool // whether backup_options held anything
	Type              *string
}

// CreateBackup accepts a backup of a share: the backup's row, the share's status and the quota are written together.
// The backup belongs to the share's project, also where an administrator asks for it, and that project pays.
func (m *Manager) CreateBackup(ctx context.Context, caller abaca.Caller, req NewBackup) (b abaca.Backup, err error) {
	err = m.DB.Transact(ctx, func(tx *db.Tx) error {
		s, err := ownShare(ctx, tx, caller, req.Share, abaca.Invalid)
		if err != nil {
			return err
		}
		if err := m.mayBackUp(ctx, tx, s); err != nil {
			return err
		}
		now := m.now()
		b = abaca.Backup{
			ID: abaca.BackupID(newID()), Project: s.Project, User: caller.User, Share: s.ID, Size: s.Size,
			Name: req.Name, Description: req.Description, WithOptions: req.WithOptions, Type: req.Type,
			Zone: s.Zone, Status: abaca.CreateBackup.Subject.During, CreatedAt: now,
		}
		if req.WithOptions {
			host := ServiceHost(s.Backend)
			b.Host = &host
		}
		if err := tx.Charge(ctx, b.Project, abaca.BackupCost(b.Size), m.Limits); err != nil {
			return err
		}
		if err := m.fits(ctx, tx, s, req); err != nil {
			return err
		}
		if err := mustReach(ctx, tx, s); err != nil {
			return err
		}
		move := abaca.CreateBackup.Share
		ok, err := tx.MoveShare(ctx, s.ID, move.From, move.During, now)
		if err == nil && !ok {
			err = busy(s)
		}
		if err != nil {
			return err
		}
		return tx.InsertBackup(ctx, b, caller)
	})
	if err != nil {
		return abaca.Backup{}, err
	}
	m.wake()
	return b, nil
}

// ownShare returns a share that the caller may change. One of another project's is refused with the fault unknown, as
// though it did not exist, unless it is public: then the caller can see it and is told that seeing is not owning.
func ownShare(ctx context.Context, tx *db.Tx, caller abaca.Caller, id abaca.ShareID, unknown abaca.Fault) (abaca.Share, error) {
	s, err := tx.VisibleShare(ctx, id, caller.Scope())
	switch {
	case err != nil && abaca.FaultOf(err) == abaca.NotFound:
		return s, abaca.Errorf(unknown, "Share %s could not be found.", id)
	case err != nil, caller.Admin, s.Project == caller.Project:
		return s, err
	}
	return s, abaca.Errorf(abaca.Forbidden, "Share %s belongs to another project.", id)
}

func busy(s abaca.Share) error {
	return abaca.Errorf(abaca.Invalid, "Share %s is not available; its status is %s.", s.ID, s.Status)
}

func (m *Manager) mayBackUp(ctx context.Context, tx *db.Tx, s abaca.Share) error {
	if !abaca.CreateBackup.Share.Allows(s.Status) {
		return busy(s)
	}
	_, snapshots, err := tx.Dependents(ctx, s.ID)
	if err != nil {
		return err
	}
	if snapshots > 0 {
		return abaca.Errorf(abaca.Invalid, "Share %s has snapshots, so it cannot be backed up.", s.ID)
	}
	return nil
}

// fits checks what a backup asks for against the share: its backup type must be that of the share's other backups, and
// without options the protocol must be one that the data service knows.
func (m *Manager) fits(ctx context.Context, tx *db.Tx, s abaca.Share, req NewBackup) error {
	if !req.WithOptions {
		if !slices.Contains(m.DataProtocols, s.Proto) {
			return abaca.Errorf(abaca.Invalid, "%s shares cannot be backed up without backup options.", s.Proto)
		}
		return nil
	}
	if req.Type == nil {
		return nil
	}
	status := abaca.Available
	others, err := tx.Backups(ctx, db.BackupFilter{Share: &s.ID, Status: &status}, db.Page{})
	if err != nil {
		return err
	}
	for _, o := range others {
		if o.WithOptions && (o.Type == nil || *o.Type != *req.Type) {
			return abaca.Errorf(abaca.Invalid, "Share %s has backups of another backup type.", s.ID)
		}
	}
	return nil
}

// createBackup is the work half.
type createBackup struct {
	*Manager
	id  abaca.BackupID
	job db.Job
	ref abaca.Ref
	b   abaca.Backup
	rep abaca.Report
}

func (w *createBackup) do(ctx context.Context, report func(abaca.Progress)) (err error) {
	if w.b, err = w.DB.Backup(ctx, w.id, ""); err != nil {
		return err
	}
	s, err := w.DB.Share(ctx, w.b.Share, "")
	if err != nil {
		return err
	}
	if err := w.takeUp(ctx, s); err != nil {
		return err
	}
	req := abaca.SaveRequest{Project: w.b.Project, Share: s.ID, ID: string(w.id)}
	if req.Parent, err = w.DB.Parent(ctx, s.ID); err != nil {
		return err
	}
	if req.More, err = w.DB.HasSaved(ctx, w.b.Project); err != nil {
		return err
	}
	if err := w.step(ctx, "create_backup: taken up"); err != nil {
		return err
	}
	vol, err := w.open(ctx, s, string(w.id))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, vol.Close()) }()
	if err := w.step(ctx, "create_backup: opened"); err != nil {
		return err
	}
	if w.ref, w.rep, err = w.Engine.Save(ctx, req, vol, report); err != nil {
		return err
	}
	if err := w.step(ctx, "create_backup: saved"); err != nil {
		return err
	}
	if err := w.note(ctx, db.Unnoted{Kind: abaca.KindBackup, ID: string(w.id)}); err != nil {
		return err
	}
	if err := w.step(ctx, "create_backup: noted"); err != nil {
		return err
	}
	return w.settle(ctx, w.b.CreatedAt)
}

// takeUp notes where the work is done: on this worker or, for a backup with options, at the share's own back end.
func (w *createBackup) takeUp(ctx context.Context, s abaca.Share) error {
	host, topic := w.Host, abaca.TopicData
	if w.b.WithOptions {
		host, topic = ServiceHost(s.Backend), abaca.TopicShare
	}
	return w.DB.Transact(ctx, func(tx *db.Tx) error { return tx.SetWorkplace(ctx, w.job, host, topic) })
}

// settle waits until a share has been busy long enough for clients to have seen it so.
func (m *Manager) settle(ctx context.Context, since time.Time) error {
	rest := m.Settle - m.now().Sub(since)
	if rest <= 0 {
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(rest):
		return nil
	}
}

func (w *createBackup) done(ctx context.Context, tx *db.Tx) error {
	if err := tx.SetBackupRef(ctx, w.id, w.ref); err != nil {
		return err
	}
	if err := tx.OpenRound(ctx, w.b.Project, w.now().Add(restVerified)); err != nil {
		return err
	}
	if text := marked(w.rep); text != "" {
		if err := w.tell(ctx, tx, w.told(w.b, text)); err != nil {
			return err
		}
	}
	return w.freeShare(ctx, tx, w.b.Share, abaca.CreateBackup.Share.During, abaca.CreateBackup.Share.Done)
}

func (w *createBackup) told(b abaca.Backup, text string) abaca.Message {
	return about(w.job, b.Share, actionCreate, "create share backup "+string(w.id)+": "+text)
}

func (w *createBackup) failed(ctx context.Context, tx *db.Tx, reason string) error {
	b, err := tx.Backup(ctx, w.id, "")
	if err != nil {
		return err
	}
	if err := w.tell(ctx, tx, w.told(b, reason)); err != nil {
		return err
	}
	return w.freeShare(ctx, tx, b.Share, abaca.CreateBackup.Share.During, abaca.CreateBackup.Share.Failed)
}

// freeShare moves a share back to rest. A share that an administrator has moved elsewhere meanwhile stays where it is.
func (m *Manager) freeShare(ctx context.Context, tx *db.Tx, id abaca.ShareID, during, to abaca.Status) error {
	_, err := tx.MoveShare(ctx, id, []abaca.Status{during}, to, m.now())
	return err
}

// marked puts into words what could not be kept or written exactly; empty where all could.
func marked(r abaca.Report) string {
	var parts []string
	if r.Changed > 0 {
		parts = append(parts, plural(r.Changed, "file", "kept changing while it was read", "kept changing while they were read"))
	}
	if r.Unreadable > 0 {
		parts = append(parts, plural(r.Unreadable, "file", "could not be read or written whole", "could not be read or written whole"))
	}
	if len(parts) == 0 {
		return ""
	}
	return strings.Join(parts, "; ") + ":\n" + r.Detail
}

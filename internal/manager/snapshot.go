package manager

import (
	"context"
	"errors"
	"strings"

	"abaca"
	"abaca/internal/db"
)

// A NewSnapshot is what a tenant asks for.
type NewSnapshot struct {
	Share             abaca.ShareID
	Name, Description *string
	Metadata          map[string]string
}

// CreateSnapshot accepts a snapshot of a share. The engine keeps it as it keeps backups, so that it is a real copy on any back end;
// a share can be made from it.
func (m *Manager) CreateSnapshot(ctx context.Context, caller abaca.Caller, req NewSnapshot) (sn abaca.Snapshot, err error) {
	err = m.DB.Transact(ctx, func(tx *db.Tx) error {
		s, err := ownShare(ctx, tx, caller, req.Share, abaca.NotFound)
		if err != nil {
			return err
		}
		t, err := tx.ShareType(ctx, s.Type)
		if err != nil {
			return err
		}
		if !supportsSnapshots(t) {
			return abaca.Errorf(abaca.Unprocessable, "Shares of type %s have no snapshots.", t.Name)
		}
		if s.Status != abaca.Available {
			return busy(s)
		}
		if err := mustReach(ctx, tx, s); err != nil {
			return err
		}
		sn = abaca.Snapshot{
			ID: abaca.SnapshotID(newID()), Project: s.Project, User: caller.User, Share: s.ID, ShareSize: s.Size, Proto: s.Proto,
			Name: req.Name, Description: req.Description, Metadata: req.Metadata,
			Status: abaca.CreateSnapshot.Subject.During, CreatedAt: m.now(),
		}
		if err := tx.Charge(ctx, sn.Project, abaca.SnapshotCost(sn.ShareSize), m.Limits); err != nil {
			return err
		}
		return tx.InsertSnapshot(ctx, sn, caller)
	})
	if err != nil {
		return abaca.Snapshot{}, err
	}
	m.wake()
	return sn, nil
}

// supportsSnapshots follows Manila: only a type that says so has them; the spec may be written as a policy, "<is> True".
func supportsSnapshots(t abaca.ShareType) bool {
	v := strings.TrimSpace(strings.TrimPrefix(t.Specs["snapshot_support"], "<is>"))
	return strings.EqualFold(v, "true")
}

// DeleteSnapshot accepts the deletion of a snapshot.
func (m *Manager) DeleteSnapshot(ctx context.Context, caller abaca.Caller, id abaca.SnapshotID) error {
	err := m.DB.Transact(ctx, func(tx *db.Tx) error {
		sn, err := tx.Snapshot(ctx, id, caller.Scope())
		if err != nil {
			return err
		}
		ok, err := tx.Begin(ctx, abaca.DeleteSnapshot, string(id), "", caller, m.now())
		if err == nil && !ok {
			err = abaca.Errorf(abaca.Invalid, "Share snapshot %s cannot be deleted; its status is %s.", id, sn.Status)
		}
		return err
	})
	if err == nil {
		m.wake()
	}
	return err
}

// ResetSnapshotStatus writes a snapshot's status by hand; work under way on it is stopped.
func (m *Manager) ResetSnapshotStatus(ctx context.Context, caller abaca.Caller, id abaca.SnapshotID, to abaca.Status) error {
	return m.resetting(ctx, func(tx *db.Tx) (*db.Job, error) {
		if _, err := tx.Snapshot(ctx, id, caller.Scope()); err != nil {
			return nil, err
		}
		return m.reset(ctx, tx, abaca.KindSnapshot, string(id), to)
	})
}

// createSnapshot is the work half.
type createSnapshot struct {
	*Manager
	id  abaca.SnapshotID
	job db.Job
	sn  abaca.Snapshot
	ref abaca.Ref
	rep abaca.Report
}

func (w *createSnapshot) do(ctx context.Context, report func(abaca.Progress)) (err error) {
	if w.sn, err = w.DB.Snapshot(ctx, w.id, ""); err != nil {
		return err
	}
	s, err := w.DB.Share(ctx, w.sn.Share, "")
	if err != nil {
		return err
	}
	req := abaca.SaveRequest{Project: w.sn.Project, Share: s.ID, ID: string(w.id)}
	if req.Parent, err = w.DB.Parent(ctx, s.ID); err != nil {
		return err
	}
	if req.More, err = w.DB.HasSaved(ctx, w.sn.Project); err != nil {
		return err
	}
	vol, err := w.open(ctx, s, string(w.id))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, vol.Close()) }()
	if w.ref, w.rep, err = w.Engine.Save(ctx, req, vol, report); err != nil {
		return err
	}
	if err := w.step(ctx, "create_snapshot: saved"); err != nil {
		return err
	}
	return w.note(ctx, db.Unnoted{Kind: abaca.KindSnapshot, ID: string(w.id)})
}

func (w *createSnapshot) done(ctx context.Context, tx *db.Tx) error {
	if err := tx.SetSnapshotRef(ctx, w.id, w.ref); err != nil {
		return err
	}
	if text := marked(w.rep); text != "" {
		if err := w.tell(ctx, tx, w.told(w.sn, text)); err != nil {
			return err
		}
	}
	return tx.OpenRound(ctx, w.sn.Project, w.now().Add(restVerified))
}

func (w *createSnapshot) told(sn abaca.Snapshot, text string) abaca.Message {
	return about(w.job, sn.Share, actionCreate, "create share snapshot "+string(w.id)+": "+text)
}

func (w *createSnapshot) failed(ctx context.Context, tx *db.Tx, reason string) error {
	sn, err := tx.Snapshot(ctx, w.id, "")
	if err != nil {
		return err
	}
	return w.tell(ctx, tx, w.told(sn, reason))
}

// deleteSnapshot is the work half.
type deleteSnapshot struct {
	*Manager
	id  abaca.SnapshotID
	job db.Job
}

func (w *deleteSnapshot) do(ctx context.Context, _ func(abaca.Progress)) error {
	sn, err := w.DB.Snapshot(ctx, w.id, "")
	if err != nil {
		return err
	}
	if err := w.DB.Transact(ctx, func(tx *db.Tx) error { return tx.ForgetData(ctx, w.job) }); err != nil {
		return err
	}
	if err := w.Engine.Delete(ctx, sn.Project, string(w.id)); err != nil {
		return err
	}
	return w.step(ctx, "delete_snapshot: data deleted")
}

func (w *deleteSnapshot) done(ctx context.Context, tx *db.Tx) error {
	sn, err := tx.Snapshot(ctx, w.id, "")
	if err != nil {
		return err
	}
	return tx.ChargeAnyway(ctx, sn.Project, abaca.SnapshotCost(sn.ShareSize).Negative())
}

func (w *deleteSnapshot) failed(ctx context.Context, tx *db.Tx, reason string) error {
	sn, err := tx.Snapshot(ctx, w.id, "")
	if err != nil {
		return err
	}
	return w.tell(ctx, tx, about(w.job, sn.Share, actionDelete, "delete share snapshot "+string(w.id)+": "+reason))
}

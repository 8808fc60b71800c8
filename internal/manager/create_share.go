package manager

import (
	"context"
	"errors"
	"slices"
	"strings"

	"abaca"
	"abaca/internal/db"
)

// A NewShare is what a tenant asks for.
type NewShare struct {
	Proto             string // in any case
	Size              int    // GiB
	Name, Description *string
	Metadata          map[string]string
	Public            bool
	Type              string // id or name; empty for the default
	Snapshot          abaca.SnapshotID
	Zone              string // empty for any
}

// CreateShare accepts the making of a share.
func (m *Manager) CreateShare(ctx context.Context, caller abaca.Caller, req NewShare) (s abaca.Share, err error) {
	s = abaca.Share{
		ID: abaca.ShareID(newID()), Project: caller.Project, User: caller.User, Size: req.Size, Name: req.Name, Description: req.Description,
		Proto: strings.ToUpper(req.Proto), Public: req.Public, Metadata: req.Metadata, Zone: m.Zone, Snapshot: req.Snapshot,
		Status: abaca.CreateShare.Subject.During, CreatedAt: m.now(),
	}
	s.Path = string(s.ID)
	if err := m.knows(s.Proto); err != nil {
		return s, err
	}
	if req.Zone != "" && req.Zone != m.Zone {
		return s, abaca.Errorf(abaca.NotFound, "Availability zone %s could not be found.", req.Zone)
	}
	reach, err := m.reached(ctx)
	if err != nil {
		return abaca.Share{}, err
	}
	err = m.DB.Transact(ctx, func(tx *db.Tx) error {
		t, err := m.typeFor(ctx, tx, caller, req.Type)
		if err != nil {
			return err
		}
		s.Type = t.ID
		if s.Backend, err = m.backendFor(reach, t); err != nil {
			return err
		}
		if req.Snapshot != "" {
			if err := fromSnapshot(ctx, tx, caller, req); err != nil {
				return err
			}
		}
		if err := tx.Charge(ctx, s.Project, abaca.ShareCost(s.Size), m.Limits); err != nil {
			return err
		}
		return tx.InsertShare(ctx, s, caller)
	})
	if err != nil {
		return abaca.Share{}, err
	}
	m.wake()
	return s, nil
}

// knows refuses protocols in which no share can be made.
func (m *Manager) knows(proto string) error {
	if !slices.Contains(m.Protocols, proto) {
		return abaca.Errorf(abaca.Invalid, "%q is not a share protocol here; there are %s.", proto, strings.Join(m.Protocols, ", "))
	}
	return nil
}

// typeFor finds the share type by id or name. A private one exists for administrators alone.
func (m *Manager) typeFor(ctx context.Context, tx *db.Tx, caller abaca.Caller, name string) (abaca.ShareType, error) {
	if name == "" {
		t, err := tx.ShareTypeNamed(ctx, m.DefaultType, false)
		if abaca.FaultOf(err) == abaca.NotFound {
			return t, abaca.Errorf(abaca.Invalid, "No share type was given, and there is no default one.")
		}
		return t, err
	}
	t, err := tx.VisibleShareType(ctx, abaca.ShareTypeID(name), !caller.Admin)
	if abaca.FaultOf(err) == abaca.NotFound {
		t, err = tx.ShareTypeNamed(ctx, name, !caller.Admin)
	}
	if err == nil && strings.EqualFold(t.Specs["driver_handles_share_servers"], "true") {
		err = abaca.Errorf(abaca.Invalid, "Shares of type %s need a share network, and there are none here.", t.Name)
	}
	return t, err
}

// backendFor picks the back end that a share type asks for or, where it asks for none, the configuration, or else the workers.
func (m *Manager) backendFor(r reach, t abaca.ShareType) (string, error) {
	name, asked := t.Specs["share_backend_name"]
	if !asked {
		name = m.DefaultBackend
	}
	if name == "" && len(r.list) > 0 {
		name = r.list[0].Backend
	}
	if name == "" {
		return "", abaca.Errorf(abaca.Unavailable, "No worker has said yet where shares can be kept.")
	}
	if _, ok := r.root(name); !ok {
		return "", abaca.Errorf(abaca.Invalid, "Share type %s asks for back end %q, which does not exist.", t.Name, name)
	}
	return name, nil
}

// fromSnapshot checks that a share can be made with the files of a snapshot.
func fromSnapshot(ctx context.Context, tx *db.Tx, caller abaca.Caller, req NewShare) error {
	sn, err := tx.Snapshot(ctx, req.Snapshot, caller.Scope())
	if err != nil {
		return err
	}
	if sn.Status != abaca.Available || sn.Ref == "" {
		return abaca.Errorf(abaca.Invalid, "Share snapshot %s is not available; its status is %s.", sn.ID, sn.Status)
	}
	if req.Size < sn.ShareSize {
		return abaca.Errorf(abaca.Invalid, "A share made from snapshot %s must have %d GiB at least.", sn.ID, sn.ShareSize)
	}
	return nil
}

// createShare is the work half.
type createShare struct {
	*Manager
	id  abaca.ShareID
	job db.Job
}

func (w *createShare) do(ctx context.Context, report func(abaca.Progress)) error {
	s, err := w.DB.Share(ctx, w.id, "")
	if err != nil {
		return err
	}
	b, err := w.backendOf(s)
	if err != nil {
		return err
	}
	if err := b.Create(ctx, s.Path); err != nil {
		return err
	}
	if err := w.step(ctx, "create_share: directory made"); err != nil {
		return err
	}
	if s.Snapshot == "" {
		return nil
	}
	sn, err := w.DB.Snapshot(ctx, s.Snapshot, "")
	if err != nil {
		return errors.Join(err, abaca.ErrPermanent)
	}
	vol, err := b.Mount(ctx, s.Path)
	if err != nil {
		return err
	}
	_, err = w.Engine.Restore(ctx, sn.Project, sn.Ref, vol, report)
	return errors.Join(err, vol.Close())
}

func (w *createShare) done(context.Context, *db.Tx) error { return nil }

func (w *createShare) failed(ctx context.Context, tx *db.Tx, reason string) error {
	s, err := tx.Share(ctx, w.id, "")
	if err != nil {
		return err
	}
	msg := about(w.job, s.ID, actionCreate, "create share: "+reason)
	if s.Snapshot != "" {
		msg.Detail = detailFromSnapshot
	}
	return w.tell(ctx, tx, msg)
}

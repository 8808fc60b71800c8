package manager

import (
	"context"
	"errors"
	"path"
	"slices"
	"strings"

	"abaca"
	"abaca/internal/db"
)

// An Adoption asks for a directory that exists to become a share.
type Adoption struct {
	ServiceHost       string // host@back end#pool
	Export            string // an absolute path, alone or behind "host:"
	Proto             string
	Type              string // id or name; empty for the default
	Name, Description *string
	Public            bool
}

// ManageShare accepts the adoption of a directory below a back end's path, and of nothing else. Its files are the share's from
// then on: deleting the share deletes them, unmanaging it leaves them.
func (m *Manager) ManageShare(ctx context.Context, caller abaca.Caller, req Adoption) (s abaca.Share, err error) {
	s = abaca.Share{
		ID: abaca.ShareID(newID()), Project: caller.Project, User: caller.User, Name: req.Name, Description: req.Description,
		Proto: strings.ToUpper(req.Proto), Public: req.Public, Zone: m.Zone, Status: abaca.ManageShare.Subject.During, CreatedAt: m.now(),
	}
	if err := m.knows(s.Proto); err != nil {
		return s, err
	}
	if s.Backend, err = m.backendAt(ctx, req.ServiceHost); err != nil {
		return s, err
	}
	_, absolute, ok := strings.Cut(req.Export, ":")
	if !ok {
		absolute = req.Export
	}
	if s.Path, err = m.locate(ctx, s.Backend, absolute); err != nil {
		return s, err
	}
	err = m.DB.Transact(ctx, func(tx *db.Tx) error {
		t, err := m.typeFor(ctx, tx, caller, req.Type)
		if err != nil {
			return err
		}
		s.Type = t.ID
		taken, err := tx.SharePaths(ctx, s.Backend)
		if err != nil {
			return err
		}
		if i := slices.IndexFunc(taken, func(p string) bool { return within(p, s.Path) || within(s.Path, p) }); i >= 0 {
			return abaca.Errorf(abaca.Conflict, "The directory is, holds or lies in a share that is there already.")
		}
		if err := tx.Charge(ctx, s.Project, abaca.ShareCost(0), m.Limits); err != nil {
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

// locate turns an absolute path into one below the back end's. A process that does not reach the back end goes by the path alone; whether
// there is a directory, the worker finds out.
func (m *Manager) locate(ctx context.Context, backend, absolute string) (string, error) {
	if b, ok := m.Backends[backend]; ok {
		return b.Locate(ctx, absolute)
	}
	r, err := m.reached(ctx)
	if err != nil {
		return "", err
	}
	root, _ := r.root(backend)
	if rest, ok := below(absolute, root); ok && path.IsAbs(absolute) && !strings.ContainsRune(absolute, 0) {
		return rest, nil
	}
	return "", abaca.Errorf(abaca.Invalid, "The export path %q is not below the back end's path.", absolute)
}

// within reports whether the path p is dir or lies below it.
func within(p, dir string) bool {
	return p == dir || strings.HasPrefix(p, path.Clean(dir)+"/")
}

// backendAt finds the back end that a service host names.
func (m *Manager) backendAt(ctx context.Context, host string) (string, error) {
	if !strings.Contains(host, "#") {
		return "", abaca.Errorf(abaca.Invalid, "The service host %q names no pool; its form is host@back end#pool.", host)
	}
	name, ok, err := m.BackendOf(ctx, host)
	if ok || err != nil {
		return name, err
	}
	return "", abaca.Errorf(abaca.NotFound, "Service host %s could not be found.", host)
}

// UnmanageShare forgets a share and leaves its files where they are.
func (m *Manager) UnmanageShare(ctx context.Context, caller abaca.Caller, id abaca.ShareID) error {
	return m.DB.Transact(ctx, func(tx *db.Tx) error {
		s, err := tx.Share(ctx, id, caller.Scope())
		if err != nil {
			return err
		}
		if err := independent(ctx, tx, s, abaca.Forbidden); err != nil {
			return err
		}
		leased, err := tx.Leased(ctx, abaca.KindShare, string(id))
		if err != nil {
			return err
		}
		if leased || s.Status == abaca.BackupCreating || s.Status == abaca.BackupRestoring {
			return abaca.Errorf(abaca.Forbidden, "Share %s cannot be unmanaged; its status is %s.", id, s.Status)
		}
		if err := tx.ChargeAnyway(ctx, s.Project, abaca.ShareCost(s.Size).Negative()); err != nil {
			return err
		}
		return tx.ForgetShare(ctx, id)
	})
}

// manageShare is the work half: it finds out how much the directory holds.
type manageShare struct {
	*Manager
	job  db.Job
	id   abaca.ShareID
	size int // GiB
}

func (w *manageShare) do(ctx context.Context, _ func(abaca.Progress)) error {
	s, err := w.DB.Share(ctx, w.id, "")
	if err != nil {
		return err
	}
	b, err := w.backendOf(s)
	if err != nil {
		return err
	}
	if _, err := b.Locate(ctx, b.Absolute(s.Path)); abaca.FaultOf(err) == abaca.Invalid {
		return &abaca.Reason{Text: "the export path is not that of a directory of the back end's", Err: errors.Join(err, abaca.ErrPermanent)}
	} else if err != nil {
		return err
	}
	bytes, err := b.Usage(ctx, s.Path)
	if err != nil {
		return err
	}
	w.size = int(max(1, (bytes+1<<30-1)>>30))
	return w.step(ctx, "manage_share: measured")
}

// done writes the size and charges for it without regard to the limit: the files are there already.
func (w *manageShare) done(ctx context.Context, tx *db.Tx) error {
	s, err := tx.Share(ctx, w.id, "")
	if err != nil {
		return err
	}
	if err := tx.ChargeAnyway(ctx, s.Project, abaca.Charge{abaca.Gigabytes: w.size - s.Size}); err != nil {
		return err
	}
	return tx.SetShareSize(ctx, w.id, w.size)
}

func (w *manageShare) failed(ctx context.Context, tx *db.Tx, reason string) error {
	s, err := tx.Share(ctx, w.id, "")
	if err != nil {
		return err
	}
	return w.tell(ctx, tx, about(w.job, s.ID, actionCreate, "manage share"+": "+reason))
}

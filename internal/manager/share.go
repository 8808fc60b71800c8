package manager

import (
	"context"

	"abaca"
	"abaca/internal/db"
)

// A ShareChange is what a tenant may change of a share.
type ShareChange struct {
	Name, Description Text
	Public            *bool
}

// UpdateShare changes a share's name, description and visibility.
func (m *Manager) UpdateShare(ctx context.Context, caller abaca.Caller, id abaca.ShareID, change ShareChange) (abaca.Share, error) {
	return m.changeShare(ctx, caller, id, func(s *abaca.Share) error {
		s.Name, s.Description = change.Name.over(s.Name), change.Description.over(s.Description)
		if change.Public != nil {
			s.Public = *change.Public
		}
		return nil
	})
}

// MaxMetadata is how many entries a resource's metadata may have.
const MaxMetadata = 128

// SetShareMetadata merges entries into a share's metadata or, with replace, puts them in its place.
func (m *Manager) SetShareMetadata(ctx context.Context, caller abaca.Caller, id abaca.ShareID, entries map[string]string, replace bool) (map[string]string, error) {
	s, err := m.changeShare(ctx, caller, id, func(s *abaca.Share) error {
		if replace || s.Metadata == nil {
			s.Metadata = map[string]string{}
		}
		for k, v := range entries {
			s.Metadata[k] = v
		}
		if len(s.Metadata) > MaxMetadata {
			return abaca.Errorf(abaca.Invalid, "Share %s would have more than %d entries of metadata.", id, MaxMetadata)
		}
		return nil
	})
	return s.Metadata, err
}

// DeleteShareMetadata removes one entry of a share's metadata; an unknown key is NotFound.
func (m *Manager) DeleteShareMetadata(ctx context.Context, caller abaca.Caller, id abaca.ShareID, key string) error {
	found := false
	_, err := m.changeShare(ctx, caller, id, func(s *abaca.Share) error {
		_, found = s.Metadata[key]
		delete(s.Metadata, key)
		return nil
	})
	if err == nil && !found {
		err = abaca.Errorf(abaca.NotFound, "Share %s has no metadata %q.", id, key)
	}
	return err
}

func (m *Manager) changeShare(ctx context.Context, caller abaca.Caller, id abaca.ShareID, change func(*abaca.Share) error) (s abaca.Share, err error) {
	err = m.DB.Transact(ctx, func(tx *db.Tx) error {
		if s, err = ownShare(ctx, tx, caller, id, abaca.NotFound); err != nil {
			return err
		}
		if err := change(&s); err != nil {
			return err
		}
		s.UpdatedAt = m.now()
		return tx.UpdateShare(ctx, s)
	})
	return s, err
}

// ResetShareStatus writes a share's status by hand. It starts no work; the making or deleting of the share, if that is
// under way, is stopped.
func (m *Manager) ResetShareStatus(ctx context.Context, caller abaca.Caller, id abaca.ShareID, to abaca.Status) error {
	return m.resetting(ctx, func(tx *db.Tx) (*db.Job, error) {
		if _, err := tx.Share(ctx, id, caller.Scope()); err != nil {
			return nil, err
		}
		return m.reset(ctx, tx, abaca.KindShare, string(id), to)
	})
}

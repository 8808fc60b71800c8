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
	return m.changeShare(ctx, caller, id, func(s *abaca.Share) {
		s.Name, s.Description = change.Name.over(s.Name), change.Description.over(s.Description)
		if change.Public != nil {
			s.Public = *change.Public
		}
	})
}

// SetShareMetadata merges entries into a share's metadata or, with replace, puts them in its place.
func (m *Manager) SetShareMetadata(ctx context.Context, caller abaca.Caller, id abaca.ShareID, entries map[string]string, replace bool) (map[string]string, error) {
	s, err := m.changeShare(ctx, caller, id, func(s *abaca.Share) {
		if replace || s.Metadata == nil {
			s.Metadata = map[string]string{}
		}
		for k, v := range entries {
			s.Metadata[k] = v
		}
	})
	return s.Metadata, err
}

// DeleteShareMetadata removes one entry of a share's metadata; an unknown key is NotFound.
func (m *Manager) DeleteShareMetadata(ctx context.Context, caller abaca.Caller, id abaca.ShareID, key string) error {
	found := false
	_, err := m.changeShare(ctx, caller, id, func(s *abaca.Share) {
		_, found = s.Metadata[key]
		delete(s.Metadata, key)
	})
	if err == nil && !found {
		err = abaca.Errorf(abaca.NotFound, "Share %s has no metadata %q.", id, key)
	}
	return err
}

func (m *Manager) changeShare(ctx context.Context, caller abaca.Caller, id abaca.ShareID, change func(*abaca.Share)) (s abaca.Share, err error) {
	err = m.DB.Transact(ctx, func(tx *db.Tx) error {
		if s, err = ownShare(ctx, tx, caller, id, abaca.NotFound); err != nil {
			return err
		}
		change(&s)
		s.UpdatedAt = m.now()
		return tx.UpdateShare(ctx, s)
	})
	return s, err
}

// ResetShareStatus writes a share's status by hand. It starts no work; the making or deleting of the share, if that is
// under way, is stopped.
func (m *Manager) ResetShareStatus(ctx context.Context, caller abaca.Caller, id abaca.ShareID, to abaca.Status) error {
	return m.DB.Transact(ctx, func(tx *db.Tx) error {
		if _, err := tx.Share(ctx, id, caller.Scope()); err != nil {
			return err
		}
		return tx.Reset(ctx, abaca.KindShare, string(id), to, m.now())
	})
}

package manager

import (
	"context"

	"abaca"
	"abaca/internal/db"
)

// EnsureDefaultType makes the default share type where there are no types at all, so that a new service can be used at once.
// Where an administrator has made others instead, it stays away.
func (m *Manager) EnsureDefaultType(ctx context.Context) error {
	return m.DB.Transact(ctx, func(tx *db.Tx) error {
		types, err := tx.ShareTypes(ctx, nil)
		if err != nil || len(types) > 0 {
			return err
		}
		return tx.InsertShareType(ctx, m.defaultType())
	})
}

func (m *Manager) defaultType() abaca.ShareType {
	return abaca.ShareType{
		ID: abaca.ShareTypeID(newID()), Name: m.DefaultType, Public: true, CreatedAt: m.now(),
		Specs: map[string]string{
			"driver_handles_share_servers": "False", "snapshot_support": "True", "create_share_from_snapshot_support": "True",
		},
	}
}

// CreateShareType adds a share type.
func (m *Manager) CreateShareType(ctx context.Context, t abaca.ShareType) (abaca.ShareType, error) {
	t.ID, t.CreatedAt = abaca.ShareTypeID(newID()), m.now()
	err := m.DB.Transact(ctx, func(tx *db.Tx) error { return tx.InsertShareType(ctx, t) })
	return t, err
}

// DeleteShareType removes a share type that no share has.
func (m *Manager) DeleteShareType(ctx context.Context, id abaca.ShareTypeID) error {
	return m.DB.Transact(ctx, func(tx *db.Tx) error { return tx.DeleteShareType(ctx, id) })
}

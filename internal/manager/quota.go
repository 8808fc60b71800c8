package manager

import (
	"context"

	"abaca"
	"abaca/internal/db"
)

// Usages returns a project's limits and usage.
func (m *Manager) Usages(ctx context.Context, project abaca.ProjectID) (map[abaca.Resource]db.Usage, error) {
	return m.DB.Usages(ctx, project, m.Limits)
}

// Defaults returns the limits of projects without limits of their own.
func (m *Manager) Defaults(ctx context.Context) (map[abaca.Resource]int, error) {
	return m.DB.Defaults(ctx, m.Limits)
}

// SetDefaults changes the limits of projects without limits of their own, at once and for all of them: what is in use already
// stays, and where that is more, nothing new can be made.
func (m *Manager) SetDefaults(ctx context.Context, limits map[abaca.Resource]int) error {
	return m.DB.Transact(ctx, func(tx *db.Tx) error { return tx.SetDefaults(ctx, limits) })
}

// SetLimits gives a project limits of its own. One below what is in use already is refused unless force is set.
func (m *Manager) SetLimits(ctx context.Context, project abaca.ProjectID, limits map[abaca.Resource]int, force bool) error {
	return m.DB.Transact(ctx, func(tx *db.Tx) error {
		usages, err := tx.Usages(ctx, project, m.Limits)
		if err != nil {
			return err
		}
		for r, limit := range limits {
			if limit != abaca.Unlimited && limit < usages[r].InUse && !force {
				return abaca.Errorf(abaca.Invalid, "The limit of %s is below the %d in use; force sets it all the same.", r, usages[r].InUse)
			}
		}
		return tx.SetLimits(ctx, project, limits)
	})
}

// ResetLimits gives a project the default limits again.
func (m *Manager) ResetLimits(ctx context.Context, project abaca.ProjectID) error {
	return m.DB.Transact(ctx, func(tx *db.Tx) error { return tx.ResetLimits(ctx, project) })
}

package manager

import (
	"context"
	"time"

	"abaca"
	"abaca/internal/db"
)

// houseKeeping is how often repositories are looked after and old messages and records thrown away.
const houseKeeping = 10 * time.Minute

// keepHouse does, now and then, what no request asks for.
func (m *Manager) keepHouse(ctx context.Context) {
	tick := time.NewTicker(houseKeeping)
	defer tick.Stop()
	for {
		if err := m.keepHouseOnce(ctx); err != nil && ctx.Err() == nil {
			m.Log.Error("keeping house", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (m *Manager) keepHouseOnce(ctx context.Context) error {
	err := m.DB.Transact(ctx, func(tx *db.Tx) error {
		if err := tx.ExpireMessages(ctx, m.now()); err != nil {
			return err
		}
		return tx.ExpireVerifications(ctx, m.now().Add(-verifiedLife))
	})
	if err != nil {
		return err
	}
	m.sweep(ctx)
	if err := m.noteAll(ctx); err != nil {
		return err
	}
	projects, err := m.DB.Projects(ctx)
	if err != nil {
		return err
	}
	for _, p := range projects {
		if err := m.Engine.Maintain(ctx, p); err != nil && ctx.Err() == nil {
			m.Log.Error("maintaining a repository", "project_id", p, "error", err)
		}
	}
	return nil
}

// sweep removes the back ends' snapshots whose backup nobody makes any more. They are named after what is saved from them. A back end that
// cannot be swept keeps nobody from maintaining repositories.
func (m *Manager) sweep(ctx context.Context) {
	for _, name := range m.BackendNames() {
		still, ok := m.Backends[name].(Snapshotter)
		if !ok {
			continue
		}
		err := still.Sweep(ctx, func(id string) (bool, error) {
			backup, err := m.DB.Leased(ctx, abaca.KindBackup, id)
			if err != nil || backup {
				return backup, err
			}
			return m.DB.Leased(ctx, abaca.KindSnapshot, id)
		})
		if err != nil && ctx.Err() == nil {
			m.Log.Error("sweeping a back end", "backend", name, "error", err)
		}
	}
}

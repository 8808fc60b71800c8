package manager

import (
	"context"
	"time"

	"abaca/internal/db"
)

// houseKeeping is how often repositories are looked after and old messages thrown away.
const houseKeeping = 10 * time.Minute

// keepHouse does, now and then, what no request asks for.
func (m *Manager) keepHouse(ctx context.Context) {
	tick := time.NewTicker(houseKeeping)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := m.keepHouseOnce(ctx); err != nil && ctx.Err() == nil {
			m.Log.Error("keeping house", "error", err)
		}
	}
}

func (m *Manager) keepHouseOnce(ctx context.Context) error {
	if err := m.DB.Transact(ctx, func(tx *db.Tx) error { return tx.ExpireMessages(ctx, m.now()) }); err != nil {
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

package manager

import (
	"context"
	"time"

	"abaca"
	"abaca/internal/db"
)

// houseKeeping is how often everything is looked after, and old messages and records are thrown away.
const houseKeeping = 10 * time.Minute

// keepHouse does, now and then, what no request asks for.
func (m *Manager) keepHouse(ctx context.Context) {
	every := houseKeeping
	if m.House > 0 {
		every = min(every, m.House)
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for rest := time.Duration(0); ; rest -= every {
		whole := rest <= 0
		if whole {
			rest = houseKeeping
		}
		if err := m.keepHouseOnce(ctx, whole); err != nil && ctx.Err() == nil {
			m.Log.ErrorContext(ctx, "keeping house", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// keepHouseOnce does all of it, or only what frees space.
func (m *Manager) keepHouseOnce(ctx context.Context, whole bool) error {
	if m.disabled.Load() {
		return nil
	}
	if whole {
		if err := m.tidy(ctx); err != nil {
			return err
		}
	}
	projects, err := m.DB.Projects(ctx)
	if err != nil {
		return err
	}
	m.maintain(ctx, projects)
	if !whole {
		return nil
	}
	return m.measure(ctx, projects)
}

// tidy throws away what is old, and notes what has changed.
func (m *Manager) tidy(ctx context.Context) error {
	err := m.DB.Transact(ctx, func(tx *db.Tx) error {
		if err := tx.ExpireMessages(ctx, m.now()); err != nil {
			return err
		}
		if err := tx.ForgetServices(ctx, m.now().Add(-serviceLife)); err != nil {
			return err
		}
		return tx.ExpireVerifications(ctx, m.now().Add(-verifiedLife))
	})
	if err != nil {
		return err
	}
	if err := m.DB.Survey(ctx); err != nil {
		return err
	}
	m.sweep(ctx)
	return m.noteAll(ctx)
}

// maintain goes through the repositories of these projects; what goes wrong in one keeps none of the others from their turn.
func (m *Manager) maintain(ctx context.Context, projects []abaca.ProjectID) {
	ctx, ended := m.watch(abaca.LogWith(ctx, "operation", abaca.WorkMaintain), abaca.WorkMaintain)
	outcome := abaca.OutcomeDone
	for _, p := range projects {
		ctx := abaca.LogWith(ctx, "project_id", p)
		if err := m.Engine.Maintain(ctx, p); err != nil && ctx.Err() == nil {
			m.Log.ErrorContext(ctx, "maintaining a repository", "error", err)
			outcome = abaca.OutcomeFailed
		}
	}
	if ctx.Err() != nil {
		outcome = abaca.OutcomeInterrupted
	}
	ended(outcome)
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
			m.Log.ErrorContext(ctx, "sweeping a back end", "backend", name, "error", err)
		}
	}
}

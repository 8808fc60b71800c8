package db

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"abaca"
)

// A Usage is how much of a resource a project may have and has.
type Usage struct{ Limit, InUse int }

// Usages returns a project's limits and usage, with the defaults where the project has no limit of its own.
func (r reader) Usages(ctx context.Context, project abaca.ProjectID, defaults map[abaca.Resource]int) (map[abaca.Resource]Usage, error) {
	usages := make(map[abaca.Resource]Usage, len(defaults))
	for resource, limit := range defaults {
		usages[resource] = Usage{Limit: limit}
	}
	type row struct {
		resource abaca.Resource
		n        int
	}
	scan := func(s scanner) (v row, err error) { return v, s.Scan(&v.resource, &v.n) }
	limits, err := all(ctx, r.q, scan, `SELECT resource, hard_limit FROM quotas WHERE project_id = $1`, project)
	if err != nil {
		return nil, fmt.Errorf("read quotas: %w", err)
	}
	for _, l := range limits {
		usages[l.resource] = Usage{Limit: l.n}
	}
	used, err := all(ctx, r.q, scan, `SELECT resource, in_use FROM quota_usages WHERE project_id = $1`, project)
	if err != nil {
		return nil, fmt.Errorf("read quota usage: %w", err)
	}
	for _, u := range used {
		usages[u.resource] = Usage{Limit: usages[u.resource].Limit, InUse: u.n}
	}
	return usages, nil
}

// SetLimits writes limits of a project's own.
func (tx *Tx) SetLimits(ctx context.Context, project abaca.ProjectID, limits map[abaca.Resource]int) error {
	for resource, limit := range limits {
		_, err := tx.exec(ctx, `INSERT INTO quotas (project_id, resource, hard_limit) VALUES ($1, $2, $3)
			ON CONFLICT (project_id, resource) DO UPDATE SET hard_limit = excluded.hard_limit`, project, resource, limit)
		if err != nil {
			return fmt.Errorf("set quota: %w", err)
		}
	}
	return nil
}

// ResetLimits gives a project the default limits again.
func (tx *Tx) ResetLimits(ctx context.Context, project abaca.ProjectID) error {
	if _, err := tx.exec(ctx, `DELETE FROM quotas WHERE project_id = $1`, project); err != nil {
		return fmt.Errorf("reset quotas: %w", err)
	}
	return nil
}

// Charge uses up resources in a project. What would go over a limit is refused with OverLimit, sizes before counts as Manila does.
func (tx *Tx) Charge(ctx context.Context, project abaca.ProjectID, charge abaca.Charge, defaults map[abaca.Resource]int) error {
	sizesFirst := slices.Collect(maps.Keys(charge))
	slices.SortFunc(sizesFirst, func(a, b abaca.Resource) int { return isSize(b) - isSize(a) })
	for _, resource := range sizesFirst {
		if err := tx.openAccount(ctx, project, resource); err != nil {
			return err
		}
		limit := `coalesce((SELECT hard_limit FROM quotas WHERE project_id = $1 AND resource = $2), $4)`
		n, err := tx.exec(ctx, `UPDATE quota_usages SET in_use = in_use + $3 WHERE project_id = $1 AND resource = $2
			AND (`+limit+` = -1 OR in_use + $3 <= `+limit+`)`, project, resource, charge[resource], defaults[resource])
		if err != nil {
			return fmt.Errorf("charge quota: %w", err)
		}
		if n == 0 {
			// Clients tell a full quota from rate limiting by the word "exceed".
			return abaca.Errorf(abaca.OverLimit, "The request would exceed the project's quota of %s.", resource)
		}
	}
	return nil
}

// ChargeAnyway uses up resources without regard to limits or, where the charge is negative, gives them back.
func (tx *Tx) ChargeAnyway(ctx context.Context, project abaca.ProjectID, charge abaca.Charge) error {
	for resource, n := range charge {
		if err := tx.openAccount(ctx, project, resource); err != nil {
			return err
		}
		if _, err := tx.exec(ctx, `UPDATE quota_usages SET in_use = in_use + $3 WHERE project_id = $1 AND resource = $2`,
			project, resource, n); err != nil {
			return fmt.Errorf("charge quota: %w", err)
		}
	}
	return nil
}

func (tx *Tx) openAccount(ctx context.Context, project abaca.ProjectID, resource abaca.Resource) error {
	_, err := tx.exec(ctx, `INSERT INTO quota_usages (project_id, resource, in_use) VALUES ($1, $2, 0)
		ON CONFLICT (project_id, resource) DO NOTHING`, project, resource)
	if err != nil {
		return fmt.Errorf("open quota account: %w", err)
	}
	return nil
}

func isSize(r abaca.Resource) int {
	if r == abaca.Gigabytes || r == abaca.SnapshotGigabytes || r == abaca.BackupGigabytes {
		return 1
	}
	return 0
}

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

// A limit is how much of a resource a project may have: its own limit, else the default one that has been set, else the
// configured. Each takes the place of those after it.
const limit = `coalesce((SELECT hard_limit FROM quotas WHERE project_id = $1 AND resource = $2),
	(SELECT hard_limit FROM quota_defaults WHERE resource = $2), $4)`

// amounts adds to a table of numbers by resource those that a query finds.
func (r reader) amounts(ctx context.Context, put func(abaca.Resource, int), query string, args ...any) error {
	type row struct {
		resource abaca.Resource
		n        int
	}
	rows, err := all(ctx, r.q, func(s scanner) (v row, err error) { return v, s.Scan(&v.resource, &v.n) }, query, args...)
	if err != nil {
		return fmt.Errorf("read quotas: %w", err)
	}
	for _, v := range rows {
		put(v.resource, v.n)
	}
	return nil
}

// Defaults returns the limits of projects without limits of their own: the configured ones where none has been set.
func (r reader) Defaults(ctx context.Context, configured map[abaca.Resource]int) (map[abaca.Resource]int, error) {
	limits := maps.Clone(configured)
	put := func(r abaca.Resource, n int) { limits[r] = n }
	return limits, r.amounts(ctx, put, `SELECT resource, hard_limit FROM quota_defaults`)
}

// SetDefaults writes limits of projects without limits of their own.
func (tx *Tx) SetDefaults(ctx context.Context, limits map[abaca.Resource]int) error {
	for resource, limit := range limits {
		_, err := tx.exec(ctx, `INSERT INTO quota_defaults (resource, hard_limit) VALUES ($1, $2)
			ON CONFLICT (resource) DO UPDATE SET hard_limit = excluded.hard_limit`, resource, limit)
		if err != nil {
			return fmt.Errorf("set default quota: %w", err)
		}
	}
	return nil
}

// Usages returns a project's limits and usage, with the defaults where the project has no limit of its own.
func (r reader) Usages(ctx context.Context, project abaca.ProjectID, configured map[abaca.Resource]int) (map[abaca.Resource]Usage, error) {
	limits, err := r.Defaults(ctx, configured)
	if err != nil {
		return nil, err
	}
	usages := make(map[abaca.Resource]Usage, len(limits))
	for resource, limit := range limits {
		usages[resource] = Usage{Limit: limit}
	}
	own := func(r abaca.Resource, n int) { usages[r] = Usage{Limit: n} }
	if err := r.amounts(ctx, own, `SELECT resource, hard_limit FROM quotas WHERE project_id = $1`, project); err != nil {
		return nil, err
	}
	used := func(r abaca.Resource, n int) { usages[r] = Usage{Limit: usages[r].Limit, InUse: n} }
	return usages, r.amounts(ctx, used, `SELECT resource, in_use FROM quota_usages WHERE project_id = $1`, project)
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
func (tx *Tx) Charge(ctx context.Context, project abaca.ProjectID, charge abaca.Charge, configured map[abaca.Resource]int) error {
	sizesFirst := slices.Collect(maps.Keys(charge))
	slices.SortFunc(sizesFirst, func(a, b abaca.Resource) int { return isSize(b) - isSize(a) })
	for _, resource := range sizesFirst {
		if err := tx.openAccount(ctx, project, resource); err != nil {
			return err
		}
		n, err := tx.exec(ctx, `UPDATE quota_usages SET in_use = in_use + $3 WHERE project_id = $1 AND resource = $2
			AND (`+limit+` = -1 OR in_use + $3 <= `+limit+`)`, project, resource, charge[resource], configured[resource])
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

package db

import (
	"context"
	"fmt"
	"time"
)

// A ServiceKind is what a service stands for.
type ServiceKind string

// There is a service for each worker and one for each back end that a worker reaches.
const (
	ServiceWorker  ServiceKind = "worker"
	ServiceBackend ServiceKind = "backend"
)

// A Service is a worker or a back end as an operator sees it.
type Service struct {
	ID        int64 // never changes
	Kind      ServiceKind
	Name      string // of the worker or the back end
	Disabled  bool   // takes nothing new
	Reason    *string
	ChangedAt time.Time // when it was disabled, enabled or first seen
	BeatenAt  time.Time // the last sign of life, of a back end's: of any worker that reaches it
	UpUntil   time.Time // from then on it counts as down
}

// A Report is what a worker says of itself when it starts.
type Report struct {
	Worker        string // its name, unlike any other's
	Role, Version string
	Instance      string // of its data directory, unlike that of any other
	Backends      []Reached
}

// A Reached is a back end that a worker reaches, under the absolute path that it has there.
type Reached struct{ Backend, Path string }

// Register writes what a worker says of itself, and makes the services that are new. again says that the worker of this name was the same
// instance before, so that whoever had leases under the name is gone. Whether a service is disabled stays as it was.
func (tx *Tx) Register(ctx context.Context, r Report, now, until time.Time) (again bool, err error) {
	if err := tx.openService(ctx, ServiceWorker, r.Worker, now); err != nil {
		return false, err
	}
	before, err := all(ctx, tx.q, func(s scanner) (instance string, err error) { return instance, s.Scan(&instance) },
		`SELECT instance FROM services WHERE kind = $1 AND name = $2`, ServiceWorker, r.Worker)
	if err != nil {
		return false, fmt.Errorf("register worker: %w", err)
	}
	_, err = tx.exec(ctx, `UPDATE services SET role = $3, version = $4, instance = $5, started_at = $6, beaten_at = $6, up_until = $7
		WHERE kind = $1 AND name = $2`, ServiceWorker, r.Worker, r.Role, r.Version, r.Instance, micros(now), micros(until))
	if err == nil {
		_, err = tx.exec(ctx, `DELETE FROM reached_backends WHERE worker = $1`, r.Worker)
	}
	if err != nil {
		return false, fmt.Errorf("register worker: %w", err)
	}
	for i, b := range r.Backends {
		if err := tx.openService(ctx, ServiceBackend, b.Backend, now); err != nil {
			return false, err
		}
		_, err := tx.exec(ctx, `INSERT INTO reached_backends (worker, backend, path, rank) VALUES ($1, $2, $3, $4)`, r.Worker, b.Backend, b.Path, i)
		if err != nil {
			return false, fmt.Errorf("register back end: %w", err)
		}
	}
	return len(before) == 1 && before[0] == r.Instance, nil
}

func (tx *Tx) openService(ctx context.Context, kind ServiceKind, name string, now time.Time) error {
	_, err := tx.exec(ctx, `INSERT INTO services (id, kind, name, changed_at)
		SELECT coalesce(max(id), 0) + 1, CAST($1 AS TEXT), CAST($2 AS TEXT), CAST($3 AS BIGINT) FROM services WHERE TRUE ON CONFLICT (kind, name) DO NOTHING`, kind, name, micros(now))
	if err != nil {
		return fmt.Errorf("open service: %w", err)
	}
	return nil
}

// BeatService is a worker's sign of life; known is false where the worker has been forgotten and must register again.
func (tx *Tx) BeatService(ctx context.Context, worker string, now, until time.Time) (known, disabled bool, err error) {
	list, err := all(ctx, tx.q, func(s scanner) (disabled bool, err error) { return disabled, s.Scan(&disabled) },
		`UPDATE services SET beaten_at = $3, up_until = $4 WHERE kind = $1 AND name = $2 RETURNING disabled`,
		ServiceWorker, worker, micros(now), micros(until))
	if err != nil {
		return false, false, fmt.Errorf("beat service: %w", err)
	}
	return len(list) == 1, len(list) == 1 && list[0], nil
}

// SwitchService has a service take nothing new, or work again; false where there is no such service.
func (tx *Tx) SwitchService(ctx context.Context, kind ServiceKind, name string, disabled bool, reason *string, now time.Time) (bool, error) {
	n, err := tx.exec(ctx, `UPDATE services SET disabled = $3, disabled_reason = $4, changed_at = $5 WHERE kind = $1 AND name = $2`,
		kind, name, disabled, reason, micros(now))
	if err != nil {
		return false, fmt.Errorf("switch service: %w", err)
	}
	return n == 1, tx.offerWork(ctx) // which there may be for it now
}

// ForgetServices removes the workers that have been down since a time, and back ends that no worker left reaches.
func (tx *Tx) ForgetServices(ctx context.Context, down time.Time) error {
	for _, statement := range []struct {
		query string
		args  []any
	}{
		{`DELETE FROM services WHERE kind = $1 AND up_until < $2`, []any{ServiceWorker, micros(down)}},
		{`DELETE FROM reached_backends WHERE worker NOT IN (SELECT name FROM services WHERE kind = $1)`, []any{ServiceWorker}},
		{`DELETE FROM services WHERE kind = $1 AND name NOT IN (SELECT backend FROM reached_backends)`, []any{ServiceBackend}},
	} {
		if _, err := tx.exec(ctx, statement.query, statement.args...); err != nil {
			return fmt.Errorf("forget services: %w", err)
		}
	}
	return nil
}

// Services lists all services, the oldest first.
func (r reader) Services(ctx context.Context) ([]Service, error) {
	return all(ctx, r.q, func(s scanner) (v Service, err error) {
		var changed, beaten, until int64
		err = s.Scan(&v.ID, &v.Kind, &v.Name, &v.Disabled, &v.Reason, &changed, &beaten, &until)
		v.ChangedAt, v.BeatenAt, v.UpUntil = fromMicros(changed), fromMicros(beaten), fromMicros(until)
		return v, err
	}, `SELECT s.id, s.kind, s.name, s.disabled, s.disabled_reason, s.changed_at,
			CASE s.kind WHEN $1 THEN s.beaten_at ELSE coalesce(b.beaten_at, 0) END,
			CASE s.kind WHEN $1 THEN s.up_until ELSE coalesce(b.up_until, 0) END
		FROM services s LEFT JOIN (SELECT r.backend, max(w.beaten_at) AS beaten_at, max(w.up_until) AS up_until
				FROM reached_backends r JOIN services w ON w.kind = $1 AND w.name = r.worker GROUP BY r.backend) b ON b.backend = s.name
		ORDER BY s.id`, ServiceWorker)
}

// Reachable lists each back end that some worker reaches or did before it went down, under the path that it has at one of them: at one
// that is up where there is one. The first is that which the workers name first.
func (r reader) Reachable(ctx context.Context, now time.Time) ([]Reached, error) {
	list, err := all(ctx, r.q, func(s scanner) (v Reached, err error) { return v, s.Scan(&v.Backend, &v.Path) },
		`SELECT r.backend, r.path FROM reached_backends r JOIN services w ON w.kind = $1 AND w.name = r.worker
		ORDER BY CASE WHEN w.up_until > $2 THEN 0 ELSE 1 END, r.rank, r.backend, r.worker`, ServiceWorker, micros(now))
	if err != nil {
		return nil, fmt.Errorf("list back ends: %w", err)
	}
	seen := map[string]bool{}
	var first []Reached
	for _, b := range list {
		if !seen[b.Backend] {
			seen[b.Backend] = true
			first = append(first, b)
		}
	}
	return first, nil
}

// Reached reports whether some worker reaches a back end, or did before it went down.
func (r reader) Reached(ctx context.Context, backend string) (is bool, err error) {
	err = r.q.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM reached_backends WHERE backend = $1)`, backend).Scan(&is)
	if err != nil {
		return false, fmt.Errorf("look for back end: %w", err)
	}
	return is, nil
}

// A Stranded is work that waits for a back end which no worker that is up reaches; of work that any worker can do, the back end is empty.
type Stranded struct {
	Backend string
	Waiting int64
	Lost    bool // whether no worker reaches it that is down either: it is not configured anywhere
}

// Stranded counts the work that nobody can do. Workers and back ends that are disabled count as though they were there: that is an
// operator's decision.
func (r reader) Stranded(ctx context.Context, now time.Time) ([]Stranded, error) {
	query := ""
	for _, table := range []string{"shares", "share_backups", "share_snapshots"} {
		if query != "" {
			query += " UNION ALL "
		}
		query += `SELECT needs FROM ` + table + ` WHERE lease_until <= $2`
	}
	list, err := all(ctx, r.q, func(s scanner) (v Stranded, err error) { return v, s.Scan(&v.Backend, &v.Waiting, &v.Lost) },
		`SELECT n.needs, count(*), n.needs <> '' AND n.needs NOT IN (SELECT backend FROM reached_backends) FROM (`+query+`) n
		WHERE NOT EXISTS (SELECT 1 FROM services w WHERE w.kind = $1 AND w.up_until > $2
			AND (n.needs = '' OR EXISTS (SELECT 1 FROM reached_backends r WHERE r.worker = w.name AND r.backend = n.needs)))
		GROUP BY n.needs ORDER BY n.needs`, ServiceWorker, micros(now))
	if err != nil {
		return nil, fmt.Errorf("count stranded work: %w", err)
	}
	return list, nil
}

package db

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"abaca"
)

// A Worker is who claims work.
type Worker struct {
	Name       string
	PerProject int      // how many of the operations it is asked for it does for one project at a time; 0 for any number
	Backends   []string // that it reaches
}

// claims is how often work that another worker took meanwhile is looked for anew before the next look has to do.
const claims = 5

// Claim takes waiting work of one of these operations and leases it to a worker. ok is false where none waits that it may take.
//
// Projects take turns: first comes the one that has the least work under way, then the one whose last turn is longest ago, so that
// whoever asks for much makes others wait for one operation at most where there is a slot free. Within a project the operations
// are in the order in which they are given, and work of one operation goes by how long it has waited.
//
// A worker may take what needs a back end that it reaches, or none. One that is disabled takes nothing, and nobody takes what needs a
// back end that is disabled.
func (db *DB) Claim(ctx context.Context, ops []abaca.Operation, w Worker, now, until time.Time) (job Job, ok bool, err error) {
	for range claims {
		// A plain read first: workers look often and find nothing, and that must not take the write lock.
		job, ok, err = db.nextJob(ctx, ops, w, now)
		if err != nil || !ok {
			return Job{}, false, err
		}
		err = db.Transact(ctx, func(tx *Tx) error { return tx.take(ctx, &job, w.Name, now, until) })
		if !errors.Is(err, ErrLeaseLost) {
			return job, err == nil, err
		}
	}
	return Job{}, false, nil
}

// take is the claim itself: it holds where the row still waits.
func (tx *Tx) take(ctx context.Context, job *Job, owner string, now, until time.Time) error {
	jobs, err := all(ctx, tx.q, scanJob(job.Operation.Kind), `UPDATE `+tableOf[job.Operation.Kind]+`
		SET lease_until = $1, lease_owner = $2, attempt = attempt + 1, tries = tries + 1
		WHERE id = (SELECT id FROM `+tableOf[job.Operation.Kind]+` WHERE id = $3 AND status = $4 AND lease_until <= $5`+tx.unclaimed+`)
		RETURNING `+jobColumns,
		micros(until), owner, job.ID, job.Operation.Subject.During, micros(now))
	if err != nil {
		return fmt.Errorf("claim work: %w", err)
	}
	if len(jobs) == 0 {
		return ErrLeaseLost
	}
	*job = jobs[0]
	if _, err := tx.exec(ctx, `INSERT INTO turns (project_id, heavy, taken_at) VALUES ($1, $2, $3)
		ON CONFLICT (project_id, heavy) DO UPDATE SET taken_at = excluded.taken_at`, job.Project, job.Operation.Heavy, micros(now)); err != nil {
		return fmt.Errorf("note turn: %w", err)
	}
	return nil
}

// nextJob finds the work whose turn it is, without taking it.
func (db *DB) nextJob(ctx context.Context, ops []abaca.Operation, w Worker, now time.Time) (job Job, ok bool, err error) {
	query, args := nextQuery(ops, w, now)
	jobs, err := all(ctx, db.q, func(s scanner) (job Job, err error) {
		var i int
		err = s.Scan(&i, &job.ID)
		if err == nil {
			job.Operation = ops[i]
		}
		return job, err
	}, query, args...)
	if err != nil {
		return Job{}, false, fmt.Errorf("look for work: %w", err)
	}
	if len(jobs) == 0 {
		return Job{}, false, nil
	}
	return jobs[0], true, nil
}

// nextQuery asks for the number of the operation and the id of its subject. For each operation, p steps from one project that
// has work to the next, and one seek for each back end finds what has waited longest in each: the many rows of a project with much to do
// are not read.
func nextQuery(ops []abaca.Operation, w Worker, now time.Time) (query string, args []any) {
	arg := func(v any) string {
		args = append(args, v)
		return "$" + strconv.Itoa(len(args))
	}
	at, owner, most := arg(micros(now)), arg(w.Name), arg(w.PerProject)
	reach := `SELECT '' AS backend`
	for _, b := range w.Backends {
		reach += ` UNION ALL SELECT CAST(` + arg(b) + ` AS TEXT)`
	}
	var projects, waiting, running []string
	for i, op := range ops {
		n, table, status := strconv.Itoa(i), tableOf[op.Kind], arg(string(op.Subject.During))
		leased := `FROM ` + table + ` WHERE status = ` + status + ` AND lease_until IS NOT NULL`
		projects = append(projects, `p`+n+` (project) AS (
			SELECT min(project_id) `+leased+` UNION ALL
			SELECT (SELECT min(project_id) `+leased+` AND project_id > p`+n+`.project) FROM p`+n+` WHERE p`+n+`.project IS NOT NULL)`)
		waiting = append(waiting, `SELECT `+n+` AS op, p`+n+`.project AS project, j.id AS id, j.lease_until AS since FROM p`+n+` CROSS JOIN reach JOIN `+table+` j
			ON j.id = (SELECT id `+leased+` AND project_id = p`+n+`.project AND needs = reach.backend AND lease_until <= `+at+`
				ORDER BY lease_until, id LIMIT 1)`)
		running = append(running, `SELECT project_id AS project, lease_owner AS owner FROM `+table+`
			WHERE lease_owner IS NOT NULL AND (status || '') = `+status) // no column: there are fewer leases than rows in a status
	}
	heavy := arg(len(ops) > 0 && ops[0].Heavy)
	return `WITH RECURSIVE reach AS (SELECT backend FROM (` + reach + `) r WHERE NOT EXISTS (SELECT 1 FROM services
			WHERE disabled AND (kind = 'worker' AND name = ` + owner + ` OR kind = 'backend' AND name = r.backend))), ` + strings.Join(projects, ", ") + `
		SELECT c.op, c.id FROM (` + strings.Join(waiting, " UNION ALL ") + `) c
		LEFT JOIN (SELECT project, count(*) AS total, sum(CASE WHEN owner = ` + owner + ` THEN 1 ELSE 0 END) AS own
			FROM (` + strings.Join(running, " UNION ALL ") + `) r GROUP BY project) u ON u.project = c.project
		LEFT JOIN turns t ON t.project_id = c.project AND t.heavy = ` + heavy + `
		WHERE ` + most + ` = 0 OR coalesce(u.own, 0) < ` + most + `
		ORDER BY coalesce(u.total, 0), coalesce(t.taken_at, 0), c.op, c.since, c.id LIMIT 1`, args
}

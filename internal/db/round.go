package db

import (
	"context"
	"fmt"
	"time"

	"abaca"
)

// A Round is one claim of the next slice of a project's rolling verification.
type Round struct {
	Project abaca.ProjectID
	Reached float64 // where the slice begins
	Attempt int64
	Tries   int // claims of this slice that count, since it became due
}

// OpenRound has a project's data verified from a time on; a project whose data is verified already is left as it is.
func (tx *Tx) OpenRound(ctx context.Context, project abaca.ProjectID, due time.Time) error {
	_, err := tx.exec(ctx, `INSERT INTO verification_rounds (project_id, due_at) VALUES ($1, $2) ON CONFLICT (project_id) DO NOTHING`,
		project, micros(due))
	if err != nil {
		return fmt.Errorf("open verification round: %w", err)
	}
	return nil
}

// ClaimRound takes the slice that has been due longest and leases it to owner. ok is false where none is due, or the worker is disabled.
func (db *DB) ClaimRound(ctx context.Context, owner string, now, until time.Time) (r Round, ok bool, err error) {
	var due bool // a plain read first, as in Claim
	if err := db.q.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM verification_rounds WHERE due_at <= $1)`, micros(now)).Scan(&due); err != nil {
		return Round{}, false, fmt.Errorf("look for a verification that is due: %w", err)
	}
	if !due {
		return Round{}, false, nil
	}
	rounds, err := all(ctx, querier{db.write}, func(s scanner) (r Round, err error) {
		return r, s.Scan(&r.Project, &r.Reached, &r.Attempt, &r.Tries)
	}, `UPDATE verification_rounds SET due_at = $1, lease_owner = $2, attempt = attempt + 1, tries = tries + 1
		WHERE due_at <= $3 AND NOT EXISTS (SELECT 1 FROM services WHERE disabled AND kind = 'worker' AND name = $2) AND project_id = (SELECT project_id FROM verification_rounds WHERE due_at <= $3 ORDER BY due_at, project_id LIMIT 1`+db.unclaimed+`)
		RETURNING project_id, reached, attempt, tries`, micros(until), owner, micros(now))
	if err != nil {
		return Round{}, false, fmt.Errorf("claim a verification: %w", err)
	}
	if len(rounds) == 0 {
		return Round{}, false, nil
	}
	return rounds[0], true, nil
}

// BeatRound extends the lease of a slice; ErrLeaseLost says that it is another's now.
func (tx *Tx) BeatRound(ctx context.Context, r Round, until time.Time) error {
	return tx.mustHoldRound(ctx, "extend lease", "due_at = $3", r, micros(until))
}

// AdvanceRound ends the reading of a slice: the next begins at reached and is due at a time. ErrLeaseLost is as BeatRound's.
func (tx *Tx) AdvanceRound(ctx context.Context, r Round, reached float64, due time.Time) error {
	return tx.mustHoldRound(ctx, "advance verification", "reached = $3, due_at = $4, lease_owner = NULL, tries = 0", r, reached, micros(due))
}

// YieldRound gives up a slice that was not read, to be taken up again at a time, when so many tries count. ErrLeaseLost is as BeatRound's.
func (tx *Tx) YieldRound(ctx context.Context, r Round, tries int, due time.Time) error {
	return tx.mustHoldRound(ctx, "give up verification", "tries = $3, due_at = $4, lease_owner = NULL", r, tries, micros(due))
}

func (tx *Tx) mustHoldRound(ctx context.Context, what, set string, r Round, args ...any) error {
	n, err := tx.exec(ctx, `UPDATE verification_rounds SET `+set+` WHERE project_id = $1 AND attempt = $2 AND lease_owner IS NOT NULL`,
		append([]any{r.Project, r.Attempt}, args...)...)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if n == 0 {
		return ErrLeaseLost
	}
	return nil
}

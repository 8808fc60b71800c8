package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"abaca"
)

// Every row that can be worked on carries four columns:
//
//   - lease_until is set by the move into a During status, beaten forward by the worker, and cleared by the move out.
//     A row in a During status whose lease is NULL (an administrator's reset_status) is nobody's work; one whose lease
//     has passed is anybody's.
//   - lease_owner is the worker; NULL while the row waits.
//   - attempt counts claims and only ever grows. Everything a worker writes says which attempt it is, so that one who
//     lost the lease writes nothing.
//   - tries counts claims since the request; after too many of them the operation fails. One whose worker died, or did not
//     reach the database, does not count where it had come further than all before: work of hours may see many deaths.

// ErrLeaseLost tells a worker that its row is no longer its own: it has been claimed by another, or reset.
var ErrLeaseLost = errors.New("the lease was lost")

// A Job is one claim of one operation's unfinished work.
type Job struct {
	Operation abaca.Operation
	ID        string          // of the operation's subject
	Project   abaca.ProjectID // whose the subject is
	Asked     abaca.Caller    // who asked for the operation: user, project and request alone
	Attempt   int64
	Tries     int
}

const jobColumns = "id, project_id, asked_request, asked_user, asked_project, attempt, tries, status"

// scanJob scans a row of the resources of a kind; it has no operation where its status is none's.
func scanJob(kind abaca.Kind) func(scanner) (Job, error) {
	return func(s scanner) (j Job, err error) {
		var status abaca.Status
		err = s.Scan(&j.ID, &j.Project, &j.Asked.Request, &j.Asked.User, &j.Asked.Project, &j.Attempt, &j.Tries, &status)
		j.Operation, _ = abaca.OperationOf(kind, status)
		return j, err
	}
}

// tableOf names the table of the resources of a kind.
var tableOf = map[abaca.Kind]string{
	abaca.KindBackup:   "share_backups",
	abaca.KindShare:    "shares",
	abaca.KindSnapshot: "share_snapshots",
}

// inStatuses returns a predicate for "status is one of these" with parameters numbered from n, and the parameters.
func inStatuses(n int, statuses []abaca.Status) (string, []any) {
	var args []any
	var marks []string
	for i, s := range statuses {
		args = append(args, string(s))
		marks = append(marks, "$"+strconv.Itoa(n+i))
	}
	return "status IN (" + strings.Join(marks, ", ") + ")", args
}

// Begin moves the subject of an operation from rest into its During status and offers it to the workers that reach the back end which
// it needs, empty for none, and who are told who asked.
// It returns false, and changes nothing, where the row is not in a status the operation may start from.
func (tx *Tx) Begin(ctx context.Context, op abaca.Operation, id, needs string, asked abaca.Caller, now time.Time) (bool, error) {
	from, args := inStatuses(8, op.Subject.From)
	n, err := tx.exec(ctx, `UPDATE `+tableOf[op.Kind]+`
		SET status = $1, lease_until = $2, lease_owner = NULL, tries = 0, fail_reason = '', updated_at = $2,
			asked_request = $4, asked_user = $5, asked_project = $6, needs = $7
		WHERE id = $3 AND lease_until IS NULL AND `+from,
		append([]any{op.Subject.During, micros(now), id, asked.Request, asked.User, asked.Project, needs}, args...)...)
	if err != nil {
		return false, fmt.Errorf("begin %s: %w", op.Name, err)
	}
	return n == 1, tx.offerWork(ctx)
}

// offerWork tells the workers of other processes to look for work as soon as it is there, see Attend.
func (tx *Tx) offerWork(ctx context.Context) error {
	if tx.offer == "" {
		return nil
	}
	if _, err := tx.exec(ctx, tx.offer); err != nil {
		return fmt.Errorf("offer work: %w", err)
	}
	return nil
}

// MoveShare moves the share that an operation on something else needs; the verdict is as Begin's.
func (tx *Tx) MoveShare(ctx context.Context, id abaca.ShareID, from []abaca.Status, to abaca.Status, now time.Time) (bool, error) {
	in, args := inStatuses(4, from)
	n, err := tx.exec(ctx, `UPDATE shares SET status = $1, updated_at = $2 WHERE id = $3 AND lease_until IS NULL AND `+in,
		append([]any{to, micros(now), id}, args...)...)
	if err != nil {
		return false, fmt.Errorf("move share to %s: %w", to, err)
	}
	return n == 1, nil
}

// Adopt makes every lease of this owner pass, because whoever held them is gone; it returns how many operations that were.
func (db *DB) Adopt(ctx context.Context, owner string, now time.Time) (n int64, err error) {
	err = db.Transact(ctx, func(tx *Tx) error {
		n = 0
		for _, table := range tableOf {
			k, err := tx.exec(ctx, `UPDATE `+table+` SET lease_until = $1, lease_owner = NULL WHERE lease_owner = $2`, micros(now), owner)
			if err != nil {
				return fmt.Errorf("adopt work: %w", err)
			}
			n += k
		}
		_, err := tx.exec(ctx, `UPDATE verification_rounds SET due_at = $1, lease_owner = NULL WHERE lease_owner = $2`, micros(now), owner)
		if err != nil {
			return fmt.Errorf("adopt verifications: %w", err)
		}
		return nil
	})
	return n, err
}

// held is the end of every statement of a worker: the row must still be its own.
const held = ` WHERE id = $1 AND attempt = $2 AND status = $3 AND lease_owner IS NOT NULL`

func (tx *Tx) mustHold(ctx context.Context, what, query string, job Job, args ...any) error {
	n, err := tx.exec(ctx, query+held, append([]any{job.ID, job.Attempt, job.Operation.Subject.During}, args...)...)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if n == 0 {
		return ErrLeaseLost
	}
	return nil
}

// Hold fails with ErrLeaseLost where the job is not its worker's any more.
func (tx *Tx) Hold(ctx context.Context, job Job) error {
	var one int
	err := tx.q.QueryRowContext(ctx, `SELECT 1 FROM `+tableOf[job.Operation.Kind]+held, job.ID, job.Attempt, job.Operation.Subject.During).Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		return ErrLeaseLost
	}
	if err != nil {
		return fmt.Errorf("look whether the lease is held: %w", err)
	}
	return nil
}

// Beat extends a job's lease.
func (tx *Tx) Beat(ctx context.Context, job Job, until time.Time) error {
	return tx.mustHold(ctx, "extend lease", `UPDATE `+tableOf[job.Operation.Kind]+` SET lease_until = $4`, job, micros(until))
}

// SetProgress writes a job's percentage, which never goes down within one operation; column is progress or restore_progress. A claim that
// gets further is not counted unless it fails, see Release.
func (tx *Tx) SetProgress(ctx context.Context, job Job, percent int, now time.Time) error {
	column := "progress"
	if job.Operation.Name == abaca.RestoreBackup.Name {
		column = "restore_progress"
	}
	return tx.mustHold(ctx, "write progress", `UPDATE `+tableOf[job.Operation.Kind]+`
		SET tries = CASE WHEN `+column+` < $4 THEN $6 ELSE tries END,
			`+column+` = CASE WHEN `+column+` < $4 THEN $4 ELSE `+column+` END, updated_at = $5`, job, percent, micros(now), job.Tries-1)
}

// Settle moves the subject out of its During status, or removes its row where to is abaca.None, and gives up the lease.
func (tx *Tx) Settle(ctx context.Context, job Job, to abaca.Status, reason string, now time.Time) error {
	table := tableOf[job.Operation.Kind]
	if to == abaca.None {
		return tx.mustHold(ctx, "remove row", `DELETE FROM `+table, job)
	}
	return tx.mustHold(ctx, "move to "+string(to), `UPDATE `+table+`
		SET status = $4, fail_reason = $5, updated_at = $6, lease_until = NULL, lease_owner = NULL, tries = 0`, job, to, kept(reason), micros(now))
}

// Release gives a job back to be claimed at a later time. A job that was interrupted by its worker's stopping has not been tried.
func (tx *Tx) Release(ctx context.Context, job Job, at time.Time, interrupted bool, reason string) error {
	tries := job.Tries
	if interrupted {
		tries--
		if err := tx.offerWork(ctx); err != nil {
			return err
		}
	}
	return tx.mustHold(ctx, "release", `UPDATE `+tableOf[job.Operation.Kind]+`
		SET lease_until = $4, lease_owner = NULL, tries = $5, fail_reason = $6`, job, micros(at), tries, kept(reason))
}

// Reset writes a status by hand and makes the row nobody's work; the worker that had it, if any, loses it.
func (tx *Tx) Reset(ctx context.Context, kind abaca.Kind, id string, to abaca.Status, now time.Time) error {
	n, err := tx.exec(ctx, `UPDATE `+tableOf[kind]+` SET status = $2, updated_at = $3, lease_until = NULL, lease_owner = NULL WHERE id = $1`,
		id, to, micros(now))
	if err != nil {
		return fmt.Errorf("reset status: %w", err)
	}
	if n == 0 {
		return notFound(string(kind), id)
	}
	return nil
}

// ForgetData takes the name of its data from a backup or snapshot whose data is about to be deleted.
func (tx *Tx) ForgetData(ctx context.Context, job Job) error {
	return tx.mustHold(ctx, "forget data", `UPDATE `+tableOf[job.Operation.Kind]+` SET ref = ''`, job)
}

// Underway returns the work that is done on the row, or waits; ok is false where it is nobody's work.
func (r reader) Underway(ctx context.Context, kind abaca.Kind, id string) (job Job, ok bool, err error) {
	jobs, err := all(ctx, r.q, scanJob(kind), `SELECT `+jobColumns+` FROM `+tableOf[kind]+` WHERE id = $1 AND lease_until IS NOT NULL`, id)
	if err != nil {
		return Job{}, false, fmt.Errorf("look for work under way: %w", err)
	}
	if len(jobs) == 0 || jobs[0].Operation.Name == "" {
		return Job{}, false, nil
	}
	return jobs[0], true, nil
}

// Leased reports whether the row is some worker's work, done or waiting.
func (r reader) Leased(ctx context.Context, kind abaca.Kind, id string) (leased bool, err error) {
	err = r.q.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM `+tableOf[kind]+` WHERE id = $1 AND lease_until IS NOT NULL)`, id).Scan(&leased)
	if err != nil {
		return false, fmt.Errorf("look for a lease: %w", err)
	}
	return leased, nil
}

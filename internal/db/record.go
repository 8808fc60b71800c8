package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"abaca"
)

// An Unnoted is a backup or snapshot whose record beside the repository does not say what the row does.
type Unnoted struct {
	Kind           abaca.Kind
	ID             string
	Changes, Noted int64 // what they were when the row was read
}

// Unnoted lists some of the saved trees of a kind whose records are missing or old, by id, beginning after one.
func (r reader) Unnoted(ctx context.Context, kind abaca.Kind, after string, limit int) ([]Unnoted, error) {
	list, err := all(ctx, r.q, func(s scanner) (Unnoted, error) {
		u := Unnoted{Kind: kind}
		return u, s.Scan(&u.ID, &u.Changes, &u.Noted)
	}, `SELECT id, changes, noted FROM `+tableOf[kind]+` WHERE noted <> changes AND ref <> '' AND status <> $1 AND id > $2 ORDER BY id LIMIT $3`,
		abaca.Deleting, after, limit)
	if err != nil {
		return nil, fmt.Errorf("list what has no record: %w", err)
	}
	return list, nil
}

// Changes reads anew how often a row was changed and when it was noted. there is false where the row is gone or being deleted.
func (r reader) Changes(ctx context.Context, u Unnoted) (_ Unnoted, there bool, err error) {
	err = r.q.QueryRowContext(ctx, `SELECT changes, noted FROM `+tableOf[u.Kind]+` WHERE id = $1 AND status <> $2`, u.ID, abaca.Deleting).
		Scan(&u.Changes, &u.Noted)
	if errors.Is(err, sql.ErrNoRows) {
		return u, false, nil
	}
	if err != nil {
		return u, false, fmt.Errorf("look for what is noted: %w", err)
	}
	return u, true, nil
}

// SetNoted says that the record was written by what u says. Where another has written one meanwhile it says nothing, so that the
// record is written once more.
func (tx *Tx) SetNoted(ctx context.Context, u Unnoted) error {
	_, err := tx.exec(ctx, `UPDATE `+tableOf[u.Kind]+` SET noted = $3 WHERE id = $1 AND noted = $2`, u.ID, u.Noted, u.Changes)
	if err != nil {
		return fmt.Errorf("set noted: %w", err)
	}
	return nil
}

// RecoverShare adds a share that is at rest.
func (tx *Tx) RecoverShare(ctx context.Context, s abaca.Share) error {
	if err := tx.InsertShare(ctx, s, abaca.Caller{}); err != nil {
		return err
	}
	_, err := tx.exec(ctx, `UPDATE shares SET source_backup_id = $2, fail_reason = $3, updated_at = $4, lease_until = NULL WHERE id = $1`,
		s.ID, s.SourceBackup, s.Reason, micros(s.UpdatedAt))
	if err != nil {
		return fmt.Errorf("recover share: %w", err)
	}
	return nil
}

// RecoverBackup adds a backup that is at rest.
func (tx *Tx) RecoverBackup(ctx context.Context, b abaca.Backup) error {
	if err := tx.InsertBackup(ctx, b, abaca.Caller{}); err != nil {
		return err
	}
	_, err := tx.exec(ctx, `UPDATE share_backups SET ref = $2, progress = $3, restore_progress = $4, target_share_id = $5, updated_at = $6,
		lease_until = NULL WHERE id = $1`, b.ID, b.Ref, b.Progress, b.RestoreProgress, b.Target, micros(b.UpdatedAt))
	if err != nil {
		return fmt.Errorf("recover share backup: %w", err)
	}
	return nil
}

// RecoverSnapshot adds a share snapshot that is at rest.
func (tx *Tx) RecoverSnapshot(ctx context.Context, s abaca.Snapshot) error {
	if err := tx.InsertSnapshot(ctx, s, abaca.Caller{}); err != nil {
		return err
	}
	_, err := tx.exec(ctx, `UPDATE share_snapshots SET ref = $2, progress = 100, updated_at = $3, lease_until = NULL WHERE id = $1`,
		s.ID, s.Ref, micros(s.UpdatedAt))
	if err != nil {
		return fmt.Errorf("recover share snapshot: %w", err)
	}
	return nil
}

// HasRows reports whether there are shares, and so whether there can be anything of theirs.
func (r reader) HasRows(ctx context.Context) (has bool, err error) {
	if err := r.q.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM shares)`).Scan(&has); err != nil {
		return false, fmt.Errorf("look for shares: %w", err)
	}
	return has, nil
}

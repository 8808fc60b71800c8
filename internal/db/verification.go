package db

import (
	"context"
	"fmt"
	"time"

	"abaca"
)

// savedKinds are the kinds of resources that have saved trees.
var savedKinds = []abaca.Kind{abaca.KindBackup, abaca.KindSnapshot}

// verifiedColumn names the column of verifications that refers to a resource of a kind.
var verifiedColumn = map[abaca.Kind]string{
	abaca.KindBackup:   "backup_id",
	abaca.KindSnapshot: "snapshot_id",
}

// standing says of a verification v, of what column refers to, that it found damage which no later one of the same part has
// found mended. Part of a month's rolling verification can be superseded by one of everything, not the other way about.
func standing(column string) string {
	return `v.damaged > 0 AND NOT EXISTS (SELECT 1 FROM verifications w WHERE w.` + column + ` = v.` + column + ` AND w.damaged = 0
		AND w.ended_at > v.ended_at AND w.slice_from <= v.slice_from AND w.slice_to >= v.slice_to)`
}

// Saved lists a project's saved trees, backups before snapshots and oldest first; an empty project is every project.
func (r reader) Saved(ctx context.Context, project abaca.ProjectID) ([]abaca.Saved, error) {
	var list []abaca.Saved
	for _, kind := range savedKinds {
		some, err := all(ctx, r.q, func(s scanner) (abaca.Saved, error) {
			saved := abaca.Saved{Kind: kind}
			return saved, s.Scan(&saved.ID, &saved.Project, &saved.Share, &saved.Name, &saved.Ref)
		}, `SELECT id, project_id, share_id, display_name, ref FROM `+tableOf[kind]+`
			WHERE ref <> '' AND status <> $1 AND ($2 = '' OR project_id = $2) ORDER BY created_at, id`, abaca.Deleting, project)
		if err != nil {
			return nil, fmt.Errorf("list saved trees: %w", err)
		}
		list = append(list, some...)
	}
	return list, nil
}

// LastVerified lists what Saved does, each with its latest verification; Ended is zero where there was none. Damaged and Detail
// are those of the latest verification whose findings stand, which may be an earlier one of another part.
func (r reader) LastVerified(ctx context.Context, project abaca.ProjectID) ([]abaca.Verified, error) {
	list := []abaca.Verified{}
	for _, kind := range savedKinds {
		column := verifiedColumn[kind]
		some, err := all(ctx, r.q, func(s scanner) (abaca.Verified, error) {
			v := abaca.Verified{Saved: abaca.Saved{Kind: kind}}
			var began, ended int64
			err := s.Scan(&v.ID, &v.Project, &v.Share, &v.Name, &v.Ref, &began, &ended, &v.Slice.From, &v.Slice.To, &v.Files, &v.Bytes,
				&v.Damaged, &v.Detail)
			v.Began, v.Ended = fromMicros(began), fromMicros(ended)
			return v, err
		}, `SELECT s.id, s.project_id, s.share_id, s.display_name, s.ref, coalesce(l.began_at, 0), coalesce(l.ended_at, 0),
				coalesce(l.slice_from, 0.0), coalesce(l.slice_to, 0.0), coalesce(l.files, 0), coalesce(l.bytes, 0),
				coalesce(d.damaged, 0), coalesce(d.detail, '')
			FROM `+tableOf[kind]+` s
			LEFT JOIN verifications l ON l.id = (SELECT v.id FROM verifications v WHERE v.`+column+` = s.id
				ORDER BY v.ended_at DESC, v.id DESC LIMIT 1)
			LEFT JOIN verifications d ON d.id = (SELECT v.id FROM verifications v WHERE v.`+column+` = s.id AND `+standing(column)+`
				ORDER BY v.ended_at DESC, v.id DESC LIMIT 1)
			WHERE s.ref <> '' AND s.status <> $1 AND ($2 = '' OR s.project_id = $2) ORDER BY s.created_at, s.id`, abaca.Deleting, project)
		if err != nil {
			return nil, fmt.Errorf("list verifications: %w", err)
		}
		list = append(list, some...)
	}
	return list, nil
}

// StillSaved reports whether a tree is still there and not being deleted. What was read of it before is then about data that was
// all there while it was read.
func (tx *Tx) StillSaved(ctx context.Context, s abaca.Saved) (still bool, err error) {
	err = tx.q.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM `+tableOf[s.Kind]+` WHERE id = $1 AND ref = $2 AND status <> $3)`,
		s.ID, s.Ref, abaca.Deleting).Scan(&still)
	if err != nil {
		return false, fmt.Errorf("look for a saved tree: %w", err)
	}
	return still, nil
}

// Findings lists the damage of a saved tree that verifications have found and none has found mended since.
func (tx *Tx) Findings(ctx context.Context, s abaca.Saved) ([]abaca.Verification, error) {
	column := verifiedColumn[s.Kind]
	list, err := all(ctx, tx.q, func(s scanner) (v abaca.Verification, err error) { return v, s.Scan(&v.Damaged, &v.Detail) },
		`SELECT v.damaged, v.detail FROM verifications v WHERE v.`+column+` = $1 AND `+standing(column), s.ID)
	if err != nil {
		return nil, fmt.Errorf("list findings: %w", err)
	}
	return list, nil
}

// InsertVerification adds the record of a verification; it goes when the row of what was verified does.
func (tx *Tx) InsertVerification(ctx context.Context, id string, v abaca.Verified) error {
	_, err := tx.exec(ctx, `INSERT INTO verifications (id, `+verifiedColumn[v.Kind]+`, began_at, ended_at, slice_from, slice_to, files, bytes,
			damaged, detail) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		id, v.ID, micros(v.Began), micros(v.Ended), v.Slice.From, v.Slice.To, v.Files, v.Bytes, v.Damaged, kept(v.Detail))
	if err != nil {
		return fmt.Errorf("add verification: %w", err)
	}
	return nil
}

// ExpireVerifications removes records that ended before a time and that nobody misses: of damage, those that a later one repeats
// or has found mended; of none, all but the latest of each tree.
func (tx *Tx) ExpireVerifications(ctx context.Context, before time.Time) error {
	for _, kind := range savedKinds {
		column := verifiedColumn[kind]
		later := `SELECT 1 FROM verifications w WHERE w.` + column + ` = v.` + column + ` AND w.ended_at > v.ended_at`
		// What was found mended goes before that which says so: without the latter the damage would stand again.
		for _, expired := range []string{
			`v.damaged > 0 AND NOT (` + standing(column) + `)`,
			`v.damaged > 0 AND EXISTS (` + later + ` AND w.damaged = v.damaged AND w.detail = v.detail)`,
			`v.damaged = 0 AND EXISTS (` + later + `)`,
		} {
			_, err := tx.exec(ctx, `DELETE FROM verifications WHERE id IN (SELECT v.id FROM verifications v
				WHERE v.`+column+` IS NOT NULL AND v.ended_at < $1 AND `+expired+`)`, micros(before))
			if err != nil {
				return fmt.Errorf("expire verifications: %w", err)
			}
		}
	}
	return nil
}

package db

import (
	"context"
	"encoding/json"
	"fmt"

	"abaca"
)

// A SnapshotFilter says which share snapshots are listed: those that agree in every field that is set.
type SnapshotFilter struct {
	Project abaca.ProjectID // empty: of every project
	Share   *abaca.ShareID
	Status  *abaca.Status
	TextFilter
}

var snapshots = table[abaca.Snapshot]{
	name: "share_snapshots",
	what: "share snapshot",
	columns: `id, project_id, user_id, share_id, share_size, proto, display_name, display_description, metadata, status, fail_reason, ref,
		created_at, updated_at`,
	scan: scanSnapshot,
	sort: map[string]string{
		"id": "id", "status": "status", "size": "share_size", "share_size": "share_size", "share_id": "share_id", "project_id": "project_id",
		"created_at": "created_at", "updated_at": "updated_at", "name": "name_key", "display_name": "name_key",
		"description": descriptionOrder, "display_description": descriptionOrder, "user_id": "user_id",
	},
}

func scanSnapshot(s scanner) (sn abaca.Snapshot, err error) {
	var metadata string
	var created, updated int64
	if err := s.Scan(&sn.ID, &sn.Project, &sn.User, &sn.Share, &sn.ShareSize, &sn.Proto, &sn.Name, &sn.Description, &metadata, &sn.Status,
		&sn.Reason, &sn.Ref, &created, &updated); err != nil {
		return sn, err
	}
	sn.CreatedAt, sn.UpdatedAt = fromMicros(created), fromMicros(updated)
	return sn, json.Unmarshal([]byte(metadata), &sn.Metadata)
}

// Snapshot returns the share snapshot with this id if it is the project's; an empty project sees all.
func (r reader) Snapshot(ctx context.Context, id abaca.SnapshotID, project abaca.ProjectID) (abaca.Snapshot, error) {
	return snapshots.get(ctx, r.q, string(id), project)
}

// Snapshots lists share snapshots.
func (r reader) Snapshots(ctx context.Context, f SnapshotFilter, p Page) ([]abaca.Snapshot, error) {
	var c condition
	c.inProject(f.Project)
	equal(&c, "share_id", f.Share)
	equal(&c, "status", f.Status)
	f.TextFilter.on(&c)
	return snapshots.list(ctx, r.q, c, p)
}

// InsertSnapshot adds a share snapshot whose making, which a caller asked for, is waiting for a worker.
func (tx *Tx) InsertSnapshot(ctx context.Context, s abaca.Snapshot, asked abaca.Caller) error {
	_, err := tx.exec(ctx, `INSERT INTO share_snapshots (id, project_id, user_id, share_id, share_size, proto, display_name,
			display_description, metadata, status, created_at, lease_until,
			asked_request, asked_user, asked_project, needs)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11, $12, $13, $14, (SELECT backend FROM shares WHERE id = $4))`,
		s.ID, s.Project, s.User, s.Share, s.ShareSize, s.Proto, s.Name, s.Description, text(s.Metadata), s.Status, micros(s.CreatedAt),
		asked.Request, asked.User, asked.Project)
	if err != nil {
		return fmt.Errorf("add share snapshot: %w", err)
	}
	return tx.offerWork(ctx)
}

// SetSnapshotRef names the data of a share snapshot whose save has ended.
func (tx *Tx) SetSnapshotRef(ctx context.Context, id abaca.SnapshotID, ref abaca.Ref) error {
	if _, err := tx.exec(ctx, `UPDATE share_snapshots SET ref = $2 WHERE id = $1`, id, ref); err != nil {
		return fmt.Errorf("set snapshot ref: %w", err)
	}
	return nil
}

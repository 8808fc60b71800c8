package db

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"abaca"
)

// A ShareFilter says which shares are listed: those that agree in every field that is set.
type ShareFilter struct {
	Project    abaca.ProjectID // empty: of every project
	WithPublic bool            // others' public shares too
	Type       *abaca.ShareTypeID
	Snapshot   *abaca.SnapshotID
	Status     *abaca.Status
	TextFilter
	Backend  *string
	Zone     *string
	Path     *string // relative to the back end's
	Metadata map[string]string
}

var shares = table[abaca.Share]{
	name: "shares",
	what: "share",
	columns: `id, project_id, user_id, share_type_id, size, display_name, display_description, proto, is_public, metadata,
		zone, backend, path, snapshot_id, source_backup_id, status, fail_reason, created_at, updated_at`,
	scan: scanShare,
	sort: map[string]string{
		"id": "id", "status": "status", "size": "size", "share_proto": "proto", "project_id": "project_id",
		"created_at": "created_at", "updated_at": "updated_at", "share_type_id": "share_type_id", "share_type": "share_type_id",
		"name": "name_key", "display_name": "name_key", "host": "backend", "snapshot_id": "snapshot_id",
		"availability_zone": "zone", "availability_zone_id": "zone", "user_id": "user_id", "is_public": "is_public",
		"description": descriptionOrder, "display_description": descriptionOrder,
	},
}

func scanShare(s scanner) (sh abaca.Share, err error) {
	var metadata string
	var created, updated int64
	if err := s.Scan(&sh.ID, &sh.Project, &sh.User, &sh.Type, &sh.Size, &sh.Name, &sh.Description, &sh.Proto, &sh.Public, &metadata,
		&sh.Zone, &sh.Backend, &sh.Path, &sh.Snapshot, &sh.SourceBackup, &sh.Status, &sh.Reason, &created, &updated); err != nil {
		return sh, err
	}
	sh.CreatedAt, sh.UpdatedAt = fromMicros(created), fromMicros(updated)
	return sh, json.Unmarshal([]byte(metadata), &sh.Metadata)
}

// text encodes a string map for a column.
func text(m map[string]string) string {
	if m == nil {
		m = map[string]string{}
	}
	b, err := json.Marshal(m)
	if err != nil {
		panic(err) // strings always encode
	}
	return string(b)
}

// Share returns the share with this id if it is the project's; an empty project sees all.
func (r reader) Share(ctx context.Context, id abaca.ShareID, project abaca.ProjectID) (abaca.Share, error) {
	return shares.get(ctx, r.q, string(id), project)
}

// VisibleShare returns the share with this id if it is the project's or a public one; an empty project sees all.
func (r reader) VisibleShare(ctx context.Context, id abaca.ShareID, project abaca.ProjectID) (abaca.Share, error) {
	return shares.getWhere(ctx, r.q, string(id), orPublic, project)
}

// orPublic is whose shares a project sees: its own, and those that are public.
const orPublic = "(project_id = ? OR is_public)"

func (f ShareFilter) condition() condition {
	var c condition
	if f.WithPublic {
		c.within(orPublic, f.Project)
	} else {
		c.inProject(f.Project)
	}
	equal(&c, "share_type_id", f.Type)
	equal(&c, "snapshot_id", f.Snapshot)
	equal(&c, "status", f.Status)
	f.TextFilter.on(&c)
	equal(&c, "backend", f.Backend)
	equal(&c, "zone", f.Zone)
	equal(&c, "path", f.Path)
	for k, v := range f.Metadata {
		// The column holds what text made, where a pair follows a brace or a comma and nothing else can look like one,
		// since quotes inside a string are escaped. Unlike LIKE, replace() minds case on every database.
		pair := strings.Trim(text(map[string]string{k: v}), "{}")
		c.and("(replace(metadata, ?, '') <> metadata OR replace(metadata, ?, '') <> metadata)", "{"+pair, ","+pair)
	}
	return c
}

// Shares lists shares.
func (r reader) Shares(ctx context.Context, f ShareFilter, p Page) ([]abaca.Share, error) {
	return shares.list(ctx, r.q, f.condition(), p)
}

// CountShares returns how many shares satisfy the filter.
func (r reader) CountShares(ctx context.Context, f ShareFilter) (int, error) {
	return shares.count(ctx, r.q, f.condition())
}

// SharePaths returns the root directories of the shares on a back end, relative to its own.
func (r reader) SharePaths(ctx context.Context, backend string) ([]string, error) {
	return all(ctx, r.q, func(s scanner) (p string, err error) { return p, s.Scan(&p) },
		`SELECT path FROM shares WHERE backend = $1`, backend)
}

// Dependents returns how many backups and snapshots a share has.
func (r reader) Dependents(ctx context.Context, id abaca.ShareID) (backups, snapshots int, err error) {
	err = r.q.QueryRowContext(ctx, `SELECT (SELECT count(*) FROM share_backups WHERE share_id = $1),
		(SELECT count(*) FROM share_snapshots WHERE share_id = $1)`, id).Scan(&backups, &snapshots)
	if err != nil {
		return 0, 0, fmt.Errorf("count what depends on the share: %w", err)
	}
	return backups, snapshots, nil
}

// InsertShare adds a share whose making, which a caller asked for, is waiting for a worker.
func (tx *Tx) InsertShare(ctx context.Context, s abaca.Share, asked abaca.Caller) error {
	_, err := tx.exec(ctx, `INSERT INTO shares (id, project_id, user_id, share_type_id, size, display_name, display_description, proto,
			is_public, metadata, zone, backend, path, snapshot_id, source_backup_id, status, created_at, lease_until,
			asked_request, asked_user, asked_project, needs)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, '', $15, $16, $16, $17, $18, $19, $12)`,
		s.ID, s.Project, s.User, s.Type, s.Size, s.Name, s.Description, s.Proto, s.Public, text(s.Metadata), s.Zone, s.Backend,
		s.Path, s.Snapshot, s.Status, micros(s.CreatedAt), asked.Request, asked.User, asked.Project)
	if err != nil {
		return fmt.Errorf("add share: %w", err)
	}
	return tx.offerWork(ctx)
}

// UpdateShare writes what a tenant may change of a share: name, description, visibility and metadata.
func (tx *Tx) UpdateShare(ctx context.Context, s abaca.Share) error {
	_, err := tx.exec(ctx, `UPDATE shares SET display_name = $2, display_description = $3, is_public = $4, metadata = $5, updated_at = $6 WHERE id = $1`,
		s.ID, s.Name, s.Description, s.Public, text(s.Metadata), micros(s.UpdatedAt))
	if err != nil {
		return fmt.Errorf("update share: %w", err)
	}
	for _, kind := range savedKinds { // their records tell of the share too
		if _, err := tx.exec(ctx, `UPDATE `+tableOf[kind]+` SET changes = changes + 1 WHERE share_id = $1`, s.ID); err != nil {
			return fmt.Errorf("update what was saved of a share: %w", err)
		}
	}
	return nil
}

// SetShareSize writes a share's size in GiB.
func (tx *Tx) SetShareSize(ctx context.Context, id abaca.ShareID, size int) error {
	if _, err := tx.exec(ctx, `UPDATE shares SET size = $2 WHERE id = $1`, id, size); err != nil {
		return fmt.Errorf("set share size: %w", err)
	}
	return nil
}

// ForgetShare removes a share's row and leaves its files alone.
func (tx *Tx) ForgetShare(ctx context.Context, id abaca.ShareID) error {
	if _, err := tx.exec(ctx, `DELETE FROM shares WHERE id = $1`, id); err != nil {
		return fmt.Errorf("forget share: %w", err)
	}
	return nil
}

package db

import (
	"context"
	"fmt"

	"abaca"
)

// A BackupFilter says which backups are listed: those that agree in every field that is set.
type BackupFilter struct {
	Project abaca.ProjectID // empty: of every project
	ID      *abaca.BackupID
	Share   *abaca.ShareID
	Status  *abaca.Status
	TextFilter
	Host, Topic *string
}

// descriptionOrder sorts as name_key does, without an index: nobody pages through many backups by description.
const descriptionOrder = "lower(coalesce(display_description, ''))"

var backups = table[abaca.Backup]{
	name: "share_backups",
	what: "share backup",
	columns: `id, project_id, user_id, share_id, size, display_name, display_description, backup_type, zone, host, topic,
		with_options, status, progress, restore_progress, target_share_id, fail_reason, ref, created_at, updated_at`,
	scan: scanBackup,
	sort: map[string]string{
		"id": "id", "status": "status", "size": "size", "share_id": "share_id", "project_id": "project_id",
		"user_id": "user_id", "progress": "progress", "restore_progress": "restore_progress",
		"created_at": "created_at", "updated_at": "updated_at",
		"name": "name_key", "display_name": "name_key",
		"description": descriptionOrder, "display_description": descriptionOrder,
		"host": "coalesce(host, '')", "topic": "coalesce(topic, '')", "backup_type": "coalesce(backup_type, '')",
		"availability_zone": "zone", "availability_zone_id": "zone", "fail_reason": "fail_reason",
		// Upstream's soft-delete marks can be sorted by; here a deleted row is gone, so they are alike in all.
		"deleted": "id", "deleted_at": "id",
	},
}

func scanBackup(s scanner) (b abaca.Backup, err error) {
	var created, updated int64
	err = s.Scan(&b.ID, &b.Project, &b.User, &b.Share, &b.Size, &b.Name, &b.Description, &b.Type, &b.Zone, &b.Host, &b.Topic,
		&b.WithOptions, &b.Status, &b.Progress, &b.RestoreProgress, &b.Target, &b.Reason, &b.Ref, &created, &updated)
	b.CreatedAt, b.UpdatedAt = fromMicros(created), fromMicros(updated)
	return b, err
}

// Backup returns the backup with this id if it is the project's; an empty project sees all.
func (r reader) Backup(ctx context.Context, id abaca.BackupID, project abaca.ProjectID) (abaca.Backup, error) {
	return backups.get(ctx, r.q, string(id), project)
}

// Backups lists backups.
func (r reader) Backups(ctx context.Context, f BackupFilter, p Page) ([]abaca.Backup, error) {
	var c condition
	c.inProject(f.Project)
	equal(&c, "id", f.ID)
	equal(&c, "share_id", f.Share)
	equal(&c, "status", f.Status)
	f.TextFilter.on(&c)
	equal(&c, "host", f.Host)
	equal(&c, "topic", f.Topic)
	return backups.list(ctx, r.q, c, p)
}

// Parent returns the newest saved backup of a share, whose data the next save can build on; empty for none.
func (r reader) Parent(ctx context.Context, share abaca.ShareID) (abaca.Ref, error) {
	refs, err := all(ctx, r.q, func(s scanner) (ref abaca.Ref, err error) { return ref, s.Scan(&ref) },
		`SELECT ref FROM share_backups WHERE share_id = $1 AND ref <> '' AND status <> $2 ORDER BY created_at DESC, id DESC LIMIT 1`,
		share, abaca.Deleting)
	if err != nil {
		return "", fmt.Errorf("find the share's latest backup: %w", err)
	}
	if len(refs) == 0 {
		return "", nil
	}
	return refs[0], nil
}

// HasSaved reports whether a project has saved data that nobody has asked to be deleted.
func (r reader) HasSaved(ctx context.Context, project abaca.ProjectID) (has bool, err error) {
	err = r.q.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM share_backups WHERE project_id = $1 AND ref <> '' AND status <> $2)
		OR EXISTS (SELECT 1 FROM share_snapshots WHERE project_id = $1 AND ref <> '' AND status <> $2)`, project, abaca.Deleting).Scan(&has)
	if err != nil {
		return false, fmt.Errorf("look for what the project has saved: %w", err)
	}
	return has, nil
}

// Projects lists the projects that have saved data, whose repositories need maintenance.
func (r reader) Projects(ctx context.Context) ([]abaca.ProjectID, error) {
	return all(ctx, r.q, func(s scanner) (p abaca.ProjectID, err error) { return p, s.Scan(&p) },
		`SELECT project_id FROM share_backups UNION SELECT project_id FROM share_snapshots UNION SELECT project_id FROM quota_usages ORDER BY 1`)
}

// HasBackups reports whether anything may have been saved: whether there are, or have been, backups or snapshots.
func (r reader) HasBackups(ctx context.Context) (has bool, err error) {
	err = r.q.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM share_backups) OR EXISTS (SELECT 1 FROM share_snapshots)
		OR EXISTS (SELECT 1 FROM verification_rounds)`).Scan(&has)
	if err != nil {
		return false, fmt.Errorf("look for backups: %w", err)
	}
	return has, nil
}

// InsertBackup adds a backup whose creation, which a caller asked for, is waiting for a worker.
func (tx *Tx) InsertBackup(ctx context.Context, b abaca.Backup, asked abaca.Caller) error {
	_, err := tx.exec(ctx, `INSERT INTO share_backups (id, project_id, user_id, share_id, size, display_name, display_description,
			backup_type, with_options, zone, host, topic, status, created_at, lease_until,
			asked_request, asked_user, asked_project, needs)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $14, $15, $16, $17, (SELECT backend FROM shares WHERE id = $4))`,
		b.ID, b.Project, b.User, b.Share, b.Size, b.Name, b.Description, b.Type, b.WithOptions, b.Zone, b.Host, b.Topic,
		b.Status, micros(b.CreatedAt), asked.Request, asked.User, asked.Project)
	if err != nil {
		return fmt.Errorf("add share backup: %w", err)
	}
	return tx.offerWork(ctx)
}

// UpdateBackup writes the name and description of b, and when.
func (tx *Tx) UpdateBackup(ctx context.Context, b abaca.Backup) error {
	_, err := tx.exec(ctx, `UPDATE share_backups SET display_name = $2, display_description = $3, updated_at = $4, changes = changes + 1
		WHERE id = $1`,
		b.ID, b.Name, b.Description, micros(b.UpdatedAt))
	if err != nil {
		return fmt.Errorf("update share backup: %w", err)
	}
	return nil
}

// SetRestoreTarget notes which share the restore that has just been asked for writes to; its progress starts anew.
func (tx *Tx) SetRestoreTarget(ctx context.Context, id abaca.BackupID, target abaca.ShareID) error {
	if _, err := tx.exec(ctx, `UPDATE share_backups SET target_share_id = $2, restore_progress = 0 WHERE id = $1`, id, target); err != nil {
		return fmt.Errorf("set restore target: %w", err)
	}
	if _, err := tx.exec(ctx, `UPDATE shares SET source_backup_id = $2 WHERE id = $1`, target, id); err != nil {
		return fmt.Errorf("set restore source: %w", err)
	}
	return nil
}

// SetWorkplace notes where a backup's data is made: the worker's or the back end's host, and the topic.
func (tx *Tx) SetWorkplace(ctx context.Context, job Job, host, topic string) error {
	return tx.mustHold(ctx, "set backup host", `UPDATE share_backups SET host = $4, topic = $5`, job, host, topic)
}

// SetBackupRef names the data of a backup whose save has ended.
func (tx *Tx) SetBackupRef(ctx context.Context, id abaca.BackupID, ref abaca.Ref) error {
	if _, err := tx.exec(ctx, `UPDATE share_backups SET ref = $2, progress = 100 WHERE id = $1`, id, ref); err != nil {
		return fmt.Errorf("set backup ref: %w", err)
	}
	return nil
}

// SetRestored says that the restore has ended.
func (tx *Tx) SetRestored(ctx context.Context, id abaca.BackupID) error {
	if _, err := tx.exec(ctx, `UPDATE share_backups SET restore_progress = 100 WHERE id = $1`, id); err != nil {
		return fmt.Errorf("set restore progress: %w", err)
	}
	return nil
}

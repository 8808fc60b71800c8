package api

import (
	"net/http"
	"slices"
	"strconv"
	"time"

	"abaca"
	"abaca/internal/db"
	"abaca/internal/manager"
)

// timestamp writes a time as upstream: UTC with six digits and no zone; null for never.
func timestamp(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UTC().Format("2006-01-02T15:04:05.000000")
}

// optional writes the empty string as null.
func optional[T ~string](v T) any {
	if v == "" {
		return nil
	}
	return string(v)
}

func backupSummary(b abaca.Backup) object {
	return object{"id": b.ID, "name": b.Name, "share_id": b.Share, "status": b.Status}
}

// backupDetail has exactly the keys that upstream has at the request's version; clients compare the sets.
func (q *request) backupDetail(b abaca.Backup) object {
	v := backupSummary(b)
	v["description"] = b.Description
	v["size"] = b.Size
	v["created_at"] = timestamp(b.CreatedAt)
	v["updated_at"] = timestamp(b.UpdatedAt)
	v["availability_zone"] = b.Zone
	v["progress"] = strconv.Itoa(b.Progress)
	v["restore_progress"] = strconv.Itoa(b.RestoreProgress)
	if q.version >= 85 {
		v["backup_type"] = b.Type
	}
	if q.caller.Admin {
		v["host"] = b.Host
		v["topic"] = b.Topic
	}
	return v
}

func listBackups(q *request) (int, any, error) { return q.backups(backupSummary) }

func detailBackups(q *request) (int, any, error) { return q.backups(q.backupDetail) }

func (q *request) backups(view func(abaca.Backup) object) (int, any, error) {
	p, err := q.page()
	if err != nil {
		return 0, nil, err
	}
	f := db.BackupFilter{
		Project: q.listScope("share_backup:get_all_project"),
		Share:   filter[abaca.ShareID](q, "share_id"), Status: filter[abaca.Status](q, "status"), Topic: q.param("topic"),
		TextFilter: q.texts(),
	}
	if q.caller.Admin {
		f.Host, f.ID = q.param("host"), filter[abaca.BackupID](q, "id")
	}
	if f.Share != nil {
		if _, err := q.visibleShare(*f.Share, abaca.Invalid); err != nil {
			return 0, nil, err
		}
	}
	list, err := q.DB.Backups(q.Context(), f, p)
	if err != nil {
		return 0, nil, err
	}
	views := make([]object, len(list))
	for i, b := range list {
		views[i] = view(b)
	}
	body := object{"share_backups": views}
	if len(list) > 0 {
		if links := q.next("share-backups", p, len(list), string(list[len(list)-1].ID)); links != nil {
			body["share_backup_links"] = links
		}
	}
	return http.StatusOK, body, nil
}

func (q *request) backupID() abaca.BackupID { return abaca.BackupID(q.pathValue("id")) }

func showBackup(q *request) (int, any, error) {
	b, err := q.backup()
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, object{"share_backup": q.backupDetail(b)}, nil
}

func createBackup(q *request) (int, any, error) {
	o, err := q.wrapped("share_backup")
	if err != nil {
		return 0, nil, err
	}
	share, ok := o["share_id"].(string)
	if !ok || share == "" {
		return 0, nil, abaca.Errorf(abaca.Invalid, "A share_id is needed.")
	}
	req := manager.NewBackup{Share: abaca.ShareID(share)}
	q.names(req.Share)
	if req.Name, err = optionalText(o, "name"); err != nil {
		return 0, nil, err
	}
	if req.Description, err = optionalText(o, "description"); err != nil {
		return 0, nil, err
	}
	if req.WithOptions, req.Type, err = backupOptions(o["backup_options"]); err != nil {
		return 0, nil, err
	}
	if err := q.permitShare(req.Share); err != nil {
		return 0, nil, err
	}
	b, err := q.Manager.CreateBackup(q.Context(), q.caller, req)
	if err != nil {
		return 0, nil, err
	}
	q.made(string(b.ID), b.Project)
	return http.StatusAccepted, object{"share_backup": q.backupDetail(b)}, nil
}

// maxType is the longest backup type, in bytes.
const maxType = 32

// backupOptions reads backup_options: any object will do, and null and {} are none. The backup type is the one that is kept.
func backupOptions(v any) (given bool, backupType *string, err error) {
	if v == nil {
		return false, nil, nil
	}
	options, ok := v.(object)
	if !ok {
		return false, nil, abaca.Errorf(abaca.Invalid, "backup_options must be an object.")
	}
	if len(options) > maxEntries {
		return false, nil, tooMany("backup_options", maxEntries)
	}
	switch t := options["backup_type"].(type) {
	case nil:
	case string:
		if len(t) > maxType {
			return false, nil, abaca.Errorf(abaca.Invalid, "backup_type is longer than %d characters.", maxType)
		}
		backupType = &t
	default:
		return false, nil, abaca.Errorf(abaca.Invalid, "backup_type must be a string.")
	}
	return len(options) > 0, backupType, nil
}

// change reads a name or description to be changed, under the key that is used or the one that the reference documents.
func change(o object, keys ...string) (manager.Text, error) {
	key, given := firstOf(o, keys...)
	v, err := optionalText(o, key)
	return manager.Text{Set: given, Value: v}, err
}

func updateBackup(q *request) (int, any, error) {
	o, err := q.wrapped("share_backup")
	if err != nil {
		return 0, nil, err
	}
	name, err := change(o, "name", "display_name")
	if err != nil {
		return 0, nil, err
	}
	description, err := change(o, "description", "display_description")
	if err != nil {
		return 0, nil, err
	}
	if _, err := q.backup(); err != nil {
		return 0, nil, err
	}
	b, err := q.Manager.UpdateBackup(q.Context(), q.caller, q.backupID(), name, description)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, object{"share_backup": q.backupDetail(b)}, nil
}

func deleteBackup(q *request) (int, any, error) {
	if _, err := q.backup(); err != nil {
		return 0, nil, err
	}
	return http.StatusAccepted, nil, q.Manager.DeleteBackup(q.Context(), q.caller, q.backupID())
}

// restoreBackup restores into the backup's own share or, from 2.91, into the one that the action names.
func restoreBackup(q *request) (int, any, error) {
	var target abaca.ShareID
	if q.version >= 91 {
		switch v := q.argument("restore").(type) {
		case string:
			target = abaca.ShareID(v)
		default:
			if !falsy(v) {
				return 0, nil, abaca.Errorf(abaca.Invalid, "restore takes null or the id of a share.")
			}
		}
	}
	q.names(target)
	b, err := q.backup()
	if err != nil {
		return 0, nil, err
	}
	written := target
	if written == "" {
		written = b.Share
	}
	if err := q.permitShare(written); err != nil {
		q.Manager.TellRefused(q.Context(), q.caller, b.ID, target, b.Share, err)
		return 0, nil, err
	}
	target, err = q.Manager.RestoreBackup(q.Context(), q.caller, q.backupID(), target)
	if err != nil {
		return 0, nil, err
	}
	q.names(target)
	return http.StatusAccepted, object{"restore": object{"backup_id": q.backupID(), "share_id": target}}, nil
}

// falsy reports what upstream's language takes for false: those values of "restore" mean the backup's own share.
func falsy(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case bool:
		return !v
	case object:
		return len(v) == 0
	case []any:
		return len(v) == 0
	}
	yes, known := truth(v)
	return known && !yes
}

func resetBackup(q *request) (int, any, error) {
	to, err := q.resetTo(abaca.ResetStatuses)
	if err != nil {
		return 0, nil, err
	}
	if _, err := q.backup(); err != nil {
		return 0, nil, err
	}
	return http.StatusAccepted, nil, q.Manager.ResetBackupStatus(q.Context(), q.caller, q.backupID(), to)
}

// resetTo reads the status that a reset_status action gives.
func (q *request) resetTo(allowed []abaca.Status) (abaca.Status, error) {
	o, _ := q.argument("reset_status").(object)
	s, ok := o["status"].(string)
	if !ok || !slices.Contains(allowed, abaca.Status(s)) {
		return "", abaca.Errorf(abaca.Invalid, "The status to reset to must be one of %q.", allowed)
	}
	return abaca.Status(s), nil
}

package api

import (
	"encoding/json"
	"net/http"
	"strings"

	"abaca"
	"abaca/internal/db"
	"abaca/internal/manager"
)

func (q *request) shareID() abaca.ShareID { return abaca.ShareID(q.pathValue("id")) }

func (q *request) shareSummary(s abaca.Share) object {
	return object{"id": s.ID, "name": s.Name, "links": q.links("shares", string(s.ID))}
}

// shareDetail has exactly the keys that upstream has at the request's version.
func (q *request) shareDetail(s abaca.Share, t abaca.ShareType) object {
	v := q.shareSummary(s)
	for _, a := range []struct {
		since microversion
		key   string
		value any
	}{
		{0, "size", s.Size},
		{0, "availability_zone", s.Zone},
		{0, "created_at", timestamp(s.CreatedAt)},
		{0, "status", s.Status},
		{0, "description", s.Description},
		{0, "project_id", s.Project},
		{0, "snapshot_id", optional(s.Snapshot)},
		{0, "share_network_id", nil},
		{0, "share_proto", s.Proto},
		{0, "metadata", s.Metadata},
		{0, "share_type", s.Type},
		{0, "volume_type", t.Name},
		{0, "is_public", s.Public},
		{2, "snapshot_support", isTrue(t, "snapshot_support")},
		{5, "task_state", nil},
		{6, "share_type_name", t.Name},
		{10, "access_rules_status", "active"},
		{11, "replication_type", optional(t.Specs["replication_type"])},
		{11, "has_replicas", false},
		{16, "user_id", s.User},
		{24, "create_share_from_snapshot_support", isTrue(t, "create_share_from_snapshot_support")},
		{27, "revert_to_snapshot_support", isTrue(t, "revert_to_snapshot_support")},
		{31, "share_group_id", nil},
		{31, "source_share_group_snapshot_member_id", nil},
		{32, "mount_snapshot_support", isTrue(t, "mount_snapshot_support")},
		{54, "progress", shareProgress(s)},
		{69, "is_soft_deleted", false},
		{69, "scheduled_to_be_deleted_at", nil},
		{80, "source_backup_id", optional(s.SourceBackup)},
		{90, "encryption_key_ref", nil},
		{99, "snapshot_inherit_share_access_support", isTrue(t, "snapshot_inherit_share_access_support")},
	} {
		if q.version >= a.since {
			v[a.key] = a.value
		}
	}
	if q.version < 9 {
		v["export_location"] = q.exportPath(s)
		v["export_locations"] = []string{q.exportPath(s)}
	}
	if q.caller.Admin {
		v["share_server_id"] = nil
		v["host"] = manager.ServiceHost(s.Backend)
	}
	return v
}

func isTrue(t abaca.ShareType, spec string) bool {
	yes, _ := truth(strings.TrimPrefix(t.Specs[spec], "<is> "))
	return yes
}

// shareProgress is how far the making of a share has come, null before it has begun.
func shareProgress(s abaca.Share) any {
	if s.Status == abaca.CreateShare.Subject.During {
		return nil
	}
	return "100%"
}

func listShares(q *request) (int, any, error) {
	return q.shares(func(s abaca.Share, _ abaca.ShareType) object { return q.shareSummary(s) })
}

func detailShares(q *request) (int, any, error) { return q.shares(q.shareDetail) }

func (q *request) shares(view func(abaca.Share, abaca.ShareType) object) (int, any, error) {
	p, err := q.page()
	if err != nil {
		return 0, nil, err
	}
	f, none, err := q.shareFilter()
	if err != nil {
		return 0, nil, err
	}
	list := []abaca.Share{}
	if !none {
		if list, err = q.DB.Shares(q.Context(), f, p); err != nil {
			return 0, nil, err
		}
	}
	types, err := q.typesByID()
	if err != nil {
		return 0, nil, err
	}
	views := make([]object, len(list))
	for i, s := range list {
		views[i] = view(s, types[s.Type])
	}
	body := object{"shares": views}
	if count, _ := q.query("with_count"); q.version >= 42 && strings.EqualFold(count, "true") {
		n := 0
		if !none {
			if n, err = q.DB.CountShares(q.Context(), f); err != nil {
				return 0, nil, err
			}
		}
		body["count"] = n
	}
	if len(list) > 0 {
		if links := q.next("shares", p, len(list), string(list[len(list)-1].ID)); links != nil {
			body["shares_links"] = links
		}
	}
	return http.StatusOK, body, nil
}

// shareFilter reads which shares are asked for; none says that no share can be meant.
func (q *request) shareFilter() (f db.ShareFilter, none bool, err error) {
	f = db.ShareFilter{
		Project: q.listScope("share:list_all_projects"),
		Type:    filter[abaca.ShareTypeID](q, "share_type_id"), Snapshot: filter[abaca.SnapshotID](q, "snapshot_id"),
		Status:     filter[abaca.Status](q, "status"),
		TextFilter: q.texts(),
	}
	if v, ok := q.query("is_public"); ok {
		f.WithPublic, _ = truth(v)
	}
	if v := q.param("export_location_path"); v != nil {
		path := strings.TrimPrefix(*v, q.ExportHost+":")
		if f.Path, f.Backend, err = q.Manager.ShareAt(q.Context(), path); err != nil {
			return f, false, err
		}
		none = f.Path == nil
	}
	if v := q.param("metadata"); v != nil {
		if f.Metadata, err = pairs(*v); err != nil {
			return f, false, err
		}
	}
	if q.version >= 97 {
		f.Zone = q.param("availability_zone")
	}
	if v, ok := q.query("host"); ok && q.may("share:list_by_host") {
		name, found, err := q.Manager.BackendOf(q.Context(), v)
		if err != nil {
			return f, false, err
		}
		f.Backend, none = &name, none || !found
	}
	// There is no recycle bin, and there are no networks and groups, so nothing is in one.
	deleted, _ := q.query("is_soft_deleted")
	if yes, _ := truth(deleted); yes {
		none = true
	}
	for _, key := range []string{"share_network_id", "share_server_id", "share_group_id"} {
		if v, ok := q.query(key); ok && v != "" {
			none = true
		}
	}
	return f, none, nil
}

// pairs reads a filter on metadata, which clients write as their language prints a dictionary or as JSON.
func pairs(v string) (map[string]string, error) {
	var m map[string]string
	if json.Unmarshal([]byte(v), &m) == nil {
		return m, nil
	}
	if json.Unmarshal([]byte(strings.ReplaceAll(v, "'", `"`)), &m) == nil {
		return m, nil
	}
	return nil, abaca.Errorf(abaca.Invalid, "The metadata %q to filter by is not an object of strings.", v)
}

func showShare(q *request) (int, any, error) {
	s, err := q.share()
	if err != nil {
		return 0, nil, err
	}
	return q.oneShare(s)
}

func (q *request) oneShare(s abaca.Share) (int, any, error) {
	t, err := q.DB.ShareType(q.Context(), s.Type)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, object{"share": q.shareDetail(s, t)}, nil
}

func createShare(q *request) (int, any, error) {
	o, err := q.wrapped("share")
	if err != nil {
		return 0, nil, err
	}
	req := manager.NewShare{}
	var ok bool
	if req.Proto, ok = o["share_proto"].(string); !ok {
		return 0, nil, abaca.Errorf(abaca.Invalid, "A share_proto is needed.")
	}
	if req.Size, ok = integer(o["size"], 1); !ok {
		return 0, nil, abaca.Errorf(abaca.Invalid, "The size must be an integer greater than 0.")
	}
	if req.Name, req.Description, err = nameOf(o); err != nil {
		return 0, nil, err
	}
	if req.Metadata, err = metadata(o["metadata"]); err != nil {
		return 0, nil, err
	}
	if req.Public, err = q.public(o, "share:create_public_share", q.caller.Project, q.caller.User); err != nil {
		return 0, nil, err
	}
	for _, s := range []struct {
		key string
		put func(string)
	}{
		{"share_type", func(v string) { req.Type = v }},
		{"volume_type", func(v string) {
			if req.Type == "" {
				req.Type = v
			}
		}},
		{"snapshot_id", func(v string) { req.Snapshot = abaca.SnapshotID(v) }},
		{"availability_zone", func(v string) { req.Zone = v }},
	} {
		v, err := optionalText(o, s.key)
		if err != nil {
			return 0, nil, err
		}
		if v != nil {
			s.put(*v)
		}
	}
	for _, key := range []string{"share_network_id", "share_group_id"} {
		if v, ok := o[key]; ok && !falsy(v) && v != "" {
			return 0, nil, abaca.Errorf(abaca.NotFound, "There are no share networks and share groups here; %s must be null.", key)
		}
	}
	if err := q.permitSnapshot(req.Snapshot); err != nil {
		return 0, nil, err
	}
	s, err := q.Manager.CreateShare(q.Context(), q.caller, req)
	if err != nil {
		return 0, nil, err
	}
	q.made(string(s.ID), s.Project)
	return q.oneShare(s)
}

// nameOf reads a name and a description under either of the keys that clients use.
func nameOf(o object) (name, description *string, err error) {
	key, _ := firstOf(o, "name", "display_name")
	if name, err = optionalText(o, key); err != nil {
		return nil, nil, err
	}
	key, _ = firstOf(o, "description", "display_description")
	description, err = optionalText(o, key)
	return name, description, err
}

// public reads is_public of a share of this owner, which takes a right of its own to be true.
func (q *request) public(o object, rule string, project abaca.ProjectID, user string) (bool, error) {
	v, given := o["is_public"]
	if !given || v == nil {
		return false, nil
	}
	yes, ok := truth(v)
	if !ok {
		return false, abaca.Errorf(abaca.Invalid, "is_public must be a boolean.")
	}
	if yes && !q.allows(rule, project, user) {
		return false, forbidden(rule)
	}
	return yes, nil
}

func updateShare(q *request) (int, any, error) {
	o, err := q.wrapped("share")
	if err != nil {
		return 0, nil, err
	}
	var c manager.ShareChange
	if c.Name, err = change(o, "display_name"); err != nil {
		return 0, nil, err
	}
	if c.Description, err = change(o, "display_description"); err != nil {
		return 0, nil, err
	}
	s, err := q.writableShare()
	if err != nil {
		return 0, nil, err
	}
	if _, given := o["is_public"]; given {
		public, err := q.public(o, "share:set_public_share", s.Project, s.User)
		if err != nil {
			return 0, nil, err
		}
		c.Public = &public
	}
	s, err = q.Manager.UpdateShare(q.Context(), q.caller, q.shareID(), c)
	if err != nil {
		return 0, nil, err
	}
	return q.oneShare(s)
}

func deleteShare(q *request) (int, any, error) {
	return q.dropShare(false)
}

func forceDeleteShare(q *request) (int, any, error) {
	return q.dropShare(true)
}

func (q *request) dropShare(force bool) (int, any, error) {
	if _, err := q.writableShare(); err != nil {
		return 0, nil, err
	}
	return http.StatusAccepted, nil, q.Manager.DeleteShare(q.Context(), q.caller, q.shareID(), force)
}

func resetShare(q *request) (int, any, error) {
	to, err := q.resetTo(abaca.ResetStatuses)
	if err != nil {
		return 0, nil, err
	}
	if _, err := q.writableShare(); err != nil {
		return 0, nil, err
	}
	return http.StatusAccepted, nil, q.Manager.ResetShareStatus(q.Context(), q.caller, q.shareID(), to)
}

func unmanageShare(q *request) (int, any, error) {
	if _, err := q.writableShare(); err != nil {
		return 0, nil, err
	}
	return http.StatusAccepted, nil, q.Manager.UnmanageShare(q.Context(), q.caller, q.shareID())
}

func manageShare(q *request) (int, any, error) {
	o, err := q.wrapped("share")
	if err != nil {
		return 0, nil, err
	}
	req := manager.Adoption{}
	export := o["export_path"]
	if inner, ok := export.(object); ok {
		export = inner["path"]
	}
	for _, s := range []struct {
		key   string
		value any
		put   *string
	}{
		{"service_host", o["service_host"], &req.ServiceHost}, {"export_path", export, &req.Export}, {"protocol", o["protocol"], &req.Proto},
	} {
		v, ok := s.value.(string)
		switch {
		case s.value == nil || v == "" && ok:
			return 0, nil, abaca.Errorf(abaca.Unprocessable, "%s is needed.", s.key)
		case !ok:
			return 0, nil, abaca.Errorf(abaca.Invalid, "%s must be a string.", s.key)
		}
		*s.put = v
	}
	if req.Name, req.Description, err = nameOf(o); err != nil {
		return 0, nil, err
	}
	if t, err := optionalText(o, "share_type"); err != nil {
		return 0, nil, err
	} else if t != nil {
		req.Type = *t
	}
	if req.Public, err = q.public(o, "share:set_public_share", q.caller.Project, q.caller.User); err != nil {
		return 0, nil, err
	}
	s, err := q.Manager.ManageShare(q.Context(), q.caller, req)
	if err != nil {
		return 0, nil, err
	}
	q.made(string(s.ID), s.Project)
	return q.oneShare(s)
}

func noReplicas(*request) (int, any, error) {
	return http.StatusOK, object{"share_replicas": []object{}}, nil
}

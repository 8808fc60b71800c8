package api

import (
	"net/http"

	"abaca"
	"abaca/internal/db"
	"abaca/internal/manager"
)

func (q *request) snapshotID() abaca.SnapshotID { return abaca.SnapshotID(q.pathValue("id")) }

func (q *request) snapshotSummary(s abaca.Snapshot) object {
	return object{"id": s.ID, "name": s.Name, "links": q.links("snapshots", string(s.ID))}
}

func (q *request) snapshotDetail(s abaca.Snapshot) object {
	v := q.snapshotSummary(s)
	v["share_id"] = s.Share
	v["share_size"] = s.ShareSize
	v["created_at"] = timestamp(s.CreatedAt)
	v["status"] = s.Status
	v["description"] = s.Description
	v["size"] = s.ShareSize
	v["share_proto"] = s.Proto
	if q.version >= 17 {
		v["user_id"], v["project_id"] = s.User, s.Project
	}
	if q.version >= 73 {
		v["metadata"] = s.Metadata
	}
	if q.version >= 12 && q.caller.Admin {
		v["provider_location"] = nil
	}
	return v
}

func listSnapshots(q *request) (int, any, error)   { return q.snapshots(q.snapshotSummary) }
func detailSnapshots(q *request) (int, any, error) { return q.snapshots(q.snapshotDetail) }

func (q *request) snapshots(view func(abaca.Snapshot) object) (int, any, error) {
	p, err := q.page()
	if err != nil {
		return 0, nil, err
	}
	list, err := q.DB.Snapshots(q.Context(), db.SnapshotFilter{
		Project: q.listScope("share_snapshot:list_all_projects"),
		Share:   filter[abaca.ShareID](q, "share_id"), Status: filter[abaca.Status](q, "status"),
		TextFilter: q.texts(),
	}, p)
	if err != nil {
		return 0, nil, err
	}
	views := make([]object, len(list))
	for i, s := range list {
		views[i] = view(s)
	}
	body := object{"snapshots": views}
	if len(list) > 0 {
		if links := q.next("snapshots", p, len(list), string(list[len(list)-1].ID)); links != nil {
			body["share_snapshots_links"] = links
		}
	}
	return http.StatusOK, body, nil
}

func showSnapshot(q *request) (int, any, error) {
	s, err := q.snapshot()
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, object{"snapshot": q.snapshotDetail(s)}, nil
}

func createSnapshot(q *request) (int, any, error) {
	o, err := q.wrapped("snapshot")
	if err != nil {
		return 0, nil, err
	}
	share, ok := o["share_id"].(string)
	if !ok {
		return 0, nil, abaca.Errorf(abaca.Invalid, "A share_id is needed.")
	}
	req := manager.NewSnapshot{Share: abaca.ShareID(share)}
	q.names(req.Share)
	if req.Name, req.Description, err = nameOf(o); err != nil {
		return 0, nil, err
	}
	if req.Metadata, err = metadata(o["metadata"]); err != nil {
		return 0, nil, err
	}
	if err := q.permitShare(req.Share); err != nil {
		return 0, nil, err
	}
	s, err := q.Manager.CreateSnapshot(q.Context(), q.caller, req)
	if err != nil {
		return 0, nil, err
	}
	q.made(string(s.ID), s.Project)
	return http.StatusAccepted, object{"snapshot": q.snapshotDetail(s)}, nil
}

func deleteSnapshot(q *request) (int, any, error) {
	if _, err := q.snapshot(); err != nil {
		return 0, nil, err
	}
	return http.StatusAccepted, nil, q.Manager.DeleteSnapshot(q.Context(), q.caller, q.snapshotID())
}

func resetSnapshot(q *request) (int, any, error) {
	to, err := q.resetTo(abaca.ResetStatuses)
	if err != nil {
		return 0, nil, err
	}
	if _, err := q.snapshot(); err != nil {
		return 0, nil, err
	}
	return http.StatusAccepted, nil, q.Manager.ResetSnapshotStatus(q.Context(), q.caller, q.snapshotID(), to)
}

// noSnapshotExports answers for one snapshot, which must exist, that it is not exported.
func noSnapshotExports(q *request) (int, any, error) {
	if _, err := q.snapshot(); err != nil {
		return 0, nil, err
	}
	return http.StatusOK, object{"share_snapshot_export_locations": []object{}}, nil
}

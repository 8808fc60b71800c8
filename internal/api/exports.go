package api

import (
	"net/http"

	"github.com/google/uuid"

	"abaca"
)

func (q *request) exportPath(s abaca.Share) string {
	return q.ExportHost + ":" + q.Manager.ExportPath(q.Context(), s)
}

// derived is an id that belongs to a share once and for all, without a row of its own.
func derived(s abaca.Share, what string) string {
	id, err := uuid.Parse(string(s.ID))
	if err != nil {
		id = uuid.Nil
	}
	return uuid.NewSHA1(id, []byte(what)).String()
}

func exportID(s abaca.Share) string { return derived(s, "export location") }

func (q *request) export(s abaca.Share) object {
	v := object{"id": exportID(s), "path": q.exportPath(s)}
	if q.version >= 14 {
		v["preferred"] = false
	}
	if q.version >= 87 {
		v["metadata"] = object{}
	}
	if q.caller.Admin {
		v["share_instance_id"] = derived(s, "instance")
		v["is_admin_only"] = false
	}
	return v
}

// listExports hides others' private shares as everything does; upstream refuses them here.
func listExports(q *request) (int, any, error) {
	s, err := q.share()
	if err != nil {
		return 0, nil, err
	}
	locations := []object{}
	if s.Status != abaca.CreateShare.Subject.During {
		locations = append(locations, q.export(s))
	}
	return http.StatusOK, object{"export_locations": locations}, nil
}

func showExport(q *request) (int, any, error) {
	s, err := q.share()
	if err != nil {
		return 0, nil, err
	}
	if q.pathValue("location") != exportID(s) {
		return 0, nil, abaca.Errorf(abaca.NotFound, "Export location %s could not be found.", q.pathValue("location"))
	}
	v := q.export(s)
	v["created_at"], v["updated_at"] = timestamp(s.CreatedAt), nil
	return http.StatusOK, object{"export_location": v}, nil
}

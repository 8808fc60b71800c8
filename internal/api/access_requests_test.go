package api_test

// A place is where an id stands in a request: what stands for it there is {id}.
type place struct {
	kind string // of what the id is meant to be, see things
	path string // instead of the route's path
	body string
	of   string // what the row is called beside whose the thing is
}

// things are the ids that can stand in a place, by kind and by whose the thing is; demo is the project of the reader and the member who
// ask. What there is none of is left out.
var things = map[string]map[string]string{
	"":          {"": ""},
	"share":     {"own": "a_own", "other's": "a_others", "public": "a_public", "unknown": "no_id"},
	"saved":     {"own": "ab_own", "other's": "ab_others", "unknown": "no_id"}, // shares with a backup and a message
	"held":      {"own": "as_own", "other's": "as_others", "unknown": "no_id"}, // shares with a snapshot
	"backup":    {"own": "b_own", "other's": "b_others", "unknown": "no_id"},
	"snapshot":  {"own": "n_own", "other's": "n_others", "unknown": "no_id"},
	"message":   {"own": "m_own", "other's": "m_others", "unknown": "no_id"},
	"type":      {"other's": "t_private", "public": "t_public", "unknown": "no_id"},
	"type name": {"other's": "hidden", "public": "idle", "unknown": "absent"},
	"project":   {"own": "p_demo", "other's": "p_alt", "unknown": "p_none"},
	"address":   {"own": "a_own", "other's": "a_others", "public": "a_public", "unknown": "a_nobody"},
}

// places are what is asked of each route, by its method, path and action.
var places = map[string][]place{
	"GET /share-backups": {{}, {path: "/share-backups?all_tenants=1", of: "all_tenants"}, {kind: "saved", path: "/share-backups?share_id={id}", of: "share_id"},
		{kind: "backup", path: "/share-backups?marker={id}&sort_dir=asc", of: "marker"}},
	"GET /share-backups/detail":    {{}, {path: "/share-backups/detail?all_tenants=1", of: "all_tenants"}, {kind: "backup", path: "/share-backups/detail?id={id}", of: "id"}},
	"POST /share-backups":          {{kind: "share", body: `{"share_backup": {"share_id": "{id}"}}`, of: "share_id"}},
	"GET /share-backups/{id}":      {{kind: "backup"}},
	"GET /share-backups/{id}/edit": {{kind: "backup"}},
	"PUT /share-backups/{id}":      {{kind: "backup", body: `{"share_backup": {"name": "n"}}`}},
	"DELETE /share-backups/{id}":   {{kind: "backup"}},
	"POST /share-backups/{id}/action restore": {{kind: "backup", body: `{"restore": null}`},
		{kind: "share", path: "/share-backups/{{b_own}}/action", body: `{"restore": "{id}"}`, of: "target"}},
	"POST /share-backups/{id}/action reset_status": {{kind: "backup", body: `{"reset_status": {"status": "error"}}`}},

	"GET /types":                  {{}, {path: "/types?is_public=all", of: "is_public=all"}},
	"GET /types/default":          {{}},
	"POST /types":                 {{body: `{"share_type": {"name": "n", "extra_specs": {"driver_handles_share_servers": false}}}`}},
	"GET /types/{id}":             {{kind: "type"}},
	"DELETE /types/{id}":          {{kind: "type"}},
	"GET /types/{id}/extra_specs": {{kind: "type"}},

	"GET /shares": {{}, {path: "/shares?all_tenants=1", of: "all_tenants"}, {path: "/shares?is_public=true", of: "is_public"},
		{kind: "share", path: "/shares?is_public=true&marker={id}&sort_dir=asc", of: "marker"},
		{kind: "address", path: "/shares?export_location_path={id}", of: "address"}, {path: "/shares?host=abaca@local%23local&sort_key=host", of: "host"},
		{kind: "snapshot", path: "/shares?snapshot_id={id}", of: "snapshot_id"}, {kind: "type", path: "/shares?share_type_id={id}", of: "share_type_id"}},
	"GET /shares/detail": {{}, {path: "/shares/detail?all_tenants=1", of: "all_tenants"}},
	"POST /shares": {{body: `{"share": {"share_proto": "NFS", "size": 1}}`}, {body: `{"share": {"share_proto": "NFS", "size": 1, "is_public": true}}`, of: "is_public"},
		{kind: "snapshot", body: `{"share": {"share_proto": "NFS", "size": 1, "snapshot_id": "{id}"}}`, of: "snapshot_id"},
		{kind: "type", body: `{"share": {"share_proto": "NFS", "size": 1, "share_type": "{id}"}}`, of: "share_type"},
		{kind: "type name", body: `{"share": {"share_proto": "NFS", "size": 1, "share_type": "{id}"}}`, of: "share_type by name"}},
	"POST /shares/manage":                          {{body: `{"share": {"service_host": "abaca@local#local", "export_path": "{files}/adopt", "protocol": "NFS"}}`}},
	"GET /shares/{id}":                             {{kind: "share"}},
	"PUT /shares/{id}":                             {{kind: "share", body: `{"share": {"display_name": "n"}}`}, {kind: "share", body: `{"share": {"is_public": true}}`, of: "is_public"}},
	"DELETE /shares/{id}":                          {{kind: "share"}},
	"POST /shares/{id}/action reset_status":        {{kind: "share", body: `{"reset_status": {"status": "error"}}`}},
	"POST /shares/{id}/action force_delete":        {{kind: "share", body: `{"force_delete": null}`}},
	"POST /shares/{id}/action unmanage":            {{kind: "share", body: `{"unmanage": null}`}},
	"GET /shares/{id}/export_locations":            {{kind: "share"}},
	"GET /shares/{id}/export_locations/{location}": {{kind: "share"}},
	"GET /shares/{id}/metadata":                    {{kind: "share"}},
	"POST /shares/{id}/metadata":                   {{kind: "share", body: `{"metadata": {"a": "b"}}`}},
	"PUT /shares/{id}/metadata":                    {{kind: "share", body: `{"metadata": {"a": "b"}}`}},
	"GET /shares/{id}/metadata/{key}":              {{kind: "share"}},
	"DELETE /shares/{id}/metadata/{key}":           {{kind: "share"}},

	"GET /share-replicas":        {{}, {kind: "share", path: "/share-replicas?share_id={id}", of: "share_id"}},
	"GET /share-replicas/detail": {{kind: "share", path: "/share-replicas/detail?share_id={id}", of: "share_id"}},

	"GET /snapshots": {{}, {path: "/snapshots?all_tenants=1", of: "all_tenants"}, {kind: "held", path: "/snapshots?share_id={id}", of: "share_id"},
		{kind: "snapshot", path: "/snapshots?marker={id}&sort_dir=asc", of: "marker"}},
	"GET /snapshots/detail":                    {{}, {path: "/snapshots/detail?all_tenants=1", of: "all_tenants"}},
	"POST /snapshots":                          {{kind: "share", body: `{"snapshot": {"share_id": "{id}"}}`, of: "share_id"}},
	"GET /snapshots/{id}":                      {{kind: "snapshot"}},
	"DELETE /snapshots/{id}":                   {{kind: "snapshot"}},
	"POST /snapshots/{id}/action reset_status": {{kind: "snapshot", body: `{"reset_status": {"status": "error"}}`}},
	"GET /snapshots/{id}/export-locations":     {{kind: "snapshot"}},

	"GET /limits":                        {{}},
	"GET /quota-sets/{project}":          {{kind: "project"}, {kind: "project", path: "/quota-sets/{{p_demo}}?tenant_id={id}", of: "tenant_id"}},
	"GET /quota-sets/{project}/detail":   {{kind: "project"}},
	"GET /quota-sets/{project}/defaults": {{kind: "project"}},
	"PUT /quota-sets/{project}":          {{kind: "project", body: `{"quota_set": {"backups": 100}}`}},
	"DELETE /quota-sets/{project}":       {{kind: "project"}},
	"GET /quota-class-sets/{class}":      {{}},
	"PUT /quota-class-sets/{class}":      {{body: `{"quota_class_set": {"backups": 100}}`}},

	"GET /messages": {{}, {kind: "saved", path: "/messages?resource_id={id}", of: "resource_id"}, {path: "/messages?all_tenants=1&sort_key=project_id", of: "all_tenants"},
		{kind: "message", path: "/messages?marker={id}&sort_dir=asc", of: "marker"}},
	"GET /messages/{id}":    {{kind: "message"}},
	"DELETE /messages/{id}": {{kind: "message"}},

	"GET /availability-zones": {{}},
	"GET /services":           {{}},
	"PUT /services/enable":    {{body: `{"host": "worker", "binary": "manila-data"}`}},
	"PUT /services/disable":   {{body: `{"host": "worker", "binary": "manila-data"}`}},
	"GET /extensions":         {{}},
}

package api

import (
	"net/http"
	"strings"

	"abaca"
	"abaca/internal/auth"
)

// A route is one thing that can be asked for. Paths are below /v2, after the project if the URL names one.
type route struct {
	method, path string
	action       string // of a path that ends in /action: the one key of the body's object
	rule         string // what the caller must be allowed
	since        microversion
	experimental bool // only with the experimental header
	handle       handler
}

// table is the whole API.
var table = []route{
	{"GET", "/share-backups", "", "share_backup:get_all", 80, true, listBackups},
	{"GET", "/share-backups/detail", "", "share_backup:get_all", 80, true, detailBackups},
	{"POST", "/share-backups", "", "share_backup:create", 80, true, createBackup},
	{"GET", "/share-backups/{id}", "", "share_backup:get", 80, true, showBackup},
	{"GET", "/share-backups/{id}/edit", "", "share_backup:get", 80, true, absent}, // upstream's router knows the path, nothing answers it
	{"PUT", "/share-backups/{id}", "", "share_backup:update", 80, true, updateBackup},
	{"DELETE", "/share-backups/{id}", "", "share_backup:delete", 80, true, deleteBackup},
	{"POST", "/share-backups/{id}/action", "restore", "share_backup:restore", 80, true, restoreBackup},
	{"POST", "/share-backups/{id}/action", "reset_status", "share_backup:reset_status", 80, true, resetBackup},

	{"GET", "/types", "", "share_type:index", 0, false, listTypes},
	{"GET", "/types/default", "", "share_type:default", 0, false, showDefaultType},
	{"POST", "/types", "", "share_type:create", 0, false, createType},
	{"GET", "/types/{id}", "", "share_type:show", 0, false, showType},
	{"DELETE", "/types/{id}", "", "share_type:delete", 0, false, deleteType},
	{"GET", "/types/{id}/extra_specs", "", "share_types_extra_spec:index", 0, false, listSpecs},

	{"GET", "/shares", "", "share:get_all", 0, false, listShares},
	{"GET", "/shares/detail", "", "share:get_all", 0, false, detailShares},
	{"POST", "/shares", "", "share:create", 0, false, createShare},
	{"POST", "/shares/manage", "", "share:manage", 7, false, manageShare},
	{"GET", "/shares/{id}", "", "share:get", 0, false, showShare},
	{"PUT", "/shares/{id}", "", "share:update", 0, false, updateShare},
	{"DELETE", "/shares/{id}", "", "share:delete", 0, false, deleteShare},
	{"POST", "/shares/{id}/action", "reset_status", "share:reset_status", 7, false, resetShare},
	{"POST", "/shares/{id}/action", "force_delete", "share:force_delete", 7, false, forceDeleteShare},
	{"POST", "/shares/{id}/action", "unmanage", "share:unmanage", 7, false, unmanageShare},
	{"GET", "/shares/{id}/export_locations", "", "share_export_location:index", 9, false, listExports},
	{"GET", "/shares/{id}/export_locations/{location}", "", "share_export_location:show", 9, false, showExport},
	{"GET", "/shares/{id}/metadata", "", "share:get_share_metadata", 0, false, listMetadata},
	{"POST", "/shares/{id}/metadata", "", "share:update_share_metadata", 0, false, mergeMetadata},
	{"PUT", "/shares/{id}/metadata", "", "share:update_share_metadata", 0, false, replaceMetadata},
	{"GET", "/shares/{id}/metadata/{key}", "", "share:get_share_metadata", 0, false, showMetadata},
	{"DELETE", "/shares/{id}/metadata/{key}", "", "share:delete_share_metadata", 0, false, deleteMetadata},

	{"GET", "/share-replicas", "", "share_replica:get_all", 11, false, noReplicas},
	{"GET", "/share-replicas/detail", "", "share_replica:get_all", 11, false, noReplicas},

	{"GET", "/snapshots", "", "share_snapshot:get_all_snapshots", 0, false, listSnapshots},
	{"GET", "/snapshots/detail", "", "share_snapshot:get_all_snapshots", 0, false, detailSnapshots},
	{"POST", "/snapshots", "", "share:create_snapshot", 0, false, createSnapshot},
	{"GET", "/snapshots/{id}", "", "share_snapshot:get_snapshot", 0, false, showSnapshot},
	{"DELETE", "/snapshots/{id}", "", "share:delete_snapshot", 0, false, deleteSnapshot},
	{"POST", "/snapshots/{id}/action", "reset_status", "share_snapshot:reset_status", 7, false, resetSnapshot},
	{"GET", "/snapshots/{id}/export-locations", "", "share_snapshot_export_location:index", 32, false, noSnapshotExports},

	{"GET", "/limits", "", "limits:index", 0, false, showLimits},
	{"GET", "/quota-sets/{project}", "", "quota_set:show", 7, false, showQuota},
	{"GET", "/quota-sets/{project}/detail", "", "quota_set:show", 25, false, detailQuota},
	{"GET", "/quota-sets/{project}/defaults", "", "quota_set:show", 7, false, defaultQuota},
	{"PUT", "/quota-sets/{project}", "", "quota_set:update", 7, false, updateQuota},
	{"DELETE", "/quota-sets/{project}", "", "quota_set:delete", 7, false, deleteQuota},
	{"GET", "/quota-class-sets/{class}", "", "quota_class_set:show", 7, false, showQuotaClass},
	{"PUT", "/quota-class-sets/{class}", "", "quota_class_set:update", 7, false, updateQuotaClass},

	{"GET", "/messages", "", "message:get_all", 37, false, listMessages},
	{"GET", "/messages/{id}", "", "message:get", 37, false, showMessage},
	{"DELETE", "/messages/{id}", "", "message:delete", 37, false, deleteMessage},

	{"GET", "/availability-zones", "", "availability_zone:index", 7, false, listZones},
	{"GET", "/services", "", "service:index", 7, false, listServices},
	{"PUT", "/services/enable", "", "service:update", 7, false, enableService},
	{"PUT", "/services/disable", "", "service:update", 7, false, disableService},
	{"GET", "/extensions", "", "extensions:index", 0, false, noExtensions},
}

// Resources returns the first words of all routes' paths: no project by such a name is found in a URL.
func Resources() []string {
	var words []string
	for _, r := range table {
		word, _, _ := strings.Cut(strings.TrimPrefix(r.path, "/"), "/")
		words = append(words, word)
	}
	return words
}

// routes are the routes of one method and path: one, or one for each action.
type routes []route

// ServeHTTP answers the request that r carries on its way through the mux.
func (rs routes) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q := r.Context().Value(requestKey{}).(*request)
	q.pathValue = r.PathValue
	q.told.Route = "/v2" + rs[0].path
	if rs[0].method == http.MethodGet {
		q.reply(w, rs.serve)
		return
	}
	q.audited(w, rs)
}

// byPattern groups the table by the patterns of http.ServeMux.
func byPattern() map[string]routes {
	patterns := map[string]routes{}
	for _, r := range table {
		p := r.method + " " + r.path
		patterns[p] = append(patterns[p], r)
	}
	return patterns
}

// serve answers by the route that the body's action names or, without actions, by the only one.
func (rs routes) serve(q *request) (int, any, error) {
	r := &rs[0]
	if r.action != "" {
		var err error
		if r, err = rs.actionOf(q); err != nil {
			return 0, nil, err
		}
	}
	q.audit.Action = r.rule
	if q.version < r.since || r.experimental && !q.experimental {
		return absent(q)
	}
	if q.rule = r.rule; !q.may(r.rule) {
		return 0, nil, forbidden(r.rule)
	}
	if !textual(q.URL.Path) {
		return absent(q) // as nothing has such an id
	}
	if !q.queryIsText() {
		return 0, nil, abaca.Errorf(abaca.Invalid, "The query holds what is no text.")
	}
	return r.handle(q)
}

// actionOf finds the action by the only key of the body.
func (rs routes) actionOf(q *request) (*route, error) {
	body, present, err := q.decode()
	if err != nil {
		return nil, err
	}
	if present && body == nil {
		// Upstream looks for null among its actions' names and answers as it does for a missing resource.
		return nil, abaca.Errorf(abaca.NotFound, "The resource could not be found.")
	}
	o, _ := body.(object)
	if len(o) != 1 {
		return nil, abaca.Errorf(abaca.Invalid, "The request's body must be an object with the action as its only key.")
	}
	for name := range o {
		for i := range rs {
			if rs[i].action == name {
				return &rs[i], nil
			}
		}
	}
	return nil, abaca.Errorf(abaca.Invalid, "There is no such action.")
}

// argument returns what the body's action is given.
func (q *request) argument(action string) any {
	body, _, _ := q.decode() // it has been decoded before, to find the action
	o, _ := body.(object)
	return o[action]
}

// inside are the rules that are asked in the middle of a request, by where.
var inside = map[string][]string{
	auth.Administrator:                 {"every request"},
	"share_backup:get_all_project":     {"GET /share-backups?all_tenants", "GET /share-backups/detail?all_tenants"},
	"share:list_all_projects":          {"GET /shares?all_tenants", "GET /shares/detail?all_tenants"},
	"share:list_by_host":               {"GET /shares?host", "GET /shares/detail?host"},
	"share_snapshot:list_all_projects": {"GET /snapshots?all_tenants", "GET /snapshots/detail?all_tenants"},
	"share:create_public_share":        {"POST /shares is_public"},
	"share:set_public_share":           {"PUT /shares/{id} is_public", "POST /shares/manage is_public"},
	"share_snapshot:get_snapshot":      {"POST /shares snapshot_id"},
}

// Asked returns where each rule of the policy is asked: methods, paths below /v2 and actions.
func Asked() map[string][]string {
	asked := map[string][]string{}
	for _, r := range table {
		asked[r.rule] = append(asked[r.rule], strings.TrimSuffix(r.method+" "+r.path+" "+r.action, " "))
	}
	for rule, places := range inside {
		asked[rule] = append(asked[rule], places...)
	}
	return asked
}

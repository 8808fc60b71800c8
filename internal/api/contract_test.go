package api_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// A call is a request that the recording does not have and the answer that Manila's documentation and code call for.
type call struct {
	name   string
	as     string
	method string
	path   string
	body   string
	status int
	keys   string // of the answer's only object, or of the first listed one; not looked at where empty
}

const (
	none80  = "id name share_id status description size created_at updated_at availability_zone progress restore_progress"
	some85  = none80 + " backup_type"
	admin85 = some85 + " host topic"
	brief   = "id name share_id status"
)

var calls = []call{
	{"a member sees twelve keys", "demo", "GET", "/share-backups/{{b_drv}}", "", 200, some85},
	{"an administrator sees two more", "admin", "GET", "/share-backups/{{b_drv}}", "", 200, admin85},
	{"a reader sees a backup", "rdr", "GET", "/share-backups/{{b_drv}}", "", 200, some85},
	{"another member of the project sees it", "demo2", "GET", "/share-backups/{{b_drv}}", "", 200, some85},
	{"another project does not see it", "alt", "GET", "/share-backups/{{b_drv}}", "", 404, ""},
	{"an unknown one is not found", "demo", "GET", "/share-backups/{{no_id}}", "", 404, ""},
	{"lists are short", "demo", "GET", "/share-backups", "", 200, brief},
	{"details are long", "demo", "GET", "/share-backups/detail", "", 200, some85},
	{"a reader lists", "rdr", "GET", "/share-backups/detail", "", 200, some85},
	{"no path holds a NUL", "demo", "GET", "/share-backups/a%00b", "", 404, ""},
	{"no query holds a NUL", "demo", "GET", "/share-backups?name=a%00b", "", 400, ""},
	{"no name holds a NUL", "demo", "PUT", "/shares/{{s_ok}}", `{"share": {"display_name": "a\u0000b"}}`, 400, ""},
	{"no key of metadata holds a NUL", "demo", "POST", "/shares/{{s_ok}}/metadata", `{"metadata": {"a\u0000b": "c"}}`, 400, ""},
	{"no metadata holds a NUL", "demo", "POST", "/shares/{{s_ok}}/metadata", `{"metadata": {"a": "b\u0000c"}}`, 400, ""},
	{"no id holds a NUL", "demo", "POST", "/share-backups", `{"share_backup": {"share_id": "\u0000"}}`, 400, ""},
	{"no action holds a NUL", "demo", "POST", "/share-backups/{{b_gen}}/action", `{"restore": "\u0000"}`, 400, ""},
	{"a limit is a number", "demo", "GET", "/share-backups?limit=x", "", 400, ""},
	{"a limit is whole", "demo", "GET", "/share-backups?limit=1.5", "", 400, ""},
	{"a limit of nothing is none", "demo", "GET", "/share-backups?limit=", "", 400, ""},
	{"an offset too large for the database", "demo", "GET", "/share-backups?offset=2147483648", "", 400, ""},
	{"the largest offset", "demo", "GET", "/share-backups?offset=2147483647", "", 200, ""},
	{"the direction in capitals", "demo", "GET", "/share-backups?sort_dir=ASC", "", 200, brief},
	{"an unknown share to list by", "demo", "GET", "/share-backups?share_id={{no_id}}", "", 400, ""},
	{"another's share to list by", "demo", "GET", "/share-backups?share_id={{s_alt}}", "", 400, ""},
	{"a member asks for all projects", "demo", "GET", "/share-backups?all_tenants=1&share_id={{s_alt}}", "", 400, ""},
	{"a marker that is not there", "demo", "GET", "/share-backups?marker={{no_id}}", "", 400, ""},

	{"a wrapper that is null", "demo", "POST", "/share-backups", `{"share_backup": null}`, 422, ""},
	{"a wrapper that is text", "demo", "POST", "/share-backups", `{"share_backup": "x"}`, 422, ""},
	{"a wrapper that is an empty list", "demo", "POST", "/share-backups", `{"share_backup": []}`, 422, ""},
	{"a body that is a list", "demo", "POST", "/share-backups", `[]`, 422, ""},
	{"a body that is text", "demo", "POST", "/share-backups", `"share_backup"`, 422, ""},
	{"a body that is null", "demo", "POST", "/share-backups", `null`, 422, ""},
	{"another wrapper", "demo", "POST", "/share-backups", `{"backup": {"share_id": "{{s_ok}}"}}`, 422, ""},
	{"JSON with something behind it", "demo", "POST", "/share-backups", `{"share_backup": {}} x`, 400, ""},
	{"a share that is a number", "demo", "POST", "/share-backups", `{"share_backup": {"share_id": 5}}`, 400, ""},
	{"a share that is an object", "demo", "POST", "/share-backups", `{"share_backup": {"share_id": {"a": 1}}}`, 400, ""},
	{"an unknown share", "demo", "POST", "/share-backups", `{"share_backup": {"share_id": "{{no_id}}"}}`, 400, ""},
	{"a share in error", "demo", "POST", "/share-backups", `{"share_backup": {"share_id": "{{s_err}}"}}`, 400, ""},
	{"a CIFS share without options", "demo", "POST", "/share-backups", `{"share_backup": {"share_id": "{{s_cifs}}"}}`, 400, ""},
	{"a CIFS share with options", "demo", "POST", "/share-backups", `{"share_backup": {"share_id": "{{s_cifs}}", "backup_options": {"a": "b"}}}`, 202, some85},
	{"another backup type than before", "demo", "POST", "/share-backups",
		`{"share_backup": {"share_id": "{{s_cifs}}", "backup_options": {"backup_type": "typeB"}}}`, 400, ""},
	{"the same backup type as before", "demo", "POST", "/share-backups",
		`{"share_backup": {"share_id": "{{s_cifs}}", "backup_options": {"backup_type": "typeA"}}}`, 202, some85},
	{"options that are text", "demo", "POST", "/share-backups", `{"share_backup": {"share_id": "{{s_ok}}", "backup_options": "x"}}`, 400, ""},
	{"a reader makes none", "rdr", "POST", "/share-backups", `{"share_backup": {"share_id": "{{s_ok}}"}}`, 403, ""},
	{"a reader is refused before the body is read", "rdr", "POST", "/share-backups", `{`, 403, ""},
	{"another member makes one", "demo2", "POST", "/share-backups", `{"share_backup": {"share_id": "{{s_ok}}"}}`, 202, some85},
	{"a name of 255 characters", "demo", "POST", "/share-backups",
		`{"share_backup": {"share_id": "{{s_ok}}", "name": "` + strings.Repeat("é", 255) + `"}}`, 202, some85},
	{"a description of 256 characters", "demo", "POST", "/share-backups",
		`{"share_backup": {"share_id": "{{s_ok}}", "description": "` + strings.Repeat("d", 256) + `"}}`, 400, ""},

	{"an empty change changes nothing", "demo", "PUT", "/share-backups/{{b_drv}}", `{"share_backup": {}}`, 200, some85},
	{"the documented key for a name", "demo", "PUT", "/share-backups/{{b_drv}}", `{"share_backup": {"display_name": "n"}}`, 200, some85},
	{"a name that is a number", "demo", "PUT", "/share-backups/{{b_drv}}", `{"share_backup": {"name": 5}}`, 400, ""},
	{"a name that is too long", "demo", "PUT", "/share-backups/{{b_drv}}", `{"share_backup": {"name": "` + strings.Repeat("n", 256) + `"}}`, 400, ""},
	{"a backup that is being deleted is renamed", "demo", "PUT", "/share-backups/{{l5}}", `{"share_backup": {"name": "n"}}`, 200, some85},
	{"a reader renames none", "rdr", "PUT", "/share-backups/{{b_drv}}", `{"share_backup": {"name": "n"}}`, 403, ""},
	{"a reader learns nothing of unknown ones", "rdr", "PUT", "/share-backups/{{no_id}}", `{"share_backup": {"name": "n"}}`, 403, ""},

	{"two actions at once", "demo", "POST", "/share-backups/{{b_drv}}/action", `{"restore": null, "reset_status": {}}`, 400, ""},
	{"no action", "demo", "POST", "/share-backups/{{b_drv}}/action", ``, 400, ""},
	{"a member resets none", "demo", "POST", "/share-backups/{{b_drv}}/action", `{"reset_status": {"status": "error"}}`, 403, ""},
	{"a status in capitals", "admin", "POST", "/share-backups/{{b_drv}}/action", `{"reset_status": {"status": "ERROR"}}`, 400, ""},
	{"a status that is null", "admin", "POST", "/share-backups/{{b_drv}}/action", `{"reset_status": {"status": null}}`, 400, ""},
	{"a status to migrate", "admin", "POST", "/share-backups/{{b_drv}}/action", `{"reset_status": {"status": "server_migrating"}}`, 202, ""},
	{"a status of another project's", "admin", "POST", "/share-backups/{{b_alt}}/action", `{"reset_status": {"status": "creating"}}`, 202, ""},
	{"a reader restores none", "rdr", "POST", "/share-backups/{{b_drv}}/action", `{"restore": null}`, 403, ""},
	{"a restore into the source", "demo", "POST", "/share-backups/{{b_drv}}/action", `{"restore": null}`, 202, "backup_id share_id"},
	{"a restore by another member", "demo2", "POST", "/share-backups/{{b_drv}}/action", `{"restore": ""}`, 202, "backup_id share_id"},
	{"a restore by an administrator", "admin", "POST", "/share-backups/{{b_alt}}/action", `{"restore": null}`, 202, "backup_id share_id"},
	{"a restore into a share that is too small", "demo", "POST", "/share-backups/{{b_big}}/action", `{"restore": "{{s_ok2}}"}`, 400, ""},
	{"a restore into a larger share", "demo", "POST", "/share-backups/{{b_drv}}/action", `{"restore": "{{s_big}}"}`, 202, "backup_id share_id"},
	{"a restore into what is no share", "demo", "POST", "/share-backups/{{b_drv}}/action", `{"restore": "x"}`, 404, ""},
	{"a backup that failed is not restored", "demo", "POST", "/share-backups/{{l1}}/action", `{"restore": null}`, 400, ""},

	{"a backup that is being made is not deleted", "demo", "DELETE", "/share-backups/{{l2}}", "", 400, ""},
	{"a backup that failed is deleted", "demo", "DELETE", "/share-backups/{{l1}}", "", 202, ""},
	{"a reader deletes none", "rdr", "DELETE", "/share-backups/{{b_drv}}", "", 403, ""},
	{"an unknown backup is not deleted", "demo", "DELETE", "/share-backups/{{no_id}}", "", 404, ""},

	{"a share of another project", "demo", "GET", "/shares/{{s_alt}}", "", 404, ""},
	{"a public share of another project", "demo", "GET", "/shares/{{s_altpub}}", "", 200, ""},
	{"the export locations of another's share, which Manila owns to with a 403", "demo", "GET", "/shares/{{s_alt}}/export_locations", "", 404, ""},
	{"a share with a snapshot is not deleted", "demo", "DELETE", "/shares/{{s_snap}}", "", 403, ""},
	{"a busy share is not deleted", "demo", "DELETE", "/shares/{{s_busy}}", "", 403, ""},
	{"a share without a protocol", "demo", "POST", "/shares", `{"share": {"size": 1}}`, 400, ""},
	{"a share of no size", "demo", "POST", "/shares", `{"share": {"size": 0, "share_proto": "NFS"}}`, 400, ""},
	{"a share of half a size", "demo", "POST", "/shares", `{"share": {"size": 1.5, "share_proto": "NFS"}}`, 400, ""},
	{"a share of a size in digits", "demo", "POST", "/shares", `{"share": {"size": "1", "share_proto": "nfs"}}`, 200, ""},
	{"a share of an unknown type", "demo", "POST", "/shares", `{"share": {"size": 1, "share_proto": "NFS", "share_type": "x"}}`, 404, ""},
	{"a public share by a member", "demo", "POST", "/shares", `{"share": {"size": 1, "share_proto": "NFS", "is_public": true}}`, 403, ""},
	{"a share over the quota", "demo", "POST", "/shares", `{"share": {"size": 1001, "share_proto": "NFS"}}`, 413, ""},
	{"a share without a wrapper", "demo", "POST", "/shares", `{"size": 1}`, 422, ""},
	{"a member manages none", "demo", "POST", "/shares/manage", `{"share": {}}`, 403, ""},
	{"a managed share without a host", "admin", "POST", "/shares/manage", `{"share": {"protocol": "NFS", "export_path": "/x"}}`, 422, ""},
	{"a managed share without a pool", "admin", "POST", "/shares/manage",
		`{"share": {"protocol": "NFS", "export_path": "/x", "service_host": "a@b"}}`, 400, ""},
	{"a managed share on an unknown host", "admin", "POST", "/shares/manage",
		`{"share": {"protocol": "NFS", "export_path": "/x", "service_host": "a@b#c"}}`, 404, ""},
	{"a share type without its required spec", "admin", "POST", "/types", `{"share_type": {"name": "n", "extra_specs": {}}}`, 400, ""},
	{"a share type that is there", "admin", "POST", "/types",
		`{"share_type": {"name": "default", "extra_specs": {"driver_handles_share_servers": "False"}}}`, 409, ""},
	{"a share type by a member", "demo", "POST", "/types", `{"share_type": {"name": "n"}}`, 403, ""},
	{"a share type by its name", "demo", "GET", "/types/default-by-name", "", 404, ""},
	{"a share type in use", "admin", "DELETE", "/types/{{type}}", "", 400, ""},
	{"a share's snapshot while it is busy", "demo", "POST", "/snapshots", `{"snapshot": {"share_id": "{{s_busy}}"}}`, 400, ""},
	{"a snapshot without a wrapper", "demo", "POST", "/snapshots", `{"share_id": "{{s_ok}}"}`, 422, ""},
	{"a snapshot of an unknown share", "demo", "POST", "/snapshots", `{"snapshot": {"share_id": "{{no_id}}"}}`, 404, ""},
	{"the replicas that nothing has", "demo", "GET", "/share-replicas/detail?share_id={{s_ok}}", "", 200, ""},
	{"services by a member", "demo", "GET", "/services", "", 403, ""},
	{"services", "admin", "GET", "/services", "", 200, "id binary host zone status state updated_at disabled_reason ensuring"},
	{"a service disabled by a member", "demo", "PUT", "/services/disable", `{"host": "worker", "binary": "manila-data"}`, 403, ""},
	{"a service on an unknown host", "admin", "PUT", "/services/disable", `{"host": "x", "binary": "manila-data"}`, 404, ""},
	{"a service of an unknown binary", "admin", "PUT", "/services/enable", `{"host": "worker", "binary": "manila-api"}`, 404, ""},
	{"a back end's service by its name alone", "admin", "PUT", "/services/disable", `{"host": "local", "binary": "manila-share"}`, 404, ""},
	{"a service without a host", "admin", "PUT", "/services/disable", `{"binary": "manila-data"}`, 400, ""},
	{"a service by a number", "admin", "PUT", "/services/enable", `{"host": 1, "binary": "manila-data"}`, 400, ""},
	{"a service with a long reason", "admin", "PUT", "/services/disable",
		`{"host": "worker", "binary": "manila-data", "disabled_reason": "` + strings.Repeat("x", 256) + `"}`, 400, ""},
	{"what no service does", "admin", "PUT", "/services/restart", `{"host": "worker", "binary": "manila-data"}`, 404, ""},
	{"quotas of another project", "demo", "GET", "/quota-sets/{{p_alt}}", "", 403, ""},
	{"quotas changed by a member", "demo", "PUT", "/quota-sets/{{p_demo}}", `{"quota_set": {"backups": 1}}`, 403, ""},
}

func TestContract(t *testing.T) {
	blank := newWorld(t)
	for _, c := range calls {
		t.Run(c.name, func(t *testing.T) {
			w := blank.copy(t, false)
			e := exchange{As: &c.as, Method: c.method, Path: "/v2" + c.path, Headers: map[string]string{
				"X-OpenStack-Manila-API-Version": "2.91", "X-OpenStack-Manila-API-Experimental": "true", "Content-Type": "application/json",
			}}
			if c.body != "" {
				e.Body = &c.body
			}
			got := w.send(e)
			if got.Status != c.status {
				t.Fatalf("status %d, want %d: %v", got.Status, c.status, got.Body)
			}
			if c.keys == "" {
				return
			}
			if have := strings.Join(keysOf(got.Body), " "); have != strings.Join(slices.Sorted(slices.Values(strings.Fields(c.keys))), " ") {
				t.Errorf("keys %s, want %s", have, c.keys)
			}
		})
	}
}

// keysOf returns the sorted keys of the object in a wrapper, or of the first object in a wrapped list.
func keysOf(body any) []string {
	wrapper, _ := body.(map[string]any)
	if len(wrapper) != 1 {
		return []string{fmt.Sprintf("(%d wrappers)", len(wrapper))}
	}
	for _, inner := range wrapper {
		if list, ok := inner.([]any); ok && len(list) > 0 {
			inner = list[0]
		}
		if o, ok := inner.(map[string]any); ok {
			return slices.Sorted(maps.Keys(o))
		}
	}
	return nil
}

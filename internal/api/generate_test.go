package api_test

import (
	"encoding/json"
	"math/rand/v2"
	"net/url"
	"regexp"
	"strings"
)

// A generator makes odd requests, the same ones for the same seed.
type generator struct {
	*rand.Rand
	ids []string
}

func pick[T any](g generator, of ...T) T { return of[g.IntN(len(of))] }

func (g generator) text() string {
	return pick(g, "", "a", " ", "\x00", "a\x00b", "\xff\xfe", "\u202e\u0000", "😀\U0010ffff", "e\u0301", "../../etc/passwd", "' OR 1=1 --",
		"%", "_", "%_\\", "\\", "\r\nX-Evil: 1", "-1", "0", "1", "1e400", "99999999999999999999999", "NaN", "null", "true", "yes", "[]",
		"NFS", "available", "default", "{{no_id}}", strings.Repeat("n", 255), strings.Repeat("n", 256), strings.Repeat("é", 255),
		strings.Repeat("x", 70_000), pick(g, g.ids...))
}

// value is the text of a JSON value, or of something like one.
func (g generator) value(depth int) string {
	if depth <= 0 {
		return g.scalar()
	}
	switch g.IntN(4) {
	case 0:
		return g.object(depth)
	case 1:
		items := make([]string, g.IntN(4))
		for i := range items {
			items[i] = g.value(depth - 1)
		}
		return "[" + strings.Join(items, ",") + "]"
	default:
		return g.scalar()
	}
}

func (g generator) scalar() string {
	switch g.IntN(3) {
	case 0:
		return pick(g, "null", "true", "false", "0", "-0", "1", "-1", "2147483648", "9223372036854775808", "-9223372036854775809", "1e400",
			"1e-400", "0.5", "1E3", "123456789012345678901234567890", `"\ud800"`, `"\u0000"`, `"\u0000\ud83d\ude00"`, "{}", "[]")
	default:
		b, _ := json.Marshal(g.text())
		return string(b)
	}
}

var wrappers = []string{"share_backup", "share", "snapshot", "share_type", "volume_type", "metadata", "meta", "quota_set", "quota_class_set", "restore", "reset_status",
	"force_delete", "unmanage", "extend", "explode", ""}

var keys = []string{"share_id", "name", "description", "backup_options", "backup_type", "display_name", "display_description", "size", "share_proto",
	"share_type", "metadata", "is_public", "snapshot_id", "availability_zone", "status", "service_host", "export_path", "protocol", "path", "force",
	"extra_specs", "driver_handles_share_servers", "share_type_access:is_public", "backups", "gigabytes", "shares", "new_size", "tenant_id"}

func (g generator) object(depth int) string {
	var fields []string
	for range g.IntN(6) {
		key, _ := json.Marshal(pick(g, append(keys, g.text())...))
		fields = append(fields, string(key)+":"+g.value(depth-1))
	}
	return "{" + strings.Join(fields, ",") + "}"
}

func (g generator) body() string {
	key, _ := json.Marshal(pick(g, wrappers...))
	body := "{" + string(key) + ":" + g.value(3) + "}"
	switch g.IntN(12) {
	case 0:
		return ""
	case 1:
		return g.value(3)
	case 2:
		return body[:g.IntN(len(body))]
	case 3:
		return body + g.text()
	case 4:
		deep := pick(g, 100, 9_999, 10_001, 50_000)
		return strings.Repeat("[", deep) + strings.Repeat("]", g.IntN(2)*deep)
	case 5:
		return strings.Repeat(`{"share_backup":`, 2_000) + "1" + strings.Repeat("}", 2_000)
	case 6:
		return pick(g, "\xef\xbb\xbf"+body, "\xff\xfe{\x00}\x00", `{"share_backup": {"name": "`+"\xff"+`"}}`, "a=b", "<a/>",
			`{"share_backup": {}, "share_backup": []}`, strings.Repeat(" ", 114_688), strings.Repeat(" ", 114_689))
	}
	return body
}

// A request is the part of one that its route is chosen by, and the body that it needs.
type request struct{ method, path, body string }

// sound are requests that mean something, at least one for each route. What stands in «» may be replaced.
var sound = []request{
	{"GET", "/share-backups", ""},
	{"GET", "/share-backups/detail", ""},
	{"POST", "/share-backups", `{"share_backup": {"share_id": «"{{s_ok}}"», "name": «"n"», "description": «null», "backup_options": «{"a": «1»}»}}`},
	{"POST", "/share-backups", `{"share_backup": {"share_id": «"{{s_list}}"», "backup_options": {"backup_type": «"t"»}}}`},
	{"GET", "/share-backups/{{b_drv}}", ""},
	{"GET", "/share-backups/{{b_drv}}/edit", ""},
	{"PUT", "/share-backups/{{b_drv}}", `{"share_backup": {"name": «"n"», "description": «"d"»}}`},
	{"PUT", "/share-backups/{{b_drv}}", `{"share_backup": {"display_name": «"n"», "display_description": «"d"»}}`},
	{"DELETE", "/share-backups/{{b_alt}}", ""},
	{"POST", "/share-backups/{{b_gen}}/action", `{"restore": «"{{s_big}}"»}`},
	{"POST", "/share-backups/{{l1}}/action", `{"reset_status": {"status": «"error"»}}`},
	{"GET", "/types", ""},
	{"GET", "/types/default", ""},
	{"POST", "/types", `{"share_type": {"name": «"n"», "description": «"d"», "extra_specs": «{"driver_handles_share_servers": «"False"», "k": «"v"»}»,
		"share_type_access:is_public": «true»}}`},
	{"GET", "/types/{{type}}", ""},
	{"GET", "/types/{{type}}/extra_specs", ""},
	{"DELETE", "/types/{{type}}", ""},
	{"GET", "/shares", ""},
	{"GET", "/shares/detail", ""},
	{"POST", "/shares", `{"share": {"share_proto": «"NFS"», "size": «1», "name": «"n"», "description": «"d"», "metadata": «{"k": «"v"»}», "is_public": «false»,
		"share_type": «"default"», "snapshot_id": «null», "availability_zone": «null», "share_network_id": «null», "scheduler_hints": «{}»}}`},
	{"POST", "/shares/manage", `{"share": {"service_host": «"abaca@local#local"», "export_path": «"127.0.0.1:/etc"», "protocol": «"NFS"»,
		"share_type": «"default"», "name": «"n"», "is_public": «false», "driver_options": «{}»}}`},
	{"GET", "/shares/{{s_ok}}", ""},
	{"PUT", "/shares/{{s_ok}}", `{"share": {"display_name": «"n"», "display_description": «"d"», "is_public": «false»}}`},
	{"DELETE", "/shares/{{s_list}}", ""},
	{"POST", "/shares/{{s_err}}/action", `{"reset_status": {"status": «"available"»}}`},
	{"POST", "/shares/{{s_err}}/action", `{"force_delete": «null»}`},
	{"POST", "/shares/{{s_err}}/action", `{"unmanage": «null»}`},
	{"GET", "/shares/{{s_ok}}/export_locations", ""},
	{"GET", "/shares/{{s_ok}}/export_locations/{{s_ok}}", ""},
	{"GET", "/shares/{{s_ok}}/metadata", ""},
	{"POST", "/shares/{{s_ok}}/metadata", `{"metadata": «{"k": «"v"»}»}`},
	{"PUT", "/shares/{{s_ok}}/metadata", `{"metadata": «{"k": «"v"»}»}`},
	{"GET", "/shares/{{s_ok}}/metadata/k", ""},
	{"DELETE", "/shares/{{s_ok}}/metadata/k", ""},
	{"GET", "/share-replicas", ""},
	{"GET", "/share-replicas/detail", ""},
	{"GET", "/snapshots", ""},
	{"GET", "/snapshots/detail", ""},
	{"POST", "/snapshots", `{"snapshot": {"share_id": «"{{s_task}}"», "name": «"n"», "description": «"d"», "force": «false», "metadata": «{"k": «"v"»}»}}`},
	{"GET", "/snapshots/{{snap}}", ""},
	{"DELETE", "/snapshots/{{snap}}", ""},
	{"POST", "/snapshots/{{snap}}/action", `{"reset_status": {"status": «"error"»}}`},
	{"GET", "/snapshots/{{snap}}/export-locations", ""},
	{"GET", "/limits", ""},
	{"GET", "/quota-sets/{{p_demo}}", ""},
	{"GET", "/quota-sets/{{p_demo}}/detail", ""},
	{"GET", "/quota-sets/{{p_demo}}/defaults", ""},
	{"PUT", "/quota-sets/{{p_demo}}", `{"quota_set": {"backups": «100», "backup_gigabytes": «1000», "shares": «-1», "force": «true»}}`},
	{"DELETE", "/quota-sets/{{p_demo}}", ""},
	{"GET", "/quota-class-sets/default", ""},
	{"PUT", "/quota-class-sets/default", `{"quota_class_set": {"backups": «100», "class_name": «"default"»}}`},
	{"GET", "/messages", ""},
	{"GET", "/messages/{{no_id}}", ""},
	{"DELETE", "/messages/{{no_id}}", ""},
	{"GET", "/availability-zones", ""},
	{"GET", "/services", ""},
	{"PUT", "/services/enable", `{"host": «"worker"», "binary": «"manila-data"»}`},
	{"PUT", "/services/disable", `{"host": «"abaca@local"», "binary": «"manila-share"», "disabled_reason": «"moving"»}`},
	{"GET", "/extensions", ""},
	{"GET", "/", ""},
}

var replaceable = regexp.MustCompile(`«([^«»]*)»`)

// vary replaces some of what may be replaced, from the inside out.
func (g generator) vary(body string) string {
	for replaceable.MatchString(body) {
		body = replaceable.ReplaceAllStringFunc(body, func(s string) string {
			if g.IntN(5) == 0 {
				return g.value(3)
			}
			return strings.TrimSuffix(strings.TrimPrefix(s, "«"), "»")
		})
	}
	return body
}

// lose replaces a segment of a path, or adds one.
func (g generator) lose(path string) string {
	segments := strings.Split(path, "/")
	segments[1+g.IntN(len(segments)-1)] = pick(g, "detail", "action", "edit", "manage", "share_backups", "..", ".", "", "default", pick(g, g.ids...), g.text(), g.text())
	path = strings.Join(segments, "/")
	if g.IntN(3) == 0 {
		path += "/" + pick(g, "", "action", ".json", g.text())
	}
	return path
}

func (g generator) query() string {
	var params []string
	for range g.IntN(4) {
		key := pick(g, "limit", "offset", "marker", "sort_key", "sort_dir", "name", "name~", "description~", "status", "share_id", "host", "id",
			"all_tenants", "all_projects", "project_id", "is_public", "metadata", "extra_specs", "share_type_id", "export_location_path",
			"with_count", "created_since", "is_soft_deleted", "user_id", "share_type", g.text())
		value := pick(g, g.text(), pick(g, "name", "created_at", "deleted", "size", "asc", "desc", "bogus", "{'a': 'b'}", "{", "id; DROP TABLE shares"))
		switch g.IntN(5) {
		case 0:
			params = append(params, key+"="+value) // as it is
		case 1:
			params = append(params, pick(g, "%zz", "%", "=", "==", ";", "a;b=c", "&", key))
		default:
			params = append(params, url.QueryEscape(key)+"="+url.QueryEscape(value))
		}
	}
	return strings.Join(params, "&")
}

// odd is a sound request with one or more things wrong.
func (g generator) odd() odd {
	r := pick(g, sound...)
	o := odd{method: r.method, path: pick(g, "/v2", "/v2", "/v2", "/v2/{{p_demo}}") + r.path, token: pick(g, "demo", "demo", "admin"),
		version: pick(g, "2.99", "2.91", "2.80"), experimental: "true", contentType: "application/json", body: g.vary(r.body)}
	if o.method == "GET" && g.IntN(2) == 0 {
		o.query = g.query()
	}
	switch g.IntN(16) {
	case 0:
		o.method = pick(g, "GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "CONNECT", "get", "", "PROPFIND", "G T", "\x00",
			strings.Repeat("M", 5000))
	case 1:
		o.path = g.lose(o.path)
	case 2:
		o.version = pick(g, "", "latest", "2", "2.", ".80", "2.080", "-2.80", "2.80, 2.91", "3.0", "1.0", "2.100", "2.99999999999999999999", "\x00",
			strings.Repeat("9", 10_000), "2."+strings.Repeat("9", 10_000), g.text())
	case 3:
		o.experimental = pick(g, "", "0", "banana", g.text())
	case 4:
		o.contentType = pick(g, "", "text/plain", "application/json; charset=utf-8", "Application/JSON", "application/json;;",
			"application/json; charset=\xff", g.text())
	case 5:
		o.token = pick(g, "", "alt", "rdr", "norole", g.text())
	case 6:
		o.header, o.value = pick(g, "Accept", "Host", "X-Forwarded-Proto", "X-Openstack-Request-Id", "Content-Encoding", "Range", "If-None-Match",
			"Transfer-Encoding", "X-Project-Id", "X-Roles", "Openstack-Api-Version"), g.text()
	case 7, 8, 9:
		o.body = g.body()
	case 10:
		o.query = g.query()
	}
	return o
}

package api_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// before is what had happened between the recorded exchanges, by the number of the exchange that shows it.
var before = map[int]string{
	22: none, 23: none, 24: none, 27: none, 43: none, 49: none, 50: none, 52: none, 54: none,
	121: `INSERT INTO quotas VALUES ('{{p_alt}}', 'backups', 0)`,
	176: `UPDATE share_backups SET display_name = NULL WHERE id = '{{b_drv}}'`,
	186: `UPDATE share_backups SET display_description = '' WHERE id = '{{b_drv}}'`,
	193: `UPDATE share_backups SET display_description = '' WHERE id = '{{b_drv}}'`,
	194: `UPDATE share_backups SET display_description = '' WHERE id = '{{b_drv}}'`,
	244: `UPDATE share_backups SET status = 'restoring' WHERE id = '{{b_drv}}'`,
	245: `UPDATE shares SET status = 'backup_restoring', source_backup_id = '{{b_drv}}' WHERE id = '{{s_ok}}'`,
	247: `UPDATE share_backups SET status = 'restoring' WHERE id = '{{b_drv}}'`,
	250: `UPDATE share_backups SET status = 'creating' WHERE id = '{{b_drv}}'`,
	253: `UPDATE shares SET status = 'error' WHERE id = '{{s_ok}}'`,
	272: `INSERT INTO messages VALUES ('{{no_id}}', '{{p_demo}}', 'SHARE', '{{s_big}}', 'req-11111111-2222-3333-4444-555555555555',
		'028', '032', 'restore: it failed', 1700000000000000, 4000000000000000)`,
	274: `UPDATE share_backups SET restore_progress = 100 WHERE id = '{{b_gen}}'`,
	275: `UPDATE shares SET source_backup_id = '{{b_gen}}' WHERE id = '{{s_ok}}'`,
	420: `UPDATE share_backups SET status = 'error_deleting' WHERE id = '{{l4}}'`,
	421: `UPDATE share_backups SET status = 'migrating' WHERE id = '{{l4}}'`,
	427: `UPDATE share_backups SET status = 'deleting' WHERE id = '{{b_drv}}'`,
	428: `UPDATE share_backups SET status = 'deleting', restore_progress = 100 WHERE id = '{{b_drv}}'`,
	429: `DELETE FROM share_backups WHERE id = '{{b_drv}}'`,
	430: `DELETE FROM share_backups WHERE id = '{{b_drv}}'`,
	432: `UPDATE share_backups SET status = 'error' WHERE id = '{{b_big}}'`,
	436: usage,
	439: usage,
	441: `UPDATE shares SET source_backup_id = '{{b_gen}}' WHERE id = '{{s_ok}}'`,
	442: `UPDATE shares SET source_backup_id = '{{b_gen}}' WHERE id = '{{s_ok}}'`,
	458: `DELETE FROM share_backups WHERE id IN ('{{b_gen}}', '{{b_big}}', '{{b_drv}}');
		UPDATE share_backups SET status = 'migrating' WHERE id = '{{l4}}'`,
}

// none is how it was before demo's first backup.
const none = `DELETE FROM share_backups WHERE project_id = '{{p_demo}}'`

// usage is what project demo had used, and its limits.
const usage = `
	INSERT INTO quotas VALUES ('{{p_demo}}', 'shares', -1), ('{{p_demo}}', 'gigabytes', -1),
		('{{p_demo}}', 'snapshots', -1), ('{{p_demo}}', 'snapshot_gigabytes', -1);
	INSERT INTO quota_usages VALUES ('{{p_demo}}', 'shares', 70), ('{{p_demo}}', 'gigabytes', 84),
		('{{p_demo}}', 'snapshots', 6), ('{{p_demo}}', 'snapshot_gigabytes', 6),
		('{{p_demo}}', 'backups', 3), ('{{p_demo}}', 'backup_gigabytes', 5);`

// A difference is an answer that is not Manila's, on purpose.
type difference struct {
	why    string
	like   int    // the exchange whose answer is given here too
	status int    // 0: Manila's
	body   string // JSON; empty: the fault that goes with the status or, where there is none, Manila's body
	items  string // the names of the backups that are listed instead, in order
}

const (
	wire     = "the spaces do not survive HTTP: net/http takes them off, as RFC 9110 says (section 5.5)"
	shape    = "wrong types and sizes are the client's mistake, so 400 and not 500"
	public   = "seeing a public share is not owning it: backing it up or overwriting it takes its owner or an administrator"
	bin      = "there is no recycle bin, so that the share is not there and the action is unknown"
	sorting  = "what cannot be sorted by is the client's mistake, so 400 and not 500"
	ordinary = "% and _ are ordinary characters in a pattern"
)

// differences are by the number of the exchange.
var differences = map[int]difference{
	43:  {why: wire, like: 22},
	97:  {why: bin, status: 400},
	100: {why: shape, status: 400},
	102: {why: shape, status: 400},
	103: {why: shape, status: 400},
	134: {why: public, status: 403},
	136: {why: "empty options are no options, as Manila's own documentation sends them", status: 202, body: `{"share_backup": {
		"id": "{{id}}", "name": "emptyopts", "share_id": "{{s_adm}}", "status": "creating", "description": null, "size": 1,
		"created_at": "{{time}}", "updated_at": null, "availability_zone": "nova", "progress": "0", "restore_progress": "0",
		"host": null, "topic": null}}`},
	139: {why: "names are any Unicode", status: 202, body: `{"share_backup": {
		"id": "{{id}}", "name": "sauvegarde-é中😀", "share_id": "{{s_adm}}", "status": "creating", "description": null, "size": 1,
		"created_at": "{{time}}", "updated_at": null, "availability_zone": "nova", "progress": "0", "restore_progress": "0",
		"backup_type": null, "host": "{{host}}", "topic": null}}`},
	188: {why: "a name is text", status: 400},
	194: {why: "text without NUL is what every database can keep", status: 400},
	226: {why: "the reference and the client offer restoring", like: 225},
	267: {why: public, status: 403},
	297: {why: "the marker is honoured, so that following the links ends", items: "l2 l1"},
	304: {why: ordinary, items: "l3"},
	305: {why: ordinary, items: ""},
	310: {why: "an exact filter is exact; the recorded database took case for nothing", items: "l0"},
	330: {why: "progress is a number; Manila sorts it as text", items: "b_type b_drv b_gen b_big b_pub b_old l5 l4 l3 l2 l1 l0"},
	338: {why: sorting, status: 400},
	341: {why: sorting, status: 400},
	345: {why: sorting, status: 400},
	372: {why: "0 is false", items: "b_adm2 b_adm b_admalt"},
	420: {why: "a deletion that failed can be tried again", like: 426},
	423: {why: bin, status: 400},
	436: {why: "there are no reservations: a charge is made in the transaction that creates", body: `{"quota_set": {
		"id": "{{p_demo}}",
		"shares": {"limit": -1, "in_use": 70, "reserved": 0}, "gigabytes": {"limit": -1, "in_use": 84, "reserved": 0},
		"snapshots": {"limit": -1, "in_use": 6, "reserved": 0}, "snapshot_gigabytes": {"limit": -1, "in_use": 6, "reserved": 0},
		"share_networks": {"limit": 10, "in_use": 0, "reserved": 0}, "share_groups": {"limit": 50, "in_use": 0, "reserved": 0},
		"share_group_snapshots": {"limit": 50, "in_use": 0, "reserved": 0}, "share_replicas": {"limit": 100, "in_use": 0, "reserved": 0},
		"replica_gigabytes": {"limit": 1000, "in_use": 0, "reserved": 0}, "per_share_gigabytes": {"limit": -1, "in_use": 0, "reserved": 0},
		"backups": {"limit": 10, "in_use": 3, "reserved": 0}, "backup_gigabytes": {"limit": 1000, "in_use": 5, "reserved": 0}}}`},
	456: {why: "there is no scheduler, and no client of backups asks for its pools", like: 404},
}

// apply returns the answer that is wanted instead of Manila's.
func (d difference) apply(a answer, all []exchange) (answer, error) {
	switch {
	case d.like != 0:
		i := slices.IndexFunc(all, func(e exchange) bool { return e.N == d.like })
		if i < 0 {
			return a, fmt.Errorf("difference %q: there is no exchange %d", d.why, d.like)
		}
		return all[i].Answer, nil
	case d.body != "":
		if err := json.Unmarshal([]byte(d.body), &a.Body); err != nil {
			return a, fmt.Errorf("difference %q: %w", d.why, err)
		}
	case d.status != 0:
		key := map[int]string{400: "badRequest", 403: "forbidden", 404: "itemNotFound"}[d.status]
		a.Body = map[string]any{key: map[string]any{"code": float64(d.status), "message": "…"}}
	default:
		return d.list(a, summaries(all))
	}
	if d.status != 0 {
		a.Status = d.status
	}
	return a, nil
}

// list is Manila's answer with other backups in it. A link to the next page goes on after the last of them.
func (d difference) list(a answer, known map[string]any) (answer, error) {
	items := []any{}
	last := ""
	for name := range strings.FieldsSeq(d.items) {
		last = "{{" + name + "}}"
		if known[last] == nil {
			return a, fmt.Errorf("difference %q: no backup %s was ever listed", d.why, name)
		}
		items = append(items, known[last])
	}
	body := map[string]any{"share_backups": items}
	was, _ := a.Body.(map[string]any)
	if links, ok := was["share_backup_links"].([]any); ok {
		link := maps.Clone(links[0].(map[string]any))
		before, _, _ := strings.Cut(link["href"].(string), "marker=")
		link["href"] = before + "marker=" + last
		body["share_backup_links"] = []any{link}
	}
	a.Body = body
	return a, nil
}

package api_test

import (
	"encoding/json"
	"strings"
)

// before is what had happened between the recorded exchanges, by the number of the exchange that shows it.
var before = map[int]string{
	121: `INSERT INTO quotas VALUES ('{{p_alt}}', 'backups', 0)`,
	176: `UPDATE share_backups SET display_name = NULL WHERE id = '{{b_drv}}'`,
	186: `UPDATE share_backups SET display_description = '' WHERE id = '{{b_drv}}'`,
	193: `UPDATE share_backups SET display_description = '' WHERE id = '{{b_drv}}'`,
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
	status int    // 0: Manila's
	body   string // JSON; empty: the fault of the status or, where the status is Manila's, its body
	items  string // the names of the listed things, in order; they look as Manila's do
}

// faults are the keys of fault bodies.
var faults = map[int]string{400: "badRequest", 403: "forbidden", 404: "itemNotFound"}

// differences are by the number of the exchange.
var differences = map[int]difference{}

// apply returns the answer that is wanted instead of Manila's.
func (d difference) apply(a answer) answer {
	if d.items != "" {
		return d.list(a)
	}
	text := d.body
	if d.status != 0 {
		a.Status = d.status
		if text == "" {
			text = `{"` + faults[d.status] + `": {"code": ` + number(d.status) + `, "message": "…"}}`
		}
	}
	if text != "" {
		if err := json.Unmarshal([]byte(text), &a.Body); err != nil {
			panic(err) // the table is wrong
		}
	}
	return a
}

func number(n int) string {
	b, _ := json.Marshal(n)
	return string(b)
}

// list rearranges a list of backups. Those that Manila did not list look like its first one.
func (d difference) list(a answer) answer {
	body := a.Body.(map[string]any)
	was := map[string]any{}
	for _, item := range body["share_backups"].([]any) {
		was[item.(map[string]any)["id"].(string)] = item
	}
	items := []any{}
	for name := range strings.FieldsSeq(d.items) {
		items = append(items, was["{{"+name+"}}"])
	}
	a.Body = map[string]any{"share_backups": items}
	return a
}

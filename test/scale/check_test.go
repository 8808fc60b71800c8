package scale

import (
	"bufio"
	"database/sql"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
)

// query asks the database behind the servers for one value.
func (f *fleet) query(statement string) (n int) {
	f.t.Helper()
	d, err := sql.Open("pgx", f.database)
	must(f.t, err)
	defer d.Close()
	must(f.t, d.QueryRowContext(f.t.Context(), statement).Scan(&n))
	return n
}

// exec changes rows behind the servers' back.
func (f *fleet) exec(statement string) {
	f.t.Helper()
	d, err := sql.Open("pgx", f.database)
	must(f.t, err)
	defer d.Close()
	_, err = d.ExecContext(f.t.Context(), statement)
	must(f.t, err)
}

// settled checks what has to be so whenever nobody asks for anything: nothing is under way, each backup has a saved tree of its own,
// each share a directory, and what is charged is what there is.
func (f *fleet) settled(projects []string) {
	f.t.Helper()
	for end := time.Now().Add(patience); ; pause(often) {
		left := f.query(`SELECT (SELECT count(*) FROM share_backups WHERE lease_until IS NOT NULL OR status IN ('creating', 'restoring', 'deleting'))
			+ (SELECT count(*) FROM shares WHERE lease_until IS NOT NULL OR status LIKE '%ing')`)
		if left == 0 {
			break
		}
		if time.Now().After(end) {
			f.t.Errorf("%d rows are left as though somebody worked on them", left)
			return
		}
	}
	if n := f.query(`SELECT count(*) - count(DISTINCT nullif(ref, '')) FROM share_backups WHERE status = 'available'`); n != 0 {
		f.t.Errorf("%d backups have no saved tree of their own", n)
	}
	entries, err := os.ReadDir(f.files())
	must(f.t, err)
	if n := f.query(`SELECT count(*) FROM shares`); n != len(entries) {
		f.t.Errorf("there are %d shares and %d directories", n, len(entries))
	}
	for _, project := range projects {
		f.charged(project)
	}
}

// charged compares a project's usage with its rows.
func (f *fleet) charged(project string) {
	c := f.client(project)
	_, answer, _ := c.call("GET", "/quota-sets/"+project+"/detail", nil)
	set, _ := answer["quota_set"].(object)
	shares, backups := c.list("/shares/detail", "shares"), c.list("/share-backups/detail", "share_backups")
	for name, want := range map[string]int{
		"shares": len(shares), "gigabytes": sizes(shares), "backups": len(backups), "backup_gigabytes": sizes(backups),
	} {
		entry, _ := set[name].(object)
		if entry == nil || int(entry["in_use"].(float64)+entry["reserved"].(float64)) != want {
			f.t.Errorf("project %s is charged %v for %d %s", project, entry, want, name)
		}
	}
}

func sizes(list []object) (sum int) {
	for _, o := range list {
		sum += int(o["size"].(float64))
	}
	return sum
}

// done counts how often each resource has had an operation done to it, by the audit logs of all.
func (f *fleet) done(operation string) map[string]int {
	f.t.Helper()
	times := map[string]int{}
	logs, err := filepath.Glob(filepath.Join(f.dir, "*", "audit.log"))
	must(f.t, err)
	for _, path := range logs {
		log, err := os.Open(path)
		must(f.t, err)
		defer log.Close()
		for lines := bufio.NewScanner(log); lines.Scan(); {
			var line struct {
				Event    string
				Action   string
				Outcome  string
				Resource string `json:"resource_id"`
			}
			if json.Unmarshal(lines.Bytes(), &line) == nil && line.Event == "end" && line.Action == operation && line.Outcome == "done" {
				times[line.Resource]++
			}
		}
	}
	return times
}

// verify reads everything back with the program's own command. It returns whether all is well, and what the command said.
func (f *fleet) verify() (well bool, said string) {
	out, err := f.workers[0].command("verify").CombinedOutput()
	return err == nil, strings.TrimSpace(string(out))
}

package api_test

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"abaca"
	"abaca/internal/api"
	"abaca/internal/auth"
)

var update = flag.Bool("update", false, "write the files that answers are compared with")

// callers are who asks, in the order of the table's columns.
var callers = []string{"none", "expired", "garbage", "norole", "reader", "member", "other", "admin"}

// pass knows the callers of the table by tokens that are their names.
type pass struct{ demo abaca.ProjectID }

func (p pass) Authenticate(r *http.Request) (abaca.Caller, error) {
	demo := func(user string, roles ...string) (abaca.Caller, error) {
		return abaca.Caller{User: user, Project: p.demo, Roles: roles}, nil
	}
	switch r.Header.Get("X-Auth-Token") {
	case "norole":
		return demo("norole", "visitor")
	case "reader":
		return demo("rdr", "reader")
	case "member":
		return demo("mbr", "member", "reader")
	case "other":
		return abaca.Caller{User: "other", Project: "c0ffee00c0ffee00c0ffee00c0ffee00", Roles: []string{"member", "reader"}}, nil
	case "admin":
		return abaca.Caller{User: "admin", Project: "ad000000ad000000ad000000ad000000", Roles: []string{"admin", "manager", "member", "reader"}}, nil
	case "expired":
		return abaca.Caller{}, auth.Unauthorized("The token has expired.")
	}
	return abaca.Caller{}, auth.Unauthorized("The request needs a token.")
}

// accessWorld is newWorld with more things, of which there is one for each column of the table.
func accessWorld(t *testing.T) *world {
	w := newWorldAt(t, filepath.Join(t.TempDir(), "world.sqlite")) // a file tells whether it has been changed
	data, err := os.ReadFile("testdata/access.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`\{\{(\w+)\}\}`).FindAllStringSubmatch(string(data), -1) {
		if _, known := w.ids[m[1]]; !known {
			w.ids[m[1]] = uuid.NewSHA1(uuid.Nil, []byte(m[1])).String()
		}
	}
	w.ids["p_none"] = "0123456789abcdef0123456789abcdef"
	w.exec(string(data))
	return w
}

// A cell is an answer to one caller.
type cell struct {
	status int
	items  int    // of a list; -1 for none
	text   string // all that the caller can tell apart: the answer, with {id} for the id that was asked for, and what took the time
}

func (c cell) String() string {
	if c.items < 0 {
		return fmt.Sprint(c.status)
	}
	return fmt.Sprintf("%d/%d", c.status, c.items)
}

func TestWhoMayDoWhatIsAsTheTableSays(t *testing.T) {
	blank := accessWorld(t)
	asked := map[string]bool{}
	rows := [][]string{append([]string{"METHOD", "PATH", "WHOSE"}, callers...)}
	w := blank.accessCopy(t)
	for _, route := range api.Routes() {
		key := strings.TrimSpace(route.Method + " " + route.Path + " " + route.Action)
		asked[key] = true
		if places[key] == nil {
			t.Errorf("nothing is asked of %s", key)
		}
		for _, p := range places[key] {
			cells := map[string]map[string]cell{}
			for _, whose := range []string{"", "own", "other's", "public", "unknown"} {
				thing, ok := things[p.kind][whose]
				if !ok {
					continue
				}
				cells[whose] = map[string]cell{}
				name := strings.TrimSpace(p.of + " " + whose)
				if name == "" {
					name = "-"
				}
				row := []string{route.Method, strings.TrimSpace(route.Path + " " + route.Action), name}
				for _, caller := range callers {
					c, changed := w.ask(route.Method, route.Path, p, thing, caller)
					if changed {
						if c.status >= 300 && p.of != "target" { // a refused target leaves a message to who named it
							t.Errorf("%s %s: the answer to %s is %d, and something has changed", key, name, caller, c.status)
						}
						w = blank.accessCopy(t)
					}
					cells[whose][caller] = c
					row = append(row, c.String())
				}
				rows = append(rows, row)
			}
			hides(t, key+" "+p.of, cells)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(places)) {
		if !asked[key] {
			t.Errorf("there is no route %s", key)
		}
	}
	compareFile(t, "testdata/access.txt", accessHeader+aligned(rows))
}

// hides fails the test where a caller can tell what is not theirs from what is not there. For the caller other that is demo's too.
func hides(t *testing.T, what string, cells map[string]map[string]cell) {
	t.Helper()
	for _, caller := range callers {
		for _, whose := range []string{"own", "other's"} {
			got, some := cells[whose][caller]
			if some && caller != "admin" && (whose != "own" || caller == "other") && got != cells["unknown"][caller] {
				t.Errorf("%s: %s is answered\n%+v\nfor what is %s, and\n%+v\nfor what is not there", what, caller, got, whose, cells["unknown"][caller])
			}
		}
	}
}

const accessHeader = `# Who may do what: the status of the answer to each caller and, for a list, how many things it shows.
#
# none, expired and garbage have no token that is worth anything. norole, reader and member belong to project demo; other is a member of
# another project; admin is an administrator of yet another. own things are demo's; other's and public ones belong to project alt, to
# which none of the callers does; there is no unknown thing. A private share type is other's, as nobody but administrators has it.
#
# The test asks for all of it. It also compares the answers for other's and for unknown things, which must be the same in all but the
# id that was asked for, and which the same statements on the database must lead to; and it makes sure that what is refused changes
# nothing. go test ./internal/api -run Table -update writes this file.

`

// aligned pads the columns of rows.
func aligned(rows [][]string) string {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, c := range row {
			widths[i] = max(widths[i], len(c))
		}
	}
	var b strings.Builder
	for i, row := range rows {
		if i > 1 && strings.Split(row[1], "/")[1] != strings.Split(rows[i-1][1], "/")[1] {
			b.WriteString("\n")
		}
		var line strings.Builder
		for j, c := range row {
			fmt.Fprintf(&line, "%-*s  ", widths[j], c)
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	return b.String()
}

func compareFile(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	gotLines, wantLines := strings.Split(got, "\n"), strings.Split(string(want), "\n")
	for i := range max(len(gotLines), len(wantLines)) {
		g, w := "", ""
		if i < len(gotLines) {
			g = gotLines[i]
		}
		if i < len(wantLines) {
			w = wantLines[i]
		}
		if g != w {
			t.Errorf("%s:%d\n got %s\nwant %s", path, i+1, g, w)
		}
	}
}

// An accessed world notices when its database changes.
type accessed struct {
	*world
	raw       *sql.DB
	locations map[string]string // the export location of each share
	mu        sync.Mutex
	asked     []string // the statements that the latest request has run
}

func (w *accessed) heard(query string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = append(w.asked, query)
}

// statements returns what has been run since they were asked for last.
func (w *accessed) statements() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := strings.Join(w.asked, "\n")
	w.asked = nil
	return s
}

func (w *world) accessCopy(t *testing.T) *accessed {
	t.Helper()
	c := w.copyFor(t, pass{demo: abaca.ProjectID(w.ids["p_demo"])})
	raw, err := sql.Open("sqlite", c.at)
	if err != nil {
		t.Fatal(err)
	}
	raw.SetMaxOpenConns(1)
	t.Cleanup(func() { raw.Close() })
	a := &accessed{world: c, raw: raw, locations: map[string]string{}}
	if err := os.Mkdir(c.files+"/adopt", 0o700); err != nil {
		t.Fatal(err)
	}
	for _, share := range things["share"] {
		var list struct {
			Locations []struct{ ID string } `json:"export_locations"`
		}
		answer := c.do("GET", "/shares/"+c.ids[share]+"/export_locations", "", "admin")
		if err := json.Unmarshal(answer.body, &list); err != nil {
			t.Fatal(err)
		}
		a.locations[share] = c.ids["no_id"]
		if len(list.Locations) > 0 {
			a.locations[share] = list.Locations[0].ID
		}
	}
	c.db.Watch = a.heard
	return a
}

// version is another number after each change that somebody else makes to the database.
func (w *accessed) version() (n int) {
	w.t.Helper()
	if err := w.raw.QueryRowContext(w.t.Context(), "PRAGMA data_version").Scan(&n); err != nil {
		w.t.Fatal(err)
	}
	return n
}

// statuses are those of all shares and backups, with what is noted of a restore, and how many messages others have.
func (w *accessed) statuses() (all string) {
	w.t.Helper()
	if err := w.raw.QueryRowContext(w.t.Context(), `SELECT (SELECT group_concat(id || status || source_backup_id) FROM shares)
		|| (SELECT group_concat(id || status || target_share_id) FROM share_backups)
		|| (SELECT count(*) FROM messages WHERE project_id <> $1)`, w.ids["p_demo"]).Scan(&all); err != nil {
		w.t.Fatal(err)
	}
	return all
}

// ask asks for one thing, and reports whether that has changed the database.
func (w *accessed) ask(method, path string, p place, thing, caller string) (c cell, changed bool) {
	w.t.Helper()
	if p.path != "" {
		path = p.path
	}
	id, named := w.ids[thing]
	if !named {
		id = thing
	}
	if p.kind == "address" {
		id = "127.0.0.1:" + w.files + "/" + thing
	}
	fill := strings.NewReplacer("{id}", id, "{project}", id, "{class}", "default", "{location}", w.locations[thing], "{key}", "k", "{{b_own}}", w.ids["b_own"], "{files}", w.files,
		"{{p_demo}}", w.ids["p_demo"])
	before := w.version()
	w.statements()
	a := w.do(method, fill.Replace(path), fill.Replace(p.body), caller)
	c = cell{status: a.status, items: -1}
	var body map[string]json.RawMessage
	if json.Unmarshal(a.body, &body) == nil {
		for _, key := range slices.Sorted(maps.Keys(body)) {
			var list []json.RawMessage
			if bytes.HasPrefix(body[key], []byte("[")) && json.Unmarshal(body[key], &list) == nil && !strings.HasSuffix(key, "_links") {
				c.items = len(list)
			}
		}
	}
	hide := []string{a.header.Get("x-openstack-request-id"), "{request}", id, "{id}"}
	if location, ok := w.locations[thing]; ok {
		hide = append(hide, location, "{location}")
	}
	a.header.Del("Date")
	var header bytes.Buffer
	if err := a.header.Write(&header); err != nil {
		w.t.Fatal(err)
	}
	c.text = strings.NewReplacer(hide...).Replace(header.String()+string(a.body)) + "\n\n" + w.statements()
	if c.status < 300 && strings.Contains(path, "/{id}") && !strings.Contains(c.text, "SELECT") {
		w.t.Errorf("%s %s is answered without a look into the database", method, path)
	}
	return c, w.version() != before
}

// A reply is what comes back over HTTP.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// do sends a request below /v2 at the newest version.
func (w *world) do(method, path, body, token string) reply {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), method, w.URL+"/v2"+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("X-OpenStack-Manila-API-Version", "2.99")
	r.Header.Set("X-OpenStack-Manila-API-Experimental", "True")
	r.Header.Set("Content-Type", "application/json")
	if token != "none" {
		r.Header.Set("X-Auth-Token", token)
	}
	return w.roundTrip(r)
}

func (w *world) roundTrip(r *http.Request) reply {
	w.t.Helper()
	resp, err := w.client.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return reply{resp.StatusCode, resp.Header, data}
}

package api_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// An exchange is a request and what a Manila answered to it.
type exchange struct {
	N        int
	About    string
	NoAuth   bool    // sent to a server that trusts every token
	As       *string // who asks; nil without a token
	Method   string
	Path     string
	Headers  map[string]string
	Body     *string
	PaddedTo int `json:"padded_to"` // the body's length where only its beginning is recorded
	Answer   answer
}

// An answer is the part of an HTTP response that clients can tell apart. In its strings {{name}} is a placeholder.
type answer struct {
	Status  int
	Headers map[string]string
	Body    any
}

func recorded(t *testing.T) []exchange {
	t.Helper()
	f, err := os.Open("testdata/recorded.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []exchange
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e exchange
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatalf("line %d: %v", len(all)+1, err)
		}
		all = append(all, e)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestAnswersAreManilas(t *testing.T) {
	all := recorded(t)
	blank := newWorld(t)
	seen := map[int]bool{}
	for _, e := range all {
		seen[e.N] = true
		t.Run(fmt.Sprintf("%d %s", e.N, e.About), func(t *testing.T) {
			w := blank.copy(t, e.NoAuth)
			if sql, ok := before[e.N]; ok {
				w.exec(sql)
			}
			want := e.Answer
			if d, ok := differences[e.N]; ok {
				var err error
				if want, err = d.apply(want, all); err != nil {
					t.Fatal(err)
				}
			}
			w.compare(want, w.send(e))
		})
	}
	for _, n := range slices.Sorted(maps.Keys(differences)) {
		if !seen[n] {
			t.Errorf("difference %d is from an exchange that was not recorded", n)
		}
	}
	for _, n := range slices.Sorted(maps.Keys(before)) {
		if !seen[n] {
			t.Errorf("preparation %d is for an exchange that was not recorded", n)
		}
	}
}

// summaries are the backups that were listed without detail, as they were listed first, by their placeholders.
func summaries(all []exchange) map[string]any {
	found := map[string]any{}
	for _, e := range all {
		body, _ := e.Answer.Body.(map[string]any)
		list, _ := body["share_backups"].([]any)
		for _, item := range list {
			o, _ := item.(map[string]any)
			id, _ := o["id"].(string)
			if _, again := found[id]; len(o) == 4 && !again {
				found[id] = o
			}
		}
	}
	return found
}

// send makes the request of an exchange and returns the answer.
func (w *world) send(e exchange) answer {
	w.t.Helper()
	var body io.Reader
	if e.Body != nil {
		text := w.fill(*e.Body)
		text = strings.ReplaceAll(text, "\ufffd", "\xff") // bytes that are no UTF-8 cannot stand in a JSON file
		if e.PaddedTo > 0 {
			text += strings.Repeat("x", e.PaddedTo-len(text))
		}
		body = strings.NewReader(text)
	}
	r, err := http.NewRequestWithContext(w.t.Context(), e.Method, w.URL+w.fill(e.Path), body)
	if err != nil {
		w.t.Fatal(err)
	}
	for k, v := range e.Headers {
		r.Header[k] = []string{v}
	}
	if e.As != nil {
		r.Header.Set("X-Auth-Token", w.fill(*e.As))
	}
	resp, err := w.client.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	got := answer{Status: resp.StatusCode, Headers: map[string]string{}, Body: string(data)}
	for k := range resp.Header {
		got.Headers[k] = resp.Header.Get(k)
	}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") && len(data) > 0 {
		got.Body = nil
		if err := json.Unmarshal(data, &got.Body); err != nil {
			w.t.Fatalf("the answer is no JSON: %v\n%s", err, data)
		}
	}
	return got
}

// compare fails where an answer is not what is wanted: status, the headers that are wanted, keys, types and values.
func (w *world) compare(want, got answer) {
	w.t.Helper()
	if got.Status != want.Status {
		w.t.Errorf("status %d, want %d: %v", got.Status, want.Status, got.Body)
		return
	}
	for name, value := range want.Headers {
		if have := got.Headers[http.CanonicalHeaderKey(name)]; !w.matches(value, have) {
			w.t.Errorf("header %s is %q, want %q", name, have, value)
		}
	}
	for _, name := range []string{"X-Openstack-Manila-Api-Version", "X-Openstack-Manila-Api-Experimental", "Vary", "Retry-After"} {
		wanted := slices.ContainsFunc(slices.Collect(maps.Keys(want.Headers)), func(k string) bool { return http.CanonicalHeaderKey(k) == name })
		if value, there := got.Headers[name]; there && !wanted {
			w.t.Errorf("header %s is %q, want none", name, value)
		}
	}
	for _, difference := range w.diff("body", want.Body, got.Body) {
		w.t.Error(difference)
	}
}

// diff lists where JSON values differ. A recorded string may hold placeholders.
func (w *world) diff(at string, want, got any) []string {
	switch want := want.(type) {
	case map[string]any:
		got, ok := got.(map[string]any)
		if !ok {
			return []string{fmt.Sprintf("%s is %T, want an object", at, got)}
		}
		var found []string
		for _, k := range slices.Sorted(maps.Keys(want)) {
			if _, ok := got[k]; !ok {
				found = append(found, fmt.Sprintf("%s lacks %q", at, k))
				continue
			}
			found = append(found, w.diff(at+"."+k, want[k], got[k])...)
		}
		for _, k := range slices.Sorted(maps.Keys(got)) {
			if _, ok := want[k]; !ok {
				found = append(found, fmt.Sprintf("%s has %q besides", at, k))
			}
		}
		return found
	case []any:
		got, ok := got.([]any)
		if !ok || len(got) != len(want) {
			return []string{fmt.Sprintf("%s is %s, want %s", at, names(w, got), names(w, want))}
		}
		var found []string
		for i := range want {
			found = append(found, w.diff(fmt.Sprintf("%s[%d]", at, i), want[i], got[i])...)
		}
		return found
	case string:
		if text, ok := got.(string); !ok || !w.matches(want, text) {
			return []string{fmt.Sprintf("%s is %#v, want %q", at, got, want)}
		}
	default:
		if got != want {
			return []string{fmt.Sprintf("%s is %#v, want %#v", at, got, want)}
		}
	}
	return nil
}

// names shortens a list of objects to their ids, by the names that the recording gives them.
func names(w *world, list []any) string {
	var ids []string
	for _, v := range list {
		o, _ := v.(map[string]any)
		id, _ := o["id"].(string)
		for name, known := range w.ids {
			id = strings.ReplaceAll(id, known, "{{"+name+"}}")
		}
		ids = append(ids, id)
	}
	return fmt.Sprintf("%d items %v", len(list), ids)
}

// placeholder is what may stand for another text in a recorded string.
var placeholder = regexp.MustCompile(`\{\{(\w+)\}\}|…text…|…`)

// matches reports whether a text is one that a recorded string stands for.
func (w *world) matches(recorded, text string) bool {
	var pattern strings.Builder
	end := 0
	for _, m := range placeholder.FindAllStringSubmatchIndex(recorded, -1) {
		pattern.WriteString(regexp.QuoteMeta(recorded[end:m[0]]))
		end = m[1]
		name := ""
		if m[2] >= 0 {
			name = recorded[m[2]:m[3]]
		}
		switch id, known := w.ids[name]; {
		case name == "id":
			pattern.WriteString(`(req-)?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)
		case name == "time":
			pattern.WriteString(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}`)
		case name == "base":
			pattern.WriteString(regexp.QuoteMeta(w.URL))
		case name == "" || name == "host":
			pattern.WriteString(`(?s:.+)`)
		case known:
			pattern.WriteString(regexp.QuoteMeta(id))
		default:
			w.t.Fatalf("%s is no placeholder", recorded[m[0]:m[1]])
		}
	}
	pattern.WriteString(regexp.QuoteMeta(recorded[end:]))
	return regexp.MustCompile(`^` + pattern.String() + `$`).MatchString(text)
}

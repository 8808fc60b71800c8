package metrics_test

import (
	"bytes"
	"errors"
	"log/slog"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"go.yaml.in/yaml/v3"

	"abaca"
	"abaca/internal/metrics"
)

// A state of a server that the test decides on.
type state struct {
	err      error
	measured bool
}

func (s state) Waiting() (map[string]metrics.Waiting, error) {
	return map[string]metrics.Waiting{abaca.CreateBackup.Name: {Count: 3, Age: 90 * time.Second}}, s.err
}

func (s state) Repositories() (int, int64, bool) { return 2, 1 << 40, s.measured }

// scrape returns the metrics as text, after something of everything has happened.
func scrape(t *testing.T, s state) string {
	t.Helper()
	m := metrics.New(s)
	m.WorkBegan(abaca.CreateBackup.Name)(abaca.OutcomeDone)
	m.Answered("GET", "/v2/shares/{id}", 200, time.Millisecond)
	m.Saved(1, 2, 3)
	m.Restored(4, 5)
	m.Verified(abaca.Verification{Files: 6, Bytes: 7, Damaged: 8})
	w := httptest.NewRecorder()
	m.Handler(slog.New(slog.DiscardHandler)).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("%d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func TestNamesAndHelpAreAsPrometheusWantsThem(t *testing.T) {
	problems, err := promlint.New(bytes.NewBufferString(scrape(t, state{measured: true}))).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestADatabaseThatDoesNotAnswerLeavesTheRestToBeSeen(t *testing.T) {
	text := scrape(t, state{err: errors.New("no answer")})
	for _, line := range []string{
		"abaca_database_up 0", `abaca_operations_total{operation="create_backup",outcome="done"} 1`, "abaca_stored_bytes_total 3",
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("%s is missing", line)
		}
	}
	for _, name := range []string{"abaca_operations_waiting", "abaca_repository_stored_bytes"} {
		if strings.Contains(text, "\n"+name) {
			t.Errorf("%s is shown, although it is not known", name)
		}
	}
}

var typeLine = regexp.MustCompile(`(?m)^# TYPE (\S+) (\S+)$`)

// shown are the names of all metrics of our own, with their types.
func shown(t *testing.T) map[string]string {
	t.Helper()
	names := map[string]string{}
	for _, m := range typeLine.FindAllStringSubmatch(scrape(t, state{measured: true}), -1) {
		if strings.HasPrefix(m[1], "abaca_") {
			names[m[1]] = m[2]
		}
	}
	return names
}

func TestEveryMetricIsDescribedAndNoOther(t *testing.T) {
	page, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile("(?m)^\\| `(abaca_\\w+)` \\| (\\w+) \\|")
	described := map[string]string{}
	for _, m := range row.FindAllStringSubmatch(string(page), -1) {
		described[m[1]] = m[2]
	}
	names := shown(t)
	for name, kind := range names {
		if described[name] != kind {
			t.Errorf("%s is a %s, and described as %q", name, kind, described[name])
		}
	}
	for name := range described {
		if names[name] == "" {
			t.Errorf("%s is described and does not exist", name)
		}
	}
}

// A ruleFile is as much of Prometheus' format as its alerts need.
type ruleFile struct {
	Groups []struct {
		Name  string
		Rules []struct {
			Alert       string
			Expr        string
			For         string
			Labels      map[string]string
			Annotations map[string]string
		}
	}
}

func TestTheExampleRulesNameWhatThereIs(t *testing.T) {
	data, err := os.ReadFile("../../deploy/prometheus-rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file ruleFile
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	if err := dec.Decode(&file); err != nil {
		t.Fatal(err)
	}
	names := shown(t)
	word := regexp.MustCompile(`abaca_\w+`)
	label := regexp.MustCompile(`(operation|outcome)=~?"([^"]*)"`)
	rules := 0
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			rules++
			if r.Alert == "" || r.Annotations["summary"] == "" || r.Labels["severity"] == "" {
				t.Errorf("%s/%s is not complete", g.Name, r.Alert)
			}
			if _, err := time.ParseDuration(r.For); r.For != "" && err != nil {
				t.Errorf("%s: %v", r.Alert, err)
			}
			if strings.Count(r.Expr, "(") != strings.Count(r.Expr, ")") || strings.Count(r.Expr, "{") != strings.Count(r.Expr, "}") {
				t.Errorf("%s: brackets do not match", r.Alert)
			}
			used := word.FindAllString(r.Expr, -1)
			if len(used) == 0 {
				t.Errorf("%s asks for nothing", r.Alert)
			}
			for _, name := range used {
				base := name
				for _, suffix := range []string{"_bucket", "_sum", "_count"} {
					if b, ok := strings.CutSuffix(name, suffix); ok && names[b] == "histogram" {
						base = b
					}
				}
				if names[base] == "" {
					t.Errorf("%s: there is no metric %s", r.Alert, name)
				}
			}
			for _, m := range label.FindAllStringSubmatch(r.Expr, -1) {
				known := map[string][]string{"operation": abaca.WorkNames(), "outcome": abaca.WorkOutcomes}[m[1]]
				for v := range strings.SplitSeq(m[2], "|") {
					if !slices.Contains(known, v) {
						t.Errorf("%s: there is no %s %q", r.Alert, m[1], v)
					}
				}
			}
		}
	}
	if rules == 0 {
		t.Error("there are no rules")
	}
}

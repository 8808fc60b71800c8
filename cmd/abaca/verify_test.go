package main

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"abaca/internal/test/serve"
)

// verify runs "abaca verify" on the server's data directory.
func (h *house) verify(args ...string) (stdout, stderr string, err error) {
	h.t.Helper()
	return h.run(h.t.Context(), append([]string{"verify", "--data-dir", h.Config.DataDir}, args...)...)
}

// records runs "abaca verify -o json" and returns what it prints by name; it fails with the exit code that is wanted.
func (h *house) records(code int, args ...string) map[string]object {
	h.t.Helper()
	out, _, err := h.verify(append(args, "-o", "json")...)
	if exitCode(err) != code {
		h.t.Fatalf("abaca verify %v: %v", args, err)
	}
	byName := map[string]object{}
	for _, o := range decode[[]object](h.t, out) {
		byName[o["name"].(string)] = o
	}
	return byName
}

// withBackups makes two shares, one of them with a large file, and a backup of each.
func withBackups(t *testing.T) *house {
	t.Helper()
	h := open(t)
	big := make([]byte, 1<<20)
	rand.Read(big)
	h.write(h.share("papers"), "big", string(big))
	h.write(h.share("music"), "song", "la la")
	h.must("backup", "create", "papers", "--name", "monday", "--wait")
	h.must("backup", "create", "music", "--name", "tuesday", "--wait")
	return h
}

func TestVerifyBesideARunningServerAndWithoutOne(t *testing.T) {
	h := withBackups(t)
	for name, b := range h.records(0, "--last") {
		if b["ended_at"] != nil || b["damaged"] != 0.0 {
			t.Errorf("%s was never verified, and is recorded as %v", name, b)
		}
	}
	out, progress, err := h.verify()
	if err != nil {
		t.Fatal(err)
	}
	rows := strings.Split(strings.TrimSpace(out), "\n")
	if len(rows) != 3 || !strings.HasPrefix(rows[0], "ID ") || !strings.Contains(rows[1], "monday") || !strings.Contains(rows[1], "1.0 MiB") ||
		!strings.Contains(rows[2], "tuesday") || !strings.Contains(rows[2], "100%") {
		t.Errorf("it prints\n%s", out)
	}
	if !strings.Contains(progress, "project admin: verified 100%") {
		t.Errorf("it shows %q", progress)
	}
	h.must("backup", "list") // the server goes on
	h.Stop()
	last := h.records(0, "--last")
	if len(last) != 2 || last["monday"]["ended_at"] == nil || last["monday"]["from"] != 0.0 || last["monday"]["to"] != 1.0 ||
		last["monday"]["bytes"] != float64(1<<20) || last["tuesday"]["bytes"] != 5.0 {
		t.Errorf("recorded is %v", last)
	}
	if again := h.records(0, "tuesday"); len(again) != 1 || again["tuesday"]["bytes"] != 5.0 {
		t.Errorf("without a server it finds %v", again)
	}
}

func TestVerifyOnPostgreSQL(t *testing.T) {
	t.Setenv("TEST_DATABASE", "postgres")
	TestVerifyBesideARunningServerAndWithoutOne(t)
}

func TestVerifyFindsDamage(t *testing.T) {
	h := withBackups(t)
	if err := serve.FlipBit(h.Config.DataDir); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		out, stderr, err := h.verify()
		if exitCode(err) != 1 || err.Error() != "1 of 2 are damaged" {
			t.Errorf("error %v", err)
		}
		if !strings.Contains(stderr, `backup monday: "big": `) || strings.Contains(stderr, "tuesday") || !strings.Contains(out, "tuesday") {
			t.Errorf("it prints\n%s\n%s", out, stderr)
		}
	}
	_, answer := h.Do("GET", "/messages", nil)
	if told := answer["messages"].([]any); len(told) != 1 || !strings.Contains(told[0].(object)["user_message"].(string), `"big"`) {
		t.Errorf("the tenant is told %v", told)
	}
	if last := h.records(1, "--last"); last["monday"]["damaged"] != 1.0 || !strings.Contains(last["monday"]["detail"].([]any)[0].(string), "big") {
		t.Errorf("recorded is %v", last)
	}
	h.records(0, "--last", "tuesday")
	h.records(0, "tuesday")
}

func TestVerifyReadsARandomPartAndSaysWhich(t *testing.T) {
	h := withBackups(t)
	out, stderr, err := h.verify("monday", "--share", "25%", "-o", "json")
	if err != nil {
		t.Fatal(err)
	}
	b := decode[[]object](t, out)[0]
	from, to := percentage(b["from"].(float64)), percentage(b["to"].(float64))
	if to-from != 0.25 || !slices.Contains([]percentage{0, 0.25, 0.5, 0.75}, from) {
		t.Errorf("it has read from %v to %v", from, to)
	}
	if want := "from " + from.String() + " to " + to.String(); !strings.Contains(stderr, want) {
		t.Errorf("it says %q, not %q", stderr, want)
	}
}

func TestVerifyOfWhatIsNotThereIsRefused(t *testing.T) {
	h := withBackups(t)
	h.must("backup", "create", "music", "--name", "monday", "--wait")
	data := []string{"verify", "--data-dir", h.Config.DataDir}
	for says, args := range map[string][]string{
		`no backup that holds data has the name or id "sunday"`: {"tuesday", "sunday"},
		`2 backups have the name "monday"; give the id`:         {"monday"},
		`nothing is saved of a project "nobody"`:                {"--project", "nobody"},
	} {
		h.refused(says, append(data, args...)...)
	}
	h.refused("no backup that holds data", append(data, "--last", "sunday")...)
	missing := filepath.Join(t.TempDir(), "missing")
	h.refused("there is no data in "+missing, "verify", "--data-dir", missing)
	h.refused("there is no data in "+missing, "verify", "--data-dir", missing, "--last")
	if _, err := os.Stat(missing); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the missing directory: %v", err)
	}
	empty := t.TempDir()
	h.refused("there is no data in "+empty, "verify", "--data-dir", empty)
	if left, err := os.ReadDir(empty); err != nil || len(left) > 0 {
		t.Errorf("in the empty directory there are %v, %v", left, err)
	}
}

func TestEachPartIsAsLikelyAsAnyOther(t *testing.T) {
	for _, text := range []string{"100%", "50%", "10%", "30%", "0.0001%"} {
		var p percentage
		if err := p.Set(text); err != nil {
			t.Fatal(err)
		}
		if p.String() != text {
			t.Errorf("%s is printed as %s", text, p)
		}
		parts := map[float64]bool{}
		for range 1000 {
			s := p.slice()
			if s.From < 0 || s.To > 1 || s.To <= s.From || percentage(s.To-s.From).String() != text {
				t.Fatalf("%s is %+v", text, s)
			}
			parts[s.From] = true
		}
		if want := map[string]int{"100%": 1, "50%": 2, "10%": 10, "30%": 4}[text]; want > 0 && len(parts) != want {
			t.Errorf("%s is one of %d parts, want %d", text, len(parts), want)
		}
	}
}

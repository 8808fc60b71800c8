package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMain lets the test binary be its own workers.
func TestMain(m *testing.M) {
	if os.Getenv(workerEnv) != "" {
		if err := serveWorker(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func TestARunMeasuresEveryPhaseAndChecksWhatIsRestored(t *testing.T) {
	dir := t.TempDir()
	o := options{
		sets: []string{"large", "small"}, tools: []string{"floor", "abaca", "abaca-open", "cp"}, scale: 0.001, rounds: 1,
		work: filepath.Join(dir, "work"), build: dir, out: filepath.Join(dir, "out", "report.md"), profiles: filepath.Join(dir, "profiles"),
	}
	var printed bytes.Buffer
	if err := benchmark(t.Context(), o, &printed, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	written, err := os.ReadFile(o.out)
	if err != nil {
		t.Fatal(err)
	}
	if string(written) != printed.String() {
		t.Error("what is printed is not what is written")
	}
	for _, want := range []string{
		"### Set small: 200 files", "### Set large: 16 files", "| abaca (open) |", "| cp -a |",
		"abaca, restore over: equal in every field", "abaca (open), restore: equal in every field",
	} {
		if !strings.Contains(string(written), want) {
			t.Errorf("the report lacks %q:\n%s", want, written)
		}
	}
	for _, p := range []string{"small-full", "small-1-percent-changed", "large-restore-over"} {
		if info, err := os.Stat(filepath.Join(o.profiles, p+".pprof")); err != nil || info.Size() == 0 {
			t.Errorf("no profile of %s: %v", p, err)
		}
	}
	if _, err := os.Stat(o.work); !os.IsNotExist(err) {
		t.Errorf("the working directory is left behind: %v", err)
	}
}

func TestAWrongRestoreIsNoticed(t *testing.T) {
	b := &bench{options: options{work: t.TempDir()}, round: 1, info: setInfo{}}
	for _, tree := range []string{b.tree(), b.target()} {
		if err := os.Mkdir(tree, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(b.target(), "extra"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	err := b.check(t.Context(), &tool{name: "a", exact: true}, restore)
	if err == nil || !strings.Contains(err.Error(), `"extra" is extra`) {
		t.Errorf("got %v", err)
	}
}

func TestAWorkingDirectoryThatExistsIsNotTouched(t *testing.T) {
	dir := t.TempDir()
	err := benchmark(t.Context(), options{sets: []string{"small"}, work: dir}, &bytes.Buffer{}, slog.New(slog.DiscardHandler))
	if err == nil {
		t.Error("it was used")
	}
	if _, err := os.Stat(dir); err != nil {
		t.Error(err)
	}
}

func TestSetsAreTheSameForTheSameSeed(t *testing.T) {
	for _, name := range []string{"large", "small", "million"} {
		var trees [2]string
		for i := range trees {
			trees[i] = t.TempDir()
			req := request{Set: name, Tree: trees[i], Scale: 0.0005, Seed: 7}
			if _, err := generate(context.Background(), req); err != nil {
				t.Fatal(err)
			}
			if said, err := mutate(context.Background(), request{Tree: trees[i], Seed: 8}); err != nil || said == "" {
				t.Fatal(said, err)
			}
		}
		if a, b := contents(t, trees[0]), contents(t, trees[1]); a != b {
			t.Errorf("two trees of set %s differ", name)
		}
	}
}

// contents is all that a tree holds, in the order of names.
func contents(t *testing.T, tree string) string {
	var b strings.Builder
	err := filepath.Walk(tree, func(path string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		fmt.Fprintf(&b, "%s %d\n%s", path[len(tree):], len(content), content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestTargetsAreComparedWithTheBestPeer(t *testing.T) {
	r := results{
		"abaca": {restore: {{Wall: 3, CPU: 3}, {Wall: 1, CPU: 1}, {Wall: 2, CPU: 4}}},
		restic:  {restore: {{Wall: 8, CPU: 5}}},
		borg:    {restore: {{Wall: 4, CPU: 10}}},
	}
	best := target{phase: restore, peers: []string{restic, borg, kopia}, factor: 0.5, wall: true, cpu: true}
	if got, want := best.verdict(r, "abaca"), "0.50 met, **0.60 missed**"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := best.whose(r), "borg, restic"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := best.verdict(r, "abaca (open)"); got != "–" {
		t.Errorf("a tool without figures has the verdict %s", got)
	}
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"

	"abaca"
	"abaca/internal/client"
	"abaca/internal/server"
	"abaca/internal/test/serve"
)

// A house is a whole server, and the commands that talk to it.
type house struct {
	*serve.Server
	t *testing.T
}

// open starts a server. Commands find it by the environment, as a user's do.
func open(t *testing.T, options ...server.Option) *house {
	t.Helper()
	h := &house{Server: serve.Start(t, options...), t: t}
	t.Setenv("ABACA_ENDPOINT", h.Endpoint())
	if h.Config.Database != "" {
		t.Setenv("ABACA_DATABASE", string(h.Config.Database))
	}
	return h
}

// run runs a command as a person does, and returns what it prints.
func (h *house) run(ctx context.Context, args ...string) (stdout, stderr string, err error) {
	root := newRootCommand()
	var out, diagnostics bytes.Buffer
	root.SetArgs(args)
	root.SetOut(&out)
	root.SetErr(&diagnostics)
	err = root.ExecuteContext(ctx)
	return out.String(), diagnostics.String(), err
}

// must runs a command that has to succeed and returns what it prints.
func (h *house) must(args ...string) string {
	h.t.Helper()
	out, _, err := h.run(h.t.Context(), args...)
	if err != nil {
		h.t.Fatalf("abaca %s: %v", strings.Join(args, " "), err)
	}
	return out
}

// json runs a command with -o json that has to succeed and decodes what it prints.
func (h *house) json(into any, args ...string) {
	h.t.Helper()
	if err := json.Unmarshal([]byte(h.must(append(args, "-o", "json")...)), into); err != nil {
		h.t.Fatalf("abaca %s: %v", strings.Join(args, " "), err)
	}
}

func decode[T any](t *testing.T, text string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return v
}

// refused runs a command that has to fail with exit code 1 and a line that says something.
func (h *house) refused(says string, args ...string) {
	h.t.Helper()
	out, _, err := h.run(h.t.Context(), args...)
	if exitCode(err) != 1 || !strings.Contains(err.Error(), says) || out != "" {
		h.t.Errorf("abaca %s: error %v and output %q, want a failure that says %q", strings.Join(args, " "), err, out, says)
	}
}

type object = map[string]any

// share makes a share and returns where its files are.
func (h *house) share(name string) (directory string) {
	h.t.Helper()
	h.must("share", "create", "nfs", "1", "--name", name, "--wait")
	var share object
	h.json(&share, "share", "show", name)
	_, directory, _ = strings.Cut(share["export_locations"].([]any)[0].(string), ":")
	return directory
}

func (h *house) write(directory, name, text string) {
	h.t.Helper()
	if err := os.WriteFile(filepath.Join(directory, name), []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) names(args ...string) []string {
	h.t.Helper()
	var list []object
	h.json(&list, args...)
	names := []string{}
	for _, o := range list {
		names = append(names, o["name"].(string))
	}
	return names
}

func TestMainJob(t *testing.T) {
	h := open(t)
	dir := h.share("papers")
	h.write(dir, "kept", "as it was")
	var first object
	h.json(&first, "backup", "create", "papers", "--name", "first", "--description", "one", "--wait")
	if first["status"] != "available" || first["progress"] != "100" || first["description"] != "one" {
		t.Errorf("the backup is %v", first)
	}
	h.must("backup", "create", "papers", "--name", "second", "--backup-option", "backup_type=nightly", "--wait")

	h.write(dir, "kept", "spoiled")
	h.write(dir, "added", "since")
	out, lines, err := h.run(t.Context(), "backup", "restore", "first", "--wait")
	if err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "kept")); string(text) != "as it was" {
		t.Errorf("the restored file holds %q, %v", text, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "added")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the added file is still there: %v", err)
	}
	if !strings.Contains(out, "restore_progress   100") || !strings.Contains(lines, "restore of backup first: restored 100%") {
		t.Errorf("restore printed %q and %q", out, lines)
	}

	other := h.share("copy")
	h.must("backup", "restore", first["id"].(string), "--target-share", "copy", "--wait")
	if text, err := os.ReadFile(filepath.Join(other, "kept")); string(text) != "as it was" {
		t.Errorf("the file in the other share holds %q, %v", text, err)
	}
	h.refused("HTTP 403", "share", "delete", "papers")
	h.must("backup", "delete", "first", "second", "--wait")
	if left := h.names("backup", "list"); len(left) > 0 {
		t.Errorf("backups are left: %v", left)
	}
	h.must("share", "delete", "papers", "copy", "--wait")
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the deleted share's directory is still there: %v", err)
	}
}

func TestLists(t *testing.T) {
	h := open(t)
	h.share("papers")
	h.share("music")
	for _, name := range []string{"b", "c", "a"} {
		h.must("backup", "create", "papers", "--name", name, "--wait")
	}
	h.must("backup", "create", "music", "--name", "song", "--wait")
	var page []object
	h.json(&page, "backup", "list", "--limit", "2")
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"newest first", nil, "song a c b"},
		{"sorted", []string{"--sort", "name"}, "a b c song"},
		{"sorted backwards", []string{"--sort", "name:desc"}, "song c b a"},
		{"of a share", []string{"--share", "music"}, "song"},
		{"with a name", []string{"--name", "a"}, "a"},
		{"with an empty name", []string{"--name", ""}, ""},
		{"with a part of a name", []string{"--name~", "on"}, "song"},
		{"with a status", []string{"--status", "error"}, ""},
		{"a page", []string{"--limit", "2"}, "song a"},
		{"the next page", []string{"--limit", "2", "--marker", page[1]["id"].(string)}, "c b"},
		{"of all projects", []string{"--all-projects", "--share", "papers", "--sort", "name"}, "a b c"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := strings.Join(h.names(append([]string{"backup", "list"}, test.args...)...), " ")
			if got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
	table := h.must("backup", "list", "--name", "song")
	if rows := strings.Split(table, "\n"); len(rows) != 3 || !strings.HasPrefix(rows[0], "ID ") || !strings.Contains(rows[1], "available  100%") {
		t.Errorf("the table is\n%s", table)
	}
	if got := h.must("share", "list", "--name", "nothing", "-o", "json"); got != "[]\n" {
		t.Errorf("nothing is encoded as %q", got)
	}
	if got := strings.Join(h.names("share", "list", "--sort", "name"), " "); got != "music papers" {
		t.Errorf("the shares are %q", got)
	}
}

func TestSet(t *testing.T) {
	h := open(t)
	h.share("papers")
	h.must("backup", "create", "papers", "--name", "first", "--wait")
	var b object
	h.json(&b, "backup", "set", "first", "--name", "renamed", "--description", "")
	if b["name"] != "renamed" || b["description"] != "" {
		t.Errorf("after set it is %v", b)
	}
	h.json(&b, "backup", "set", "renamed", "--no-description", "--status", "error")
	if b["description"] != nil || b["status"] != "error" {
		t.Errorf("after taking the description away it is %v", b)
	}
	id := b["id"].(string)
	h.json(&b, "backup", "set", id, "--no-name", "--status", "available")
	if b["name"] != nil || b["status"] != "available" {
		t.Errorf("after taking the name away it is %v", b)
	}
	h.must("backup", "delete", id, "--wait")
}

func TestNamesThatMeanNothingOrTooMuchAreRefused(t *testing.T) {
	h := open(t)
	h.must("share", "create", "nfs", "1", "--name", "twin", "--wait")
	h.must("share", "create", "nfs", "1", "--name", "twin", "--wait")
	h.refused(`2 shares have the name "twin"; give the id`, "share", "show", "twin")
	h.refused(`2 shares have the name "twin"; give the id`, "backup", "create", "twin")
	h.refused(`no share has the name or id "other"`, "backup", "list", "--share", "other")
	h.refused(`no backup has the name or id "x"`, "backup", "restore", "x", "--target-share", "twin")
	h.refused(`no backup has the name or id "00000000-0000-4000-8000-000000000000"`, "backup", "delete", "00000000-0000-4000-8000-000000000000")
}

func TestDeleteGoesOnAfterAFailure(t *testing.T) {
	h := open(t)
	h.share("one")
	h.share("two")
	h.refused(`deleting "missing": no share`, "share", "delete", "one", "missing", "two", "--wait")
	if left := h.names("share", "list"); len(left) > 0 {
		t.Errorf("left are %v", left)
	}
}

func TestManage(t *testing.T) {
	h := open(t)
	h.share("papers")
	var share object
	h.json(&share, "share", "show", "papers")
	host := share["host"].(string)
	dir := h.Server.Share("there before")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	h.write(dir, "file", "old")
	h.must("share", "manage", host, "nfs", "127.0.0.1:"+dir, "--name", "adopted", "--wait")
	h.json(&share, "share", "show", "adopted")
	if got := share["export_locations"].([]any)[0]; got != "127.0.0.1:"+dir {
		t.Errorf("it is at %v", got)
	}
	h.refused("HTTP 4", "share", "manage", host, "nfs", "127.0.0.1:/etc")
}

// held lets work come to a step and no further until it is let go.
func held(step string) (option server.Option, reached <-chan struct{}, letGo func()) {
	at, on := make(chan struct{}, 1), make(chan struct{})
	return server.WithStep(func(ctx context.Context, name string) error {
		if name != step {
			return nil
		}
		select {
		case at <- struct{}{}:
		default:
		}
		select {
		case <-on:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}), at, func() { close(on) }
}

func TestInterruptedWaitStopsNothing(t *testing.T) {
	option, reached, letGo := held("create_backup: opened")
	h := open(t, option)
	h.share("papers")
	ctx, interrupt := context.WithCancel(t.Context())
	var g errgroup.Group
	g.Go(func() error {
		<-reached
		interrupt()
		return nil
	})
	_, _, err := h.run(ctx, "backup", "create", "papers", "--name", "slow", "--wait")
	if exitCode(err) != 1 || !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	var b object
	h.json(&b, "backup", "show", "slow")
	if b["status"] != "creating" {
		t.Errorf("after the interruption it is %v", b["status"])
	}
	letGo()
	c, err := client.Connect(t.Context(), client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	err = newWaiter(io.Discard).wait(t.Context(), "the backup", func(ctx context.Context) (state, error) {
		b, err := c.FindBackup(ctx, "slow")
		if err != nil {
			return state{}, err
		}
		return state{b.Status, b.Progress, b.Status == "available"}, nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestFailedWorkTellsWhy(t *testing.T) {
	var broken atomic.Value // the step that fails
	broken.Store("create_backup: saved")
	h := open(t, server.WithStep(func(_ context.Context, name string) error {
		if name == broken.Load() {
			return &abaca.Reason{Text: "the disk is full at " + name, Err: abaca.ErrPermanent}
		}
		return nil
	}))
	h.share("papers")
	h.refused(`backup first failed (status "error"): `, "backup", "create", "papers", "--name", "first", "--wait")
	h.refused("the disk is full at create_backup", "backup", "create", "papers", "--name", "second", "--wait")
	broken.Store("restore_backup: opened")
	h.must("backup", "create", "papers", "--name", "third", "--wait")
	h.refused(`restore of backup third failed (status "backup_restoring_error"): `, "backup", "restore", "third", "--wait")
	h.refused("the disk is full at restore_backup", "backup", "restore", "third", "--wait")
	broken.Store("")
	h.must("backup", "restore", "third", "--wait") // nobody has to repair what failed
	broken.Store("delete_backup: taken up")
	h.refused(`deleting backup third failed: its status is "error"`, "backup", "delete", "third", "--wait")
	broken.Store("")
	h.must("backup", "delete", "first", "second", "third", "--wait")
}

func TestCompletion(t *testing.T) {
	h := open(t)
	h.share("papers")
	h.share("music")
	h.must("backup", "create", "papers", "--name", "first", "--wait")
	tests := []struct {
		name string
		args []string
		want []string
	}{
		{"a share", []string{"share", "show", ""}, []string{"music", "papers"}},
		{"a share that begins so", []string{"backup", "create", "pa"}, []string{"papers"}},
		{"a second share to delete", []string{"share", "delete", "music", "p"}, []string{"papers"}},
		{"nothing after the only argument", []string{"share", "show", "music", ""}, nil},
		{"a backup", []string{"backup", "restore", ""}, []string{"first"}},
		{"the share of a flag", []string{"backup", "restore", "first", "--target-share", "m"}, []string{"music"}},
		{"a status", []string{"backup", "list", "--status", ""}, []string{"available", "creating", "deleting", "error", "error_deleting", "restoring"}},
		{"a format", []string{"share", "list", "-o", ""}, []string{"json", "table"}},
		{"a backup to verify", []string{"verify", "--data-dir", h.Config.DataDir, "fi"}, []string{"first"}},
		{"no backup to verify where there is no data", []string{"verify", "--data-dir", t.TempDir(), ""}, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			out := h.must(append([]string{"__complete"}, test.args...)...)
			var got []string
			for line := range strings.Lines(out) {
				if word, _, _ := strings.Cut(strings.TrimSpace(line), "\t"); word != "" && !strings.HasPrefix(word, ":") {
					got = append(got, word)
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

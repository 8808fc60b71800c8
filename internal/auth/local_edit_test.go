package auth

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"abaca"
	"abaca/internal/test/faultfs"
)

// Some tests run this test binary again as another process that edits a users file.
const (
	editPath  = "ABACA_TEST_EDIT_PATH"  // the file; set in the other process alone
	editNames = "ABACA_TEST_EDIT_NAMES" // the users it adds, one after the other
	editStep  = "ABACA_TEST_EDIT_STEP"  // where it kills itself; empty for nowhere
)

func TestMain(m *testing.M) {
	if path := os.Getenv(editPath); path != "" {
		f := &UserFile{Path: path, Now: time.Now, step: func(step string) {
			if step == os.Getenv(editStep) {
				syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
		}}
		for _, name := range strings.Fields(os.Getenv(editNames)) {
			if _, _, err := f.Add(context.Background(), User{Name: name, Project: "p1", Roles: []string{"member"}}, time.Time{}); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
		}
		return
	}
	os.Exit(m.Run())
}

func elsewhere(ctx context.Context, path, names, step string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), editPath+"="+path, editNames+"="+names, editStep+"="+step)
	return cmd.CombinedOutput()
}

func TestEditsBySeveralProcessesLoseNothing(t *testing.T) {
	d, ann, _ := newDesk(t)
	const processes, each = 6, 10
	g, ctx := errgroup.WithContext(t.Context())
	for p := range processes {
		var names []string
		for i := range each {
			names = append(names, fmt.Sprintf("user-%d-%d", p, i))
		}
		g.Go(func() error {
			if out, err := elsewhere(ctx, d.Path, strings.Join(names, " "), ""); err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			return nil
		})
	}
	done := make(chan error)
	go func() { done <- g.Wait() }()
	for running := true; running; { // whoever reads meanwhile finds a whole file
		if got := d.as(asking("X-Auth-Token", ann)); got != "ann" {
			t.Errorf("meanwhile the request is %s's", got)
		}
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			running = false
		default:
		}
	}
	users, err := d.Users()
	if err != nil || len(users) != 2+processes*each {
		t.Errorf("there are %d users, %v", len(users), err)
	}
}

func TestAnEditThatIsKilledLeavesTheOldFileOrTheNewOne(t *testing.T) {
	for step, wanted := range map[string]int{"written": 2, "renamed": 3} {
		t.Run(step, func(t *testing.T) {
			d, ann, _ := newDesk(t)
			out, err := elsewhere(t.Context(), d.Path, "eve", step)
			if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
				t.Fatalf("%v: %s", err, out)
			}
			if users, err := d.Users(); err != nil || len(users) != wanted {
				t.Errorf("there are %v, %v", users, err)
			}
			if got := d.as(asking("X-Auth-Token", ann)); got != "ann" {
				t.Errorf("the request is %s's", got)
			}
			if got := d.as(asking("X-Auth-Token", d.add("zoe", "p1", "member"))); got != "zoe" {
				t.Errorf("the next edit's user is %s", got)
			}
			if left, err := os.ReadDir(filepath.Dir(d.Path)); err != nil || len(left) != 1 {
				t.Errorf("there are %v, %v", left, err)
			}
		})
	}
}

func TestAChangeCountsForTheNextRequestHoweverSoonItComes(t *testing.T) {
	d, _, _ := newDesk(t)
	for i := range 100 {
		token := d.add("eve", "p1", "member")
		if got := d.as(asking("X-Auth-Token", token)); got != "eve" {
			t.Fatalf("after %d changes a new token is %s's", i, got)
		}
		if _, err := d.Revoke(t.Context(), "eve", ""); err != nil {
			t.Fatal(err)
		}
		if i%freeMisses == 0 {
			d.brake = newBrake(time.Now)
		}
		if got := d.as(asking("X-Auth-Token", token)); got != "401" {
			t.Fatalf("after %d changes a revoked token is %s's", i, got)
		}
	}
}

func TestWhatWouldBeConfusingIsNotAdded(t *testing.T) {
	d, _, _ := newDesk(t)
	before, err := os.ReadFile(d.Path)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, project, roles, says string }{
		{"ANN", "p1", "member", "there is a user ann"},
		{"eve", "P1", "member", "there is a project p1"},
		{"ann", "p2", "member", "of project p1 with member; remove that one first"},
		{"ann", "p1", "member admin", "of project p1 with member; remove that one first"},
		{"eve", "", "member", "needs a project and a role"},
		{"eve", "p1", "", "needs a project and a role"},
		{"eve", "shares", "member", "cannot be called shares"},
		{"eve", "p1.json", "member", "cannot be a project"},
		{"eve", "../p1", "member", "cannot be a project"},
		{"eve", "p 1", "member", "cannot be a project"},
		{"eve", strings.Repeat("p", 65), "member", "cannot be a project"},
		{"eve", "p1", "Admin", "cannot be a role"},
		{"a:b", "p1", "member", "cannot be a user's name"},
		{"", "p1", "member", "cannot be a user's name"},
		{"-rf", "p1", "member", "cannot be a user's name"},
		{"ev\u0435\n", "p1", "member", "cannot be a user's name"},
	} {
		want := User{Name: test.name, Project: abaca.ProjectID(test.project), Roles: strings.Fields(test.roles)}
		if _, _, err := d.Add(t.Context(), want, time.Time{}); err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%+v: %v", test, err)
		}
	}
	if _, _, err := d.Add(t.Context(), User{Name: "ann"}, d.now); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Error(err)
	}
	if _, err := d.Remove(t.Context(), "eve"); err == nil {
		t.Error("eve was removed")
	}
	if _, err := d.Revoke(t.Context(), "eve", ""); err == nil {
		t.Error("a token of eve was revoked")
	}
	secret, id := newToken()
	for _, token := range []string{id, secret} {
		if _, err := d.Revoke(t.Context(), "ann", token); err == nil || strings.Contains(err.Error(), token) {
			t.Error(err)
		}
	}
	if after, err := os.ReadFile(d.Path); err != nil || string(after) != string(before) {
		t.Errorf("the file has changed, %v", err)
	}
}

func TestTheSameRolesInAnotherOrderAgree(t *testing.T) {
	d, _, _ := newDesk(t)
	d.add("eve", "p1", "reader", "auditor", "reader")
	d.add("eve", "p1", "auditor", "reader")
	users, err := d.Users()
	if err != nil || len(users) != 3 || len(users[2].Roles) != 2 || len(users[2].Tokens) != 2 {
		t.Errorf("%+v, %v", users, err)
	}
	if odd := users[2].UnknownRoles(); len(odd) != 1 || odd[0] != "auditor" {
		t.Errorf("%v", odd)
	}
}

func TestTheFileHoldsNoTokenAndIsItsOwnersAlone(t *testing.T) {
	d, ann, _ := newDesk(t)
	info, err := os.Stat(d.Path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if text, err := os.ReadFile(d.Path); err != nil || strings.Contains(string(text), ann[17:]) || !strings.Contains(string(text), tokenID(ann)) {
		t.Errorf("%s, %v", text, err)
	}
}

func TestWhatCannotBeTrustedIsNotEditedEither(t *testing.T) {
	d, _, _ := newDesk(t)
	if err := os.Chmod(d.Path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := d.Add(t.Context(), User{Name: "ann"}, time.Time{}); err == nil || !strings.Contains(err.Error(), "0600") {
		t.Error(err)
	}
	kept := d.Path + ".kept"
	if err := errors.Join(os.Chmod(d.Path, 0o600), os.Rename(d.Path, kept), os.Symlink(kept, d.Path)); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Remove(t.Context(), "ann"); err == nil || !strings.Contains(err.Error(), "symbolic link") {
		t.Error(err)
	}
	if info, err := os.Lstat(d.Path); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("the link was replaced: %v, %v", info, err)
	}
}

func TestADraftThatSomebodyHasPlantedIsNotWrittenThrough(t *testing.T) {
	d, _, _ := newDesk(t)
	victim := filepath.Join(t.TempDir(), "victim")
	if err := errors.Join(os.WriteFile(victim, []byte("as it was"), 0o600), os.Symlink(victim, d.Path+".new")); err != nil {
		t.Fatal(err)
	}
	d.add("eve", "p1", "member")
	if text, err := os.ReadFile(victim); err != nil || string(text) != "as it was" {
		t.Errorf("%q, %v", text, err)
	}
}

func TestWhatRootWritesStaysTheServersUsers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("NOT TESTED: files of other owners take root")
	}
	for _, there := range []bool{true, false} {
		t.Run("with a file there already: "+strconv.FormatBool(there), func(t *testing.T) {
			d, _, _ := newDesk(t)
			err := os.Chown(filepath.Dir(d.Path), 65534, 65534)
			if there {
				err = errors.Join(err, os.Chown(d.Path, 65534, 65534))
			} else {
				err = errors.Join(err, os.Remove(d.Path))
			}
			if err != nil {
				t.Fatal(err)
			}
			d.add("eve", "p1", "member")
			info, err := os.Stat(d.Path)
			if err != nil {
				t.Fatal(err)
			}
			if s := info.Sys().(*syscall.Stat_t); s.Uid != 65534 || s.Gid != 65534 || info.Mode() != 0o600 {
				t.Errorf("it belongs to %d:%d, mode %v", s.Uid, s.Gid, info.Mode())
			}
		})
	}
}

func TestATokenThatWasShownOutlastsAPowerCut(t *testing.T) {
	fs := faultfs.Mount(t)
	f := &UserFile{Path: filepath.Join(fs.Dir, "made", "just", "now", "users.yaml"), Now: time.Now}
	for _, name := range []string{"ann", "bob"} {
		token, _, err := f.Add(t.Context(), User{Name: name, Project: "p1", Roles: []string{"member"}}, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		fs.Cut()
		fs.Restore(faultfs.All, 1)
		users, err := f.Users()
		if last := len(users) - 1; err != nil || last < 0 || users[last].Name != name || users[last].Tokens[0].Hash != digestOf(token) {
			t.Errorf("%s: there are %+v, %v", name, users, err)
		}
	}
}

package engine

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"abaca/internal/posix"
	"abaca/internal/test/loop"
)

// openTree opens a directory of a test until it ends.
func openTree(t testing.TB, path string) int {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return int(f.Fd())
}

func TestTheFileSystemsOwnLostAndFoundIsLeftOutAndATenantsIsSaved(t *testing.T) {
	t.Parallel()
	tree := loop.Mount(t, "ext4")
	must(t, os.WriteFile(filepath.Join(tree, "lost+found", "fsck's"), []byte("x"), 0o600))
	own := filepath.Join(tree, "sub", "lost+found")
	must(t, os.MkdirAll(own, 0o700))
	must(t, os.WriteFile(filepath.Join(own, "mine"), []byte("y"), 0o600))
	e := newEngine(t, newRoot(t, testProject))
	ref, report := mustSave(t, e, tree, "whole", "")
	if report.Files != 3 || report.Unreadable != 0 {
		t.Errorf("report %+v", report)
	}
	saved := savedEntries(t, e, ref)
	if _, ok := saved["lost+found"]; ok {
		t.Error("the file system's own lost+found was saved")
	}
	if _, ok := saved["sub/lost+found/mine"]; !ok {
		t.Error("the tenant's lost+found was left out")
	}
	must(t, os.Remove(filepath.Join(own, "mine")))
	_, err := e.Restore(context.Background(), testProject, ref, volumeOf(t, tree), nil)
	must(t, err)
	for _, path := range []string{"lost+found/fsck's", "sub/lost+found/mine"} {
		if _, err := os.Lstat(filepath.Join(tree, path)); err != nil {
			t.Errorf("after a restore: %v", err)
		}
	}
	ref, _ = mustSave(t, e, filepath.Join(tree, "sub"), "a share that is no whole file system", "")
	if _, ok := savedEntries(t, e, ref)["lost+found/mine"]; !ok {
		t.Error("the tenant's lost+found in a share's root was left out")
	}
}

func TestFilesOfEqualNumbersInDifferentSubvolumesAreDifferentFiles(t *testing.T) {
	t.Parallel()
	tree := loop.Mount(t, "btrfs")
	fd := openTree(t, tree)
	for _, sub := range []string{"one", "two"} {
		must(t, posix.CreateSubvolume(fd, sub))
		must(t, os.WriteFile(filepath.Join(tree, sub, "file"), []byte("of "+sub), 0o600))
		must(t, os.Link(filepath.Join(tree, sub, "file"), filepath.Join(tree, sub, "link")))
	}
	e := newEngine(t, newRoot(t, testProject))
	ref, report := mustSave(t, e, tree, "one", "")
	if report.Files != 6 || report.Unreadable != 0 {
		t.Errorf("report %+v", report)
	}
	saved := savedEntries(t, e, ref)
	one, two := saved["one/file"], saved["two/file"]
	if one.ino != two.ino {
		t.Fatalf("the inode numbers %d and %d differ, so nothing is tested", one.ino, two.ino)
	}
	if one.scope == two.scope || one.scope == 0 || two.scope == 0 {
		t.Errorf("the scopes are %d and %d", one.scope, two.scope)
	}
	mustEqual(t, tree, restored(t, e, ref))
	again, _ := mustSave(t, e, tree, "two", ref)
	mustEqual(t, tree, restored(t, e, again))
}

func TestAFileSystemMountedInAShareIsNeitherSavedNorTouchedByARestore(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("NOT TESTED: mounting takes root")
	}
	tree := t.TempDir()
	mounted := filepath.Join(tree, "mounted")
	must(t, os.Mkdir(mounted, 0o750))
	must(t, os.WriteFile(filepath.Join(tree, "file"), []byte("x"), 0o600))
	must(t, unix.Mount("tmpfs", mounted, "tmpfs", 0, "size=1m"))
	t.Cleanup(func() { must(t, unix.Unmount(mounted, 0)) })
	foreign := filepath.Join(mounted, "foreign")
	must(t, os.WriteFile(foreign, []byte("z"), 0o600))
	e := newEngine(t, newRoot(t, testProject))
	ref, report := mustSave(t, e, tree, "one", "")
	if report.Files != 2 || report.Unreadable != 1 || !strings.Contains(report.Detail, "mounted") {
		t.Errorf("report %+v", report)
	}
	saved := savedEntries(t, e, ref)
	if saved["mounted"].mark != markUnreadable || len(saved) != 3 {
		t.Errorf("saved: %+v", saved)
	}
	_, again := mustSave(t, e, tree, "one", "")
	if report.Stored = 0; again != report {
		t.Errorf("the save said %+v, and when it was repeated %+v", report, again)
	}
	must(t, os.WriteFile(filepath.Join(tree, "file"), []byte("changed"), 0o600))
	_, err := e.Restore(context.Background(), testProject, ref, volumeOf(t, tree), nil)
	must(t, err)
	for path, want := range map[string]string{foreign: "z", filepath.Join(tree, "file"): "x"} {
		if got, err := os.ReadFile(path); string(got) != want {
			t.Errorf("%s is %q after a restore: %v", path, got, err)
		}
	}
}

package backend_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"abaca/internal/test/loop"
)

func TestAPathThatHasGoneOrLeadsElsewhereIsNotReached(t *testing.T) {
	path := filepath.Join(t.TempDir(), "shares")
	d := openDirectory(t, path)
	if err := d.Reach(t.Context()); err != nil {
		t.Errorf("as it was opened: %v", err)
	}
	if err := os.Rename(path, path+"-away"); err != nil {
		t.Fatal(err)
	}
	if err := d.Reach(t.Context()); err == nil {
		t.Error("it has gone")
	}
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := d.Reach(t.Context()); err == nil || !strings.Contains(err.Error(), "not the directory that was opened") {
		t.Errorf("another is there: %v", err)
	}
}

func TestAPathOnWhichAFileSystemWasMountedIsNotReached(t *testing.T) {
	path := loop.Mount(t, "ext4")
	d := openDirectory(t, path)
	if err := d.Reach(t.Context()); err != nil {
		t.Errorf("as it was opened: %v", err)
	}
	if err := unix.Mount("tmpfs", path, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(path, 0); err != nil {
			t.Error(err)
		}
	})
	if err := d.Reach(t.Context()); err == nil {
		t.Error("another file system lies there, and the descriptor alone reaches what was opened")
	}
}

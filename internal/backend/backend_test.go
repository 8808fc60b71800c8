package backend_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"abaca"
	"abaca/internal/backend"
	"abaca/internal/test/loop"
	"abaca/internal/test/torture"
)

func openDirectory(t *testing.T, path string) *backend.Directory {
	t.Helper()
	d, err := backend.OpenDirectory(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func openBtrfs(t *testing.T) (b *backend.Btrfs, path string) {
	t.Helper()
	path = filepath.Join(loop.Mount(t, "btrfs"), "shares")
	b = &backend.Btrfs{Directory: openDirectory(t, path)}
	if yes, err := b.OnBtrfs(); !yes || err != nil {
		t.Fatalf("not on btrfs: %v", err)
	}
	return b, path
}

// A shareKeeper is the part of every back end that makes and removes shares.
type shareKeeper interface {
	Create(ctx context.Context, share string) error
	Remove(ctx context.Context, share string) error
	Mount(ctx context.Context, share string) (*abaca.Volume, error)
}

func TestSharesAreMadeAndRemovedAsOftenAsAsked(t *testing.T) {
	for name, open := range map[string]func(*testing.T) (shareKeeper, string){
		"directory": func(t *testing.T) (shareKeeper, string) {
			path := filepath.Join(t.TempDir(), "shares")
			return openDirectory(t, path), path
		},
		"btrfs": func(t *testing.T) (shareKeeper, string) { return openBtrfs(t) },
	} {
		t.Run(name, func(t *testing.T) {
			b, path := open(t)
			outside := filepath.Join(t.TempDir(), "outside")
			if err := os.MkdirAll(filepath.Join(outside, "precious"), 0o755); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := b.Create(t.Context(), "s"); err != nil {
					t.Fatal(err)
				}
			}
			info, err := os.Stat(filepath.Join(path, "s"))
			if err != nil || info.Mode().Perm() != 0o777 {
				t.Fatalf("%v, %v", info, err)
			}
			if err := torture.Grow(filepath.Join(path, "s"), 1, 100); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(outside, filepath.Join(path, "s", "way out")); err != nil {
				t.Fatal(err)
			}
			vol, err := b.Mount(t.Context(), "s")
			if err != nil {
				t.Fatal(err)
			}
			if err := vol.Close(); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := b.Remove(t.Context(), "s"); err != nil {
					t.Fatal(err)
				}
			}
			left, err := os.ReadDir(path)
			if err != nil || len(left) > 0 {
				t.Errorf("left are %v, %v", left, err)
			}
			if _, err := os.Stat(filepath.Join(outside, "precious")); err != nil {
				t.Errorf("removing a share followed a link: %v", err)
			}
			if _, err := b.Mount(t.Context(), "s"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("a removed share was mounted: %v", err)
			}
		})
	}
}

func TestARemovalThatACrashInterruptedIsFinished(t *testing.T) {
	path := t.TempDir()
	d := openDirectory(t, path)
	if err := os.MkdirAll(filepath.Join(path, "nested", ".abaca-removed-s", "half", "gone"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := d.Remove(t.Context(), "nested/s"); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(filepath.Join(path, "nested"))
	if err != nil || len(left) > 0 {
		t.Errorf("left are %v, %v", left, err)
	}
}

func TestNothingOutsideIsMountedWhateverTheNameSays(t *testing.T) {
	path := t.TempDir()
	d := openDirectory(t, path)
	if err := os.Symlink("/etc", filepath.Join(path, "link")); err != nil {
		t.Fatal(err)
	}
	for _, share := range []string{"link", "../etc", "..", "a/../..", "/etc", "link/ssh"} {
		if vol, err := d.Mount(t.Context(), share); err == nil {
			t.Errorf("%q was mounted at %v", share, vol.Root.Name())
		}
		if err := d.Create(t.Context(), share); err == nil {
			t.Errorf("%q was made", share)
		}
	}
}

func TestUsageCountsWhatIsAllocated(t *testing.T) {
	path := t.TempDir()
	d := openDirectory(t, path)
	if err := os.MkdirAll(filepath.Join(path, "s", "below"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(path, "s", "below", "full"), make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(path, "s", "holes"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(1<<40), f.Close()); err != nil {
		t.Fatal(err)
	}
	n, err := d.Usage(t.Context(), "s")
	if err != nil || n < 1<<20 || n > 2<<20 {
		t.Errorf("usage is %d, %v", n, err)
	}
}

func TestABtrfsSnapshotIsStillWhileTheShareChanges(t *testing.T) {
	b, path := openBtrfs(t)
	if err := b.Create(t.Context(), "s"); err != nil {
		t.Fatal(err)
	}
	share := filepath.Join(path, "s")
	if err := torture.Grow(share, 2, 200); err != nil {
		t.Fatal(err)
	}
	kept := filepath.Join(t.TempDir(), "kept")
	if out, err := exec.Command("cp", "-a", share, kept).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for range 2 { // the second finds what a crash would have left of the first
		vol, err := b.Snapshot(t.Context(), "s", "backup")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := vol.Close(); err != nil {
				t.Error(err)
			}
		})
		if !vol.Still {
			t.Fatal("the volume is not still")
		}
	}
	if n, err := torture.Vandalise(share, 3, 100); err != nil || n == 0 {
		t.Fatalf("%d changes, %v", n, err)
	}
	snapshot := filepath.Join(path, ".abaca-snapshots", "backup")
	differences, err := torture.Compare(kept, snapshot)
	if err != nil || len(differences) > 0 {
		t.Errorf("%v, %v", differences, err)
	}
	used := true
	sweep := func(want bool) {
		t.Helper()
		if err := b.Sweep(t.Context(), func(name string) (bool, error) { return used && name == "backup", nil }); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(snapshot); (err == nil) != want {
			t.Errorf("after a sweep with in use %v: %v", used, err)
		}
	}
	sweep(true)
	used = false
	sweep(false)
	vol, err := b.Snapshot(t.Context(), "s", "backup")
	if err != nil {
		t.Fatal(err)
	}
	if err := vol.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(snapshot); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("closing the volume left the snapshot: %v", err)
	}
}

func TestADirectoryWithinASubvolumeIsHeldStillToo(t *testing.T) {
	b, path := openBtrfs(t)
	if err := os.MkdirAll(filepath.Join(path, "group", "adopted"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(path, "group", "adopted", "f"), []byte("before"), 0o600); err != nil {
		t.Fatal(err)
	}
	vol, err := b.Snapshot(t.Context(), "group/adopted", "backup")
	if err != nil {
		t.Fatal(err)
	}
	defer vol.Close()
	if err := os.WriteFile(filepath.Join(path, "group", "adopted", "f"), []byte("after"), 0o600); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(fmt.Sprintf("/proc/self/fd/%d", vol.Root.Fd()), "f"))
	if err != nil || string(text) != "before" || !vol.Still {
		t.Errorf("the snapshot has %q, %v", text, err)
	}
}

func TestAShareWithSubvolumesOfItsOwnIsReadWhole(t *testing.T) {
	b, path := openBtrfs(t)
	if err := b.Create(t.Context(), "s"); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("btrfs", "subvolume", "create", filepath.Join(path, "s", "nested")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.WriteFile(filepath.Join(path, "s", "nested", "f"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	vol, err := b.Snapshot(t.Context(), "s", "backup")
	if err != nil {
		t.Fatal(err)
	}
	defer vol.Close()
	if vol.Still {
		t.Error("the volume claims to be still")
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/self/fd/%d/nested/f", vol.Root.Fd())); err != nil {
		t.Errorf("the nested subvolume's file is missing: %v", err)
	}
	if err := b.Remove(t.Context(), "s"); err != nil {
		t.Errorf("removing it: %v", err)
	}
}

func TestABtrfsSnapshotIsOnePointInTimeOfAllFiles(t *testing.T) {
	b, path := openBtrfs(t)
	if err := b.Create(t.Context(), "s"); err != nil {
		t.Fatal(err)
	}
	stop, err := torture.Count(filepath.Join(path, "s"))
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		vol, err := b.Snapshot(t.Context(), "s", "backup")
		if err != nil {
			t.Fatal(err)
		}
		if err := torture.OneMoment(fmt.Sprintf("/proc/self/fd/%d", vol.Root.Fd())); err != nil {
			t.Error(err)
		}
		if err := vol.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

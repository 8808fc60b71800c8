package torture

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func plant(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	missing, err := Plant(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range missing {
		t.Log("left out:", m)
	}
	return root
}

func TestPlantedTreesAreEqual(t *testing.T) {
	differences, err := Compare(plant(t), plant(t))
	if err != nil || len(differences) > 0 {
		t.Errorf("%v\n%s", err, strings.Join(differences, "\n"))
	}
}

// A change is something that Compare must see.
type change struct {
	word string // of the difference
	make func() error
}

// What Compare overlooks would be overlooked by every test that uses it.
func TestCompareSeesEveryField(t *testing.T) {
	want, got := plant(t), plant(t)
	changes := slices.Concat(timeChanges(got), changesOf(t, got))
	for _, c := range changes {
		if err := c.make(); err != nil {
			t.Errorf("%s: %v", c.word, err)
		}
	}
	differences, err := Compare(want, got)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range changes {
		if all := strings.Join(differences, "\n"); !strings.Contains(all, c.word) {
			t.Errorf("no difference says %s:\n%s", c.word, all)
		}
	}
}

// timeChanges set a time each.
func timeChanges(got string) (changes []change) {
	for _, name := range []string{".", "empty/also-empty", "links/dangling", "specials/fifo"} {
		changes = append(changes, change{fmt.Sprintf("%q has time", name), func() error {
			ts := []unix.Timespec{{}, {Sec: 5, Nsec: 6}}
			return unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(got, name), ts, unix.AT_SYMLINK_NOFOLLOW)
		}})
	}
	return changes
}

func changesOf(t *testing.T, got string) []change {
	in := func(name string) string { return filepath.Join(got, name) }
	changes := []change{
		{`"names/a" is missing`, func() error { return os.Remove(in("names/a")) }},
		{`"names/b" is extra`, func() error { return os.WriteFile(in("names/b"), nil, 0o600) }},
		{`"names/bad\xff" has other content`, func() error { return os.WriteFile(in("names/bad\xff"), []byte("bad\xfe"), 0o600) }},
		{`"names/bad\xfe" has size`, func() error { return os.Truncate(in("names/bad\xfe"), 99) }},
		{`"modes/file-4755" has mode 0755`, func() error { return unix.Chmod(in("modes/file-4755"), 0o755) }},
		{`"links/z/file" has first link links/z/file`, func() error {
			if err := os.Remove(in("links/z/file")); err != nil {
				return err
			}
			return os.WriteFile(in("links/z/file"), []byte("one inode"), 0o644)
		}},
		{`"links/file" has link count`, func() error { return nil }}, // by the change before
		{`"links/up" has type`, func() error {
			if err := os.Remove(in("links/up")); err != nil {
				return err
			}
			return os.Mkdir(in("links/up"), 0o755)
		}},
		{`"links/absolute" has target /etc/shadow`, func() error {
			if err := os.Remove(in("links/absolute")); err != nil {
				return err
			}
			return os.Symlink("/etc/shadow", in("links/absolute"))
		}},
		{`"holes/small" has data ranges`, func() error { return os.WriteFile(in("holes/small"), make([]byte, 8192), 0o644) }},
		{`"holes/tebibyte" has data ranges`, func() error {
			fd, err := os.OpenFile(in("holes/tebibyte"), os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			defer fd.Close()
			_, err = fd.WriteAt([]byte{0}, 5<<30)
			return err
		}},
		{`"attributes/file" lacks attribute "user.empty"`, func() error { return unix.Removexattr(in("attributes/file"), "user.empty") }},
		{`"attributes/file" has attribute "user.text" = "v"`, func() error { return unix.Setxattr(in("attributes/file"), "user.text", []byte("v"), 0) }},
		{`"attributes/bare" has an extra attribute "user.x"`, func() error { return unix.Setxattr(in("attributes/bare"), "user.x", nil, 0) }},
		{`"attributes/dir" lacks attribute "system.posix_acl_default"`, func() error { return unix.Removexattr(in("attributes/dir"), "system.posix_acl_default") }},
	}
	if os.Getuid() == 0 {
		changes = append(changes, []change{
			{`"modes/owned-link" has owner [1 54320]`, func() error { return os.Lchown(in("modes/owned-link"), 1, 54320) }},
			{`"specials/null" has device number`, func() error {
				if err := os.Remove(in("specials/null")); err != nil {
					return err
				}
				return unix.Mknod(in("specials/null"), unix.S_IFCHR|0o644, int(unix.Mkdev(1, 5)))
			}},
		}...)
	} else {
		t.Log("SKIPPED: owners and device numbers, which need privileges")
	}
	return changes
}

// An independent program must find the tree as hard as it is meant to be, and equal where Compare says so.
func TestRsyncAgreesThatACopyIsEqual(t *testing.T) {
	if _, err := exec.LookPath("rsync"); err != nil || os.Getuid() != 0 {
		t.Skip("SKIPPED: this check needs rsync and privileges")
	}
	want, got := plant(t), t.TempDir()
	for _, beyond := range []string{"deep", "long", "holes/tebibyte"} { // paths beyond PATH_MAX; a hole that is read in full
		if err := os.RemoveAll(filepath.Join(want, beyond)); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("rsync", "-aHAXS", want+"/", got+"/").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%.500s", err, out)
	}
	differences, err := Compare(want, got)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range differences {
		// rsync makes holes of written zeros; the root was touched by the removals above.
		if !strings.Contains(d, "zeros") && !strings.Contains(d, `"." has time`) {
			t.Error(d)
		}
	}
}

func TestRandomTreesRepeatAndVandalsAreSeen(t *testing.T) {
	for seed := range uint64(5) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			a, b := t.TempDir(), t.TempDir()
			for _, root := range []string{a, b} {
				if err := Grow(root, seed, 200); err != nil {
					t.Fatal(err)
				}
			}
			differences, err := Compare(a, b)
			for _, d := range differences {
				if !strings.Contains(d, "has time") { // directories are touched by what is put in them
					t.Error(d)
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			n, err := Vandalise(b, seed, 40)
			if err != nil || n < 40 {
				t.Fatal(n, err)
			}
			if differences, err = Compare(a, b); err != nil || len(differences) < 10 {
				t.Errorf("after 40 changes: %v, %q", err, differences)
			}
		})
	}
}

func TestFilesOfDifferentMomentsAreTold(t *testing.T) {
	dir := t.TempDir()
	stop, err := Count(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if err := OneMoment(dir); err != nil {
		t.Errorf("files that hold still: %v", err)
	}
	if err := os.WriteFile(counterPath(dir, counterFiles-1), []byte{0, 1, 0, 0, 0, 0, 0, 0}, 0o600); err != nil {
		t.Fatal(err)
	}
	if OneMoment(dir) == nil {
		t.Error("a file from the future was not seen")
	}
}

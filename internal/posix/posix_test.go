package posix

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// tempDir returns an empty directory and a descriptor of it.
func tempDir(t *testing.T) (string, int) {
	t.Helper()
	path := t.TempDir()
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	return path, fd
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestCheckName(t *testing.T) {
	for name, ok := range map[string]bool{
		"a": true, "...": true, "bad\xff\n": true, strings.Repeat("x", 255): true,
		"": false, ".": false, "..": false, "a/b": false, "a\x00": false, strings.Repeat("x", 256): false,
	} {
		if err := CheckName(name); (err == nil) != ok {
			t.Errorf("CheckName(%q) = %v", name, err)
		}
	}
}

func TestOpeningNeverLeavesTheTree(t *testing.T) {
	outside := t.TempDir()
	must(t, os.WriteFile(filepath.Join(outside, "secret"), []byte("s"), 0o600))
	root, dir := tempDir(t)
	must(t, os.MkdirAll(filepath.Join(root, "a/b"), 0o700))
	must(t, os.Symlink(outside, filepath.Join(root, "out")))
	must(t, os.Symlink("b", filepath.Join(root, "a/inside")))
	must(t, os.Symlink(filepath.Join(outside, "secret"), filepath.Join(root, "file")))

	opens := map[string]func(int, string, int, uint32) (int, error){"openat2": openBeneath, "stepwise": func(dir int, path string, flags int, mode uint32) (int, error) {
		return openStepwise(dir, path, flags|unix.O_CLOEXEC|unix.O_NOFOLLOW, mode)
	}}
	for how, open := range opens {
		fd, err := open(dir, "a/b", unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			t.Errorf("%s of a/b: %v", how, err)
		}
		unix.Close(fd)
		for _, path := range []string{"out/secret", "out", "file", "a/inside", "..", "../x", "a/../../x", "/etc/passwd", "a//b", ""} {
			if how == "openat2" && path == "a//b" {
				continue // the kernel takes repeated slashes for one
			}
			fd, err := open(dir, path, unix.O_RDONLY, 0)
			if err == nil {
				unix.Close(fd)
				t.Errorf("%s of %q succeeded", how, path)
			}
		}
	}
}

func TestOnlyRegularFilesAreOpened(t *testing.T) {
	root, dir := tempDir(t)
	must(t, os.WriteFile(filepath.Join(root, "file"), []byte("content"), 0o600))
	must(t, Mknod(dir, "fifo", unix.S_IFIFO|0o600, 0)) // opening it would hang
	must(t, Mknod(dir, "socket", unix.S_IFSOCK|0o600, 0))
	must(t, Mkdir(dir, "dir", 0o700))

	fd, st, err := OpenFile(dir, "file", unix.O_RDONLY|unix.O_NOATIME)
	must(t, err)
	defer Close(fd)
	buf := make([]byte, 100)
	n, err := ReadAt(fd, buf, 3)
	if string(buf[:n]) != "tent" || err != nil || st.Size != 7 {
		t.Errorf("read %q, %v, size %d", buf[:n], err, st.Size)
	}
	for _, name := range []string{"fifo", "socket", "dir"} {
		if _, _, err := OpenFile(dir, name, unix.O_RDONLY); !errors.Is(err, ErrNotRegular) {
			t.Errorf("OpenFile(%s): %v", name, err)
		}
	}
	if _, _, err := OpenFile(dir, "none", unix.O_RDONLY); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("OpenFile of nothing: %v", err)
	}
}

func TestDirReaderSeesEveryNameOnce(t *testing.T) {
	root, dir := tempDir(t)
	var want []string
	for i := range 3000 { // several buffers full
		name := fmt.Sprintf("%04d-%s", i, strings.Repeat("n", i%200))
		must(t, os.WriteFile(filepath.Join(root, name), nil, 0o600))
		want = append(want, name)
	}
	must(t, os.Mkdir(filepath.Join(root, "bad\xff\nname"), 0o700))
	want = append(want, "bad\xff\nname")

	for range 2 { // it rewinds
		r, err := NewDirReader(dir, nil)
		must(t, err)
		var got []string
		for {
			name, typ, err := r.Next()
			if err == io.EOF {
				break
			}
			must(t, err)
			if isDir := strings.HasPrefix(string(name), "bad"); isDir != (typ == unix.DT_DIR) && typ != unix.DT_UNKNOWN {
				t.Errorf("%q has type %d", name, typ)
			}
			got = append(got, string(name))
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Fatalf("got %d names, want %d", len(got), len(want))
		}
	}
}

func TestAttributesOfFilesDirectoriesAndLinks(t *testing.T) {
	root, dir := tempDir(t)
	must(t, os.WriteFile(filepath.Join(root, "file"), nil, 0o600))
	fd, _, err := OpenFile(dir, "file", unix.O_RDWR)
	must(t, err)
	defer Close(fd)
	if attrs, err := Attrs(fd); len(attrs) != 0 || err != nil {
		t.Errorf("a new file has %v, %v", attrs, err)
	}
	big := Attr{"user.big", []byte(strings.Repeat("v", 3000))}
	empty := Attr{"user.empty", []byte{}}
	if err := SetAttr(fd, empty); errors.Is(err, unix.EOPNOTSUPP) {
		t.Skip("SKIPPED: the file system of the temporary directory keeps no user attributes")
	}
	must(t, SetAttr(fd, big))
	attrs, err := Attrs(fd)
	must(t, err)
	if len(attrs) != 2 || attrs[0].Name != "user.big" || string(attrs[0].Value) != string(big.Value) || len(attrs[1].Value) != 0 {
		t.Errorf("got %d attributes: %.100v", len(attrs), attrs)
	}
	must(t, RemoveAttr(fd, "user.big"))
	must(t, RemoveAttr(fd, "user.big"))

	must(t, Mkdir(dir, "sub", 0o700))
	must(t, SetAttrAt(dir, "sub", Attr{"user.d", []byte("1")}))
	if attrs, err := AttrsAt(dir, "sub"); len(attrs) != 1 || err != nil {
		t.Errorf("the directory has %v, %v", attrs, err)
	}
	must(t, Symlink("file", dir, "link"))
	if attrs, err := AttrsAt(dir, "link"); len(attrs) != 0 || err != nil {
		t.Errorf("the link has its target's attributes %v, %v", attrs, err)
	}
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: attributes of links, which need privileges")
	}
	must(t, SetAttrAt(dir, "link", Attr{"trusted.l", []byte("1")}))
	if attrs, err := AttrsAt(dir, "link"); len(attrs) != 1 || err != nil {
		t.Errorf("the link has %v, %v", attrs, err)
	}
	must(t, RemoveAttrAt(dir, "link", "trusted.l"))
}

func TestTimesAreExactEvenBefore1970(t *testing.T) {
	_, dir := tempDir(t)
	must(t, Symlink("nowhere", dir, "link"))
	fd, err := Create(dir, "file", 0o600)
	must(t, err)
	defer Close(fd)
	for _, want := range []Time{{0, 0}, {-86400 * 365, 123456789}, {-1, 999999999}, {1 << 31, 1}, TimeOf(time.Now())} {
		must(t, SetMtime(fd, want))
		must(t, SetMtimeAt(dir, "link", want))
		for _, name := range []string{"file", "link"} {
			st, err := StatAt(dir, name)
			must(t, err)
			if st.Mtime != want || TimeOf(st.Mtime.Time()) != want {
				t.Errorf("%s: got %v, want %v", name, st.Mtime, want)
			}
		}
	}
}

func TestModesOfWhatIsNotOpened(t *testing.T) {
	_, dir := tempDir(t)
	must(t, Mknod(dir, "fifo", unix.S_IFIFO|0o600, 0))
	must(t, Symlink("fifo", dir, "link"))
	for _, chmod := range []func(int, string, uint32) error{ChmodAt, chmodHandle} {
		for _, mode := range []uint32{0, 0o7755} {
			must(t, chmod(dir, "fifo", mode))
			st, err := StatAt(dir, "fifo")
			must(t, err)
			if st.Perm() != mode || st.Type() != unix.S_IFIFO {
				t.Errorf("mode %o after setting %o", st.Mode, mode)
			}
		}
		if err := chmod(dir, "link", 0o777); !errors.Is(err, unix.EOPNOTSUPP) {
			t.Errorf("chmod of a link: %v", err)
		}
	}
}

func TestHolesAreFoundAndPunched(t *testing.T) {
	_, dir := tempDir(t)
	fd, err := Create(dir, "sparse", 0o600)
	must(t, err)
	defer Close(fd)
	must(t, Truncate(fd, 1<<40))
	must(t, WriteAt(fd, []byte(strings.Repeat("x", 64<<10)), 512<<20))
	start, end, err := NextData(fd, 0)
	if start != 512<<20 || end != 512<<20+64<<10 || err != nil {
		t.Fatalf("data at %d-%d, %v", start, end, err)
	}
	if start, end, err := NextData(fd, end); start != 1<<40 || end != start || err != nil {
		t.Errorf("after the data: %d-%d, %v", start, end, err)
	}
	must(t, PunchHole(fd, 512<<20, 64<<10))
	if start, _, err := NextData(fd, 0); start != 1<<40 || err != nil {
		t.Errorf("after punching: data at %d, %v", start, err)
	}
}

func TestNamesAreLinkedRenamedAndExchanged(t *testing.T) {
	_, dir := tempDir(t)
	fd, err := Create(dir, "a", 0o600)
	must(t, err)
	defer Close(fd)
	if _, err := Create(dir, "a", 0o600); !errors.Is(err, fs.ErrExist) {
		t.Errorf("created twice: %v", err)
	}
	must(t, Link(dir, "a", dir, "b"))
	must(t, LinkFD(fd, dir, "c"))
	must(t, Mkdir(dir, "d", 0o700))
	must(t, Exchange(dir, "d", dir, "c"))
	st, err := StatAt(dir, "d")
	must(t, err)
	if mine, _ := StatFD(fd); !mine.Same(&st) || st.Nlink != 3 {
		t.Errorf("d is inode %d with %d links", st.Ino, st.Nlink)
	}
	must(t, Rename(dir, "d", dir, "e"))
	must(t, Rmdir(dir, "c"))
	must(t, Unlink(dir, "e"))
	if target := strings.Repeat("t", 1000); true {
		must(t, Symlink(target, dir, "long"))
		if got, err := Readlink(dir, "long"); got != target || err != nil {
			t.Errorf("Readlink: %d bytes, %v", len(got), err)
		}
	}
}

func TestFlagsAreReportedAndCleared(t *testing.T) {
	_, dir := tempDir(t)
	fd, err := Create(dir, "f", 0o600)
	must(t, err)
	defer Close(fd)
	if err := unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, immutableFlag); err != nil {
		t.Skipf("SKIPPED: setting inode flags needs privileges and a file system that has them: %v", err)
	}
	st, err := StatFD(fd)
	must(t, err)
	if !st.Immutable || st.AppendOnly {
		t.Errorf("flags are not reported: %+v", st)
	}
	if err := Unlink(dir, "f"); !errors.Is(err, unix.EPERM) {
		t.Errorf("an immutable file was removed: %v", err)
	}
	must(t, ClearFlags(fd))
	must(t, Unlink(dir, "f"))
}

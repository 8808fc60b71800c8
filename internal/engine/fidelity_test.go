package engine

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kopia/kopia/repo/blob"
	"golang.org/x/sys/unix"

	"abaca"
	"abaca/internal/posix"
)

// savedEntries reads a saved tree's entries by their paths; the root is "".
func savedEntries(t testing.TB, e *Engine, ref abaca.Ref) map[string]entry {
	t.Helper()
	ctx := context.Background()
	r, release, err := e.pool.acquire(ctx, testProject, mustExist)
	must(t, err)
	defer release()
	m, _, err := finished(ctx, r.kopia, string(ref))
	must(t, err)
	all := map[string]entry{}
	var walk func(path string, e entry)
	walk = func(path string, dir entry) {
		all[path] = dir
		o, err := r.kopia.OpenObject(ctx, dir.object)
		must(t, err)
		defer o.Close()
		dec, err := newDirDecoder(o)
		must(t, err)
		var children []entry
		for {
			var child entry
			if dec.next(&child) != nil {
				break
			}
			children = append(children, child)
		}
		if dec.state != atEnd {
			t.Fatalf("%q cannot be read to its end", path)
		}
		for _, child := range children {
			at := filepath.Join(path, child.name)
			if all[at] = child; child.kind == kindDir {
				walk(at, child)
			}
		}
	}
	walk("", entry{kind: kindDir, object: m.RootEntry.ObjectID})
	return all
}

// restored restores a saved tree into an empty directory.
func restored(t testing.TB, e *Engine, ref abaca.Ref) string {
	t.Helper()
	target := t.TempDir()
	ctx := context.Background()
	r, release, err := e.pool.acquire(ctx, testProject, mustExist)
	must(t, err)
	defer release()
	m, _, err := finished(ctx, r.kopia, string(ref))
	must(t, err)
	s := m.RootEntry.DirSummary
	mustRestore(t, r.kopia, m.RootEntry.ObjectID, totals{bytes: s.TotalFileSize, files: s.TotalFileCount, symlinks: s.TotalSymlinkCount, dirs: s.TotalDirCount}, target)
	return target
}

func TestTheTortureTreeIsSavedInEveryField(t *testing.T) {
	t.Parallel()
	tree := plantTorture(t)
	e := newEngine(t, newRoot(t, testProject))
	ref, report := mustSave(t, e, tree, "one", "")
	if report.Changed+report.Unreadable > 0 && os.Geteuid() == 0 {
		t.Errorf("marked: %+v", report)
	}
	mustEqual(t, tree, restored(t, e, ref))
}

func TestASparseFileOfATebibyteCostsNothing(t *testing.T) {
	t.Parallel()
	tree := t.TempDir()
	f, err := os.Create(filepath.Join(tree, "sparse"))
	must(t, err)
	defer f.Close()
	must(t, f.Truncate(1<<40))
	_, err = f.WriteAt(randomBytes(1, 4096), 1<<39+4096)
	must(t, err)
	e := newEngine(t, newRoot(t, testProject))
	ref, report := mustSave(t, e, tree, "one", "")
	if report.Stored > 4<<20 || report.Bytes != 1<<40 {
		t.Errorf("report %+v", report)
	}
	mustEqual(t, tree, restored(t, e, ref))
	// Stock Kopia would write a tebibyte of zeros; that it finds all contents and the length is enough.
	r := stockRepository(t, e, testProject)
	id := savedEntries(t, e, ref)["sparse"].object
	_, err = r.VerifyObject(context.Background(), id)
	must(t, err)
	o, err := r.OpenObject(context.Background(), id)
	must(t, err)
	defer o.Close()
	if o.Length() != 1<<40 {
		t.Errorf("stock Kopia sees %d bytes", o.Length())
	}
}

func TestADirectoryBeyondPathMaxIsSaved(t *testing.T) {
	t.Parallel()
	const depth = 2000
	tree := t.TempDir()
	dir, err := os.Open(tree)
	must(t, err)
	fd := int(dir.Fd())
	name := strings.Repeat("d", 100)
	for range depth {
		must(t, posix.Mkdir(fd, name, 0o700))
		next, err := posix.OpenDir(fd, name)
		must(t, err)
		if fd != int(dir.Fd()) {
			posix.Close(fd)
		}
		fd = next
	}
	file, err := posix.Create(fd, "bottom", 0o600)
	must(t, err)
	posix.Close(file)
	posix.Close(fd)
	dir.Close()
	e := newEngine(t, newRoot(t, testProject))
	ref, report := mustSave(t, e, tree, "one", "")
	if report.Files != depth+1 || report.Unreadable != 0 {
		t.Errorf("report %+v", report)
	}
	ref, report = mustSave(t, e, tree, "two", ref)
	if report.Files != depth+1 {
		t.Errorf("report %+v", report)
	}
	mustEqual(t, tree, restored(t, e, ref))
}

func TestAFileThatCannotBeReadIsKeptWithAMark(t *testing.T) {
	t.Parallel()
	if os.Geteuid() == 0 {
		t.Skip("SKIPPED: nothing is unreadable to root")
	}
	tree := t.TempDir()
	must(t, os.WriteFile(filepath.Join(tree, "secret"), []byte("x"), 0))
	must(t, os.Mkdir(filepath.Join(tree, "closed"), 0))
	e := newEngine(t, newRoot(t, testProject))
	ref, report := mustSave(t, e, tree, "one", "")
	if report.Unreadable != 2 || !strings.Contains(report.Detail, "secret") || !strings.Contains(report.Detail, "closed") {
		t.Errorf("report %+v", report)
	}
	saved := savedEntries(t, e, ref)
	for _, name := range []string{"secret", "closed"} {
		if saved[name].mark != markUnreadable {
			t.Errorf("%s has the mark %d", name, saved[name].mark)
		}
	}
	must(t, os.Chmod(filepath.Join(tree, "closed"), 0o700))
}

// A restlessStorage rewrites a file whenever a pack is written, which is while the file is being read.
type restlessStorage struct {
	blob.Storage
	rewrite func() error
}

func (r restlessStorage) PutBlob(ctx context.Context, id blob.ID, data blob.Bytes, opts blob.PutOptions) error {
	if strings.HasPrefix(string(id), "p") {
		if err := r.rewrite(); err != nil {
			return err
		}
	}
	return r.Storage.PutBlob(ctx, id, data, opts)
}

func TestAFileThatChangesWhileItIsReadIsReadAgainAndKeptWithAMarkInTheEnd(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ changes, marked int64 }{
		"once":   {1, 0},
		"always": {1000, 1},
	} {
		t.Run(name, func(t *testing.T) {
			tree := t.TempDir()
			path := filepath.Join(tree, "busy")
			const size = 32 << 20 // more than a pack
			must(t, os.WriteFile(path, randomBytes(1, size), 0o600))
			var changes atomic.Int64
			changes.Store(test.changes)
			rewrite := func() error {
				if n := changes.Add(-1); n >= 0 {
					return os.WriteFile(path, randomBytes(uint64(2+n), size), 0o600)
				}
				return nil
			}
			e := newEngine(t, newRoot(t, testProject), func(c *Config) {
				c.Wrap = func(st blob.Storage) blob.Storage { return restlessStorage{st, rewrite} }
			})
			ref, report := mustSave(t, e, tree, "one", "")
			if report.Changed != test.marked || (test.marked > 0) != strings.Contains(report.Detail, "busy") {
				t.Errorf("report %+v", report)
			}
			if m := savedEntries(t, e, ref)["busy"].mark; (m == markChanged) != (test.marked > 0) {
				t.Errorf("it has the mark %d", m)
			}
			again, repeated := mustSave(t, e, tree, "one", "")
			if report.Stored = 0; again != ref || repeated != report {
				t.Errorf("the save said %+v, and when it was repeated %+v", report, repeated)
			}
			changes.Store(0)
			ref, report = mustSave(t, e, tree, "two", ref)
			if report.Changed != 0 {
				t.Errorf("report %+v", report)
			}
			mustEqual(t, tree, restored(t, e, ref))
		})
	}
}

func TestAHoleIsSeenWhereAttributesTakeAsManyBlocks(t *testing.T) {
	t.Parallel()
	tree := t.TempDir()
	path := filepath.Join(tree, "file")
	must(t, os.WriteFile(path, randomBytes(1, 4096), 0o600))
	must(t, os.Truncate(path, 6655))
	if err := unix.Setxattr(path, "user.large", randomBytes(2, 3000), 0); err != nil {
		t.Skip("SKIPPED: ", err)
	}
	e := newEngine(t, newRoot(t, testProject))
	ref, _ := mustSave(t, e, tree, "one", "")
	target := restored(t, e, ref)
	mustEqual(t, tree, target)
	must(t, os.WriteFile(filepath.Join(target, "file"), make([]byte, 6655), 0o600)) // as long, without the hole
	_, err := e.Restore(t.Context(), testProject, ref, volumeOf(t, target), nil)
	must(t, err)
	mustEqual(t, tree, target)
}

func TestAChangeOfTheRootAloneIsSaved(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(root string) error{
		"its mode":       func(root string) error { return os.Chmod(root, 0o710) },
		"its time":       func(root string) error { return os.Chtimes(root, time.Time{}, time.Unix(12345, 678)) },
		"an attribute":   func(root string) error { return unix.Setxattr(root, "user.new", []byte("x"), 0) },
		"nothing at all": func(string) error { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tree := t.TempDir()
			must(t, os.WriteFile(filepath.Join(tree, "file"), []byte("content"), 0o600))
			e := newEngine(t, newRoot(t, testProject))
			e.kernelNow = func() time.Time { return time.Now().Add(time.Minute) } // change times are old enough to be trusted
			first, _ := mustSave(t, e, tree, "one", "")
			if err := change(tree); errors.Is(err, unix.EOPNOTSUPP) {
				t.Skip("SKIPPED: ", err)
			} else {
				must(t, err)
			}
			second, _ := mustSave(t, e, tree, "two", first)
			mustEqual(t, tree, restored(t, e, second))
		})
	}
}

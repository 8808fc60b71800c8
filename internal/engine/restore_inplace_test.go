package engine

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/object"
	"golang.org/x/sys/unix"
)

// A repairedFile is a large saved file, and a place where it is restored.
type repairedFile struct {
	r              repo.DirectRepository
	id             object.ID
	all            totals
	source, target string // the trees
	path           string // of the file in target
	content        []byte
}

func newRepairedFile(t *testing.T) *repairedFile {
	f := &repairedFile{r: newRepository(t), source: t.TempDir(), target: t.TempDir(), content: randomBytes(7, 24<<20)}
	must(t, os.WriteFile(filepath.Join(f.source, "large"), f.content, 0o640))
	f.id, f.all = plainSave(t, f.r, f.source, 1<<20)
	f.path = filepath.Join(f.target, "large")
	mustRestore(t, f.r, f.id, f.all, f.target)
	return f
}

// spoil overwrites 100 bytes at each offset.
func (f *repairedFile) spoil(t *testing.T, offsets ...int64) {
	t.Helper()
	out, err := os.OpenFile(f.path, os.O_WRONLY, 0)
	must(t, err)
	for _, off := range offsets {
		_, err := out.WriteAt(randomBytes(uint64(off), 100), off)
		must(t, err)
	}
	must(t, out.Close())
}

func (f *repairedFile) inode(t *testing.T) uint64 {
	t.Helper()
	info, err := os.Lstat(f.path)
	must(t, err)
	return info.Sys().(*syscall.Stat_t).Ino
}

func TestOnlyWhatDiffersOfALargeFileIsWritten(t *testing.T) {
	t.Parallel()
	f := newRepairedFile(t)
	f.spoil(t, 0, 5<<20, 24<<20-100)
	before := f.inode(t)
	report := mustRestore(t, f.r, f.id, f.all, f.target)
	mustEqual(t, f.source, f.target)
	if report.Stored != 3<<20 || f.inode(t) != before {
		t.Errorf("wrote %d bytes; the inode was %d and is %d", report.Stored, before, f.inode(t))
	}
}

func TestALargeFileIsReplacedWhere(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(t *testing.T, f *repairedFile){
		"most of it differs": func(t *testing.T, f *repairedFile) {
			must(t, os.WriteFile(f.path, randomBytes(8, len(f.content)), 0o640))
		},
		"it has grown":  func(t *testing.T, f *repairedFile) { must(t, os.Truncate(f.path, 30<<20)) },
		"it has shrunk": func(t *testing.T, f *repairedFile) { must(t, os.Truncate(f.path, 20<<20)) },
		"it has a hole": func(t *testing.T, f *repairedFile) {
			must(t, os.Truncate(f.path, 1<<20))
			must(t, os.Truncate(f.path, 24<<20))
		},
		"it has another name outside": func(t *testing.T, f *repairedFile) {
			f.spoil(t, 100)
			must(t, os.Link(f.path, filepath.Join(t.TempDir(), "outside")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newRepairedFile(t)
			change(t, f)
			old, err := os.Open(f.path)
			must(t, err)
			defer old.Close()
			info, err := old.Stat()
			must(t, err)
			was := make([]byte, info.Size())
			_, err = old.ReadAt(was, 0)
			must(t, err)
			before := f.inode(t)
			mustRestore(t, f.r, f.id, f.all, f.target)
			mustEqual(t, f.source, f.target)
			is := make([]byte, len(was))
			if _, err := old.ReadAt(is, 0); err != nil || !bytes.Equal(was, is) {
				t.Errorf("what was there has been written to: %v", err)
			}
			if f.inode(t) == before {
				t.Error("it was not replaced")
			}
		})
	}
}

// A brokenReader fails to read single chunks once left of them were read.
type brokenReader struct {
	contentReader
	left *atomic.Int64
	err  error
}

func (b brokenReader) one(ctx context.Context, c chunk, use func([]byte) error) error {
	if b.left.Add(-1) < 0 {
		return b.err
	}
	return b.contentReader.one(ctx, c, use)
}

// restoreWith restores with a reader that breaks after some chunks.
func (f *repairedFile) restoreWith(t *testing.T, after int64, failure error) error {
	t.Helper()
	dir, err := os.Open(f.target)
	must(t, err)
	defer dir.Close()
	var left atomic.Int64
	left.Store(after)
	contents := func() contentReader { return brokenReader{readers(f.r)(), &left, failure} }
	re := newRestorer(t.Context(), f.r, contents, contentHashes(f.r.FormatManager()), slog.New(slog.DiscardHandler))
	return re.run(context.Background(), int(dir.Fd()), f.id)
}

func TestALargeFileStaysAsItIsWhileAChunkOfItCannotBeRead(t *testing.T) {
	t.Parallel()
	f := newRepairedFile(t)
	f.spoil(t, 0, 5<<20, 10<<20)
	before, err := os.ReadFile(f.path)
	must(t, err)
	var was, is unix.Stat_t
	must(t, unix.Stat(f.path, &was))
	if err := f.restoreWith(t, 2, errDamaged); !errors.Is(err, errDamaged) {
		t.Fatalf("the restore ended with %v", err)
	}
	after, err := os.ReadFile(f.path)
	must(t, err)
	must(t, unix.Stat(f.path, &is))
	if !bytes.Equal(before, after) || was.Ctim != is.Ctim {
		t.Error("the file was changed")
	}
}

func TestALargeFileThatIsHalfRepairedIsRepairedByTheNextRestore(t *testing.T) {
	t.Parallel()
	f := newRepairedFile(t)
	f.spoil(t, 0, 5<<20, 10<<20)
	var was, torn unix.Stat_t
	must(t, unix.Stat(f.path, &was))
	if err := f.restoreWith(t, 3+1, unix.ENOSPC); !errors.Is(err, unix.ENOSPC) { // three are read before the first is written
		t.Fatalf("the restore ended with %v", err)
	}
	must(t, unix.Stat(f.path, &torn))
	if torn.Ctim == was.Ctim {
		t.Error("the change time of the torn file is still that of the whole one")
	}
	if report := mustRestore(t, f.r, f.id, f.all, f.target); report.Stored != 2<<20 {
		t.Errorf("the second restore wrote %d bytes, so the first had not written one chunk", report.Stored)
	}
	mustEqual(t, f.source, f.target)
}

package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/kopia/kopia/repo/content"
	"golang.org/x/sys/unix"

	"abaca"
	"abaca/internal/test/torture"
)

// savedFile returns the entry of a file in the root directory of a finished save.
func savedFile(t *testing.T, e *Engine, ref abaca.Ref, name string) (*repository, entry) {
	t.Helper()
	ctx := context.Background()
	r, release, err := e.pool.acquire(ctx, testProject, mustExist)
	must(t, err)
	t.Cleanup(release)
	m, _, err := finished(ctx, r.kopia, string(ref))
	must(t, err)
	stream, err := r.kopia.OpenObject(ctx, m.RootEntry.ObjectID)
	must(t, err)
	defer stream.Close()
	decoder, err := newDirDecoder(stream)
	must(t, err)
	for {
		var saved entry
		must(t, decoder.next(&saved))
		if saved.name == name {
			return r, saved
		}
	}
}

// lastChunk returns where the end of a file's content lies.
func lastChunk(t *testing.T, r *repository, e *entry) content.Info {
	t.Helper()
	ctx := context.Background()
	var last content.ID
	must(t, chunksOf(ctx, r.kopia, e, func(c chunk) error {
		last = c.id
		return nil
	}))
	info, err := r.kopia.ContentInfo(ctx, last)
	must(t, err)
	return info
}

// packPath finds the file of a pack.
func packPath(t *testing.T, r *repository, info content.Info) string {
	t.Helper()
	var found string
	must(t, filepath.WalkDir(r.dir, func(path string, d os.DirEntry, err error) error {
		name := strings.ReplaceAll(strings.TrimPrefix(path, filepath.Join(r.dir, blobDir)), "/", "")
		if err == nil && !d.IsDir() && strings.HasPrefix(name, string(info.PackBlobID)) {
			found = path
		}
		return err
	}))
	if found == "" {
		t.Fatalf("no file for pack %v", info.PackBlobID)
	}
	return found
}

func TestDamageCostsOnlyTheFilesItHits(t *testing.T) {
	t.Parallel()
	source := plainTree(t) // with a file "big" of many chunks
	must(t, os.WriteFile(filepath.Join(source, "small"), randomBytes(5, 3000), 0o640))
	for _, name := range []string{"big", "small"} {
		t.Run(name, func(t *testing.T) {
			e := newEngine(t, newRoot(t, testProject))
			ref, _ := mustSave(t, e, source, "one", "")
			r, saved := savedFile(t, e, ref, name)
			info := lastChunk(t, r, &saved)
			overwriteByte(t, packPath(t, r, info), int64(info.PackOffset)+int64(info.PackedLength)/2)

			target := t.TempDir()
			for _, before := range []string{"", "an older version"} {
				if before != "" {
					must(t, os.WriteFile(filepath.Join(target, name), []byte(before), 0o600))
				}
				_, err := e.Restore(context.Background(), testProject, ref, volumeOf(t, target), nil)
				reason, ok := errors.AsType[*abaca.Reason](err)
				if !errors.Is(err, abaca.ErrPermanent) || !ok || !strings.Contains(reason.Text, `1 entries`) || !strings.Contains(reason.Text, `"`+name+`"`) {
					t.Errorf("the error is %v", err)
				}
				differences, err := torture.Compare(source, target)
				must(t, err)
				for _, d := range differences {
					if !strings.HasPrefix(d, `"`+name+`" `) {
						t.Error(d)
					}
				}
				left, err := os.ReadFile(filepath.Join(target, name))
				if before == "" && !errors.Is(err, os.ErrNotExist) || before != "" && string(left) != before {
					t.Errorf("in its place is %.40q, %v", left, err)
				}
			}
		})
	}
}

func TestALostPackIsReportedFileByFile(t *testing.T) {
	t.Parallel()
	e := newEngine(t, newRoot(t, testProject))
	source, target := plainTree(t), t.TempDir()
	ref, _ := mustSave(t, e, source, "one", "")
	r, saved := savedFile(t, e, ref, "big")
	must(t, os.Remove(packPath(t, r, lastChunk(t, r, &saved))))
	_, err := e.Restore(context.Background(), testProject, ref, volumeOf(t, target), nil)
	differences, cerr := torture.Compare(source, target)
	must(t, cerr)
	reason, ok := errors.AsType[*abaca.Reason](err)
	if !errors.Is(err, abaca.ErrPermanent) || !ok || !strings.Contains(reason.Text, fmt.Sprintf("%d entries", len(differences))) {
		t.Errorf("the error of %d files is %.300v", len(differences), err)
	}
	if strings.Contains(reason.Text, "BLOB") {
		t.Errorf("a tenant reads of the repository's inside: %.300s", reason.Text)
	}
	for _, d := range differences {
		if !strings.HasSuffix(d, "is missing") {
			t.Error(d)
		}
	}
}

// A failingReader fails for good after some pieces, as a file system that has become full does. What other workers
// have begun then stays behind, as after a crash.
type failingReader struct {
	contentReader
	left *atomic.Int64
}

func (f failingReader) each(ctx context.Context, pieces []piece, use func(*piece, []byte, error) error) error {
	return f.contentReader.each(ctx, pieces, func(p *piece, data []byte, err error) error {
		if f.left.Add(-1) < 0 {
			return unix.ENOSPC
		}
		return use(p, data, err)
	})
}

func TestARestoreThatDiedAnywhereIsCompletedByTheNext(t *testing.T) {
	t.Parallel()
	r := newRepository(t)
	source, target := t.TempDir(), t.TempDir()
	must(t, torture.Grow(source, 77, 300))
	id, all := plainSave(t, r, source, 16<<10)
	died := 0
	for after := int64(0); after < 400; after += 37 {
		_, err := torture.Vandalise(target, uint64(after), 20)
		must(t, err)
		dir, err := os.Open(target)
		must(t, err)
		var left atomic.Int64
		left.Store(after)
		re := newRestorer(t.Context(), r, func() contentReader { return failingReader{readers(r)(), &left} }, contentHashes(r.FormatManager()), slog.New(slog.DiscardHandler))
		err = re.run(context.Background(), int(dir.Fd()), id)
		dir.Close()
		if errors.Is(err, unix.ENOSPC) {
			died++
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if died == 0 {
		t.Error("no restore died")
	}
	mustRestore(t, r, id, all, target)
	mustEqual(t, source, target)
}

func TestAFullShareFailsInWords(t *testing.T) {
	t.Parallel()
	source, target := t.TempDir(), t.TempDir()
	if err := unix.Mount("tmpfs", target, "tmpfs", 0, "size=4m"); err != nil {
		t.Skipf("SKIPPED: a small file system needs privileges: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(target, unix.MNT_DETACH) })
	e := newEngine(t, newRoot(t, testProject))
	must(t, os.WriteFile(filepath.Join(source, "large"), randomBytes(1, 6<<20), 0o600))
	ref, _ := mustSave(t, e, source, "large", "")
	_, err := e.Restore(context.Background(), testProject, ref, volumeOf(t, target), nil)
	reason, ok := errors.AsType[*abaca.Reason](err)
	if !ok || !strings.Contains(reason.Text, "full") || errors.Is(err, abaca.ErrPermanent) {
		t.Errorf("the error is %v", err)
	}
	must(t, os.Truncate(filepath.Join(source, "large"), 1<<20))
	ref, _ = mustSave(t, e, source, "small", "")
	_, err = e.Restore(context.Background(), testProject, ref, volumeOf(t, target), nil)
	must(t, err)
	sameContent(t, filepath.Join(source, "large"), filepath.Join(target, "large"))
}

// Tenants restore because they have filled a share with the wrong things.
func TestAShareFullOfWhatWillGoIsCleared(t *testing.T) {
	t.Parallel()
	source, target := t.TempDir(), t.TempDir()
	if err := unix.Mount("tmpfs", target, "tmpfs", 0, "size=4m"); err != nil {
		t.Skipf("SKIPPED: a small file system needs privileges: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(target, unix.MNT_DETACH) })
	e := newEngine(t, newRoot(t, testProject))
	must(t, os.WriteFile(filepath.Join(source, "a-new"), randomBytes(1, 1<<20), 0o600))
	must(t, os.MkdirAll(filepath.Join(source, "dir/missing"), 0o700))
	must(t, os.WriteFile(filepath.Join(source, "dir/larger"), randomBytes(2, 2<<20), 0o600))
	ref, _ := mustSave(t, e, source, "one", "")
	must(t, os.MkdirAll(filepath.Join(target, "dir"), 0o700))
	must(t, os.WriteFile(filepath.Join(target, "dir/larger"), randomBytes(3, 1<<20), 0o600))
	must(t, os.WriteFile(filepath.Join(target, "z-extra"), randomBytes(4, 5<<19), 0o600))
	_, err := e.Restore(context.Background(), testProject, ref, volumeOf(t, target), nil)
	must(t, err)
	mustEqual(t, source, target)
}

func sameContent(t *testing.T, want, got string) {
	t.Helper()
	w, err := os.ReadFile(want)
	must(t, err)
	g, err := os.ReadFile(got)
	must(t, err)
	if string(w) != string(g) {
		t.Errorf("%s has other content", got)
	}
}

func TestAFewDescriptorsAreEnoughForAnyDepth(t *testing.T) {
	t.Parallel()
	r := newRepository(t)
	source, target := plantTorture(t), t.TempDir()
	id, _ := plainSave(t, r, source, 1<<20)
	dir, err := os.Open(target)
	must(t, err)
	defer dir.Close()
	re := newRestorer(t.Context(), r, readers(r), contentHashes(r.FormatManager()), slog.New(slog.DiscardHandler))
	re.dirs.limit = 2
	must(t, re.run(context.Background(), int(dir.Fd()), id))
	mustEqual(t, source, target)
}

func TestWhatWasSavedWithAMarkDestroysNothing(t *testing.T) {
	t.Parallel()
	r := newRepository(t)
	source, target := t.TempDir(), t.TempDir()
	must(t, os.MkdirAll(filepath.Join(source, "dir"), 0o755))
	must(t, os.WriteFile(filepath.Join(source, "file"), []byte("content"), 0o644))
	must(t, os.WriteFile(filepath.Join(source, "new"), []byte("content"), 0o644))
	id, all := plainSaveMarked(t, r, source, markUnreadable)
	must(t, os.MkdirAll(filepath.Join(target, "dir"), 0o700))
	must(t, os.WriteFile(filepath.Join(target, "dir/kept"), []byte("kept"), 0o600))
	must(t, os.WriteFile(filepath.Join(target, "file"), []byte("kept"), 0o600))
	must(t, os.WriteFile(filepath.Join(target, "extra"), nil, 0o600))
	report, err := restoreInto(t, r, id, all, target)
	must(t, err)
	if report.Unreadable != 3 {
		t.Errorf("%d marked: %s", report.Unreadable, report.Detail)
	}
	for path, want := range map[string]string{"dir/kept": "kept", "file": "kept", "new": ""} {
		if got, err := os.ReadFile(filepath.Join(target, path)); string(got) != want || err != nil {
			t.Errorf("%s is %q, %v", path, got, err)
		}
	}
	if _, err := os.Lstat(filepath.Join(target, "extra")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what is extra stayed: %v", err)
	}
}

func TestEntriesOfADirectoryOfManySubdirectoriesAreVisitedInBatches(t *testing.T) {
	t.Parallel()
	r := newRepository(t)
	source, target := t.TempDir(), t.TempDir()
	for i := range maxSubdirs + 10 {
		must(t, os.Mkdir(filepath.Join(source, fmt.Sprintf("%06d", i)), 0o750))
	}
	id, all := plainSave(t, r, source, 1<<20)
	must(t, os.Mkdir(filepath.Join(target, "extra"), 0o700))
	mustRestore(t, r, id, all, target)
	mustEqual(t, source, target)
}

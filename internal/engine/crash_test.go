package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/format"
	"github.com/kopia/kopia/repo/manifest"
	"github.com/kopia/kopia/snapshot"
	"golang.org/x/sync/errgroup"

	"abaca"
)

// A dyingStorage does so many writes and then no more, as if the process had been killed there.
type dyingStorage struct {
	blob.Storage
	left *atomic.Int64
}

var errKilled = errors.New("killed here")

func (d dyingStorage) PutBlob(ctx context.Context, id blob.ID, data blob.Bytes, opts blob.PutOptions) error {
	if d.left.Add(-1) < 0 {
		return errKilled
	}
	return d.Storage.PutBlob(ctx, id, data, opts)
}

func (d dyingStorage) DeleteBlob(ctx context.Context, id blob.ID) error {
	if d.left.Add(-1) < 0 {
		return errKilled
	}
	return d.Storage.DeleteBlob(ctx, id)
}

func TestAfterACrashAtAnyWriteTheNextSaveSucceeds(t *testing.T) {
	t.Parallel()
	tree := t.TempDir()
	must(t, os.WriteFile(filepath.Join(tree, "big"), randomBytes(3, 3<<20), 0o600))
	for i := range 5 {
		must(t, os.MkdirAll(filepath.Join(tree, fmt.Sprint(i)), 0o700))
		must(t, os.WriteFile(filepath.Join(tree, fmt.Sprint(i), "f"), randomBytes(uint64(i), 1000), 0o600))
	}
	attempt := func(t *testing.T, root string, writes int64) (made int64) {
		var left atomic.Int64
		left.Store(writes)
		dying := newEngine(t, root, func(c *Config) {
			c.Wrap = func(st blob.Storage) blob.Storage { return dyingStorage{st, &left} }
			c.Checkpoint = time.Millisecond
		})
		_, _, err := dying.Save(context.Background(), request("one", ""), volumeOf(t, tree), nil)
		made = writes - left.Load()
		if died := left.Load() < 0; died != errors.Is(err, errKilled) {
			t.Fatalf("after %d writes: %v", writes, err)
		}
		e := newEngine(t, root)
		ref, _ := mustSave(t, e, tree, "one", "")
		mustEqual(t, tree, restored(t, e, ref))
		if n := countSnapshots(t, e); n != 1 {
			t.Errorf("there are %d snapshots", n)
		}
		r, release, err := e.pool.acquire(context.Background(), testProject, mustExist)
		must(t, err)
		defer release()
		stockVerify(t, r.kopia)
		return made
	}
	all := attempt(t, newRoot(t, testProject), math.MaxInt64)
	if all < 5 {
		t.Fatalf("a save made only %d writes", all)
	}
	for writes := range int64(3) {
		t.Run(fmt.Sprintf("after %d writes, the repository's own among them", writes), func(t *testing.T) {
			t.Parallel()
			attempt(t, t.TempDir(), writes)
		})
	}
	// On a slow machine more checkpoints fall into the save, and so more writes: a crash at each of them would only repeat the others.
	crashes := int64(40)
	if !quickKeys {
		crashes = 8
	}
	for writes := int64(0); writes < all; writes += (all + crashes - 1) / crashes {
		t.Run(fmt.Sprintf("after %d writes", writes), func(t *testing.T) {
			t.Parallel()
			attempt(t, newRoot(t, testProject), writes)
		})
	}
}

func TestAnInterruptedSaveResumesFromItsCheckpoint(t *testing.T) {
	t.Parallel()
	tree := t.TempDir()
	for i := range 40 {
		dir := filepath.Join(tree, fmt.Sprintf("%02d", i))
		must(t, os.Mkdir(dir, 0o700))
		must(t, os.WriteFile(filepath.Join(dir, "f"), randomBytes(uint64(i), 600<<10), 0o600))
	}
	must(t, os.WriteFile(filepath.Join(tree, "large"), randomBytes(99, 64<<20), 0o600))
	root := newRoot(t, testProject)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	first := newEngine(t, root, func(c *Config) {
		c.Checkpoint = time.Millisecond
		c.Wrap = func(st blob.Storage) blob.Storage { return &watchedStorage{Storage: st, enough: 6, cancel: cancel} }
	})
	first.kernelNow = func() time.Time { return time.Now().Add(time.Minute) }
	_, _, err := first.Save(ctx, request("one", ""), volumeOf(t, tree), nil)
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("the save was not interrupted: %v", err)
	}
	second := newEngine(t, root)
	second.kernelNow = first.kernelNow
	ref, report := mustSave(t, second, tree, "one", "")
	if report.Stored > 90<<20 {
		t.Errorf("all %d bytes were stored again", report.Stored)
	}
	t.Logf("stored after the interruption: %d MiB of 88", report.Stored>>20)
	mustEqual(t, tree, restored(t, second, ref))
	if all := stockVerify(t, stockRepository(t, second, testProject)); len(all) != 1 {
		t.Errorf("%d snapshots are left", len(all))
	}
}

func TestTheBeginningOfALargeFileIsNotReadAgainAfterAnInterruption(t *testing.T) {
	t.Parallel()
	tree := t.TempDir()
	const size = 96 << 20
	must(t, os.WriteFile(filepath.Join(tree, "large"), randomBytes(99, size), 0o600))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	old := func() time.Time { return time.Now().Add(time.Minute) }
	root := newRoot(t, testProject)
	first := newEngine(t, root, func(c *Config) {
		c.Checkpoint = time.Millisecond
		c.Wrap = func(st blob.Storage) blob.Storage {
			return &watchedStorage{Storage: st, begin: 20 << 20, enough: 3, cancel: cancel}
		}
	})
	first.kernelNow = old
	if _, _, err := first.Save(ctx, request("one", ""), volumeOf(t, tree), nil); !errors.Is(err, context.Canceled) {
		t.Fatalf("the save was not interrupted: %v", err)
	}
	ctx = context.Background()
	second := newEngine(t, root)
	second.kernelNow = old
	r, release, err := second.pool.acquire(ctx, testProject, mustExist)
	must(t, err)
	w, err := r.newWriter(ctx)
	must(t, err)
	s, node, err := newSaver(ctx, w, volumeOf(t, tree), old)
	must(t, err)
	must(t, s.findPrevious(ctx, request("one", ""), node))
	var begun int64
	for _, part := range s.resumed.files {
		begun += part.size
	}
	before := w.puts.Load()
	must(t, s.walk(ctx, node, time.Hour, nil))
	chunks := w.puts.Load() - before
	must(t, w.session.Close(ctx))
	release()
	t.Logf("%d of %d bytes had been stored; the rest took %d chunks", begun, size, chunks)
	if begun < minChunk || begun >= size {
		t.Fatalf("the checkpoint has %d bytes of %d", begun, size)
	}
	ref, _ := mustSave(t, second, tree, "one", "")
	large, rest := savedEntries(t, second, ref)["large"], int64(0)
	r, release, err = second.pool.acquire(ctx, testProject, mustExist)
	must(t, err)
	defer release()
	must(t, chunksOf(ctx, r.kopia, &large, func(c chunk) error {
		if c.start >= begun {
			rest++
		}
		return nil
	}))
	if others := int64(2); chunks > rest+others { // the list of chunks and the directory
		t.Errorf("%d chunks were stored again; %d were left to store", chunks-others, rest)
	}
	mustEqual(t, tree, restored(t, second, ref))
}

// A watchedStorage interrupts the save once enough index blobs, and so checkpoints, have been written.
type watchedStorage struct {
	blob.Storage
	mu     sync.Mutex
	begin  int // index blobs count once so many bytes of packs have been written
	enough int
	cancel context.CancelFunc
}

func (w *watchedStorage) PutBlob(ctx context.Context, id blob.ID, data blob.Bytes, opts blob.PutOptions) error {
	err := w.Storage.PutBlob(ctx, id, data, opts)
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case strings.HasPrefix(string(id), "p"):
		w.begin -= data.Length()
	case strings.HasPrefix(string(id), "x") && w.begin <= 0:
		if w.enough--; w.enough == 0 {
			w.cancel()
		}
	}
	return err
}

func TestAHalfMadeRepositoryIsCompleted(t *testing.T) {
	t.Parallel()
	tree := t.TempDir()
	for name, spoil := range map[string]func(dir string) error{
		"only its directory":       func(dir string) error { return os.RemoveAll(filepath.Join(dir, secretFile)) },
		"no blobs yet":             func(string) error { return nil },
		"a leftover temporary key": func(dir string) error { return os.WriteFile(filepath.Join(dir, ".secret.123"), nil, 0o600) },
		"the first blob alone": func(dir string) error {
			return errors.Join(os.Mkdir(filepath.Join(dir, blobDir), 0o700),
				os.WriteFile(filepath.Join(dir, blobDir, string(format.KopiaBlobCfgBlobID)+".f"), []byte("x"), 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEngine(t, t.TempDir())
			dir := filepath.Join(e.config.Root, dirName(testProject))
			must(t, os.Mkdir(dir, 0o700))
			must(t, writeDurably(filepath.Join(dir, secretFile), e.keys.wrap(testProject, newPassword())))
			must(t, spoil(dir))
			mustSave(t, e, tree, "one", "")
			stockVerify(t, stockRepository(t, e, testProject))
		})
	}
}

func TestALostKeyOrFormatIsNeverPaperedOver(t *testing.T) {
	t.Parallel()
	tree := plainTree(t)
	blob := string(format.KopiaRepositoryBlobID)
	for _, lost := range [][]string{{secretFile}, {filepath.Join(blobDir, blob+".f"), blob + copySuffix}} {
		root := newRoot(t, testProject)
		mustSave(t, newEngine(t, root), tree, "one", "")
		for _, name := range lost {
			must(t, os.Remove(filepath.Join(root, dirName(testProject), name)))
		}
		_, _, err := newEngine(t, root).Save(context.Background(), request("two", ""), volumeOf(t, tree), nil)
		if !errors.Is(err, abaca.ErrPermanent) {
			t.Errorf("without %s: %v", lost, err)
		}
	}
}

func TestAFlippedBitIsFound(t *testing.T) {
	t.Parallel()
	tree := plainTree(t)
	root := newRoot(t, testProject)
	first := newEngine(t, root)
	ref, _ := mustSave(t, first, tree, "one", "")
	must(t, first.Close(context.Background()))
	flipped := 0
	must(t, filepath.WalkDir(filepath.Join(root, dirName(testProject), blobDir, "p"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		must(t, err)
		raw[len(raw)/2] ^= 1
		flipped++
		return os.WriteFile(path, raw, 0o600)
	}))
	e := newEngine(t, root)
	ctx := context.Background()
	r, release, err := e.pool.acquire(ctx, testProject, mustExist)
	must(t, err)
	defer release()
	m, _, err := finished(ctx, r.kopia, string(ref))
	must(t, err)
	report, err := restoreInto(t, r.kopia, m.RootEntry.ObjectID, totals{}, t.TempDir())
	if flipped == 0 || err == nil {
		t.Errorf("%d packs were damaged, and the restore said %+v, %v", flipped, report, err)
	}
}

func TestSavesOfOneProjectRunBesideEachOther(t *testing.T) {
	t.Parallel()
	e := newEngine(t, newRoot(t, testProject), func(c *Config) { c.Checkpoint = 5 * time.Millisecond })
	var group errgroup.Group
	trees := make([]string, 4)
	for i := range trees {
		trees[i] = plainTree(t)
		for range 2 { // the second under the same id waits, and finds the first
			group.Go(func() error {
				_, _, err := e.Save(context.Background(), request(fmt.Sprint(i), ""), volumeOf(t, trees[i]), nil)
				return err
			})
		}
	}
	group.Go(func() error { return e.Maintain(context.Background(), testProject) })
	must(t, group.Wait())
	must(t, e.Maintain(context.Background(), testProject)) // which removes checkpoints that came back
	all := stockVerify(t, stockRepository(t, e, testProject))
	if len(all) != len(trees) {
		t.Errorf("%d snapshots of %d", len(all), len(trees))
	}
	for _, m := range all {
		if m.IncompleteReason != "" {
			t.Errorf("a checkpoint of %s is left", m.Tags[tagID])
		}
	}
	for i, tree := range trees {
		mustEqual(t, tree, restored(t, e, abaca.Ref(fmt.Sprint(i))))
	}
}

func TestProgressIsTrueAndEndsWithAll(t *testing.T) {
	t.Parallel()
	tree := plainTree(t)
	e := newEngine(t, newRoot(t, testProject))
	e.kernelNow = func() time.Time { return time.Now().Add(time.Hour) } // no file is too young to be trusted
	var last abaca.Progress
	_, report, err := e.Save(context.Background(), request("one", ""), volumeOf(t, tree), func(p abaca.Progress) {
		if p.FilesDone > p.FilesFound || p.BytesDone > p.BytesFound || p.FilesDone < last.FilesDone {
			t.Errorf("%+v after %+v", p, last)
		}
		last = p
	})
	must(t, err)
	if last.FilesFound != report.Files || last.BytesFound != report.Bytes || last.FilesDone != report.Files || last.BytesDone != report.Bytes {
		t.Errorf("ended with %+v of %+v", last, report)
	}
	if last.BytesRead != report.Bytes || last.FilesRead == 0 || last.FilesRead > report.Files || last.Stored > report.Stored {
		t.Errorf("has read %+v of %+v", last, report)
	}
	_, _, err = e.Save(context.Background(), request("two", "one"), volumeOf(t, tree), func(p abaca.Progress) { last = p })
	must(t, err)
	if last.BytesRead != 0 || last.FilesRead != 0 || last.BytesDone != report.Bytes {
		t.Errorf("an unchanged tree is read: %+v", last)
	}
}

func TestDirectoryNamesOfProjectsStayBelowTheRootAndApart(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, id := range []abaca.ProjectID{"a", "A", ".", "..", "../x", "a/b", "a%2fb", "~", "\x00", "ü", "%",
		abaca.ProjectID(bytes.Repeat([]byte("x"), 500)), abaca.ProjectID(bytes.Repeat([]byte("x"), 501))} {
		n := dirName(id)
		if seen[n] || n == "." || n == ".." || strings.ContainsAny(n, "/\x00") || len(n) > 255 {
			t.Errorf("%q becomes %q", id, n)
		}
		seen[n] = true
	}
}

// countSnapshots counts the manifests of a project's snapshots, checkpoints included.
func countSnapshots(t testing.TB, e *Engine) int {
	t.Helper()
	ctx := context.Background()
	r, release, err := e.pool.acquire(ctx, testProject, mustExist)
	must(t, err)
	defer release()
	found, err := r.kopia.FindManifests(ctx, map[string]string{manifest.TypeLabelKey: snapshot.ManifestType})
	must(t, err)
	return len(found)
}

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
	"github.com/kopia/kopia/repo/object"
	"golang.org/x/sync/errgroup"

	"abaca"
	"abaca/internal/posix"
	"abaca/internal/test/torture"
)

var everything = abaca.Slice{From: 0, To: 1}

func mustVerify(t testing.TB, e *Engine, slice abaca.Slice, refs ...abaca.Ref) map[abaca.Ref]abaca.Verification {
	t.Helper()
	found, err := e.Verify(context.Background(), testProject, refs, slice, nil)
	must(t, err)
	return found
}

func TestASoundTreeIsVerifiedWholeAndWhatTreesShareIsReadOnce(t *testing.T) {
	t.Parallel()
	tree := plantTorture(t)
	e := newEngine(t, t.TempDir())
	first, report := mustSave(t, e, tree, "one", "")
	must(t, os.WriteFile(filepath.Join(tree, "one more"), randomBytes(77, 5000), 0o600))
	second, more := mustSave(t, e, tree, "two", first)
	var last abaca.Progress
	found, err := e.Verify(context.Background(), testProject, []abaca.Ref{first, second, first}, everything, func(p abaca.Progress) { last = p })
	must(t, err)
	if a := found[first]; a.Damaged != 0 || a.Detail != "" || a.Files != report.Files || a.Bytes < 1<<20 {
		t.Errorf("the first has %d entries, and verifying found %+v", report.Files, a)
	}
	if b := found[second]; b.Damaged != 0 || b.Files != more.Files || b.Bytes != 5000 {
		t.Errorf("the second has %d entries, and verifying found %+v", more.Files, b)
	}
	if last.FilesDone != report.Files+more.Files || last.FilesDone != last.FilesFound || last.BytesDone != last.BytesFound || last.BytesDone != found[first].Bytes+5000 {
		t.Errorf("progress ended with %+v", last)
	}
}

func TestSlicesAddUpToEverything(t *testing.T) {
	t.Parallel()
	e := newEngine(t, t.TempDir())
	ref, report := mustSave(t, e, plainTree(t), "one", "")
	whole := mustVerify(t, e, everything, ref)[ref]
	var sum int64
	for _, from := range []float64{0, 0.25, 0.5, 0.75} {
		part := mustVerify(t, e, abaca.Slice{From: from, To: from + 0.25}, ref)[ref]
		if part.Files != report.Files || part.Damaged != 0 {
			t.Errorf("from %v: %+v", from, part)
		}
		if part.Bytes == 0 || part.Bytes == whole.Bytes {
			t.Errorf("a quarter has %d of %d bytes", part.Bytes, whole.Bytes)
		}
		sum += part.Bytes
	}
	if sum != whole.Bytes || mustVerify(t, e, abaca.Slice{}, ref)[ref].Bytes != 0 {
		t.Errorf("the quarters have %d of %d bytes", sum, whole.Bytes)
	}
}

func TestABackupThatIsNotThereIsDamagedAsAWhole(t *testing.T) {
	t.Parallel()
	e := newEngine(t, t.TempDir())
	if found := mustVerify(t, e, everything, "never"); found["never"] != nothingSaved {
		t.Errorf("without a repository: %+v", found)
	}
	ref, report := mustSave(t, e, plainTree(t), "one", "")
	found := mustVerify(t, e, everything, ref, "never")
	if len(found) != 2 || found["never"] != nothingSaved || found[ref].Damaged != 0 || found[ref].Files != report.Files {
		t.Errorf("found %+v", found)
	}
}

// What no bit can do to a directory, a mistake could.
func TestADirectoryThatHoldsOtherThanIsSaidOfItIsNamed(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for name, wrong := range map[string]totals{
		"itself says more":   {files: 4, bytes: 6, dirs: 1},
		"itself says less":   {files: 2, bytes: 6, dirs: 1},
		"its parent differs": {files: 3, bytes: 6, dirs: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEngine(t, t.TempDir())
			tree := t.TempDir()
			for _, f := range []string{"a", "b", "c"} {
				must(t, os.WriteFile(filepath.Join(tree, f), []byte("xy"), 0o600))
			}
			mustSave(t, e, tree, "one", "")
			entries := savedEntries(t, e, "one")
			r, release, err := e.pool.acquire(ctx, testProject, mustExist)
			must(t, err)
			defer release()
			w, err := r.newWriter(ctx)
			must(t, err)
			sum := totals{files: 3, bytes: 6, dirs: 1}
			put := func(says totals, entries ...entry) object.ID {
				out := w.newStream(ctx, prefixDirectory)
				enc := newDirEncoder(out, header{})
				for i := range entries {
					must(t, enc.add(&entries[i]))
				}
				must(t, enc.close(says, posix.Time{}))
				id, err := out.finish()
				must(t, err)
				return id
			}
			dir := entry{name: "dir", kind: kindDir, nlink: 1, object: put(wrong, entries["a"], entries["b"], entries["c"]), totals: sum}
			if wrong == sum {
				dir.totals.files++
			}
			root := entry{kind: kindDir, totals: totals{dirs: 1}}
			root.totals.count(&dir)
			root.object = put(root.totals, dir)
			s := saver{w: w}
			must(t, s.commit(ctx, newManifest(request("two", ""), &root, time.Now(), time.Now())))
			must(t, w.session.Close(ctx))
			v := mustVerify(t, e, everything, "two")["two"]
			if v.Damaged == 0 || !strings.HasPrefix(v.Detail, `"dir": `) || v.Files != 3 {
				t.Errorf("found %+v", v)
			}
		})
	}
}

// A flickeringStorage fails to read each range of a data pack once while it is told to.
type flickeringStorage struct {
	blob.Storage
	on     *atomic.Bool
	failed *atomic.Int64
}

func (f flickeringStorage) GetBlob(ctx context.Context, id blob.ID, off, length int64, out blob.OutputBuffer) error {
	if strings.HasPrefix(string(id), "p") && f.on.CompareAndSwap(true, false) {
		f.failed.Add(1)
		return errors.New("not now")
	}
	return f.Storage.GetBlob(ctx, id, off, length, out)
}

func (f flickeringStorage) GetMetadata(ctx context.Context, id blob.ID) (blob.Metadata, error) {
	if strings.HasPrefix(string(id), "p") && f.on.CompareAndSwap(true, false) {
		f.failed.Add(1)
		return blob.Metadata{}, blob.ErrBlobNotFound
	}
	return f.Storage.GetMetadata(ctx, id)
}

func TestWhatLooksDamagedOnceOnlyIsNotNamed(t *testing.T) {
	t.Parallel()
	var on atomic.Bool
	var failed atomic.Int64
	e := newEngine(t, t.TempDir(), func(c *Config) {
		c.Wrap = func(st blob.Storage) blob.Storage { return flickeringStorage{st, &on, &failed} }
	})
	ref, report := mustSave(t, e, plainTree(t), "one", "")
	whole := mustVerify(t, e, everything, ref)[ref]
	on.Store(true)
	again := mustVerify(t, e, everything, ref)[ref]
	if failed.Load() == 0 {
		t.Fatal("nothing failed")
	}
	if again.Damaged != 0 || again.Files != report.Files || again.Bytes != whole.Bytes {
		t.Errorf("found %+v, then %+v", whole, again)
	}
}

func TestVerifyingBesideSavesDeletionsAndMaintenanceRaisesNoFalseAlarm(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	root := t.TempDir()
	e, pass := timedEngine(t, root)
	other := newEngine(t, root, func(c *Config) { c.Now = e.config.Now })
	tree := t.TempDir()
	must(t, torture.Grow(tree, 5, 150))
	kept, report := mustSave(t, e, tree, "kept", "")
	var verified, rounds atomic.Int64
	done := make(chan struct{})
	var group errgroup.Group
	group.Go(func() error {
		for {
			found, err := e.Verify(ctx, testProject, []abaca.Ref{kept, "passing"}, everything, nil)
			if err != nil {
				return err
			}
			verified.Add(1)
			if v := found[kept]; v.Damaged != 0 || v.Files != report.Files {
				t.Errorf("found %+v", v)
			}
			if v, ok := found["passing"]; ok && v.Damaged != 0 && v != nothingSaved {
				t.Errorf("of what comes and goes: %+v", v)
			}
			select {
			case <-done:
				return nil
			default:
			}
		}
	})
	changing := t.TempDir()
	for round := range uint64(6) {
		must(t, os.WriteFile(filepath.Join(changing, "new"), randomBytes(round+1000, 3<<20), 0o600))
		mustSave(t, other, changing, "passing", "")
		must(t, other.Delete(ctx, testProject, "passing"))
		pass(25 * time.Hour)
		must(t, other.Maintain(ctx, testProject))
		rounds.Add(1)
	}
	close(done)
	must(t, group.Wait())
	t.Logf("%d verifications beside %d rounds of maintenance", verified.Load(), rounds.Load())
	mustEqual(t, tree, restored(t, e, kept))
}

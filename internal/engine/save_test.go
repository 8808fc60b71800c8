package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/blob/filesystem"
	"github.com/kopia/kopia/snapshot"
	"github.com/kopia/kopia/snapshot/restore"
	"github.com/kopia/kopia/snapshot/snapshotfs"

	"abaca"
)

const testProject = abaca.ProjectID("project")

func testKey() []byte { return bytes.Repeat([]byte{7}, masterKeyLength) }

// newEngine makes an engine below root, changed by the options, that is closed when the test ends.
func newEngine(t testing.TB, root string, change ...func(*Config)) *Engine {
	t.Helper()
	c := Config{Root: root, MasterKey: testKey(), Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Retry: time.Millisecond}
	for _, f := range change {
		f(&c)
	}
	e, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(context.Background()); err != nil {
			t.Errorf("closing the engine: %v", err)
		}
	})
	return e
}

func volumeOf(t testing.TB, path string) *abaca.Volume {
	t.Helper()
	root, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	v := &abaca.Volume{Root: root}
	t.Cleanup(func() { v.Close() })
	return v
}

func request(id string, parent abaca.Ref) abaca.SaveRequest {
	return abaca.SaveRequest{Project: testProject, Share: "share", ID: id, Parent: parent}
}

func mustSave(t testing.TB, e *Engine, path, id string, parent abaca.Ref) (abaca.Ref, abaca.Report) {
	t.Helper()
	ref, report, err := e.Save(context.Background(), request(id, parent), volumeOf(t, path), nil)
	if err != nil {
		t.Fatalf("saving %s: %v", id, err)
	}
	return ref, report
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// randomBytes are the same for the same seed, and do not compress.
func randomBytes(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	r.Read(b)
	return b
}

// plainTree makes a tree of what stock Kopia can keep too.
func plainTree(t testing.TB) string {
	t.Helper()
	root := t.TempDir()
	for i := range 200 {
		dir := filepath.Join(root, fmt.Sprintf("d%d", i%7), fmt.Sprintf("e%d", i%3))
		must(t, os.MkdirAll(dir, 0o750))
		must(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("f%d", i)), randomBytes(uint64(i), i*97), 0o640))
	}
	must(t, os.WriteFile(filepath.Join(root, "big"), randomBytes(1, 20<<20), 0o600))
	must(t, os.WriteFile(filepath.Join(root, "empty"), nil, 0o444))
	must(t, os.Symlink("d0/../big", filepath.Join(root, "link")))
	must(t, os.Mkdir(filepath.Join(root, "emptydir"), 0o711))
	old := time.Date(2001, 2, 3, 4, 5, 6, 789, time.UTC)
	must(t, os.Chtimes(filepath.Join(root, "d1"), old, old))
	must(t, os.Chtimes(filepath.Join(root, "big"), old, old))
	return root
}

// stockRepository opens a project's repository with nothing but Kopia and the password.
func stockRepository(t testing.TB, e *Engine, project abaca.ProjectID) repo.DirectRepository {
	t.Helper()
	dir := filepath.Join(e.config.Root, dirName(project))
	wrapped, err := os.ReadFile(filepath.Join(dir, secretFile))
	must(t, err)
	password, err := e.keys.unwrap(project, wrapped)
	must(t, err)
	return openStock(t, filepath.Join(dir, blobDir), password)
}

// openStock opens a repository with nothing but Kopia.
func openStock(t testing.TB, dir, password string) repo.DirectRepository {
	t.Helper()
	ctx := context.Background()
	st, err := filesystem.New(ctx, &filesystem.Options{Path: dir}, false)
	must(t, err)
	info := st.ConnectionInfo()
	raw, err := json.Marshal(repo.LocalConfig{Storage: &info}) // as repo.Connect would, which takes a second key derivation
	must(t, err)
	config := filepath.Join(t.TempDir(), "kopia.config")
	must(t, os.WriteFile(config, raw, 0o600))
	r, err := repo.Open(ctx, config, password, nil)
	must(t, err)
	t.Cleanup(func() { r.Close(ctx) })
	return r.(repo.DirectRepository)
}

// stockVerify has Kopia read every byte of every snapshot, and returns the snapshots.
func stockVerify(t testing.TB, r repo.DirectRepository) []*snapshot.Manifest {
	t.Helper()
	ctx := context.Background()
	ids, err := snapshot.ListSnapshotManifests(ctx, r, nil, nil)
	must(t, err)
	all, err := snapshot.LoadSnapshots(ctx, r, ids)
	must(t, err)
	if len(all) != len(ids) {
		t.Errorf("%d of %d manifests can be read", len(all), len(ids))
	}
	v := snapshotfs.NewVerifier(ctx, r, snapshotfs.VerifierOptions{VerifyFilesPercent: 100, MaxErrors: 10})
	_, err = v.InParallel(ctx, func(tw *snapshotfs.TreeWalker) error {
		for _, m := range all {
			root, err := snapshotfs.SnapshotRoot(r, m)
			if err != nil {
				return err
			}
			if err := tw.Process(ctx, root, ""); err != nil {
				return err
			}
		}
		return nil
	})
	must(t, err)
	return all
}

// stockRestore restores a snapshot with Kopia's own restorer and returns where.
func stockRestore(t testing.TB, r repo.DirectRepository, m *snapshot.Manifest) string {
	t.Helper()
	ctx := context.Background()
	target := filepath.Join(t.TempDir(), "restored")
	out := &restore.FilesystemOutput{TargetPath: target, OverwriteDirectories: true, WriteSparseFiles: true}
	must(t, out.Init(ctx))
	root, err := snapshotfs.SnapshotRoot(r, m)
	must(t, err)
	_, err = restore.Entry(ctx, r, out, root, restore.Options{Parallel: 4, RestoreDirEntryAtDepth: math.MaxInt32})
	must(t, err)
	return target
}

// sameTree compares what stock Kopia can keep.
func sameTree(t testing.TB, want, got string) {
	t.Helper()
	count := func(root string) (n int) {
		must(t, filepath.WalkDir(root, func(string, os.DirEntry, error) error { n++; return nil }))
		return n
	}
	if w, g := count(want), count(got); w != g {
		t.Errorf("%d entries were saved, %d restored", w, g)
	}
	must(t, filepath.WalkDir(want, func(path string, d os.DirEntry, err error) error {
		must(t, err)
		rel, _ := filepath.Rel(want, path)
		w, err := os.Lstat(path)
		must(t, err)
		g, err := os.Lstat(filepath.Join(got, rel))
		if err != nil {
			t.Errorf("%s: %v", rel, err)
			return nil
		}
		if w.Mode() != g.Mode() {
			t.Errorf("%s: mode %v, want %v", rel, g.Mode(), w.Mode())
		}
		switch {
		case w.Mode()&os.ModeSymlink != 0:
			a, _ := os.Readlink(path)
			if b, _ := os.Readlink(filepath.Join(got, rel)); a != b {
				t.Errorf("%s points to %q, want %q", rel, b, a)
			}
			return nil
		case w.Mode().IsRegular():
			a, err := os.ReadFile(path)
			must(t, err)
			b, err := os.ReadFile(filepath.Join(got, rel))
			must(t, err)
			if !bytes.Equal(a, b) {
				t.Errorf("%s: content differs", rel)
			}
		}
		if !w.ModTime().Equal(g.ModTime()) {
			t.Errorf("%s: time %v, want %v", rel, g.ModTime(), w.ModTime())
		}
		return nil
	}))
}

func TestStockKopiaVerifiesAndRestoresWhatWasSaved(t *testing.T) {
	t.Parallel()
	tree := plainTree(t)
	e := newEngine(t, t.TempDir())
	_, report := mustSave(t, e, tree, "one", "")
	if report.Unreadable+report.Changed != 0 || report.Files < 220 || report.Bytes < 20<<20 {
		t.Errorf("report %+v", report)
	}
	r := stockRepository(t, e, testProject)
	all := stockVerify(t, r)
	if len(all) != 1 {
		t.Fatalf("%d snapshots", len(all))
	}
	sameTree(t, tree, stockRestore(t, r, all[0]))
}

func TestASecondSaveStoresNextToNothing(t *testing.T) {
	t.Parallel()
	tree := plainTree(t)
	e := newEngine(t, newRoot(t, testProject))
	e.kernelNow = func() time.Time { return time.Now().Add(time.Minute) } // change times are old enough to be trusted
	ref, first := mustSave(t, e, tree, "one", "")
	_, second := mustSave(t, e, tree, "two", ref)
	if second.Files != first.Files || second.Bytes != first.Bytes {
		t.Errorf("second %+v, first %+v", second, first)
	}
	if second.Stored > 20_000 {
		t.Errorf("an unchanged tree stored %d bytes", second.Stored)
	}
	r := stockRepository(t, e, testProject)
	all := stockVerify(t, r)
	if len(all) != 2 || all[0].RootEntry.ObjectID != all[1].RootEntry.ObjectID {
		t.Errorf("an unchanged tree got another directory object: %d snapshots", len(all))
	}
}

func TestChangesOfEveryKindAreSeen(t *testing.T) {
	t.Parallel()
	changes := map[string]func(root string) error{
		"a byte in a large file": func(root string) error {
			f, err := os.OpenFile(filepath.Join(root, "big"), os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = f.WriteAt([]byte("x"), 10<<20)
			return err
		},
		"content with an old time": func(root string) error {
			p := filepath.Join(root, "d1/e1/f1")
			info, err := os.Stat(p)
			if err == nil {
				err = os.WriteFile(p, bytes.Repeat([]byte("y"), int(info.Size())), 0)
			}
			return errors.Join(err, os.Chtimes(p, info.ModTime(), info.ModTime()))
		},
		"a mode":             func(root string) error { return os.Chmod(filepath.Join(root, "d2/e2/f2"), 0o600) },
		"a directory's mode": func(root string) error { return os.Chmod(filepath.Join(root, "d2"), 0o700) },
		"the root's mode":    func(root string) error { return os.Chmod(root, 0o701) },
		"a file less":        func(root string) error { return os.Remove(filepath.Join(root, "d3/e0/f3")) },
		"a directory less":   func(root string) error { return os.RemoveAll(filepath.Join(root, "d4")) },
		"a file more":        func(root string) error { return os.WriteFile(filepath.Join(root, "d5/new"), []byte("n"), 0o600) },
		"a directory more":   func(root string) error { return os.MkdirAll(filepath.Join(root, "d5/x/y/z"), 0o755) },
		"a name":             func(root string) error { return os.Rename(filepath.Join(root, "d6"), filepath.Join(root, "D6")) },
		"a link's target": func(root string) error {
			p := filepath.Join(root, "link")
			return errors.Join(os.Remove(p), os.Symlink("e", p))
		},
		"a file for a directory": func(root string) error {
			p := filepath.Join(root, "emptydir")
			return errors.Join(os.Remove(p), os.WriteFile(p, nil, 0o600))
		},
		"a directory for a file": func(root string) error {
			p := filepath.Join(root, "empty")
			return errors.Join(os.Remove(p), os.Mkdir(p, 0o700))
		},
		"everything": func(root string) error { return os.RemoveAll(filepath.Join(root, "d0")) },
	}
	tree := plainTree(t)
	e := newEngine(t, newRoot(t, testProject))
	ref, _ := mustSave(t, e, tree, "before", "")
	r := stockRepository(t, e, testProject)
	for _, name := range slices.Sorted(maps.Keys(changes)) { // one after the other, as a share's backups are
		t.Run(name, func(t *testing.T) {
			must(t, changes[name](tree))
			ref, _ = mustSave(t, e, tree, name, ref)
			must(t, r.Refresh(context.Background()))
			m, _, err := finished(context.Background(), r, name)
			must(t, err)
			sameTree(t, tree, stockRestore(t, r, m))
		})
	}
	if all := stockVerify(t, r); len(all) != len(changes)+1 {
		t.Errorf("%d snapshots of %d", len(all), len(changes)+1)
	}
}

func TestADenseRepositoryIsSmallerAndBothKindsAreReadByBothEngines(t *testing.T) {
	t.Parallel()
	tree := t.TempDir()
	for i := range 40 {
		must(t, os.WriteFile(filepath.Join(tree, fmt.Sprint(i)), words(rand.New(rand.NewPCG(1, uint64(i))), 100<<10), 0o600))
	}
	dense := func(c *Config) { c.Dense = true }
	for _, kind := range []struct {
		name       string
		first, and []func(*Config)
	}{{"fast, then dense", nil, []func(*Config){dense}}, {"dense, then fast", []func(*Config){dense}, nil}} {
		root := newRoot(t, testProject)
		first := newEngine(t, root, kind.first...)
		ref, report := mustSave(t, first, tree, "one", "")
		second := newEngine(t, newRoot(t, testProject), kind.and...)
		_, other := mustSave(t, second, tree, "one", "")
		if (other.Stored < report.Stored) != (kind.first == nil) {
			t.Errorf("%s: %d bytes, then %d", kind.name, report.Stored, other.Stored)
		}
		reader := newEngine(t, root, kind.and...)
		mustEqual(t, tree, restored(t, reader, ref))
		stockVerify(t, stockRepository(t, first, testProject))
	}
}

func TestASaveUnderAFinishedIDIsThatSave(t *testing.T) {
	t.Parallel()
	tree := plainTree(t)
	e := newEngine(t, newRoot(t, testProject))
	ref, _ := mustSave(t, e, tree, "one", "")
	must(t, os.RemoveAll(filepath.Join(tree, "d0")))
	again, _ := mustSave(t, e, tree, "one", "")
	if again != ref {
		t.Errorf("ref %q, then %q", ref, again)
	}
	if n := len(stockVerify(t, stockRepository(t, e, testProject))); n != 1 {
		t.Errorf("%d snapshots under one id", n)
	}
}

func TestDeleteRemovesAllOfAnIDAndNothingElse(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	tree := plainTree(t)
	e := newEngine(t, newRoot(t, testProject))
	must(t, e.Delete(ctx, "nobody", "one"))
	if entries, _ := os.ReadDir(e.config.Root); len(entries) != 1 {
		t.Error("deleting nothing made a repository")
	}
	mustSave(t, e, tree, "one", "")
	mustSave(t, e, tree, "two", "")
	must(t, e.Delete(ctx, testProject, "one"))
	must(t, e.Delete(ctx, testProject, "one"))
	all := stockVerify(t, stockRepository(t, e, testProject))
	if len(all) != 1 || all[0].Tags[tagID] != "two" {
		t.Errorf("%d snapshots are left", len(all))
	}
}

func TestAnotherMasterKeyOpensNothing(t *testing.T) {
	t.Parallel()
	root := newRoot(t, testProject)
	tree := plainTree(t)
	mustSave(t, newEngine(t, root), tree, "one", "")
	other := newEngine(t, root, func(c *Config) { c.MasterKey = bytes.Repeat([]byte{8}, 32) })
	_, _, err := other.Save(context.Background(), request("two", ""), volumeOf(t, tree), nil)
	if !errors.Is(err, errWrongKey) || !errors.Is(err, abaca.ErrPermanent) {
		t.Errorf("got %v", err)
	}
	if err := other.Delete(context.Background(), testProject, "one"); !errors.Is(err, errWrongKey) {
		t.Errorf("delete: %v", err)
	}
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

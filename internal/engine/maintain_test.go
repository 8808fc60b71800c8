package engine

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/manifest"
	"github.com/kopia/kopia/snapshot"

	"abaca"
)

func diskUse(t testing.TB, root string) (n int64) {
	t.Helper()
	must(t, filepath.WalkDir(root, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			n += info.Size()
		}
		return err
	}))
	return n
}

// timedEngine returns an engine whose clock the returned function moves.
func timedEngine(t testing.TB, root string) (*Engine, func(time.Duration)) {
	var offset atomic.Int64
	e := newEngine(t, root, func(c *Config) {
		c.Now = func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }
	})
	return e, func(d time.Duration) { offset.Add(int64(d)) }
}

func TestMaintenanceFreesWhatWasDeletedAndKeepsTheRest(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	root := newRoot(t, testProject)
	e, pass := timedEngine(t, root)
	kept, gone := plainTree(t), t.TempDir()
	for i := range 6 {
		must(t, os.WriteFile(filepath.Join(gone, string(rune('a'+i))), randomBytes(uint64(500+i), 10<<20), 0o600))
	}
	ref, _ := mustSave(t, e, kept, "kept", "")
	before := diskUse(t, root)
	mustSave(t, e, gone, "gone", "")
	full := diskUse(t, root)
	must(t, e.Delete(ctx, testProject, "gone"))
	for range 5 {
		pass(25 * time.Hour)
		must(t, e.Maintain(ctx, testProject))
	}
	after := diskUse(t, root)
	t.Logf("%d MiB before, %d with the deleted one, %d after maintenance", before>>20, full>>20, after>>20)
	// Kopia leaves what lies in a pack of which the rest is used, and a single such pack for another day.
	const pack = 21 << 20
	if full < before+55<<20 || after > before+pack {
		t.Errorf("%d bytes are left of %d; without the deleted snapshot it was %d", after, full, before)
	}
	mustEqual(t, kept, restored(t, e, ref))
}

func TestAManifestThatCannotBeReadStopsCollection(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	root := newRoot(t, testProject)
	e, pass := timedEngine(t, root)
	mustSave(t, e, plainTree(t), "one", "")
	r, release, err := e.pool.acquire(ctx, testProject, mustExist)
	must(t, err)
	defer release()
	must(t, repo.WriteSession(ctx, r.kopia, repo.WriteSessionOptions{}, func(ctx context.Context, w repo.RepositoryWriter) error {
		_, err := w.PutManifest(ctx, map[string]string{manifest.TypeLabelKey: snapshot.ManifestType, tagID: "odd"}, map[string]any{"stats": "none"})
		return err
	}))
	for range 3 {
		pass(25 * time.Hour)
		if err := e.Maintain(ctx, testProject); err == nil {
			t.Fatal("maintenance ran past a manifest that it cannot read")
		}
	}
}

// leaveCheckpoint leaves the checkpoint of a save of a tree, which has come as far as its parent.
func leaveCheckpoint(t *testing.T, e *Engine, tree string, req abaca.SaveRequest) {
	t.Helper()
	ctx := context.Background()
	r, release, err := e.pool.acquire(ctx, testProject, mustExist)
	must(t, err)
	defer release()
	m, _, err := finished(ctx, r.kopia, string(req.Parent))
	must(t, err)
	w, err := r.newWriter(ctx)
	must(t, err)
	s, root, err := newSaver(ctx, w, volumeOf(t, tree), time.Now)
	must(t, err)
	root.base = m.RootEntry.ObjectID
	must(t, s.checkpoint(ctx, req, root.base, e.config.Now(), e.config.Now()))
	must(t, w.session.Close(ctx))
}

func TestAnUnfinishedSaveIsKeptByMaintenance(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	root := newRoot(t, testProject)
	e, pass := timedEngine(t, root)
	tree := plainTree(t)
	ref, _ := mustSave(t, e, tree, "parent", "")
	// A checkpoint of a save that goes by the parent, whose own snapshot is deleted meanwhile.
	leaveCheckpoint(t, e, tree, request("child", ref))
	must(t, e.Delete(ctx, testProject, "parent"))
	for range 5 {
		pass(25 * time.Hour)
		must(t, e.Maintain(ctx, testProject))
	}
	child, report := mustSave(t, e, tree, "child", ref)
	if report.Stored > 1<<20 {
		t.Errorf("%d bytes had to be stored again", report.Stored)
	}
	mustEqual(t, tree, restored(t, e, child))
}

func TestMaintenanceRemovesACheckpointThatOutlivedItsSave(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	e, _ := timedEngine(t, newRoot(t, testProject))
	tree := t.TempDir()
	mustSave(t, e, tree, "done", "")
	r, release, err := e.pool.acquire(ctx, testProject, mustExist)
	must(t, err)
	defer release()
	m, _, err := finished(ctx, r.kopia, "done")
	must(t, err)
	for _, id := range []string{"done", "under way"} { // the first came back, the second is needed
		old := m.Clone()
		old.ID, old.IncompleteReason, old.Tags = "", reasonCheckpoint, map[string]string{tagID: id}
		must(t, repo.WriteSession(ctx, r.kopia, repo.WriteSessionOptions{}, func(ctx context.Context, w repo.RepositoryWriter) error {
			_, err := snapshot.SaveSnapshot(ctx, w, old)
			return err
		}))
	}
	must(t, e.Maintain(ctx, testProject))
	must(t, r.kopia.Refresh(ctx))
	for id, want := range map[string]int{"done": 0, "under way": 1} {
		_, checkpoints, err := finished(ctx, r.kopia, id)
		must(t, err)
		if len(checkpoints) != want {
			t.Errorf("%s has %d checkpoints, want %d", id, len(checkpoints), want)
		}
	}
	mustEqual(t, tree, restored(t, e, "done"))
}

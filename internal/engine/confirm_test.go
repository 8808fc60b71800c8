package engine

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/kopia/kopia/repo"
)

// firstPack returns a pack of file contents.
func firstPack(t *testing.T, root string) string {
	t.Helper()
	packs, err := filepath.Glob(filepath.Join(root, dirName(testProject), blobDir, "p", "*", "*.f"))
	must(t, err)
	if len(packs) == 0 {
		t.Fatal("there is no pack")
	}
	return packs[0]
}

func TestASaveThatWasNotConfirmedIsLookedThroughWhenItIsRepeated(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		lose bool
		anew bool
	}{
		"whole":          {false, false},
		"a pack is gone": {true, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := newRoot(t, testProject)
			tree := smallTree(t)
			mustSave(t, newEngine(t, root), tree, "one", "")
			copied := filepath.Join(root, dirName(testProject), manifestCopy("one"))
			must(t, os.Remove(copied)) // as if the process had been killed before it was written
			if c.lose {
				must(t, os.Remove(firstPack(t, root)))
			}
			e := newEngine(t, root)
			ref, report := mustSave(t, e, tree, "one", "")
			if anew := report.Stored > 0; anew != c.anew {
				t.Errorf("%d bytes were stored", report.Stored)
			}
			mustEqual(t, tree, restored(t, e, ref))
			if v := mustVerify(t, e, everything, ref)[ref]; v.Damaged != 0 {
				t.Errorf("%+v", v)
			}
			if _, err := os.Stat(copied); err != nil {
				t.Error(err)
			}
			if n := countSnapshots(t, e); n != 1 {
				t.Errorf("there are %d snapshots", n)
			}
		})
	}
}

func TestRecoveringTheIndexShowsNothingOfASaveThatGoesOn(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	root := newRoot(t, testProject)
	writing := openFor(t, newEngine(t, root))
	_, w, err := writing.kopia.NewDirectWriter(ctx, repo.WriteSessionOptions{})
	must(t, err)
	defer w.Close(ctx)
	if _, err := w.PutManifest(ctx, snapshotLabels("early"), map[string]any{}); err != nil {
		t.Fatal(err)
	}
	must(t, w.(*quietWriter).manifests.Flush(ctx)) // into a pack
	w.ContentManager().DisableIndexFlush(ctx)      // as a large save does that has filled a pack and goes on
	for i := range 3 {
		if _, err := writeWhole(ctx, w, "m", randomBytes(uint64(i), 8<<20)); err != nil {
			t.Fatal(err)
		}
	}
	other := newEngine(t, root)
	r := openFor(t, other)
	if packs, err := listBlobs(ctx, r.storage, "q"); err != nil || len(packs) == 0 {
		t.Fatalf("there are %d packs, %v", len(packs), err)
	}
	if _, err := other.mendOpen(ctx, r); err != nil {
		t.Fatal(err)
	}
	if m, _, err := finished(ctx, r.kopia, "early"); m != nil || err != nil {
		t.Errorf("the manifest is visible: %v", err)
	}
	found, err := r.kopia.FindManifests(ctx, snapshotLabels("early"))
	if err != nil || len(found) > 0 {
		t.Errorf("%d manifests are visible, %v", len(found), err)
	}
}

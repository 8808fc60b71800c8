package engine

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/manifest"
	"github.com/kopia/kopia/snapshot"

	"abaca"
	"abaca/internal/test/s3"
)

// freeingEngine returns an engine that frees space within a time, with a clock that the returned function moves.
func freeingEngine(t testing.TB, root string, within time.Duration, change ...func(*Config)) (*Engine, func(time.Duration)) {
	var offset atomic.Int64
	e := newEngine(t, root, append(change, func(c *Config) {
		c.FreeWithin = within
		c.Now = func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }
	})...)
	return e, func(d time.Duration) { offset.Add(int64(d)) }
}

// plantMiBs writes files of a MiB each, whose content follows from the seed.
func plantMiBs(t testing.TB, dir string, seed, n int) string {
	t.Helper()
	for i := range n {
		must(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d-%02d", seed, i)), randomBytes(uint64(1000*seed+i), 1<<20), 0o600))
	}
	return dir
}

// keepHouse maintains for a time, as often as is promised.
func keepHouse(t testing.TB, e *Engine, pass func(time.Duration), within time.Duration) {
	t.Helper()
	for range 20 {
		pass(within / 20)
		must(t, e.Maintain(context.Background(), testProject))
	}
}

// saveHalf saves files of a MiB each as "all", and every other one of them, which are left in the tree, as "half": so each pack has what both need.
func saveHalf(t testing.TB, e *Engine, n int) (tree string, half abaca.Ref) {
	t.Helper()
	tree = plantMiBs(t, t.TempDir(), 1, n)
	mustSave(t, e, tree, "all", "")
	for i := 0; i < n; i += 2 {
		must(t, os.Remove(filepath.Join(tree, fmt.Sprintf("1-%02d", i))))
	}
	half, _ = mustSave(t, e, tree, "half", "all")
	return tree, half
}

func TestTheSpaceOfWhatWasDeletedIsFreeInTime(t *testing.T) {
	t.Parallel()
	const within = 10 * time.Minute
	root := newRoot(t, testProject)
	e, pass := freeingEngine(t, root, within)
	tree, ref := saveHalf(t, e, 30)
	must(t, e.Maintain(context.Background(), testProject))
	full := diskUse(t, root)
	must(t, e.Delete(context.Background(), testProject, "all"))
	keepHouse(t, e, pass, within)
	left := diskUse(t, root)
	if full < 30<<20 || left > 17<<20 {
		t.Errorf("%d KiB are left of %d, of which 15 MiB are needed", left>>10, full>>10)
	}
	notes, err := e.annexOf(testProject).list(context.Background(), deletedDir)
	if must(t, err); len(notes) > 0 {
		t.Errorf("the notes %q are left", notes)
	}
	mustEqual(t, tree, restored(t, e, ref))
	before := blobPaths(t, root)
	r := openFor(t, e)
	must(t, r.noteDeletion(context.Background(), "nothing"))
	keepHouse(t, e, pass, within)
	for id := range blobPaths(t, root) {
		if _, there := before[id]; !there && (id[0] == 'p' || id[0] == 'q') {
			t.Errorf("the pack %v was written although nothing was left to do", id)
		}
	}
}

func TestWhoHasReadTheIndexBeforeACollectionFindsWhatItHasMoved(t *testing.T) {
	t.Parallel()
	const within = 10 * time.Minute
	root := newRoot(t, testProject)
	e, pass := freeingEngine(t, root, within)
	tree, ref := saveHalf(t, e, 10)
	other := newEngine(t, root)
	mustEqual(t, tree, restored(t, other, ref))
	before := blobPaths(t, root)
	must(t, e.Delete(context.Background(), testProject, "all"))
	keepHouse(t, e, pass, within)
	moved := false
	for id := range before {
		_, still := blobPaths(t, root)[id]
		moved = moved || strings.HasPrefix(string(id), "p") && !still
	}
	if !moved {
		t.Error("no pack is gone")
	}
	mustEqual(t, tree, restored(t, other, ref)) // which does not look for a newer index first, as a restore that began long ago
}

func TestTheSpaceOfWhatWasDeletedFromABucketIsFreeInTime(t *testing.T) {
	t.Parallel()
	server := s3.Start(t)
	e := newEngine(t, t.TempDir(), inBucket(server), func(c *Config) { c.FreeWithin = 6 * time.Second })
	ref, _ := mustSave(t, e, plainTree(t), "kept", "")
	mustSave(t, e, plantMiBs(t, t.TempDir(), 1, 30), "gone", "")
	full := diskUse(t, server.Dir)
	must(t, e.Delete(context.Background(), testProject, "gone"))
	left := full
	for began := time.Now(); left > full-29<<20; left = diskUse(t, server.Dir) { // the server's clock cannot be moved
		must(t, e.Maintain(context.Background(), testProject))
		if time.Since(began) > 2*time.Minute {
			t.Fatalf("%d KiB are left of %d", left>>10, full>>10)
		}
		<-time.After(200 * time.Millisecond)
	}
	restored(t, e, ref)
}

// A meddler does something when the storage is first given a pack after it was armed.
type meddler struct {
	blob.Storage
	armed *atomic.Pointer[func()]
}

func (m meddler) PutBlob(ctx context.Context, id blob.ID, data blob.Bytes, opts blob.PutOptions) error {
	if strings.HasPrefix(string(id), "p") || strings.HasPrefix(string(id), "q") {
		if do := m.armed.Swap(nil); do != nil {
			(*do)()
		}
	}
	return m.Storage.PutBlob(ctx, id, data, opts)
}

func TestASaveStoresAnewWhatIsCollectedMeanwhile(t *testing.T) {
	t.Parallel()
	const within = time.Hour
	for name, parent := range map[string]string{"of its parent": "gone", "that it shares": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := context.Background()
			root := newRoot(t, testProject)
			other, pass := freeingEngine(t, root, within)
			var armed atomic.Pointer[func()]
			e := newEngine(t, root, func(c *Config) {
				c.FreeWithin, c.Now = within, other.config.Now
				c.Wrap = func(st blob.Storage) blob.Storage { return meddler{st, &armed} }
			})
			tree := plantMiBs(t, t.TempDir(), 1, 4)
			mustSave(t, e, tree, "gone", "")
			plantMiBs(t, tree, 2, 1)
			met := false
			meddle := func() {
				met = true
				must(t, other.Delete(ctx, testProject, "gone"))
				keepHouse(t, other, pass, within)
			}
			armed.Store(&meddle)
			ref, report := mustSave(t, e, tree, "saved", abaca.Ref(parent))
			if !met || report.Stored < 4<<20 {
				t.Errorf("met a collection: %v; stored %d bytes", met, report.Stored)
			}
			keepHouse(t, e, pass, within)
			mustEqual(t, tree, restored(t, e, ref))
		})
	}
}

func TestASaveThatMetNoCollectionLooksForNothing(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	e, _ := freeingEngine(t, newRoot(t, testProject), time.Hour)
	mustSave(t, e, t.TempDir(), "one", "")
	r := openFor(t, e)
	before, err := r.collections(ctx)
	must(t, err)
	if !before.ended {
		t.Error("a collection is under way where there was none")
	}
	_, release, err := r.annex.exclude(ctx, true) // whoever looks waits for it
	must(t, err)
	defer release()
	must(t, e.confirmKept(ctx, r, "one", before))
	must(t, r.beginCollection(ctx, e.config.Now()))
	ctx, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	if err := e.confirmKept(ctx, r, "one", before); err == nil {
		t.Error("nobody looked")
	}
}

func TestACheckpointThatLacksSomethingKeepsNothingFromBeingCollected(t *testing.T) {
	t.Parallel()
	const within = time.Hour
	ctx := context.Background()
	root := newRoot(t, testProject)
	e, pass := freeingEngine(t, root, within)
	tree := plainTree(t)
	ref, _ := mustSave(t, e, tree, "kept", "")
	mustSave(t, e, plantMiBs(t, t.TempDir(), 1, 30), "gone", "")
	r := openFor(t, e)
	m, _, err := finished(ctx, r.kopia, "kept")
	must(t, err)
	broken := m.Clone()
	broken.ID, broken.IncompleteReason, broken.Tags = "", reasonCheckpoint, map[string]string{tagID: "under way"}
	missing := *m.RootEntry
	missing.ObjectID = someObject(t, "k00112233445566778899aabbccddeeff")
	broken.RootEntry = &missing
	must(t, repo.WriteSession(ctx, r.kopia, repo.WriteSessionOptions{}, func(ctx context.Context, w repo.RepositoryWriter) error {
		_, err := snapshot.SaveSnapshot(ctx, w, broken)
		return err
	}))
	full := diskUse(t, root)
	must(t, e.Delete(ctx, testProject, "gone"))
	keepHouse(t, e, pass, within)
	if left := diskUse(t, root); left > full-29<<20 {
		t.Errorf("%d KiB are left of %d", left>>10, full>>10)
	}
	found, err := r.kopia.FindManifests(ctx, map[string]string{manifest.TypeLabelKey: snapshot.ManifestType})
	if must(t, err); len(found) != 1 {
		t.Errorf("there are %d snapshots and checkpoints, want 1", len(found))
	}
	mustEqual(t, tree, restored(t, e, ref))
}

func TestNotesOfDeletionsAreSettledAlthoughMoreIsDeletedAllTheTime(t *testing.T) {
	t.Parallel()
	const within = time.Hour
	ctx := context.Background()
	e, pass := freeingEngine(t, newRoot(t, testProject), within)
	for i := range 20 {
		id := fmt.Sprint("backup ", i)
		mustSave(t, e, plantMiBs(t, t.TempDir(), i+1, 1), id, "")
		pass(time.Second)
		must(t, e.Delete(ctx, testProject, id))
		pass(within / 5)
		must(t, e.Maintain(ctx, testProject))
	}
	notes, err := e.annexOf(testProject).list(ctx, deletedDir)
	if must(t, err); len(notes) > maxRounds {
		t.Errorf("the notes %q are left", notes)
	}
}

func TestWhatIsSavedAfterACollectionCountsWhateverTheClocksSay(t *testing.T) {
	t.Parallel()
	const within = time.Hour
	ctx := context.Background()
	root := newRoot(t, testProject)
	tree := plantMiBs(t, t.TempDir(), 1, 4)
	e, pass := freeingEngine(t, root, within)
	mustSave(t, e, tree, "gone", "")
	pass(24 * time.Hour) // the clock of this host is wrong from here on
	must(t, e.Delete(ctx, testProject, "gone"))
	keepHouse(t, e, pass, within)
	if left := diskUse(t, root); left > 1<<20 {
		t.Fatalf("%d bytes are left", left)
	}
	must(t, e.Close(ctx))
	right, pass := freeingEngine(t, root, within)
	ref, report := mustSave(t, right, tree, "again", "")
	if report.Stored < 4<<20 {
		t.Errorf("%d bytes are stored", report.Stored)
	}
	keepHouse(t, right, pass, within)
	mustEqual(t, tree, restored(t, right, ref))
	must(t, right.Delete(ctx, testProject, "again"))
	keepHouse(t, right, pass, within)
	if left := diskUse(t, root); left > 1<<20 {
		t.Errorf("%d bytes are left by who has the right clock", left)
	}
}

func TestADamagedNoteOfTheLatestCollectionIsNoCollectionThatEnded(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	e, _ := freeingEngine(t, newRoot(t, testProject), time.Hour)
	ref, _ := mustSave(t, e, plainTree(t), "one", "")
	r := openFor(t, e)
	must(t, r.endCollection(ctx, e.config.Now()))
	note, err := r.annex.read(ctx, collectedFile)
	must(t, err)
	note[len(note)/2] ^= 1
	must(t, r.annex.put(ctx, collectedFile, note))
	if c, err := r.collections(ctx); err != nil || c.ended {
		t.Errorf("read as %v, %v", c, err)
	}
	mustSave(t, e, plainTree(t), "two", ref)
}

// Each index blob is lost in turn: those that name contents alone, so that no manifest is missed, and the one that had a checkpoint deleted
// when its save ended, which is there again. Packs that the index does not name are added to it only when they are a day old; until then
// a collection finds that something is missing, and ends.
func TestACollectionThatMissesAnIndexBlobTakesNothingAway(t *testing.T) {
	t.Parallel()
	const within = 24 * time.Hour
	ctx := context.Background()
	root := newRoot(t, testProject)
	e := newEngine(t, root)
	tree := plantMiBs(t, t.TempDir(), 1, 4)
	parent, _ := mustSave(t, e, tree, "parent", "")
	leaveCheckpoint(t, e, tree, request("kept", parent))
	plantMiBs(t, tree, 2, 4)
	ref, _ := mustSave(t, e, tree, "kept", parent)
	mustSave(t, e, plantMiBs(t, t.TempDir(), 3, 1), "deleted", "")
	must(t, e.Close(ctx))
	spoiled := 0
	for id := range blobPaths(t, root) {
		if !strings.HasPrefix(string(id), "xn") {
			continue
		}
		spoiled++
		copied := t.TempDir()
		must(t, os.CopyFS(copied, os.DirFS(root)))
		spoil(t, copied, id, nil)
		e, pass := freeingEngine(t, copied, within)
		must(t, e.Delete(ctx, testProject, "deleted"))
		for range 4 { // rounds, before packs are a day old
			pass(within/marginsWithin + time.Minute)
			if err := e.Maintain(ctx, testProject); err != nil {
				t.Log(err)
			}
		}
		for range 3 {
			pass(within)
			must(t, e.Maintain(ctx, testProject))
		}
		mustEqual(t, tree, restored(t, e, ref))
		must(t, e.Close(ctx))
	}
	if spoiled < 4 {
		t.Errorf("there were %d index blobs", spoiled)
	}
}

package engine

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/content"
	"github.com/kopia/kopia/repo/content/index"
	"github.com/kopia/kopia/repo/manifest"
	"github.com/kopia/kopia/snapshot"
	"golang.org/x/sync/errgroup"
)

// A stoppingStorage holds up the next write once it is told to.
type stoppingStorage struct {
	blob.Storage
	armed     *atomic.Bool
	held, let chan struct{}
}

func (s stoppingStorage) PutBlob(ctx context.Context, id blob.ID, data blob.Bytes, opts blob.PutOptions) error {
	if s.armed.CompareAndSwap(true, false) {
		close(s.held)
		<-s.let
	}
	return s.Storage.PutBlob(ctx, id, data, opts)
}

// openFor acquires the test project's repository until the test ends.
func openFor(t testing.TB, e *Engine) *repository {
	t.Helper()
	r, release, err := e.pool.acquire(context.Background(), testProject, mustExist)
	must(t, err)
	t.Cleanup(release)
	return r
}

// addManifests writes manifests, each in a content of its own.
func addManifests(t testing.TB, r *repository, ids ...string) {
	t.Helper()
	for _, id := range ids {
		must(t, repo.WriteSession(context.Background(), r.kopia, repo.WriteSessionOptions{}, func(ctx context.Context, w repo.RepositoryWriter) error {
			_, err := w.PutManifest(ctx, snapshotLabels(id), map[string]any{})
			return err
		}))
	}
}

func manifestContents(t testing.TB, r *repository) (n int) {
	t.Helper()
	all := content.IterateOptions{Range: index.PrefixRange(manifest.ContentPrefix)}
	must(t, r.kopia.ContentReader().IterateContents(context.Background(), all, func(content.Info) error { n++; return nil }))
	return n
}

func ids(prefix string, n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprint(prefix, i))
	}
	return all
}

// In Kopia each of two that read manifests at once compacts them, and what the first to begin has not seen deleted comes back.
func TestADeletedManifestStaysDeletedThoughTwoCompactAtOnce(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	root := newRoot(t, testProject)
	var armed atomic.Bool
	held, let := make(chan struct{}), make(chan struct{})
	slow := openFor(t, newEngine(t, root, func(c *Config) {
		c.Wrap = func(st blob.Storage) blob.Storage { return stoppingStorage{st, &armed, held, let} }
	}))
	quick := openFor(t, newEngine(t, root))
	addManifests(t, quick, ids("kept", 2*compactFrom)...)
	addManifests(t, quick, "gone")
	must(t, slow.kopia.Refresh(ctx))
	armed.Store(true)
	var group errgroup.Group
	group.Go(func() error { return compactManifests(ctx, slow.kopia) })
	<-held // it has seen everything
	must(t, quick.deleteSnapshots(ctx, "gone"))
	must(t, compactManifests(ctx, quick.kopia))
	if n := manifestContents(t, quick); n != 1 {
		t.Errorf("after a compaction there are %d contents of manifests", n)
	}
	close(let)
	must(t, group.Wait())

	after := newEngine(t, root)
	if n := countSnapshots(t, after); n != 2*compactFrom {
		t.Errorf("%d manifests are there instead of %d", n, 2*compactFrom)
	}
	r := openFor(t, after)
	addManifests(t, r, ids("more", compactFrom)...)
	must(t, compactManifests(ctx, r.kopia))
	stock := stockRepository(t, after, testProject) // which reads what was compacted here
	found, err := stock.FindManifests(ctx, map[string]string{manifest.TypeLabelKey: snapshot.ManifestType})
	must(t, err)
	if len(found) != 3*compactFrom {
		t.Errorf("stock Kopia sees %d manifests instead of %d", len(found), 3*compactFrom)
	}
}

func TestLookingAtManifestsCompactsNone(t *testing.T) {
	t.Parallel()
	root := newRoot(t, testProject)
	e := newEngine(t, root)
	addManifests(t, openFor(t, e), ids("", compactFrom+4)...)
	r := openFor(t, newEngine(t, root))
	must(t, listable(context.Background(), r.kopia))
	if n := manifestContents(t, r); n != compactFrom+4 {
		t.Errorf("%d contents of manifests are left of %d", n, compactFrom+4)
	}
}

func TestADeletionCountsThoughItsClockIsBehind(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	root := newRoot(t, testProject)
	ahead, pass := timedEngine(t, root)
	pass(3 * time.Minute)
	addManifests(t, openFor(t, ahead), "one")
	behind := newEngine(t, root)
	must(t, behind.Delete(ctx, testProject, "one"))
	if n := countSnapshots(t, newEngine(t, root)); n != 0 {
		t.Error("it is still there")
	}
}

func TestACompactionForgetsDeletionsOnceNothingCanBringBackWhatTheyDeleted(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	e, pass := timedEngine(t, newRoot(t, testProject))
	r := openFor(t, e)
	entries := func() (n int) {
		all := content.IterateOptions{Range: index.PrefixRange(manifest.ContentPrefix)}
		must(t, r.kopia.ContentReader().IterateContents(ctx, all, func(i content.Info) error {
			found, err := readEntries(ctx, r.kopia.ContentReader(), i.ContentID)
			n += len(found)
			return err
		}))
		return n
	}
	addManifests(t, r, ids("", compactFrom)...)
	must(t, r.deleteSnapshots(ctx, "0"))
	must(t, compactManifests(ctx, r.kopia))
	if n := entries(); n != compactFrom {
		t.Errorf("%d entries are left instead of %d", n, compactFrom)
	}
	pass(deletionLife + time.Hour)
	addManifests(t, r, ids("later", compactFrom)...)
	must(t, compactManifests(ctx, r.kopia))
	if n := entries(); n != 2*compactFrom-1 {
		t.Errorf("%d entries are left instead of %d", n, 2*compactFrom-1)
	}
}

// Two engines write and delete in turn and at once, far beyond what Kopia compacts at.
func TestTwoEnginesBringBackNothingThatEitherDeleted(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	root := newRoot(t, testProject)
	engines := []*Engine{newEngine(t, root), newEngine(t, root)}
	tree := t.TempDir()
	const rounds = 15
	for round := range rounds {
		var together sync.WaitGroup
		for i, e := range engines {
			together.Go(func() {
				id := fmt.Sprintf("%d-%d", i, round)
				for _, id := range []string{id, id + "-kept"} {
					if _, _, err := e.Save(ctx, request(id, ""), volumeOf(t, tree), nil); err != nil {
						t.Error(err)
					}
				}
			})
		}
		together.Wait()
		for i, e := range engines { // each what the other has saved
			together.Go(func() {
				if err := e.Delete(ctx, testProject, fmt.Sprintf("%d-%d", 1-i, round)); err != nil {
					t.Error(err)
				}
				if err := e.Maintain(ctx, testProject); err != nil {
					t.Error(err)
				}
			})
		}
		together.Wait()
		if n := countSnapshots(t, newEngine(t, root)); n != 2*(round+1) {
			t.Fatalf("after %d rounds there are %d snapshots", round+1, n)
		}
	}
	if n := manifestContents(t, openFor(t, newEngine(t, root))); n > 3*compactFrom {
		t.Errorf("%d contents of manifests were left uncompacted", n)
	}
}

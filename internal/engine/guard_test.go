package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/kopia/kopia/repo/blob"

	"abaca"
)

// A lapse is a lease that is lost with the nth blob that is put, as by a process that stalls there. It notes what is published after that.
type lapse struct {
	mu    sync.Mutex
	at    int
	put   int
	after []blob.ID // of the index, which alone shows manifests and their deletions to others
}

var errLapsed = errors.New("the lease has passed")

func (l *lapse) guard() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.put >= l.at {
		return errLapsed
	}
	return nil
}

func (l *lapse) storage(st blob.Storage) blob.Storage { return lapsingStorage{st, l} }

type lapsingStorage struct {
	blob.Storage
	lapse *lapse
}

func (s lapsingStorage) PutBlob(ctx context.Context, id blob.ID, data blob.Bytes, opts blob.PutOptions) error {
	s.lapse.mu.Lock()
	if s.lapse.put >= s.lapse.at && inIndex(id) {
		s.lapse.after = append(s.lapse.after, id)
	}
	s.lapse.put++
	s.lapse.mu.Unlock()
	return s.Storage.PutBlob(ctx, id, data, opts)
}

func TestASaveThatHasLostItsLeasePublishesNothing(t *testing.T) {
	t.Parallel()
	attempt := func(t *testing.T, at int) (puts int) {
		tree := smallTree(t)
		l := &lapse{at: math.MaxInt}
		root := newRoot(t, testProject)
		e := newEngine(t, root, func(c *Config) { c.Wrap, c.Checkpoint = l.storage, time.Millisecond })
		mustSave(t, e, tree, "before", "")
		l.mu.Lock()
		l.put, l.at = 0, at
		l.mu.Unlock()
		must(t, os.WriteFile(filepath.Join(tree, "new"), randomBytes(uint64(at)+99, 2<<20), 0o600))
		_, _, err := e.Save(abaca.WithGuard(context.Background(), l.guard), request("one", ""), volumeOf(t, tree), nil)
		l.mu.Lock()
		after, puts := l.after, l.put
		l.mu.Unlock()
		if lapsed := puts >= at; lapsed != errors.Is(err, errLapsed) {
			t.Fatalf("with %d of %d blobs put the save ended with %v", at, puts, err)
		}
		if len(after) > 0 {
			t.Errorf("it has published %v", after)
		}
		copies, err := filepath.Glob(filepath.Join(root, dirName(testProject), manifestCopy("one")))
		if err != nil || puts >= at && len(copies) > 0 {
			t.Errorf("it has left %v, %v", copies, err)
		}
		ref, _ := mustSave(t, e, tree, "one", "") // as whoever has the lease now
		mustEqual(t, tree, restored(t, e, ref))
		return puts
	}
	all := attempt(t, math.MaxInt)
	if all < 5 {
		t.Fatalf("a save puts %d blobs", all)
	}
	const lapses = 15
	for at := 0; at <= all; at += (all + lapses - 1) / lapses {
		t.Run(fmt.Sprintf("with blob %d of %d", at, all), func(t *testing.T) {
			t.Parallel()
			attempt(t, at)
		})
	}
}

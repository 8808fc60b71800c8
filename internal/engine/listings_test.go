package engine

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kopia/kopia/repo/blob"
)

func TestAListingThatLeavesOutBlobsHasNothingDeleted(t *testing.T) {
	t.Parallel()
	for name, leaveOut := range map[string]func() func(blob.Metadata) bool{
		"all blobs": func() func(blob.Metadata) bool { return func(blob.Metadata) bool { return true } },
		"the index": func() func(blob.Metadata) bool { return func(m blob.Metadata) bool { return inIndex(m.BlobID) } },
		"every other blob of the index": func() func(blob.Metadata) bool {
			var n atomic.Int64
			return func(m blob.Metadata) bool { return inIndex(m.BlobID) && n.Add(1)%2 == 0 }
		},
		"one index blob": func() func(blob.Metadata) bool {
			var which atomic.Pointer[blob.ID]
			return func(m blob.Metadata) bool {
				if !inIndex(m.BlobID) {
					return false
				}
				which.CompareAndSwap(nil, &m.BlobID)
				return *which.Load() == m.BlobID
			}
		},
	} {
		for _, fresh := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, an engine that has seen them: %v", name, !fresh), func(t *testing.T) {
				t.Parallel()
				ctx := context.Background()
				root := newRoot(t, testProject)
				var offset atomic.Int64
				clock := func(c *Config) {
					c.Now = func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }
				}
				f := &faults{list: leaveOut()}
				e := f.engine(t, root, clock)
				one, two := smallTree(t), t.TempDir()
				must(t, writeDurably(two+"/f", randomBytes(5, 3<<20)))
				first, _ := mustSave(t, e, one, "one", "")
				second, _ := mustSave(t, e, two, "two", "")
				if fresh {
					e = f.engine(t, root, clock)
				}
				f.on.Store(true)
				maintained := false // after it has recovered from the packs what it could not see
				for range 6 {
					offset.Add(int64(25 * time.Hour))
					err := e.Maintain(ctx, testProject)
					maintained = maintained || err == nil
				}
				deleted := f.deleted
				f.on.Store(false)
				if f.met.Load() == 0 {
					t.Fatal("nothing was left out")
				}
				after := newEngine(t, root, clock)
				for ref, v := range mustVerify(t, after, everything, first, second) {
					if v.Damaged != 0 {
						t.Errorf("%s: %+v", ref, v)
					}
				}
				for range 4 { // nor is it remembered as rubbish
					offset.Add(int64(25 * time.Hour))
					must(t, after.Maintain(ctx, testProject))
				}
				mustEqual(t, one, restored(t, after, first))
				mustEqual(t, two, restored(t, after, second))
				for _, id := range deleted {
					if isPack(id) && !maintained {
						t.Errorf("pack %v was deleted", id)
					}
				}
			})
		}
	}
}

package engine

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kopia/kopia/repo/content"

	"abaca"
)

func TestTheNextSaveMendsWhatWasFoundDamagedInAllSnapshots(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	tree := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(tree, "a/b"), 0o750))
	must(t, os.WriteFile(filepath.Join(tree, "large"), randomBytes(1, 5<<20), 0o600))
	must(t, os.WriteFile(filepath.Join(tree, "a/b/small"), randomBytes(2, 3000), 0o600))
	must(t, os.Link(filepath.Join(tree, "a/b/small"), filepath.Join(tree, "a/twin")))
	must(t, os.Truncate(filepath.Join(tree, "a/b/small"), 4000))
	e := newEngine(t, newRoot(t, testProject))
	e.kernelNow = func() time.Time { return time.Now().Add(time.Minute) } // nothing is read again for being young
	first, _ := mustSave(t, e, tree, "first", "")
	r, release, err := e.pool.acquire(ctx, testProject, mustExist)
	must(t, err)
	defer release()
	var all []content.ID
	must(t, r.kopia.ContentReader().IterateContents(ctx, content.IterateOptions{}, func(i content.Info) error {
		all = append(all, i.ContentID)
		return nil
	}))
	mended := map[string]int{}
	refs := []abaca.Ref{first}
	for _, id := range all {
		if strings.HasPrefix(id.String(), "m") {
			continue // manifests have copies
		}
		info, err := r.kopia.ContentInfo(ctx, id)
		must(t, err)
		overwriteByte(t, packPath(t, r, info), int64(info.PackOffset)+int64(info.PackedLength)/2)
		if mustVerify(t, e, everything, first)[first].Damaged == 0 {
			continue // it stands for zeros, or is there for stock Kopia only
		}
		parent := refs[len(refs)-1]
		ref, report := mustSave(t, e, tree, fmt.Sprint("after ", id), parent)
		if report.Stored > 9<<20 {
			t.Errorf("mending %v stored %d bytes", id, report.Stored)
		}
		refs = append(refs, ref)
		for ref, v := range mustVerify(t, e, everything, refs...) {
			if v.Damaged != 0 {
				t.Fatalf("after mending %v, of %s: %+v", id, ref, v)
			}
		}
		if !r.damage.none() {
			t.Fatalf("after mending %v it is noted still", id)
		}
		mended[string(id.Prefix())]++
	}
	if mended[""] < 3 || mended["k"] < 3 || mended["x"] < 1 {
		t.Errorf("mended were, by prefix: %v", mended)
	}
	mustEqual(t, tree, restored(t, e, first))
	mustEqual(t, tree, restored(t, e, refs[len(refs)-1]))
	stockVerify(t, r.kopia)
}

// overwriteByte flips a bit of a file in place.
func overwriteByte(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	var b [1]byte
	_, err = f.ReadAt(b[:], at)
	must(t, err)
	b[0] ^= 0x10
	_, err = f.WriteAt(b[:], at)
	must(t, err)
}

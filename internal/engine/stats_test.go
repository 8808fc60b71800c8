package engine

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestStatsTellWhatIsSharedAndWhatCanGo(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, open func(...func(*Config)) *Engine) {
		ctx, e, tree := context.Background(), open(), t.TempDir()
		if none, err := e.Stats(ctx, testProject); err != nil || none.Stored != 0 || none.Project != testProject {
			t.Errorf("without a repository: %+v, %v", none, err)
		}
		const mib = 1 << 20
		must(t, os.WriteFile(filepath.Join(tree, "shared"), randomBytes(1, 4*mib), 0o600))
		must(t, os.WriteFile(filepath.Join(tree, "zeros"), make([]byte, mib), 0o600))
		saveOf(t, e, testProject, "one", tree)
		must(t, os.WriteFile(filepath.Join(tree, "own"), randomBytes(2, 2*mib), 0o600))
		saveOf(t, e, testProject, "two", tree)
		between := func(what string, got, low, high int64) {
			t.Helper()
			if got < low || got > high {
				t.Errorf("%s: %d, want %d to %d", what, got, low, high)
			}
		}
		const slack = 100 << 10
		s, err := open().Stats(ctx, testProject) // in another process
		must(t, err)
		between("trees", int64(s.Trees), 2, 2)
		between("logical", s.Logical, 12*mib, 12*mib)
		between("unique", s.Unique, 6*mib, 7*mib+slack)
		between("stored", s.Stored, 6*mib, 6*mib+slack)
		between("reclaimable", s.Reclaimable, 0, slack)
		between("packs", s.Packs, 2, 20)
		between("contents", s.Contents, 5, 1000)
		must(t, e.Delete(ctx, testProject, "two"))
		s, err = e.Stats(ctx, testProject)
		must(t, err)
		between("trees after a deletion", int64(s.Trees), 1, 1)
		between("logical after a deletion", s.Logical, 5*mib, 5*mib)
		between("stored after a deletion", s.Stored, 6*mib, 6*mib+slack)
		between("reclaimable after a deletion", s.Reclaimable, 2*mib, 2*mib+slack)
	})
}

func TestWhatMaintenanceGivesBackIsReclaimableNoMore(t *testing.T) {
	t.Parallel()
	ctx, root, gone := context.Background(), t.TempDir(), t.TempDir()
	e, pass := timedEngine(t, root)
	saveOf(t, e, testProject, "kept", plainTree(t))
	for i := range 3 {
		must(t, os.WriteFile(filepath.Join(gone, string(rune('a'+i))), randomBytes(uint64(500+i), 10<<20), 0o600))
	}
	saveOf(t, e, testProject, "gone", gone)
	must(t, e.Delete(ctx, testProject, "gone"))
	before, err := e.Stats(ctx, testProject)
	must(t, err)
	for range 5 {
		pass(25 * time.Hour)
		must(t, e.Maintain(ctx, testProject))
	}
	after, err := e.Stats(ctx, testProject)
	must(t, err)
	freed := before.Stored - after.Stored
	if d := before.Reclaimable - after.Reclaimable - freed; d < -1<<20 || d > 1<<20 || after.Logical != before.Logical || freed < 10<<20 {
		t.Errorf("before %+v, after %+v", before, after)
	}
}

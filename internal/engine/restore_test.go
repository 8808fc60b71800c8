package engine

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/object"
	"golang.org/x/sys/unix"

	"abaca"
	"abaca/internal/test/torture"
)

func restoreInto(t testing.TB, r repo.DirectRepository, id object.ID, all totals, root string) (abaca.Report, error) {
	t.Helper()
	dir, err := os.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	re := newRestorer(t.Context(), r, readers(r), contentHashes(r.FormatManager()), slog.New(slog.DiscardHandler))
	re.meter.find(all.entries(), all.bytes)
	err = re.run(context.Background(), int(dir.Fd()), id)
	if p := re.meter.now(); err == nil && (re.meter.filesDone.Load() != p.FilesFound || re.meter.bytesDone.Load() != p.BytesFound) {
		t.Errorf("progress ended at %d of %d files, %d of %d bytes", re.meter.filesDone.Load(), p.FilesFound, re.meter.bytesDone.Load(), p.BytesFound)
	}
	return re.tally.report(), err
}

func mustRestore(t testing.TB, r repo.DirectRepository, id object.ID, all totals, root string) abaca.Report {
	t.Helper()
	report, err := restoreInto(t, r, id, all, root)
	if err != nil {
		t.Fatal(err)
	}
	if report.Unreadable > 0 {
		t.Errorf("could not be set: %s", report.Detail)
	}
	return report
}

func mustEqual(t testing.TB, want, got string) {
	t.Helper()
	differences, err := torture.Compare(want, got)
	if err != nil {
		t.Fatal(err)
	}
	if len(differences) > 0 {
		t.Fatalf("%d differences:\n%.5000s", len(differences), strings.Join(differences, "\n"))
	}
}

func plantTorture(t testing.TB) string {
	t.Helper()
	root := t.TempDir()
	missing, err := torture.Plant(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range missing {
		t.Log("left out:", m)
	}
	return root
}

func TestTheTortureTreeComesBackInEveryField(t *testing.T) {
	t.Parallel()
	r := newRepository(t)
	source, target := plantTorture(t), t.TempDir()
	id, all := plainSave(t, r, source, 1<<20)
	mustRestore(t, r, id, all, target)
	mustEqual(t, source, target)
	before := ctimes(t, target)
	report := mustRestore(t, r, id, all, target)
	if report.Stored != 0 {
		t.Errorf("a second restore wrote %d bytes", report.Stored)
	}
	if after := ctimes(t, target); after != before {
		t.Errorf("a second restore changed something")
	}
	if n, err := torture.Vandalise(target, 7, 300); err != nil {
		t.Fatal(n, err)
	}
	mustRestore(t, r, id, all, target)
	mustEqual(t, source, target)
	if report := mustRestore(t, r, id, all, source); report.Stored != 0 {
		t.Errorf("restoring into the untouched source wrote %d bytes", report.Stored)
	}
}

// ctimes lists the change times of all that can be reached by paths.
func ctimes(t testing.TB, root string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || len(path) > 3500 {
			return filepath.SkipDir
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		fmt.Fprintln(&b, path, st.Ino, st.Ctim)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestRandomTreesComeBackAfterVandalism(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			r := newRepository(t)
			source, target := t.TempDir(), t.TempDir()
			if err := torture.Grow(source, seed, 300); err != nil {
				t.Fatal(err)
			}
			id, all := plainSave(t, r, source, 64<<10)
			mustRestore(t, r, id, all, target)
			mustEqual(t, source, target)
			for round := range uint64(3) {
				if _, err := torture.Vandalise(target, seed<<8|round, 100); err != nil {
					t.Fatal(err)
				}
				mustRestore(t, r, id, all, target)
				mustEqual(t, source, target)
			}
		})
	}
}

package engine

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/kopia/kopia/repo/blob"

	"abaca/internal/test/faultfs"
)

// powered is an engine on a file system whose power may fail; closing it may fail then.
func powered(t *testing.T, fs *faultfs.FS, change ...func(*Config)) *Engine {
	t.Helper()
	c := Config{Root: filepath.Join(fs.Dir, "repositories"), MasterKey: testKey(), Log: slog.New(slog.NewTextHandler(io.Discard, nil))}
	for _, f := range change {
		f(&c)
	}
	e, err := New(c)
	must(t, err)
	return e
}

func TestAfterAPowerCutAtAnySyncNothingSavedIsLost(t *testing.T) {
	t.Parallel()
	tree := t.TempDir()
	must(t, os.WriteFile(filepath.Join(tree, "big"), randomBytes(3, 3<<20), 0o600))
	for i := range 5 {
		must(t, os.MkdirAll(filepath.Join(tree, fmt.Sprint(i)), 0o700))
		must(t, os.WriteFile(filepath.Join(tree, fmt.Sprint(i), "f"), randomBytes(uint64(i), 1000), 0o600))
	}
	attempt := func(t *testing.T, loss faultfs.Loss, at int64) (syncs int64) {
		fs := faultfs.Mount(t)
		e := powered(t, fs, func(c *Config) { c.Checkpoint = time.Millisecond })
		before := fs.Syncs()
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		failed := fs.CutAfter(at)
		go func() {
			select {
			case <-failed:
				cancel() // nothing is worth trying again
			case <-ctx.Done():
			}
		}()
		ref, _, err := e.Save(ctx, request("one", ""), volumeOf(t, tree), nil)
		_ = e.Close(context.Background()) // which the power may have left by then
		syncs = fs.Syncs() - before
		fs.Cut()
		fs.Restore(loss, uint64(at))
		e = powered(t, fs)
		defer func() { must(t, e.Close(context.Background())) }()
		if err == nil {
			mustEqual(t, tree, restored(t, e, ref))
		}
		ref, _ = mustSave(t, e, tree, "one", "")
		mustEqual(t, tree, restored(t, e, ref))
		if n := countSnapshots(t, e); n != 1 {
			t.Errorf("there are %d snapshots", n)
		}
		return syncs
	}
	all := attempt(t, faultfs.All, math.MaxInt32)
	if all < 10 {
		t.Fatalf("a save makes only %d syncs", all)
	}
	const cuts = 40
	for at := int64(1); at <= all; at += (all + cuts - 1) / cuts {
		loss := faultfs.Losses()[at%4]
		t.Run(fmt.Sprintf("at sync %d of %d, losing %v", at, all, loss), func(t *testing.T) { attempt(t, loss, at) })
	}
}

func TestASaveGoesOnFromItsCheckpointAfterAPowerCut(t *testing.T) {
	t.Parallel()
	tree := t.TempDir()
	const files, size = 40, 600 << 10
	for i := range files {
		dir := filepath.Join(tree, fmt.Sprintf("%02d", i))
		must(t, os.Mkdir(dir, 0o700))
		must(t, os.WriteFile(filepath.Join(dir, "f"), randomBytes(uint64(i), size), 0o600))
	}
	old := func() time.Time { return time.Now().Add(time.Minute) }
	fs := faultfs.Mount(t)
	first := powered(t, fs)
	mustSave(t, first, t.TempDir(), "none", "") // makes the repository
	must(t, first.Close(context.Background()))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	first = powered(t, fs, func(c *Config) {
		c.Checkpoint = time.Millisecond
		c.Wrap = func(st blob.Storage) blob.Storage {
			return &watchedStorage{Storage: st, begin: files * size / 3, enough: 2, cancel: func() { fs.Cut(); cancel() }}
		}
	})
	first.kernelNow = old
	if _, _, err := first.Save(ctx, request("one", ""), volumeOf(t, tree), nil); err == nil {
		t.Fatal("the power did not fail")
	}
	_ = first.Close(context.Background())
	fs.Restore(faultfs.All, 1)
	second := powered(t, fs)
	defer func() { must(t, second.Close(context.Background())) }()
	second.kernelNow = old
	ref, report := mustSave(t, second, tree, "one", "")
	if report.Stored > files*size*3/4 {
		t.Errorf("%d bytes of %d were stored again", report.Stored, files*size)
	}
	mustEqual(t, tree, restored(t, second, ref))
}

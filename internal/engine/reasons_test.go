package engine

import (
	"context"
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"abaca"
)

func TestWhatTheStorageFailsIsToldInWordsOfItsOwn(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	deeds := map[string]func(t *testing.T, e *Engine, ref abaca.Ref) error{
		"deleting": func(_ *testing.T, e *Engine, ref abaca.Ref) error { return e.Delete(ctx, testProject, string(ref)) },
		"restoring": func(t *testing.T, e *Engine, ref abaca.Ref) error {
			_, err := e.Restore(ctx, testProject, ref, volumeOf(t, t.TempDir()), nil)
			return err
		},
	}
	for name, c := range map[string]struct {
		deed   string
		faults *faults
		words  string
	}{
		"deleting where it is full":          {"deleting", &faults{any: onPut(unix.ENOSPC)}, "the storage of backups is full"},
		"deleting where it may only be read": {"deleting", &faults{any: onPut(unix.EROFS)}, "the storage of backups refuses access"},
		"restoring where it refuses access":  {"restoring", &faults{any: on("get p", unix.EACCES)}, "the storage of backups refuses access"},
		"restoring where it always fails":    {"restoring", &faults{any: on("get p", errors.New("503 Slow Down"))}, "the storage of backups fails"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := c.faults.engine(t, newRoot(t, testProject))
			ref, _ := mustSave(t, e, smallTree(t), "one", "")
			c.faults.on.Store(true)
			err := deeds[c.deed](t, e, ref)
			if reason, ok := errors.AsType[*abaca.Reason](err); !ok || reason.Text != c.words {
				t.Errorf("it ended with %v", err)
			}
			if c.faults.met.Load() == 0 {
				t.Error("no fault was met")
			}
			c.faults.on.Store(false)
			must(t, deeds[c.deed](t, e, ref))
		})
	}
}

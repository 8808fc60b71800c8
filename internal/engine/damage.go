package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"sync"

	"github.com/kopia/kopia/repo/content"
	"github.com/kopia/kopia/repo/object"
)

// damageFile stands beside a repository and names, one on a line, the contents of it that cannot be read back.
const damageFile = "damaged"

// damageNotes remember the contents that a verification could not read. To deduplication they look stored, so that every
// later snapshot of the same data would be as damaged as the first. A save therefore reads what consists of them again,
// and stores them anew, which mends all older snapshots that have them.
//
// Contents that are noted without need are stored once more, and one that is not noted waits for the next verification.
type damageNotes struct {
	annex steadyAnnex

	mu  sync.Mutex
	ids map[content.ID]struct{}
}

// load reads what was noted, here or by other processes.
func (d *damageNotes) load(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.read(ctx)
}

func (d *damageNotes) read(ctx context.Context) error {
	raw, err := d.annex.read(ctx, damageFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("reading what is damaged: %w", err)
	}
	d.ids = map[content.ID]struct{}{}
	for line := range bytes.Lines(raw) {
		if id, err := content.ParseID(string(bytes.TrimSpace(line))); err == nil {
			d.ids[id] = struct{}{}
		}
	}
	return nil
}

// change adds and removes notes, durably.
func (d *damageNotes) change(ctx context.Context, change func(ids map[content.ID]struct{})) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.read(ctx); err != nil {
		return err
	}
	change(d.ids)
	if len(d.ids) == 0 {
		return wrap("noting that nothing is damaged", d.annex.remove(ctx, damageFile))
	}
	var b bytes.Buffer
	for _, id := range slices.SortedFunc(maps.Keys(d.ids), func(a, b content.ID) int { return bytes.Compare(a.Append(nil), b.Append(nil)) }) {
		fmt.Fprintln(&b, id)
	}
	return wrap("noting what is damaged", d.annex.put(ctx, damageFile, b.Bytes()))
}

func (d *damageNotes) has(id content.ID) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, ok := d.ids[id]
	return ok
}

func (d *damageNotes) none() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.ids) == 0
}

// A renewal stores contents anew of which the repository has a damaged copy.
type renewal struct {
	notes *damageNotes
	mu    sync.Mutex
	done  map[content.ID]struct{}
}

// renew stores data, which was found to be there under a damaged id, once more.
func (w *writer) renew(ctx context.Context, id content.ID, store func() (object.ID, error)) error {
	w.renewal.mu.Lock() // a second one at a time would take back what the first has stored
	defer w.renewal.mu.Unlock()
	if _, done := w.renewal.done[id]; done {
		return nil
	}
	if err := w.session.ContentManager().DeleteContent(ctx, id); err != nil {
		return fmt.Errorf("letting go of a damaged chunk: %w", err)
	}
	if _, err := store(); err != nil {
		return err
	}
	w.renewal.done[id] = struct{}{}
	return nil
}

// settle forgets the damage that is mended, once that is durable.
func (n *renewal) settle(ctx context.Context) error {
	if len(n.done) == 0 {
		return nil
	}
	return n.notes.change(ctx, func(ids map[content.ID]struct{}) {
		for id := range n.done {
			delete(ids, id)
		}
	})
}

// damaged reports whether something that a saved entry consists of is known to be damaged, so that it is to be read again.
func (s *saver) damaged(ctx context.Context, e *entry) (bool, error) {
	if e.kind == kindDir || s.w.renewal.notes.none() {
		return false, nil
	}
	err := chunksOf(ctx, s.source, e, func(c chunk) error {
		if !c.hole && s.w.renewal.notes.has(c.id) {
			return errDamaged
		}
		return nil
	})
	return err != nil, ctx.Err()
}

package engine

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"abaca"
)

// A save takes for stored what the index names when it begins, and what the snapshot consists of that it compares with. A collection
// beside it, in whatever process, may take some of that away, if what needed it was deleted meanwhile. So every collection is noted
// beside the repository before it lists what is used and after it has let go of the rest; and a save looks at the note before it reads
// the index and after its manifest is there. Where the note is the same and no collection was under way, either there was none, or it has
// seen the manifest. Otherwise the save keeps maintenance away and looks for all that it refers to: what is gone, or marked, is
// stored anew.
//
// No clock has to be right for that, and none of the two waits for the other but for that look.

// collectedFile is the note, sealed, since clocks follow it.
const collectedFile = "collected"

func (r *repository) collectedSealing() []byte {
	return []byte("abaca collection\x00" + string(r.project))
}

// A collection is what is noted of the latest one; zero if there was none.
type collection struct {
	id    string
	ended bool
	began int64 // nanoseconds since 1970 by the clock of who collects
}

func (c collection) String() string {
	state := "begun"
	if c.ended {
		state = "ended"
	}
	return fmt.Sprintf("%s %s %d\n", c.id, state, c.began)
}

// collections reads the note. One that cannot be understood is of a collection that is under way, for all that is known.
func (r *repository) collections(ctx context.Context) (collection, error) {
	sealed, err := r.annex.read(ctx, collectedFile)
	if errors.Is(err, fs.ErrNotExist) {
		return collection{ended: true}, nil
	}
	if err != nil {
		return collection{}, fmt.Errorf("reading of the latest collection: %w", err)
	}
	var c collection
	var state string
	raw, err := unseal(r.seal, sealVersion, sealed, r.collectedSealing())
	if err == nil {
		_, err = fmt.Sscanf(string(raw), "%s %s %d\n", &c.id, &state, &c.began)
	}
	if err != nil {
		return collection{}, nil //nolint:nilerr // the next collection writes it anew
	}
	c.ended = state == "ended"
	r.catchUp(time.Unix(0, c.began))
	return c, nil
}

// lookAnew reads the note and then the index.
func (r *repository) lookAnew(ctx context.Context) (collection, error) {
	c, err := r.collections(ctx)
	if err == nil {
		err = wrap("refreshing the repository", r.kopia.Refresh(ctx))
	}
	return c, err
}

func (r *repository) beginCollection(ctx context.Context, now time.Time) error {
	return r.noteCollection(ctx, collection{id: rand.Text(), began: now.UnixNano()})
}

func (r *repository) endCollection(ctx context.Context, began time.Time) error {
	return r.noteCollection(ctx, collection{id: rand.Text(), ended: true, began: began.UnixNano()})
}

func (r *repository) noteCollection(ctx context.Context, c collection) error {
	note := seal(r.seal, sealVersion, []byte(c.String()), r.collectedSealing())
	return wrap("noting a collection", markStorage(r.annex.put(ctx, collectedFile, note)))
}

// confirmKept fails if a snapshot that was saved just now refers to something that was collected meanwhile, and takes back its manifest then.
func (e *Engine) confirmKept(ctx context.Context, r *repository, id string, since collection) error {
	now, err := r.collections(ctx)
	if err != nil || now == since && now.ended {
		return err
	}
	ctx, release, err := r.annex.exclude(ctx, true)
	if err != nil {
		return fmt.Errorf("locking out maintenance: %w", err)
	}
	defer release()
	whole, err := e.whole(ctx, r, id)
	if err == nil && !whole {
		err = fmt.Errorf("%w: some of what %s shares with others was collected meanwhile", errPrevious, id)
	}
	return err
}

// deletedDir has a note for everything that was deleted and whose space is not free yet, so that it is known without opening the
// repository where there is something to collect.
const deletedDir = "deleted"

// noteDeletion asks for a collection.
func (r *repository) noteDeletion(ctx context.Context, id string) error {
	name := deletedDir + "/" + dirName(abaca.ProjectID(id))
	return wrap("noting the deletion", markStorage(r.annex.put(ctx, name, []byte(id))))
}

// settleDeletions removes the notes of deletions whose space is free.
func (r *repository) settleDeletions(ctx context.Context, names []string) error {
	for _, name := range names {
		if err := r.annex.remove(ctx, deletedDir+"/"+name); err != nil {
			return fmt.Errorf("removing the note of a deletion: %w", err)
		}
	}
	return nil
}

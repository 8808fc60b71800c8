package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/content"
	"github.com/kopia/kopia/snapshot"

	"abaca"
)

// A storage may lose what it has acknowledged, when its own power fails, or name in a listing less than it has, so that the index is
// written where nobody looks for it. Nothing is called saved before it was looked for.

// confirm fails if what a save has written is not there, and takes back its manifest then.
func (e *Engine) confirm(ctx context.Context, r *repository, w *writer, id string) error {
	lost, err := w.watch.lost(ctx)
	if err != nil {
		return fmt.Errorf("looking for what was saved: %w", err)
	}
	if err := r.kopia.Refresh(ctx); err != nil {
		return fmt.Errorf("refreshing the repository: %w", err)
	}
	done, _, err := finished(ctx, r.kopia, id)
	if len(lost) == 0 {
		if done == nil && err == nil {
			err = fmt.Errorf("looking for the manifest: %w", errForgetful)
		}
		return err
	}
	r.log.ErrorContext(ctx, "the storage lost packs that it had acknowledged", "packs", lost)
	return errors.Join(fmt.Errorf("%d packs: %w", len(lost), errForgetful), r.distrust(ctx, lost), r.deleteSnapshots(ctx, id))
}

// distrust has the contents of packs that are gone stored anew by the next save that needs them.
func (r *repository) distrust(ctx context.Context, packs []blob.ID) error {
	var gone []content.ID
	err := r.kopia.ContentReader().IterateContents(ctx, content.IterateOptions{}, func(i content.Info) error {
		if slices.Contains(packs, i.PackBlobID) {
			gone = append(gone, i.ContentID)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("looking for what was in lost packs: %w", err)
	}
	return r.damage.change(ctx, func(ids map[content.ID]struct{}) {
		for _, id := range gone {
			ids[id] = struct{}{}
		}
	})
}

// acknowledge says again that a snapshot is saved. One without a copy of its manifest, because the process ended before that was written, was
// perhaps not confirmed: if it is not whole it is removed, to be saved anew.
func (e *Engine) acknowledge(ctx context.Context, r *repository, m *snapshot.Manifest) (whole bool, err error) {
	id := m.Tags[tagID]
	copied, err := r.annex.has(ctx, manifestCopy(id))
	if copied || err != nil {
		return copied, wrap("looking for the copy of the manifest", err)
	}
	ctx, release, err := r.annex.exclude(ctx, true)
	if err != nil {
		return false, fmt.Errorf("locking out maintenance: %w", err)
	}
	defer release()
	whole, err = e.whole(ctx, r, id)
	if err != nil || !whole {
		return false, err
	}
	return true, e.copyManifest(ctx, r, m)
}

// whole looks whether all is there, and stays, that a snapshot refers to, and removes it if not. Who calls it keeps maintenance away.
func (e *Engine) whole(ctx context.Context, r *repository, id string) (bool, error) {
	found, err := newStrictVerifier(e, r).verify(ctx, []abaca.Ref{abaca.Ref(id)})
	if err != nil {
		return false, fmt.Errorf("looking for what was saved: %w", err)
	}
	if found[abaca.Ref(id)].Damaged > 0 {
		return false, r.deleteSnapshots(ctx, id)
	}
	return true, nil
}

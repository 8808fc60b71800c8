package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync/atomic"

	"github.com/kopia/kopia/repo/content"
	"github.com/kopia/kopia/repo/object"
	"github.com/kopia/kopia/snapshot"
	"golang.org/x/sync/errgroup"

	"abaca"
)

// How a verification goes. A first walk (verify_walk.go) goes through the trees one after the other, looks at every
// directory and chunk list, and looks up every content; what lies in the slice goes in windows, in the order of the
// packs, to workers that read it (verify_read.go). That blames nobody: saves, deletions and maintenance go on meanwhile,
// here and in other processes, and may have taken away what an old index named. Only when something looks damaged is the
// index read anew, and the walk repeated. What could not be read is read again, and a last walk names what is damaged then.

// Verify reads saved trees back, in the order of refs, and says of each what was found. Every directory and every chunk
// list is read, decrypted, compared with its hash, and with what its parent or its manifest say of it; every other content
// must be in the index, and in a pack that is there and long enough. Contents whose hash lies in the slice are read,
// decrypted, decompressed and compared with their hash, each once in a call whoever shares it.
//
// A ref that there is no snapshot of has one damaged entry, the whole; one that is deleted meanwhile is left out of the
// result. Below a directory that cannot be read, all that it held counts as damaged, but is not named. The error tells
// only of what ends everything. report is called about twice a second from one goroutine.
//
// Memory grows by at most 200 bytes for each directory object and 40 for each content in the slice (half a megabyte for a
// gigabyte of 80 KiB files); each worker, of which there are as many as processors, holds up to 16 MiB besides.
func (e *Engine) Verify(ctx context.Context, project abaca.ProjectID, refs []abaca.Ref, slice abaca.Slice, report func(abaca.Progress)) (found map[abaca.Ref]abaca.Verification, err error) {
	ctx, settle := bounded(ctx)
	defer settle(&err)
	r, release, err := e.acquire(ctx, project, mustExist)
	if errors.Is(err, errNoRepository) {
		found := map[abaca.Ref]abaca.Verification{}
		for _, ref := range refs {
			found[ref] = nothingSaved
		}
		return found, nil
	}
	if err != nil {
		return nil, err
	}
	defer release()
	v := newVerifier(e, r, slice)
	stop := v.meter.tell(ctx, report)
	found, err = v.verify(ctx, refs)
	stop()
	if err != nil {
		return nil, fmt.Errorf("verifying backups of project %s: %w", project, err)
	}
	return found, nil
}

// nothingSaved is what is found of a ref without a snapshot.
var nothingSaved = abaca.Verification{Damaged: 1, Detail: `".": there is no such backup in the repository, or its manifest cannot be read`}

// A verifiedTree is one ref's tree, and what has been found of it.
type verifiedTree struct {
	ref     abaca.Ref
	root    entry
	files   int64        // entries that are sound
	bytes   atomic.Int64 // of content, read and found equal to its hash
	damaged damageList
	suspect bool // something did not look right
}

// newVerifiedTree takes what a manifest says of its root.
func newVerifiedTree(ref abaca.Ref, m *snapshot.Manifest) *verifiedTree {
	t := &verifiedTree{ref: ref, root: entry{kind: kindDir, object: m.RootEntry.ObjectID}}
	if s := m.RootEntry.DirSummary; s != nil {
		t.root.totals = totals{
			bytes: s.TotalFileSize, files: s.TotalFileCount, symlinks: s.TotalSymlinkCount, dirs: s.TotalDirCount,
			marked: int64(s.IgnoredErrorCount),
		}
	}
	return t
}

func (t *verifiedTree) result() abaca.Verification {
	return abaca.Verification{Files: t.files, Bytes: t.bytes.Load(), Damaged: t.damaged.count, Detail: t.damaged.detail()}
}

// verify goes through the trees, and a second time through those that do not look right.
func (v *verifier) verify(ctx context.Context, refs []abaca.Ref) (map[abaca.Ref]abaca.Verification, error) {
	found := map[abaca.Ref]abaca.Verification{}
	trees, err := v.trees(ctx, refs)
	if err != nil {
		return nil, err
	}
	if err := v.readAll(ctx, trees); err != nil {
		return nil, err
	}
	if suspects := v.suspects(trees); len(suspects) > 0 {
		if err := v.lookAgain(ctx, suspects); err != nil {
			return nil, err
		}
	}
	there := map[abaca.Ref]bool{}
	for _, t := range trees {
		there[t.ref] = true
		if t.damaged.count > 0 {
			if gone, err := v.deleted(ctx, t); err != nil {
				return nil, err
			} else if gone {
				continue
			}
		}
		found[t.ref] = t.result()
	}
	for _, ref := range refs {
		if !there[ref] {
			found[ref] = nothingSaved
		}
	}
	return found, nil
}

// trees finds the snapshots of refs, of each once.
func (v *verifier) trees(ctx context.Context, refs []abaca.Ref) (trees []*verifiedTree, err error) {
	if err := v.engine.refresh(ctx, v.repository); err != nil {
		return nil, err
	}
	if err := v.checkIndex(ctx); err != nil {
		return nil, err
	}
	seen := map[abaca.Ref]bool{}
	looked := false
	for _, ref := range refs {
		if seen[ref] {
			continue
		}
		seen[ref] = true
		m, _, err := finished(ctx, v.repository.kopia, string(ref))
		if m == nil && err == nil && !looked {
			looked = true // for its manifest, where the index that named it may be lost
			m, err = v.engine.find(ctx, v.repository, ref)
		}
		if err != nil {
			return nil, err
		}
		if m == nil {
			continue
		}
		t := newVerifiedTree(ref, m)
		v.meter.find(t.root.totals.entries(), 0)
		trees = append(trees, t)
	}
	return trees, nil
}

// readAll walks through trees, and has workers read what is in the slice and has not been read.
func (v *verifier) readAll(ctx context.Context, trees []*verifiedTree) error {
	v.tasks = make(chan verifyTask, v.workers)
	group, ctx := errgroup.WithContext(ctx)
	for range v.workers {
		group.Go(func() error { return v.work(ctx) })
	}
	group.Go(func() error {
		defer close(v.tasks)
		for _, t := range trees {
			if err := v.walk(ctx, t, false); err != nil {
				return err
			}
			if err := v.flush(ctx); err != nil {
				return err
			}
		}
		return nil
	})
	return group.Wait()
}

// suspects returns the trees that must be looked at again: all of them if a content is damaged, which any may share.
func (v *verifier) suspects(trees []*verifiedTree) (suspects []*verifiedTree) {
	for _, t := range trees {
		if t.suspect || len(v.bad) > 0 {
			suspects = append(suspects, t)
		}
	}
	return suspects
}

// lookAgain goes through trees again, with an index and packs that are looked at anew, and names what is damaged still.
func (v *verifier) lookAgain(ctx context.Context, suspects []*verifiedTree) error {
	if _, err := v.engine.mendOpen(ctx, v.repository); err != nil {
		return err
	}
	v.forget()
	for _, t := range suspects {
		t.files, t.suspect = 0, false
	}
	if err := v.readAll(ctx, suspects); err != nil {
		return err
	}
	if err := v.readAgain(ctx); err != nil {
		return err
	}
	clear(v.lost)
	v.sound = map[object.ID]totals{} // what is in it was not compared with what cannot be read
	for _, t := range v.suspects(suspects) {
		t.files = 0
		if err := v.walk(ctx, t, true); err != nil {
			return err
		}
	}
	if len(v.lost) == 0 {
		return nil
	}
	return v.repository.damage.change(ctx, func(ids map[content.ID]struct{}) { maps.Copy(ids, v.lost) })
}

// deleted reports whether a snapshot is gone that was there when the verification began, though another may have its id by now.
func (v *verifier) deleted(ctx context.Context, t *verifiedTree) (bool, error) {
	if err := v.engine.refresh(ctx, v.repository); err != nil {
		return false, err
	}
	m, _, err := finished(ctx, v.repository.kopia, string(t.ref))
	return m == nil || m.RootEntry.ObjectID != t.root.object, err
}

// checkIndex reads the index blobs back, which an open repository no longer does.
func (v *verifier) checkIndex(ctx context.Context) error {
	secret, err := packSecret(v.repository.kopia.FormatManager())
	if err != nil {
		return nil //nolint:nilerr // what only Kopia reads is left to Kopia
	}
	x := &indexReader{blobs: v.repository.kopia.BlobReader(), cipher: newPackCipher(secret)}
	damaged, err := x.damaged(ctx, indexPrefixes...)
	if err == nil && len(damaged) > 0 {
		_, err = v.engine.mendOpen(ctx, v.repository)
	}
	return err
}

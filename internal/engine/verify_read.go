package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/content"
	"github.com/kopia/kopia/repo/object"

	"abaca"
)

// A verifier verifies trees of one repository.
type verifier struct {
	engine     *Engine
	repository *repository
	source     source
	strict     bool                 // what the index calls deleted, and may soon forget, is as good as lost
	contents   func() contentReader // one for each worker
	hash       func() contentHash   // nil where contents are not named by a hash known here
	slice      abaca.Slice
	meter      meter
	workers    int
	tasks      chan verifyTask

	// What follows is the walk's alone.

	sound  map[object.ID]totals    // directories that are sound with all beneath them
	packs  map[blob.ID]int64       // their lengths; missing ones have missingPack
	chosen map[contentKey]struct{} // contents that were given to the workers
	window verifyTask
	bytes  int64                   // of the window
	lost   map[content.ID]struct{} // contents that cannot be read

	mu  sync.Mutex
	bad map[contentKey]badContent // that could not be read, or were not what their hash says
}

// A verifyTask is pieces to read, of which jobs and starts are of no meaning, for a tree.
type verifyTask struct {
	tree   *verifiedTree
	pieces []piece
}

// A contentKey names a content of a file: the beginning of its hash, which takes less memory than its id.
type contentKey [16]byte

type badContent struct {
	tree  *verifiedTree // the first that has it
	chunk chunk
}

const missingPack = -1

func newVerifier(e *Engine, r *repository, slice abaca.Slice) *verifier {
	workers := max(2, runtime.GOMAXPROCS(0))
	v := &verifier{
		engine: e, repository: r, contents: readers(r.kopia), hash: contentHashes(r.kopia.FormatManager()), slice: slice,
		workers: workers, chosen: map[contentKey]struct{}{}, bad: map[contentKey]badContent{}, lost: map[content.ID]struct{}{},
	}
	v.source = checkedSource{DirectRepository: r.kopia, verifier: v, hash: v.newHash()}
	v.forget()
	return v
}

// newStrictVerifier returns one that reads no file contents, and takes nothing for saved that maintenance may take away.
func newStrictVerifier(e *Engine, r *repository) *verifier {
	v := newVerifier(e, r, abaca.Slice{})
	v.strict = true
	return v
}

// lose notes a content that the walk could not read; only what the last walk finds counts.
func (v *verifier) lose(id content.ID) { v.lost[id] = struct{}{} }

// forget makes the walk look at everything anew.
func (v *verifier) forget() {
	v.sound, v.packs = map[object.ID]totals{}, map[blob.ID]int64{}
}

func keyOf(id content.ID) (key contentKey) {
	copy(key[:], id.Hash())
	return key
}

// inSlice reports whether a hash, read as a fraction of 1, lies in the slice.
func inSlice(s abaca.Slice, key contentKey) bool {
	const digits = 53 // that a float64 holds
	at := float64(binary.BigEndian.Uint64(key[:])>>(64-digits)) / (1 << digits)
	return s.From <= at && at < s.To
}

// locate finds a content in the index, and in a pack that reaches far enough.
func (v *verifier) locate(ctx context.Context, c chunk) (content.Info, error) {
	at, err := v.source.ContentInfo(ctx, c.id)
	if err != nil {
		return at, fmt.Errorf("%w: look up %v: %w", errDamaged, c.id, err)
	}
	if v.strict && at.Deleted {
		return at, fmt.Errorf("%w: %v is being collected", errDamaged, c.id)
	}
	if int64(at.OriginalLength) != c.length {
		return at, fmt.Errorf("%w: %v has %d bytes instead of %d", errDamaged, c.id, at.OriginalLength, c.length)
	}
	length, ok := v.packs[at.PackBlobID]
	if !ok {
		meta, err := v.repository.kopia.BlobReader().GetMetadata(ctx, at.PackBlobID)
		if errors.Is(err, blob.ErrBlobNotFound) {
			meta.Length = missingPack
		} else if err != nil {
			return at, fmt.Errorf("%w: examine pack %v: %w", errDamaged, at.PackBlobID, err)
		}
		length = meta.Length
		v.packs[at.PackBlobID] = length
	}
	switch {
	case length == missingPack:
		return at, fmt.Errorf("%w: pack %v of %v is missing", errDamaged, at.PackBlobID, c.id)
	case int64(at.PackOffset)+int64(at.PackedLength) > length:
		return at, fmt.Errorf("%w: pack %v of %v is cut off", errDamaged, at.PackBlobID, c.id)
	}
	return at, nil
}

// plan has a content read if it lies in the slice and was not before.
func (v *verifier) plan(ctx context.Context, t *verifiedTree, p piece) error {
	key := keyOf(p.at.ContentID)
	if _, known := v.chosen[key]; known || !inSlice(v.slice, key) {
		return nil
	}
	v.chosen[key] = struct{}{}
	v.meter.find(0, p.length)
	v.window.tree = t
	v.window.pieces = append(v.window.pieces, p)
	v.bytes += p.length
	if len(v.window.pieces) < windowPieces && v.bytes < windowBytes {
		return nil
	}
	return v.flush(ctx)
}

// flush hands the window to the workers, in the order of the packs.
func (v *verifier) flush(ctx context.Context) error {
	rest := v.window.pieces
	sortPieces(rest)
	for len(rest) > 0 {
		n := batchLength(rest)
		select {
		case v.tasks <- verifyTask{v.window.tree, rest[:n:n]}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		rest = rest[n:]
	}
	v.window, v.bytes = verifyTask{}, 0
	return nil
}

// work reads what it is given until there is no more.
func (v *verifier) work(ctx context.Context) error {
	check := v.newCheck()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case task, ok := <-v.tasks:
			if !ok {
				return nil
			}
			err := check.reader.each(ctx, task.pieces, func(p *piece, data []byte, err error) error {
				return v.judgePiece(ctx, task.tree, p, check.hash.verify(p.at.ContentID, data, err))
			})
			if err != nil {
				return err
			}
		}
	}
}

// judgePiece notes how reading a content went.
func (v *verifier) judgePiece(ctx context.Context, t *verifiedTree, p *piece, err error) error {
	if err == nil {
		t.bytes.Add(p.length)
	} else if end := ending(ctx, err); end != nil {
		return end
	} else {
		v.mu.Lock()
		v.bad[keyOf(p.at.ContentID)] = badContent{t, chunk{length: p.length, id: p.at.ContentID}}
		v.mu.Unlock()
	}
	v.meter.do(0, p.length)
	return nil
}

// A contentCheck reads contents for one goroutine and compares them with their hashes.
type contentCheck struct {
	reader contentReader
	hash   *contentHash
}

func (v *verifier) newCheck() contentCheck { return contentCheck{v.contents(), v.newHash()} }

// newHash returns a hash for one goroutine; nil where contents are not named by a hash known here.
func (v *verifier) newHash() *contentHash {
	if v.hash == nil {
		return nil
	}
	h := v.hash()
	return &h
}

// verify returns the error of reading a content or, if that went well, one if it is not what its hash says.
func (h *contentHash) verify(id content.ID, data []byte, err error) error {
	if err == nil && h != nil && !h.matches(data, id) {
		err = fmt.Errorf("%w: %v has another hash", errDamaged, id)
	}
	return err
}

// readAgain tries the contents once more that could not be read, and forgets those that now can.
func (v *verifier) readAgain(ctx context.Context) error {
	check := v.newCheck()
	for key, b := range v.bad {
		err := check.reader.one(ctx, b.chunk, func(data []byte) error { return check.hash.verify(b.chunk.id, data, nil) })
		if err == nil {
			b.tree.bytes.Add(b.chunk.length)
			delete(v.bad, key)
		} else if end := ending(ctx, err); end != nil {
			return end
		}
	}
	return nil
}

// verdict tells of a content whether it could be read, if that was tried.
func (v *verifier) verdict(c chunk) error {
	if _, bad := v.bad[keyOf(c.id)]; bad {
		return fmt.Errorf("%w: %v cannot be read back", errDamaged, c.id)
	}
	return nil
}

package engine

import (
	"bytes"
	"context"
	"fmt"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/content"
	"github.com/kopia/kopia/repo/format"
	"github.com/zeebo/blake3"
)

// A contentReader reads contents for one worker.
type contentReader interface {
	// each reads pieces that are sorted by where they lie, and hands each over, or the error with it. The data is
	// valid during the call. It stops at the first error that use returns.
	each(ctx context.Context, pieces []piece, use func(p *piece, data []byte, err error) error) error
	// one reads one chunk.
	one(ctx context.Context, c chunk, use func(data []byte) error) error
}

// A kopiaReader reads as Kopia does, one content at a time, which every storage, cipher and codec allows.
type kopiaReader struct{ repository repo.DirectRepository }

func (k kopiaReader) each(ctx context.Context, pieces []piece, use func(*piece, []byte, error) error) error {
	for i := range pieces {
		p := &pieces[i]
		data, err := k.content(ctx, p.at.ContentID, p.length)
		if err := use(p, data, err); err != nil {
			return err
		}
	}
	return nil
}

func (k kopiaReader) one(ctx context.Context, c chunk, use func([]byte) error) error {
	data, err := k.content(ctx, c.id, c.length)
	if err != nil {
		return err
	}
	return use(data)
}

func (k kopiaReader) content(ctx context.Context, id content.ID, length int64) ([]byte, error) {
	data, err := readContent(ctx, k.repository, id)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: read %v: %w", errDamaged, id, err)
	}
	if int64(len(data)) != length {
		return nil, fmt.Errorf("%w: %v has %d bytes instead of %d", errDamaged, id, len(data), length)
	}
	return data, nil
}

// A contentHash computes the hash by which a repository names its contents, so that a file can be compared with what
// is saved without reading the repository.
type contentHash struct {
	hasher *blake3.Hasher
	sum    []byte
}

// matches reports whether data is the content id.
func (h *contentHash) matches(data []byte, id content.ID) bool {
	h.hasher.Reset()
	h.hasher.Write(data)
	h.sum = h.hasher.Sum(h.sum[:0])
	want := id.Hash()
	return len(want) >= 16 && len(want) <= len(h.sum) && bytes.Equal(h.sum[:len(want)], want)
}

// contentHashes returns a maker of hashes for a repository, keyed BLAKE3 as repo/hashing defines it; nil where contents
// are named by another function, so that nothing can be compared without being read.
func contentHashes(f *format.Manager) func() contentHash {
	const keyLength = 32
	secret := f.GetHmacSecret()
	if name := f.GetHashFunction(); name != "BLAKE3-256" && name != "BLAKE3-256-128" || len(secret) < keyLength {
		return nil
	}
	hasher, err := blake3.NewKeyed(secret[:keyLength])
	if err != nil {
		return nil // only for a key of another length
	}
	return func() contentHash { return contentHash{hasher: hasher.Clone()} }
}

// readers returns a maker of readers for workers: of packs directly where their format is known, of Kopia's way where not.
func readers(r repo.DirectRepository) func() contentReader {
	k := kopiaReader{r}
	secret, err := packSecret(r.FormatManager())
	if err != nil {
		return func() contentReader { return k }
	}
	return func() contentReader { return newPackReader(k, secret) }
}

package engine

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"time"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/content"
	"github.com/kopia/kopia/repo/content/index"
	"github.com/kopia/kopia/repo/format"
)

// The index says in which pack each content lies. It is kept in blobs of its own, and Kopia neither opens a repository of
// which one is damaged, nor notices that one is missing: what it named is not found then, and its packs look like rubbish
// to maintenance. But every pack ends with an index of its own (repo/content/content_index_recovery.go), so what was lost is
// read from the packs and written anew. The order is: the recovered index durably first, then the damaged blob goes into quarantine.
//
// It is safe beside writers elsewhere: an entry that a writer is about to add itself says the same, and of several entries
// of one content the youngest counts. Against maintenance, which could take a pack away meanwhile, there is Kopia's own lock.

// indexPrefixes are those of the blobs that hold index entries (internal/epoch, repo/content/indexblob).
var indexPrefixes = []blob.ID{"n", "xn", "xs", "xr"}

// An indexReader reads index blobs, and packs' own indexes, without Kopia's help.
type indexReader struct {
	blobs  blob.Reader
	cipher *packCipher
	buf    rangeBuffer
}

var errBadIndex = errors.New("not an index")

// blob reads a whole blob, whose hash stands in its name. It returns errBadIndex for one that is damaged.
func (x *indexReader) blob(ctx context.Context, m blob.Metadata) ([]byte, error) {
	name, _, _ := strings.Cut(string(m.BlobID), "-")
	hash, err := hex.DecodeString(name[max(0, len(name)-2*packIVLength):])
	if err != nil {
		return nil, fmt.Errorf("%w: name %v", errBadIndex, m.BlobID)
	}
	return x.read(ctx, m.BlobID, 0, m.Length, hash)
}

func (x *indexReader) read(ctx context.Context, id blob.ID, off, length int64, hash []byte) ([]byte, error) {
	if length < packOverhead || length > 1<<31 {
		return nil, fmt.Errorf("%w: %d bytes", errBadIndex, length)
	}
	x.buf = exactBuffer(length) // an index keeps what it is made from
	if err := x.buf.fetch(ctx, x.blobs, id, off, length); err != nil {
		return nil, err
	}
	plain, err := x.cipher.unseal(x.buf.b, hash)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errBadIndex, err)
	}
	return plain, nil
}

// exactBuffer holds no more than it is made for.
func exactBuffer(length int64) rangeBuffer { return rangeBuffer{b: make([]byte, 0, length)} }

func openIndex(plain []byte, err error) (index.Index, error) {
	if err != nil {
		return nil, err
	}
	ndx, err := index.Open(plain, nil, func() int { return packOverhead })
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errBadIndex, err)
	}
	return ndx, nil
}

// pack reads a pack's own index. At the pack's end stands where: a version, the hash, offset and length, a checksum of
// these, and the length of all that in one byte.
func (x *indexReader) pack(ctx context.Context, m blob.Metadata) (index.Index, error) {
	n := min(m.Length, 256)
	if n < 6 {
		return nil, fmt.Errorf("%w: %d bytes", errBadIndex, m.Length)
	}
	x.buf = exactBuffer(n)
	if err := x.buf.fetch(ctx, x.blobs, m.BlobID, m.Length-n, n); err != nil {
		return nil, err
	}
	tail := x.buf.b[:n-1]
	size := int64(x.buf.b[n-1])
	if size < 5 || size > n-1 {
		return nil, fmt.Errorf("%w: no end", errBadIndex)
	}
	tail = tail[n-1-size:]
	fields, sum := tail[:size-4], tail[size-4:]
	if crc32.ChecksumIEEE(fields) != binary.BigEndian.Uint32(sum) {
		return nil, fmt.Errorf("%w: checksum", errBadIndex)
	}
	next := func() uint64 {
		v, n := binary.Uvarint(fields)
		fields = fields[max(0, n):]
		return v
	}
	if version := next(); version != 1 {
		return nil, fmt.Errorf("%w: version %d", errBadIndex, version)
	}
	length := next()
	if length > uint64(len(fields)) {
		return nil, fmt.Errorf("%w: hash of %d bytes", errBadIndex, length)
	}
	hash := fields[:length]
	fields = fields[length:]
	at, size64 := next(), next()
	if at > uint64(m.Length) || size64 > uint64(m.Length)-at {
		return nil, fmt.Errorf("%w: beyond the end", errBadIndex)
	}
	return openIndex(x.read(ctx, m.BlobID, int64(at), int64(size64), hash))
}

// damaged returns the blobs that are there but cannot be decrypted.
func (x *indexReader) damaged(ctx context.Context, prefixes ...blob.ID) (found []blob.Metadata, err error) {
	for _, prefix := range prefixes {
		all, err := listBlobs(ctx, x.blobs, prefix)
		if err != nil {
			return nil, fmt.Errorf("listing blobs %v: %w", prefix, err)
		}
		for _, m := range all {
			_, err := x.blob(ctx, m)
			switch {
			case err == nil, errors.Is(err, blob.ErrBlobNotFound): // compacted since it was listed
			case errors.Is(err, errBadIndex):
				found = append(found, m)
			default:
				return nil, fmt.Errorf("reading blob %v: %w", m.BlobID, err)
			}
		}
	}
	return found, nil
}

func listBlobs(ctx context.Context, from blob.Reader, prefix blob.ID) (all []blob.Metadata, err error) {
	err = from.ListBlobs(ctx, prefix, func(m blob.Metadata) error {
		all = append(all, m)
		return ctx.Err()
	})
	return all, err
}

// recoverIndex adds to the index what packs say of themselves and the index does not know. Packs that the index names
// somewhere are believed to be known, unless all are asked for, as they must be once an index blob is known to be lost. Those of a
// session that has not ended are left alone: it would make a manifest visible before what it refers to.
func recoverIndex(ctx context.Context, r repo.DirectRepository, x *indexReader, all bool) (entries int, err error) {
	if err := r.Refresh(ctx); err != nil {
		return 0, fmt.Errorf("reading the index: %w", err)
	}
	known, err := x.active(ctx, r)
	if err != nil {
		return 0, err
	}
	named := map[blob.ID]bool{}
	if !all {
		for _, ndx := range known {
			if err := ndx.Iterate(index.AllIDs, func(i content.Info) error { named[i.PackBlobID] = true; return ctx.Err() }); err != nil {
				return 0, fmt.Errorf("reading the index: %w", err)
			}
		}
	}
	var packs, lost []blob.Metadata
	for _, prefix := range content.PackBlobIDPrefixes {
		found, err := listBlobs(ctx, x.blobs, prefix)
		if err != nil {
			return 0, fmt.Errorf("listing the packs: %w", err)
		}
		packs = append(packs, found...)
	}
	writing, err := x.sessions(ctx) // after the packs, for its mark is there before a session's first
	if err != nil {
		return 0, err
	}
	for _, m := range packs {
		if named[m.BlobID] || writing[content.SessionIDFromBlobID(m.BlobID)] || !all && r.Time().Sub(m.Timestamp) < leftoverAge {
			continue // what is young is touched by no maintenance
		}
		n, err := x.unknown(ctx, m, known)
		if err != nil {
			return 0, err
		}
		if n > 0 {
			lost, entries = append(lost, m), entries+n
		}
	}
	if len(lost) == 0 {
		return 0, nil
	}
	return entries, repo.DirectWriteSession(ctx, r, repo.WriteSessionOptions{Purpose: "recover the index"}, func(ctx context.Context, w repo.DirectRepositoryWriter) error {
		for _, m := range lost {
			if _, err := w.ContentManager().RecoverIndexFromPackBlob(ctx, m.BlobID, m.Length, true); err != nil {
				return fmt.Errorf("recovering the index of pack %v: %w", m.BlobID, err)
			}
		}
		return w.ContentManager().Flush(ctx)
	})
}

// sessions returns the sessions that have not ended, or not long ago without an end: a mark stays for four days.
func (x *indexReader) sessions(ctx context.Context) (map[content.SessionID]bool, error) {
	marks, err := listBlobs(ctx, x.blobs, sessionPrefix)
	if err != nil {
		return nil, fmt.Errorf("listing the marks of writers: %w", err)
	}
	writing := map[content.SessionID]bool{}
	for _, m := range marks {
		if id := content.SessionIDFromBlobID(m.BlobID); id != "" {
			writing[id] = true
		}
	}
	return writing, nil
}

// active opens the index blobs that Kopia goes by.
func (x *indexReader) active(ctx context.Context, r repo.DirectRepository) (index.Merged, error) {
	blobs, err := r.IndexBlobs(ctx, false)
	if err != nil {
		return nil, fmt.Errorf("listing the index: %w", err)
	}
	var known index.Merged
	for _, m := range blobs {
		ndx, err := openIndex(x.blob(ctx, m.Metadata))
		if err != nil {
			return nil, fmt.Errorf("reading the index: %w", err)
		}
		known = append(known, ndx)
	}
	return known, nil
}

// unknown counts the entries of a pack's own index that are younger than what is known. A pack without a readable index has none.
func (x *indexReader) unknown(ctx context.Context, m blob.Metadata, known index.Merged) (n int, err error) {
	own, err := x.pack(ctx, m)
	if errors.Is(err, errBadIndex) || errors.Is(err, blob.ErrBlobNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("reading the index of pack %v: %w", m.BlobID, err)
	}
	err = own.Iterate(index.AllIDs, func(i content.Info) error {
		var old content.Info
		ok, err := known.GetInfo(i.ContentID, &old)
		if err == nil && (!ok || old.TimestampSeconds < i.TimestampSeconds) {
			n++
		}
		return err
	})
	return n, err
}

// A hidingStorage does not list some blobs.
type hidingStorage struct {
	blob.Storage
	hidden map[blob.ID]bool
}

// ListBlobs leaves out what is hidden.
func (h hidingStorage) ListBlobs(ctx context.Context, prefix blob.ID, each func(blob.Metadata) error) error {
	return h.Storage.ListBlobs(ctx, prefix, func(m blob.Metadata) error {
		if h.hidden[m.BlobID] {
			return nil
		}
		return each(m)
	})
}

// mendIndex makes the index whole again, and returns whether there was anything to mend.
func (e *Engine) mendIndex(ctx context.Context, r *repository, password string, f *format.Manager) (mended bool, err error) {
	secret, err := packSecret(f)
	if err != nil {
		return false, nil //nolint:nilerr // packs that only Kopia reads are left to Kopia
	}
	ctx, release, err := r.annex.exclude(ctx, true)
	if err != nil {
		return false, fmt.Errorf("locking out maintenance: %w", err)
	}
	defer release()
	x := &indexReader{blobs: r.storage, cipher: newPackCipher(secret)}
	damaged, err := x.damaged(ctx, indexPrefixes...)
	if err != nil {
		return false, err
	}
	hiding := hidingStorage{r.storage, map[blob.ID]bool{}}
	for _, m := range damaged {
		r.log.ErrorContext(ctx, "an index blob is damaged", "blob", m.BlobID, "bytes", m.Length)
		hiding.hidden[m.BlobID] = true
	}
	began := time.Now()
	entries, err := e.recoverBeside(ctx, r, hiding, password, x)
	if err != nil {
		return false, fmt.Errorf("recovering the index from the packs: %w", err)
	}
	for _, m := range damaged {
		if err := r.quarantine(ctx, m.BlobID); err != nil {
			return false, err
		}
	}
	if entries > 0 || len(damaged) > 0 {
		r.log.WarnContext(ctx, "the index was recovered from the packs", "entries", entries, "damaged_blobs", len(damaged), "took", time.Since(began))
	}
	return entries > 0 || len(damaged) > 0, nil
}

// recoverBeside recovers the index as it is without the hidden blobs, in the open repository if none are.
func (e *Engine) recoverBeside(ctx context.Context, r *repository, st hidingStorage, password string, x *indexReader) (entries int, err error) {
	if len(st.hidden) == 0 {
		if r.kopia == nil {
			return 0, nil // what keeps it from being opened is something else
		}
		return recoverIndex(ctx, r.kopia, x, true)
	}
	k, err := e.open(ctx, r, st, password)
	if err != nil {
		return 0, err
	}
	entries, err = recoverIndex(ctx, k, x, true)
	return entries, errors.Join(err, k.Close(ctx))
}

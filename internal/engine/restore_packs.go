package engine

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/content"
	"github.com/kopia/kopia/repo/format"
)

// Limits of reading a pack: a gap up to rangeGap is read along rather than read around, up to rangeBytes at once
// unless a single content is larger.
const (
	rangeGap   = 32 << 10
	rangeBytes = 4 << 20
)

// A packCipher decrypts contents as Kopia's "AES256-GCM-HMAC-SHA256" does (repo/encryption): the key of a content is
// an HMAC of the last bytes of its hash, which are also the additional data; the nonce stands in front.
type packCipher struct {
	mac hash.Hash
	key [sha256.Size]byte
}

const (
	packAlgorithm = "AES256-GCM-HMAC-SHA256"
	packIVLength  = aes.BlockSize
	packOverhead  = 12 + 16
)

// errUnknownPacks says that packs are written in a way that only Kopia itself reads here.
var errUnknownPacks = errors.New("unknown format of packs")

// packSecret derives the secret of a repository's contents, if the repository is of the one kind that is read here
// directly. It is never widened without a test: what does not match is read by Kopia.
func packSecret(f *format.Manager) ([]byte, error) {
	params := f.GetCachedMutableParameters()
	if f.GetEncryptionAlgorithm() != packAlgorithm || f.GetECCAlgorithm() != "" || f.GetECCOverheadPercent() != 0 ||
		params.Version != format.FormatVersion3 {
		return nil, errUnknownPacks
	}
	secret, err := hkdf.Key(sha256.New, f.GetMasterKey(), []byte("encryption"), "", sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("derive the secret of packs: %w", err)
	}
	return secret, nil
}

func newPackCipher(secret []byte) *packCipher { return &packCipher{mac: hmac.New(sha256.New, secret)} }

// open decrypts a content in place.
func (c *packCipher) open(b []byte, id content.ID) ([]byte, error) { return c.unseal(b, id.Hash()) }

// unseal decrypts in place what has the given hash.
func (c *packCipher) unseal(b, iv []byte) ([]byte, error) {
	if len(iv) < packIVLength || len(b) < packOverhead {
		return nil, errors.New("too short to be a content")
	}
	iv = iv[len(iv)-packIVLength:]
	c.mac.Reset()
	c.mac.Write(iv)
	block, err := aes.NewCipher(c.mac.Sum(c.key[:0]))
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	sealed := b[aead.NonceSize():]
	return aead.Open(sealed[:0], b[:aead.NonceSize()], sealed, iv)
}

// A packReader reads ranges of packs and decodes contents from them without copies between. What it cannot read so,
// because a pack was rewritten since the plan was made or something is damaged, it leaves to Kopia.
type packReader struct {
	kopiaReader
	cipher *packCipher
	codec  contentCodec
	buf    rangeBuffer
}

// newPackReader makes a reader for one worker.
func newPackReader(k kopiaReader, secret []byte) *packReader {
	return &packReader{kopiaReader: k, cipher: newPackCipher(secret)}
}

func (r *packReader) each(ctx context.Context, pieces []piece, use func(*piece, []byte, error) error) error {
	for len(pieces) > 0 {
		n := runLength(pieces)
		if err := r.run(ctx, pieces[:n], use); err != nil {
			return err
		}
		pieces = pieces[n:]
	}
	return nil
}

func (r *packReader) one(ctx context.Context, c chunk, use func([]byte) error) error {
	info, err := r.repository.ContentInfo(ctx, c.id)
	if err != nil {
		return r.kopiaReader.one(ctx, c, use)
	}
	return r.run(ctx, []piece{{start: c.start, length: c.length, at: info}}, func(_ *piece, data []byte, err error) error {
		if err != nil {
			return err
		}
		return use(data)
	})
}

// runLength returns how many of the pieces, at least one, are read at once.
func runLength(pieces []piece) int {
	first := &pieces[0].at
	end := int64(first.PackOffset) + int64(first.PackedLength)
	n := 1
	for ; n < len(pieces); n++ {
		at := &pieces[n].at
		start, stop := int64(at.PackOffset), int64(at.PackOffset)+int64(at.PackedLength)
		if at.PackBlobID != first.PackBlobID || start > end+rangeGap || stop-int64(first.PackOffset) > rangeBytes {
			break
		}
		end = max(end, stop)
	}
	return n
}

// run reads the pieces of one range.
func (r *packReader) run(ctx context.Context, pieces []piece, use func(*piece, []byte, error) error) error {
	base := int64(pieces[0].at.PackOffset)
	end := base
	for i := range pieces {
		end = max(end, int64(pieces[i].at.PackOffset)+int64(pieces[i].at.PackedLength))
	}
	if err := r.buf.fetch(ctx, r.repository.BlobReader(), pieces[0].at.PackBlobID, base, end-base); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return r.kopiaReader.each(ctx, pieces, use)
	}
	var data []byte
	var decoded *piece // whose content data is
	for i := range pieces {
		p := &pieces[i]
		if decoded == nil || decoded.at.ContentID != p.at.ContentID {
			off := int64(p.at.PackOffset) - base
			var err error
			data, err = r.decode(r.buf.b[off:off+int64(p.at.PackedLength)], &p.at)
			if err != nil || int64(len(data)) != p.length {
				data, err = r.content(ctx, p.at.ContentID, p.length)
			}
			if err != nil {
				decoded = nil
				if err := use(p, nil, err); err != nil {
					return err
				}
				continue
			}
			decoded = p
		}
		if err := use(p, data, nil); err != nil {
			return err
		}
	}
	return nil
}

// decode decrypts and decompresses one content; sealed is overwritten.
func (r *packReader) decode(sealed []byte, at *content.Info) ([]byte, error) {
	if at.EncryptionKeyID != 0 {
		return nil, errUnknownPacks
	}
	plain, err := r.cipher.open(sealed, at.ContentID)
	if err != nil {
		return nil, err
	}
	return r.codec.decode(plain, at.CompressionHeaderID, int(at.OriginalLength))
}

// A rangeBuffer takes a range of a blob straight from the file that holds it.
type rangeBuffer struct {
	b    []byte
	want int
}

// fetch reads exactly length bytes.
func (r *rangeBuffer) fetch(ctx context.Context, from blob.Reader, id blob.ID, off, length int64) error {
	r.want = int(length)
	if cap(r.b) < r.want {
		r.b = make([]byte, 0, max(r.want, min(2*cap(r.b), rangeBytes), 64<<10))
	}
	if err := from.GetBlob(ctx, id, off, length, r); err != nil {
		return fmt.Errorf("read pack %v: %w", id, err)
	}
	if len(r.b) != r.want {
		return io.ErrUnexpectedEOF
	}
	return nil
}

// Reset, Length, Write and ReadFrom are what Kopia's storages fill a buffer with; a retry starts with Reset.
func (r *rangeBuffer) Reset()      { r.b = r.b[:0] }
func (r *rangeBuffer) Length() int { return len(r.b) }

func (r *rangeBuffer) Write(p []byte) (int, error) {
	r.b = append(r.b, p...)
	return len(p), nil
}

// ReadFrom spares storages that copy from a file the buffer between.
func (r *rangeBuffer) ReadFrom(src io.Reader) (n int64, err error) {
	for len(r.b) < r.want {
		m, err := src.Read(r.b[len(r.b):r.want])
		r.b = r.b[:len(r.b)+m]
		n += int64(m)
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

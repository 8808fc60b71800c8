package engine

import (
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/content"
	"github.com/kopia/kopia/repo/object"
)

// A packSource opens objects as Kopia does, but takes their contents from packs itself where it can (restore_packs.go),
// since Kopia's way to a directory object of a few kilobytes costs more than comparing what is in it.
type packSource struct {
	repo.DirectRepository
	readers sync.Pool // of *packReader
}

// newSource returns the fastest source for a repository.
func newSource(r repo.DirectRepository) source {
	secret, err := packSecret(r.FormatManager())
	if err != nil {
		return r
	}
	s := &packSource{DirectRepository: r}
	s.readers.New = func() any { return newPackReader(kopiaReader{r}, secret) }
	return s
}

// OpenObject is Kopia's but for where the contents come from.
func (s *packSource) OpenObject(ctx context.Context, id object.ID) (object.Reader, error) {
	return object.Open(ctx, s, id)
}

// GetContent returns a content in memory of its own. Whatever goes wrong, Kopia's own way decides.
func (s *packSource) GetContent(ctx context.Context, id content.ID) ([]byte, error) {
	info, err := s.ContentInfo(ctx, id)
	if err == nil {
		r := s.readers.Get().(*packReader)
		defer s.readers.Put(r)
		if data, err := r.own(ctx, &info); err == nil {
			return data, nil
		}
	}
	return readContent(ctx, s.DirectRepository, id)
}

// readContent has Kopia read a content, by a fresh index if need be: maintenance elsewhere may have moved it to another pack since the
// index was read.
func readContent(ctx context.Context, r repo.DirectRepository, id content.ID) ([]byte, error) {
	data, err := r.ContentReader().GetContent(ctx, id)
	if err != nil && ctx.Err() == nil {
		if rerr := r.Refresh(ctx); rerr == nil {
			data, err = r.ContentReader().GetContent(ctx, id)
		}
	}
	return data, err
}

// own reads one content into memory that the reader does not use again.
func (r *packReader) own(ctx context.Context, at *content.Info) ([]byte, error) {
	if err := r.buf.fetch(ctx, r.repository.BlobReader(), at.PackBlobID, int64(at.PackOffset), int64(at.PackedLength)); err != nil {
		return nil, err
	}
	data, err := r.decode(r.buf.b, at)
	if err == nil && len(data) != int(at.OriginalLength) {
		err = fmt.Errorf("read %v: %w", at.ContentID, io.ErrUnexpectedEOF)
	}
	if at.CompressionHeaderID == 0 {
		r.buf.b = nil // it holds the data
	}
	r.codec.out = nil // so may this
	return data, err
}

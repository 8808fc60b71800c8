package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"

	"github.com/kopia/kopia/repo/blob"
	"golang.org/x/sync/errgroup"

	"abaca"
)

// A steadyStorage makes of a storage that fails, hangs and lies one that Kopia can rely on:
//
//   - what fails in passing is tried again, and what hangs is left behind (patience.go),
//   - a blob that was put is there in its whole length,
//   - who has lost the right to its work (abaca.Guard) puts nothing, above all no blob of the index, which shows others what was saved or deleted,
//   - a listing names every blob of the index that this engine has seen and that is still there, for Kopia takes what a listing leaves out
//     for gone: index blobs, and then the packs that they name.
type steadyStorage struct {
	blob.Storage
	patience patience

	mu      sync.Mutex
	known   map[blob.ID]struct{} // of the index
	watches map[*watch]struct{}
}

func newSteadyStorage(st blob.Storage, p patience) *steadyStorage {
	return &steadyStorage{Storage: st, patience: p, known: map[blob.ID]struct{}{}, watches: map[*watch]struct{}{}}
}

// ConnectionInfo names the storage type of storage_kopia.go.
func (s *steadyStorage) ConnectionInfo() blob.ConnectionInfo {
	return blob.ConnectionInfo{Type: storageType, Config: &storageOptions{}}
}

// inIndex tells the blobs that say which packs are in use.
func inIndex(id blob.ID) bool {
	return strings.HasPrefix(string(id), "x") || strings.HasPrefix(string(id), "n")
}

// PutBlob stores a blob and looks whether it is there.
func (s *steadyStorage) PutBlob(ctx context.Context, id blob.ID, data blob.Bytes, opts blob.PutOptions) error {
	var copied bytes.Buffer // Kopia uses its buffer for something else when this has returned
	copied.Grow(data.Length())
	if _, err := data.WriteTo(&copied); err != nil {
		return err
	}
	own := plainBytes(copied.Bytes())
	mayPut := abaca.Guard(ctx)
	modified := opts.GetModTime
	opts.GetModTime = nil // Kopia's storages look for it after a put that has failed as well, and return what they say then
	there, err := result(ctx, s.patience, func(ctx context.Context) (blob.Metadata, error) {
		if err := mayPut(); err != nil {
			return blob.Metadata{}, refused{err}
		}
		if err := s.Storage.PutBlob(ctx, id, own, opts); err != nil {
			return blob.Metadata{}, err
		}
		there, err := s.Storage.GetMetadata(ctx, id)
		if err != nil && !errors.Is(err, blob.ErrBlobNotFound) {
			return blob.Metadata{}, err
		}
		if err != nil || there.Length != int64(len(own)) {
			return blob.Metadata{}, fmt.Errorf("%w: %v has %d bytes instead of %d", errTorn, id, there.Length, len(own))
		}
		return there, nil
	})
	if err != nil {
		return markStorage(fmt.Errorf("putting blob %v: %w", id, err))
	}
	if modified != nil {
		*modified = there.Timestamp
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if inIndex(id) {
		s.known[id] = struct{}{}
	}
	for w := range s.watches {
		w.put = append(w.put, blob.Metadata{BlobID: id, Length: int64(len(own))})
	}
	return nil
}

// GetBlob reads a range of a blob, or all of it, in its whole length.
func (s *steadyStorage) GetBlob(ctx context.Context, id blob.ID, offset, length int64, output blob.OutputBuffer) error {
	read := func(ctx context.Context, into blob.OutputBuffer) error {
		err := s.Storage.GetBlob(ctx, id, offset, length, into)
		if err == nil && length >= 0 && int64(into.Length()) != length {
			err = fmt.Errorf("%w: %d bytes of %v instead of %d", errTorn, into.Length(), id, length)
		}
		return err
	}
	if own, ok := output.(*rangeBuffer); ok {
		memory := make(chan []byte, 1) // of the first attempt, which keeps it when it is left behind
		memory <- own.b
		own.b = nil
		got, err := result(ctx, s.patience, func(ctx context.Context) (rangeBuffer, error) {
			mine := rangeBuffer{want: own.want}
			select {
			case mine.b = <-memory:
			default:
				mine.b = make([]byte, 0, own.want)
			}
			err := read(ctx, &mine)
			return mine, err
		})
		own.b = got.b
		return markStorage(err)
	}
	got, err := result(ctx, s.patience, func(ctx context.Context) (*looseBuffer, error) {
		mine := new(looseBuffer)
		return mine, read(ctx, mine)
	})
	if err != nil {
		return markStorage(err)
	}
	output.Reset()
	_, err = got.WriteTo(output)
	return err
}

// A looseBuffer takes whatever comes.
type looseBuffer struct{ bytes.Buffer }

// Length is what a storage asks of a buffer.
func (b *looseBuffer) Length() int { return b.Len() }

// GetMetadata tells a blob's length and age.
func (s *steadyStorage) GetMetadata(ctx context.Context, id blob.ID) (blob.Metadata, error) {
	m, err := result(ctx, s.patience, func(ctx context.Context) (blob.Metadata, error) { return s.Storage.GetMetadata(ctx, id) })
	return m, markStorage(err)
}

// DeleteBlob removes a blob.
func (s *steadyStorage) DeleteBlob(ctx context.Context, id blob.ID) error {
	s.mu.Lock()
	delete(s.known, id)
	s.mu.Unlock()
	return markStorage(s.patience.run(ctx, func(ctx context.Context) error { return s.Storage.DeleteBlob(ctx, id) }))
}

// ListBlobs calls each for all blobs whose names begin with prefix, once the listing is known to be whole.
func (s *steadyStorage) ListBlobs(ctx context.Context, prefix blob.ID, each func(blob.Metadata) error) error {
	all, err := result(ctx, s.patience, func(ctx context.Context) ([]blob.Metadata, error) { return s.list(ctx, prefix) })
	if err != nil {
		err = markStorage(fmt.Errorf("listing blobs %v: %w", prefix, err))
		giveUp(ctx, err)
		return err
	}
	for _, m := range all {
		if err := each(m); err != nil {
			return err
		}
	}
	return nil
}

// errPartial says that a listing leaves something out.
var errPartial = errors.New("the listing leaves out blobs that are there")

func (s *steadyStorage) list(ctx context.Context, prefix blob.ID) (all []blob.Metadata, err error) {
	s.mu.Lock()
	missing := maps.Clone(s.known)
	s.mu.Unlock()
	var listed []blob.ID
	err = s.Storage.ListBlobs(ctx, prefix, func(m blob.Metadata) error {
		all = append(all, m)
		delete(missing, m.BlobID)
		if inIndex(m.BlobID) {
			listed = append(listed, m.BlobID)
		}
		return ctx.Err()
	})
	if err == nil {
		err = context.Cause(ctx) // some storages end a listing with their context, and say nothing
	}
	if err != nil {
		return nil, err
	}
	for id := range missing {
		if !strings.HasPrefix(string(id), string(prefix)) {
			continue
		}
		_, err := s.Storage.GetMetadata(ctx, id)
		if err == nil {
			return nil, fmt.Errorf("%w: %v", errPartial, id)
		}
		if !errors.Is(err, blob.ErrBlobNotFound) {
			return nil, err
		}
		s.forget(id)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range listed {
		s.known[id] = struct{}{}
	}
	return all, nil
}

// forget lets go of a blob that another process has removed.
func (s *steadyStorage) forget(id blob.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.known, id)
}

// A watch knows what was put while it lasted.
type watch struct {
	st  *steadyStorage
	put []blob.Metadata // guarded by st.mu
}

func (s *steadyStorage) watch() *watch {
	w := &watch{st: s}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watches[w] = struct{}{}
	return w
}

func (w *watch) end() {
	w.st.mu.Lock()
	defer w.st.mu.Unlock()
	delete(w.st.watches, w)
}

// lost returns the packs that were put and are not there any more in their whole length. Maintenance removes none so young.
func (w *watch) lost(ctx context.Context) (lost []blob.ID, err error) {
	w.st.mu.Lock()
	put := w.put[:len(w.put):len(w.put)]
	w.st.mu.Unlock()
	unseen := map[blob.ID]int64{}
	for _, m := range put {
		if isPack(m.BlobID) {
			unseen[m.BlobID] = m.Length
		}
	}
	const askable = 100 // beyond that a listing costs less
	for _, prefix := range []blob.ID{"p", "q"} {
		if len(unseen) <= askable {
			break
		}
		err := w.st.ListBlobs(ctx, prefix, func(m blob.Metadata) error {
			if length, ok := unseen[m.BlobID]; ok && length == m.Length {
				delete(unseen, m.BlobID)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(workers)
	for id, length := range unseen {
		group.Go(func() error {
			m, err := w.st.GetMetadata(ctx, id)
			if err != nil && !errors.Is(err, blob.ErrBlobNotFound) {
				return err
			}
			if err != nil || m.Length != length {
				mu.Lock()
				lost = append(lost, id)
				mu.Unlock()
			}
			return nil
		})
	}
	return lost, group.Wait()
}

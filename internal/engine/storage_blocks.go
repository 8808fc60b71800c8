package engine

import (
	"container/list"
	"context"
	"strings"
	"sync"
	"time"

	"github.com/kopia/kopia/repo/blob"
)

// A blockStorage reads the packs of directories in blocks, and keeps the latest. In a bucket each request takes as long as a megabyte, and
// directories, which are read one by one, lie beside each other in the order in which they were saved. File contents are read in wide
// ranges already (restore_packs.go).
type blockStorage struct {
	blob.Storage
	now func() time.Time

	mu     sync.Mutex
	blocks map[blockKey]*list.Element
	latest *list.List // of *packBlock, the one that was used last in front
}

type blockKey struct {
	id     blob.ID
	number int64
}

// A packBlock is read once, by whoever comes first.
type packBlock struct {
	key  blockKey
	read time.Time
	done chan struct{}
	data []byte // shorter than blockSize at the end of the pack
	err  error
}

// How much is kept: at most 16 MiB for each repository, and nothing for so long that a loss would stay hidden.
const (
	blockSize = 512 << 10
	maxBlocks = 32
	blockLife = time.Minute
)

func newBlockStorage(st blob.Storage) *blockStorage {
	return &blockStorage{Storage: st, now: time.Now, blocks: map[blockKey]*list.Element{}, latest: list.New()}
}

// GetBlob reads ranges of directories' packs that lie in one block or two from blocks.
func (s *blockStorage) GetBlob(ctx context.Context, id blob.ID, offset, length int64, out blob.OutputBuffer) error {
	if !strings.HasPrefix(string(id), "q") || offset < 0 || length <= 0 || length > blockSize {
		return s.Storage.GetBlob(ctx, id, offset, length, out)
	}
	out.Reset()
	for end := offset + length; offset < end; {
		data, err := s.block(ctx, blockKey{id, offset / blockSize})
		if err != nil {
			return err
		}
		from := offset % blockSize
		to := min(from+end-offset, blockSize)
		if to > int64(len(data)) {
			return blob.ErrInvalidRange
		}
		if _, err := out.Write(data[from:to]); err != nil {
			return err
		}
		offset += to - from
	}
	return nil
}

func (s *blockStorage) block(ctx context.Context, key blockKey) ([]byte, error) {
	s.mu.Lock()
	if e, ok := s.blocks[key]; ok {
		b := e.Value.(*packBlock)
		if s.now().Sub(b.read) < blockLife {
			s.latest.MoveToFront(e)
			s.mu.Unlock()
			select {
			case <-b.done:
				if b.err != nil { // which may be of the other's context
					return s.fetch(ctx, key)
				}
				return b.data, nil
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
		s.drop(e)
	}
	b := &packBlock{key: key, read: s.now(), done: make(chan struct{})}
	e := s.latest.PushFront(b)
	s.blocks[key] = e
	if s.latest.Len() > maxBlocks {
		s.drop(s.latest.Back())
	}
	s.mu.Unlock()
	b.data, b.err = s.fetch(ctx, key)
	close(b.done)
	if b.err != nil {
		s.mu.Lock()
		if s.blocks[key] == e {
			s.drop(e)
		}
		s.mu.Unlock()
	}
	return b.data, b.err
}

// drop forgets a block; s.mu is held.
func (s *blockStorage) drop(e *list.Element) {
	delete(s.blocks, s.latest.Remove(e).(*packBlock).key)
}

func (s *blockStorage) fetch(ctx context.Context, key blockKey) ([]byte, error) {
	m, err := s.Storage.GetMetadata(ctx, key.id)
	if err != nil {
		return nil, err
	}
	from := key.number * blockSize
	if from >= m.Length {
		return nil, blob.ErrInvalidRange
	}
	length := min(blockSize, m.Length-from)
	buf := exactBuffer(length)
	err = buf.fetch(ctx, s.Storage, key.id, from, length)
	return buf.b, err
}

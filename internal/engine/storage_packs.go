package engine

import (
	"container/list"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"

	"github.com/kopia/kopia/repo/blob"
)

// maxOpenPacks is how many packs a repository keeps open for reading. A tree's directory objects lie in few packs,
// and file content is read in the order of the packs.
const maxOpenPacks = 32

// An openPacks keeps the packs that were read latest open, because for small contents opening the file costs more
// than reading from it. Packs never change; one that is gone is not read any more, so that a loss is noticed at once.
type openPacks struct {
	mu     sync.Mutex
	files  map[blob.ID]*list.Element
	latest *list.List // of *openPack, the one that was used last in front
}

type openPack struct {
	id   blob.ID
	file *os.File
}

func newOpenPacks() *openPacks {
	return &openPacks{files: map[blob.ID]*list.Element{}, latest: list.New()}
}

// isPack tells packs from other blobs, which may be written anew under their names.
func isPack(id blob.ID) bool {
	return strings.HasPrefix(string(id), "p") || strings.HasPrefix(string(id), "q")
}

// get returns an open file, which another goroutine may close at any time: reading from it fails then.
func (p *openPacks) get(id blob.ID, path func() (string, error)) (*os.File, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e, ok := p.files[id]; ok {
		f := e.Value.(*openPack).file
		if info, err := f.Stat(); err == nil && info.Sys().(*syscall.Stat_t).Nlink > 0 {
			p.latest.MoveToFront(e)
			return f, nil
		}
		p.drop(e)
	}
	name, err := path()
	if err != nil {
		return nil, err
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	p.files[id] = p.latest.PushFront(&openPack{id, f})
	if p.latest.Len() > maxOpenPacks {
		p.drop(p.latest.Back())
	}
	return f, nil
}

// drop closes a pack; p.mu is held. os.File waits for who is reading from it.
func (p *openPacks) drop(e *list.Element) {
	pack := p.latest.Remove(e).(*openPack)
	delete(p.files, pack.id)
	pack.file.Close()
}

// forget closes a pack that is about to be removed.
func (p *openPacks) forget(id blob.ID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e, ok := p.files[id]; ok {
		p.drop(e)
	}
}

func (p *openPacks) closeAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.latest.Len() > 0 {
		p.drop(p.latest.Back())
	}
}

// GetBlob reads ranges of packs through kept descriptors. Whatever goes wrong with those, Kopia's own way decides.
func (s *fileStorage) GetBlob(ctx context.Context, id blob.ID, offset, length int64, output blob.OutputBuffer) error {
	if length > 0 && offset >= 0 && isPack(id) && ctx.Err() == nil {
		f, err := s.packs.get(id, func() (string, error) {
			_, path, err := s.paths.GetShardedPathAndFilePath(ctx, id)
			return path, err
		})
		if err == nil {
			output.Reset()
			n, err := io.Copy(output, io.NewSectionReader(f, offset, length))
			if err == nil && n == length {
				return nil
			}
			if info, serr := f.Stat(); err == nil && serr == nil && info.Size() < offset+length {
				return fmt.Errorf("%w: %v has %d bytes", blob.ErrInvalidRange, id, info.Size()) // which Kopia would try ten times
			}
			s.packs.forget(id)
		}
	}
	return s.Storage.GetBlob(ctx, id, offset, length, output)
}

// DeleteBlob removes a blob; a pack that stayed open would keep its space.
func (s *fileStorage) DeleteBlob(ctx context.Context, id blob.ID) error {
	s.packs.forget(id)
	return s.Storage.DeleteBlob(ctx, id)
}

// Close closes the storage and what it keeps open.
func (s *fileStorage) Close(ctx context.Context) error {
	s.packs.closeAll()
	return s.Storage.Close(ctx)
}

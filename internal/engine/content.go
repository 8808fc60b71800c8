package engine

import (
	"context"
	"sync"

	"github.com/kopia/kopia/repo/object"
	"golang.org/x/sync/errgroup"

	"abaca/internal/posix"
)

// readSize is how much of a large file is read at once.
const readSize = 1 << 20

// content stores what an open file, about which an entry tells, holds and returns its object and how many bytes that were. Holes are found and not
// read. Small files are one content; larger ones are cut into chunks, which are stored side by side.
func (s *saver) content(ctx context.Context, fd int, st *posix.Stat, about *entry) (object.ID, int64, error) {
	s.progress.opened.Add(1)
	if st.Size == 0 {
		return s.empty, 0, nil
	}
	sparse, err := posix.Sparse(fd, st.Size)
	if err != nil {
		return object.EmptyID, 0, err
	}
	if !sparse && st.Size < minChunk {
		return s.smallContent(ctx, fd, st.Size)
	}
	f := &fileReader{s: s, ctx: ctx, fd: fd, size: st.Size, about: *about, round: s.parts.round.Load()}
	defer f.group.Wait()                        // chunks that are still being stored use the buffers
	defer func() { s.progress.read(-f.read) }() // the whole size is counted once it is done
	defer s.parts.withdraw(fileID{about.scope, about.ino})
	if err := f.resume(); err != nil {
		return object.EmptyID, 0, err
	}
	if sparse {
		return f.sparse()
	}
	if err := f.data(f.end, st.Size); err != nil {
		return object.EmptyID, 0, err
	}
	return f.finish()
}

func (s *saver) smallContent(ctx context.Context, fd int, size int64) (object.ID, int64, error) {
	buf := s.smallBuffers.Get().(*[minChunk]byte)
	defer s.smallBuffers.Put(buf)
	n, err := posix.ReadAt(fd, buf[:size], 0)
	if err != nil {
		return object.EmptyID, 0, err
	}
	s.progress.took.Add(int64(n))
	id, err := s.w.put(ctx, "", buf[:n])
	return id, int64(n), err
}

// A fileReader turns one large or sparse file into an object.
type fileReader struct {
	s    *saver
	ctx  context.Context // of the one call that made it
	fd   int
	size int64

	about entry // without content
	read  int64 // bytes told to the meter
	round int64 // the checkpoint before which the beginning was published last

	pending []*pendingChunk // in the order of the file
	list    *indirect
	first   chunkRef
	count   int
	end     int64 // where the next chunk begins
	group   errgroup.Group
}

// A pendingChunk is being stored by a goroutine.
type pendingChunk struct {
	ref  chunkRef
	err  error
	done chan struct{}
}

// data reads a range without holes, cutting it into chunks.
func (f *fileReader) data(from, to int64) error {
	var tail []byte // what was read behind the end of the chunk before; less than readSize
	for at := from; at < to || len(tail) > 0; {
		buf, err := f.s.takeBuffer(f.ctx)
		if err != nil {
			return err
		}
		b := append(buf[:0], tail...)
		cut := cutter{gear: f.s.w.gear}
		n := cut.cut(b)
		for n == 0 && at < to {
			piece := b[len(b):min(len(b)+readSize, len(b)+int(min(to-at, readSize)), maxChunk)]
			m, err := posix.ReadAt(f.fd, piece, at)
			if err != nil {
				f.s.giveBuffer(buf)
				return err
			}
			if m < len(piece) {
				to = at + int64(m) // the file has become shorter
			}
			b, at = b[:len(b)+m], at+int64(m)
			f.progress(int64(m))
			f.s.progress.took.Add(int64(m))
			n = cut.cut(b)
		}
		if n == 0 {
			n = len(b) // the end of the range ends the chunk
		}
		tail = append(tail[:0], b[n:]...)
		if err := f.chunk(b[:n]); err != nil {
			return err
		}
	}
	return nil
}

func (f *fileReader) progress(n int64) {
	f.read += n
	f.s.progress.read(n)
}

// chunk stores b, a whole buffer that is given back when that is done, as the next chunk.
func (f *fileReader) chunk(b []byte) error {
	if len(b) == 0 {
		f.s.giveBuffer(b)
		return nil
	}
	p := &pendingChunk{ref: chunkRef{start: f.end, length: int64(len(b))}, done: make(chan struct{})}
	f.end += int64(len(b))
	f.pending = append(f.pending, p)
	f.group.Go(func() error {
		defer close(p.done)
		defer f.s.giveBuffer(b)
		p.ref.object, p.err = f.s.w.put(f.ctx, "", b)
		return nil
	})
	if now := f.s.parts.round.Load(); now != f.round {
		f.round = now
		return f.publish()
	}
	return f.collect(false)
}

// hole adds a range that takes no space.
func (f *fileReader) hole(length int64) error {
	for length > 0 {
		id, n, err := f.s.zeros.object(f.ctx, f.s.w, length, f.size)
		if err != nil {
			return err
		}
		done := make(chan struct{})
		close(done)
		f.pending = append(f.pending, &pendingChunk{ref: chunkRef{start: f.end, length: n, object: id, hole: true}, done: done})
		f.end += n
		length -= n
		if err := f.collect(false); err != nil {
			return err
		}
	}
	return nil
}

// collect moves stored chunks from the front of the queue to the list, waiting for all of them if asked to.
func (f *fileReader) collect(all bool) error {
	for len(f.pending) > 0 {
		p := f.pending[0]
		select {
		case <-p.done:
		default:
			if !all {
				return nil
			}
			<-p.done
		}
		f.pending = f.pending[1:]
		if p.err != nil {
			return p.err
		}
		if err := f.add(p.ref); err != nil {
			return err
		}
	}
	return nil
}

// add appends to the list. A file of one chunk needs none, unless that is a hole.
func (f *fileReader) add(ref chunkRef) error {
	f.count++
	if f.count == 1 && !ref.hole {
		f.first = ref
		return nil
	}
	if f.list == nil {
		f.list = f.s.w.newIndirect(f.ctx, "")
		if f.count > 1 {
			if err := f.list.add(f.first); err != nil {
				return err
			}
		}
	}
	return f.list.add(ref)
}

// finish waits for all chunks and returns the file's object and size.
func (f *fileReader) finish() (object.ID, int64, error) {
	if err := f.collect(true); err != nil {
		return object.EmptyID, 0, err
	}
	switch {
	case f.count == 0:
		return f.s.empty, 0, nil
	case f.list == nil:
		return f.first.object, f.end, nil
	}
	id, err := f.list.finish()
	return id, f.end, err
}

// sparse reads what is data and notes the holes in between.
func (f *fileReader) sparse() (object.ID, int64, error) {
	for f.end < f.size {
		start, end, err := posix.NextData(f.fd, f.end)
		if err != nil {
			return object.EmptyID, 0, err
		}
		start, end = min(start, f.size), min(end, f.size)
		if err := f.hole(start - f.end); err != nil {
			return object.EmptyID, 0, err
		}
		if start == end {
			break
		}
		if err := f.data(start, end); err != nil {
			return object.EmptyID, 0, err
		}
		if f.end < end {
			break // it has become shorter
		}
	}
	return f.finish()
}

// A zeroCache knows the objects that stand for holes with stock Kopia, which reads them as zeros.
type zeroCache struct {
	mu      sync.Mutex
	objects map[int64]object.ID
}

// Holes are listed in pieces, since stock Kopia holds one piece in memory. In files of enormous size, which cost a
// tenant nothing, the pieces grow, so that the list stays below about a million entries.
const (
	zeroPiece     = maxChunk
	zeroFan       = 128 // a larger piece consists of so many of the next smaller
	maxZeroPieces = 1 << 19
)

// object returns an object of zeros for the beginning of a hole, and its length.
func (z *zeroCache) object(ctx context.Context, w *writer, length, fileSize int64) (object.ID, int64, error) {
	piece := int64(zeroPiece)
	for fileSize/piece > maxZeroPieces {
		piece *= zeroFan
	}
	for piece > length && piece > zeroPiece {
		piece /= zeroFan
	}
	piece = min(piece, length)
	z.mu.Lock()
	defer z.mu.Unlock()
	id, err := z.make(ctx, w, piece)
	return id, piece, err
}

// make stores zeros; z.mu is held.
func (z *zeroCache) make(ctx context.Context, w *writer, length int64) (object.ID, error) {
	if id, ok := z.objects[length]; ok {
		return id, nil
	}
	id, err := z.store(ctx, w, length)
	if err == nil {
		if z.objects == nil || len(z.objects) > 1000 {
			z.objects = map[int64]object.ID{}
		}
		z.objects[length] = id
	}
	return id, err
}

func (z *zeroCache) store(ctx context.Context, w *writer, length int64) (object.ID, error) {
	if length <= zeroPiece {
		return w.put(ctx, "", make([]byte, length))
	}
	part, err := z.make(ctx, w, length/zeroFan)
	if err != nil {
		return object.EmptyID, err
	}
	list := w.newIndirect(ctx, "")
	for start := int64(0); start < length; start += length / zeroFan {
		if err := list.add(chunkRef{start: start, length: length / zeroFan, object: part, hole: true}); err != nil {
			return object.EmptyID, err
		}
	}
	return list.finish()
}

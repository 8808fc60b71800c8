package engine

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/compression"
	"github.com/kopia/kopia/repo/content"
	"github.com/kopia/kopia/repo/object"
)

// A writer stores objects in one write session of a repository.
type writer struct {
	session repo.DirectRepositoryWriter
	codec   compression.Name // of file content
	gear    *gear
	puts    atomic.Int64 // contents handed to Kopia since the session began
	stored  atomic.Int64 // bytes of blobs written
	renewal renewal
	watch   *watch
}

// put stores data of at most maxChunk bytes as one content. With a prefix it is Kopia's metadata, else file content.
func (w *writer) put(ctx context.Context, prefix string, data []byte) (object.ID, error) {
	options := object.WriterOptions{Splitter: wholeChunks, Compressor: w.codec, Prefix: content.IDPrefix(prefix)}
	if prefix != "" {
		options.Compressor = codecDense
	}
	w.puts.Add(1)
	store := func() (object.ID, error) {
		out := w.session.NewObjectWriter(ctx, options)
		defer out.Close()
		_, err := out.Write(data)
		if err != nil {
			return object.EmptyID, fmt.Errorf("storing a chunk: %w", err)
		}
		id, err := out.Result()
		return id, wrap("storing a chunk", err)
	}
	id, err := store()
	if c, _, ok := id.ContentID(); err == nil && ok && w.renewal.notes.has(c) {
		err = w.renew(ctx, c, store)
	}
	return id, err
}

// A stream writes an object of any length in chunks as content-defined as those of files, so that a large directory
// of which little has changed costs little. It holds one chunk.
type stream struct {
	ctx    context.Context // the save's; a stream never outlives it
	w      *writer
	prefix string
	buf    []byte
	cutter cutter
	list   *indirect // nil until there is a second chunk
	first  chunkRef
	end    int64
}

func (w *writer) newStream(ctx context.Context, prefix string) *stream {
	return &stream{ctx: ctx, w: w, prefix: prefix, cutter: cutter{gear: w.gear}}
}

func (s *stream) Write(p []byte) (int, error) {
	s.buf = append(s.buf, p...)
	for {
		n := s.cutter.cut(s.buf)
		if n == 0 {
			return len(p), nil
		}
		if err := s.flush(n); err != nil {
			return 0, err
		}
	}
}

// flush stores the first n bytes of the buffer as a chunk.
func (s *stream) flush(n int) error {
	id, err := s.w.put(s.ctx, s.prefix, s.buf[:n])
	if err != nil {
		return err
	}
	ref := chunkRef{start: s.end, length: int64(n), object: id}
	s.end += int64(n)
	s.buf = append(s.buf[:0], s.buf[n:]...)
	if ref.start == 0 {
		s.first = ref
		return nil
	}
	if s.list == nil {
		s.list = s.w.newIndirect(s.ctx, s.prefix)
		if err := s.list.add(s.first); err != nil {
			return err
		}
	}
	return s.list.add(ref)
}

// finish stores what is left and returns the object.
func (s *stream) finish() (object.ID, error) {
	if len(s.buf) > 0 || s.end == 0 {
		if err := s.flush(len(s.buf)); err != nil {
			return object.EmptyID, err
		}
	}
	if s.list == nil {
		return s.first.object, nil
	}
	return s.list.finish()
}

// An indirect writes the list of an object's chunks, which is an object itself.
type indirect struct {
	out   *stream
	buf   []byte
	count int
}

// newIndirect begins a list. prefix is the listed object's, since Kopia tells directories by it; file content has none.
func (w *writer) newIndirect(ctx context.Context, prefix string) *indirect {
	if prefix == "" {
		prefix = prefixIndirect
	}
	return &indirect{out: w.newStream(ctx, prefix), buf: []byte(`{"stream":"` + streamIndirect + `","entries":[`)}
}

// add appends a chunk, which must begin where the one before ended.
func (x *indirect) add(ref chunkRef) error {
	if x.count > 0 {
		x.buf = append(x.buf, ',')
	}
	x.count++
	x.buf = append(x.buf, "\n{"...)
	if ref.start != 0 {
		x.buf = append(x.buf, `"s":`...)
		x.buf = strconv.AppendInt(x.buf, ref.start, 10)
		x.buf = append(x.buf, ',')
	}
	x.buf = append(x.buf, `"l":`...)
	x.buf = strconv.AppendInt(x.buf, ref.length, 10)
	x.buf = append(x.buf, `,"o":"`...)
	x.buf = ref.object.Append(x.buf)
	x.buf = append(x.buf, '"')
	if ref.hole {
		x.buf = append(x.buf, `,"h":1`...)
	}
	x.buf = append(x.buf, '}')
	if len(x.buf) < encodeBatch {
		return nil
	}
	return x.flush()
}

func (x *indirect) flush() error {
	_, err := x.out.Write(x.buf)
	x.buf = x.buf[:0]
	return err
}

func (x *indirect) finish() (object.ID, error) {
	x.buf = append(x.buf, "\n]}\n"...)
	if err := x.flush(); err != nil {
		return object.EmptyID, err
	}
	id, err := x.out.finish()
	if err != nil {
		return object.EmptyID, err
	}
	return object.ParseID("I" + id.String())
}

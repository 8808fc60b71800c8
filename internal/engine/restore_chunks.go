package engine

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/kopia/kopia/repo/content"
	"github.com/kopia/kopia/repo/object"
)

// A chunk is a range of a file and what is kept for it.
type chunk struct {
	start, length int64
	id            content.ID // of nothing, for a hole
	hole          bool
}

// A source reads a repository as Kopia does; a Kopia repository is one.
type source interface {
	OpenObject(ctx context.Context, id object.ID) (object.Reader, error)
	ContentInfo(ctx context.Context, id content.ID) (content.Info, error)
}

// direct reports whether the whole content of a file is one chunk, or empty.
func (e *entry) direct() bool {
	_, _, ok := e.object.ContentID()
	return ok
}

// chunksOf calls yield for the chunks of a file in their order. Lists of any length are read in bounded memory.
func chunksOf(ctx context.Context, src source, e *entry, yield func(chunk) error) error {
	if e.size == 0 {
		return nil
	}
	next := int64(0)
	err := eachChunkOf(ctx, src, e.object, 0, chunk{length: e.size}, func(c chunk) error {
		if c.start != next || c.length <= 0 || c.length > e.size-next {
			return fmt.Errorf("%w: chunk list %v leaves gaps", errDamaged, e.object)
		}
		next += c.length
		return yield(c)
	})
	if err == nil && next != e.size {
		err = fmt.Errorf("%w: chunk list %v ends at %d of %d bytes", errDamaged, e.object, next, e.size)
	}
	return err
}

// maxLists is how deep lists of chunks may stand in each other; here they never do, but Kopia can write them.
const maxLists = 16

// eachChunkOf yields the chunks of one object that stands at the range of whole, in lists as many as depth.
func eachChunkOf(ctx context.Context, src source, id object.ID, depth int, whole chunk, yield func(chunk) error) error {
	if cid, compressed, ok := id.ContentID(); ok {
		if compressed {
			return fmt.Errorf("%w: object %v has a form that is not written here", errDamaged, id)
		}
		whole.id = cid
		return yield(whole)
	}
	list, ok := id.IndexObjectID()
	if !ok || depth == maxLists {
		return fmt.Errorf("%w: object %v has an unknown form", errDamaged, id)
	}
	reader, err := src.OpenObject(ctx, list)
	if err != nil {
		return fmt.Errorf("%w: open chunk list %v: %w", errDamaged, list, err)
	}
	defer reader.Close()
	decoder := chunkDecoder{lines: lineReader{r: bufio.NewReaderSize(reader, 16<<10)}}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		ref, err := decoder.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: chunk list %v: %w", errDamaged, list, err)
		}
		part := chunk{start: whole.start + ref.start, length: ref.length, hole: ref.hole}
		if ref.hole {
			err = yield(part)
		} else {
			err = eachChunkOf(ctx, src, ref.object, depth+1, part, yield)
		}
		if err != nil {
			return err
		}
	}
}

// A chunkDecoder reads an indirect object, which stands on lines as format.go says.
type chunkDecoder struct {
	lines lineReader
	begun bool
}

// next returns io.EOF behind the last entry.
func (d *chunkDecoder) next() (ref chunkRef, err error) {
	if !d.begun {
		line, err := d.lines.next()
		if err != nil {
			return ref, err
		}
		if string(line) != `{"stream":"`+streamIndirect+`","entries":[` {
			return ref, malformed("unknown first line")
		}
		d.begun = true
	}
	line, err := d.lines.next()
	if err != nil {
		return ref, err
	}
	if bytes.HasPrefix(line, []byte("]")) {
		return ref, io.EOF
	}
	p := parser{b: bytes.TrimSuffix(line, []byte(","))}
	p.object(func(key []byte) {
		switch string(key) {
		case "s":
			ref.start = p.int()
		case "l":
			ref.length = p.int()
		case "o":
			ref.object = p.objectID()
		case "h":
			ref.hole = p.int() != 0
		default:
			p.skip(0)
		}
	})
	p.end()
	if p.err == nil && ref.object == object.EmptyID {
		p.fail("a chunk has no object")
	}
	return ref, p.err
}

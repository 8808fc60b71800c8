package engine

import (
	"bufio"
	"bytes"
	"io"

	"github.com/kopia/kopia/repo/object"
)

// An indirectDecoder reads the list of an object's chunks without holding more than one of them.
type indirectDecoder struct {
	lines lineReader
	state decodeState
	end   int64
}

// newIndirectDecoder reads the header. The caller closes r when it is done with the decoder.
func newIndirectDecoder(r io.Reader) (*indirectDecoder, error) {
	d := &indirectDecoder{lines: lineReader{r: bufio.NewReaderSize(r, 16<<10)}}
	line, err := d.lines.next()
	if err != nil {
		return nil, err
	}
	if string(line) != `{"stream":"`+streamIndirect+`","entries":[` {
		return nil, malformed("unknown first line of a list of chunks")
	}
	return d, nil
}

// next returns one chunk, or io.EOF behind the last.
func (d *indirectDecoder) next() (ref chunkRef, err error) {
	if d.state == atEnd {
		return chunkRef{}, io.EOF
	}
	line, err := d.lines.next()
	if err != nil {
		return chunkRef{}, err
	}
	if string(line) == "]}" {
		d.state = atEnd
		return chunkRef{}, io.EOF
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
	if p.err == nil && (ref.start != d.end || ref.length < 0 || ref.object == object.EmptyID) {
		p.fail("a chunk of %d bytes at %d where %d was expected", ref.length, ref.start, d.end)
	}
	d.end = ref.start + ref.length
	d.state = atNext
	return ref, p.err
}

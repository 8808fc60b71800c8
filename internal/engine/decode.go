package engine

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"strings"

	"github.com/kopia/kopia/repo/object"

	"abaca/internal/posix"
)

// maxLine bounds the memory that one entry can take; extended attributes make it longer than a name.
const maxLine = 64 << 20

// A dirDecoder reads the entries of one directory object, in order, without holding more than one of them.
type dirDecoder struct {
	header header
	totals totals // of the whole directory; valid once next has returned io.EOF

	// expected is a name that probably comes next; an entry of that name shares its memory.
	expected string

	lines lineReader
	last  string
	state decodeState
}

type decodeState byte

const (
	atFirst decodeState = iota
	atNext
	atEnd
)

// newDirDecoder reads the header. The caller closes r when it is done with the decoder.
func newDirDecoder(r io.Reader) (*dirDecoder, error) {
	size := 64 << 10
	if o, ok := r.(object.Reader); ok {
		size = int(min(int64(size), o.Length())) // most directories are small
	}
	d := &dirDecoder{lines: lineReader{r: bufio.NewReaderSize(r, size)}}
	line, err := d.lines.next()
	if err != nil {
		return nil, err
	}
	const before, after = `{"stream":"` + streamDirectory + `","abaca":`, `,"entries":[`
	extra, ok := bytes.CutPrefix(line, []byte(before))
	if ok {
		extra, ok = bytes.CutSuffix(extra, []byte(after))
	}
	if !ok {
		return nil, malformed("unknown first line")
	}
	p := parser{b: extra}
	p.object(func(key []byte) {
		switch string(key) {
		case "v":
			d.header.version = int(p.int())
		case "self":
			d.header.self = new(entry)
			p.entry(d.header.self)
		default:
			p.skip(0)
		}
	})
	p.end()
	if p.err == nil && (d.header.version < 1 || d.header.version > formatVersion) {
		p.fail("version %d is not known", d.header.version)
	}
	return d, p.err
}

// next reads one entry into e, overwriting all of it, and returns io.EOF behind the last.
func (d *dirDecoder) next(e *entry) error {
	if d.state == atEnd {
		return io.EOF
	}
	line, err := d.lines.next()
	if err != nil {
		return err
	}
	if rest, ok := bytes.CutPrefix(line, []byte(`],"summary":`)); ok {
		return d.end(rest)
	}
	line = bytes.TrimSuffix(line, []byte(","))
	p := parser{b: line, expected: d.expected}
	*e = entry{}
	p.entry(e)
	p.end()
	if p.err == nil && !validName(e.name) {
		p.fail("bad name %q", e.name)
	}
	if p.err == nil && d.state != atFirst && e.name <= d.last {
		p.fail("%q stands behind %q", e.name, d.last)
	}
	d.state, d.last = atNext, e.name
	return p.err
}

func (d *dirDecoder) end(line []byte) error {
	line, ok := bytes.CutSuffix(line, []byte("}"))
	if !ok {
		return malformed("the last line is incomplete")
	}
	p := parser{b: line}
	p.totals(&d.totals)
	p.end()
	if p.err != nil {
		return p.err
	}
	d.state = atEnd
	return io.EOF
}

// validName reports whether name can be a directory entry. A restore relies on it to stay where it is.
func validName(name string) bool {
	return name != "" && name != "." && name != ".." && len(name) <= 255 && !strings.ContainsAny(name, "/\x00")
}

// entry reads the object that appendEntry writes.
func (p *parser) entry(e *entry) {
	var exact *posix.Time
	var obj bool
	e.nlink = 1
	p.object(func(key []byte) {
		switch string(key) {
		case "name":
			if s := p.string(); e.name == "" && string(s) == p.expected {
				e.name = p.expected
			} else if e.name == "" {
				e.name = string(s)
			}
		case "type":
			if s := p.string(); len(s) != 1 {
				p.fail("type %q", s)
			} else if e.kind == 0 {
				e.kind = kind(s[0])
			}
		case "mode":
			e.mode = p.mode()
		case "size":
			e.size = p.int()
		case "mtime":
			e.mtime = p.time()
		case "uid":
			e.uid = uint32(p.bounded(1<<32 - 1))
		case "gid":
			e.gid = uint32(p.bounded(1<<32 - 1))
		case "obj":
			e.object, obj = p.objectID(), true
		case "abaca":
			exact = p.extra(e)
		case "summ":
			p.totals(&e.totals)
		default:
			p.skip(0)
		}
	})
	if exact != nil {
		e.mtime = *exact
	}
	p.check(e, obj)
}

func (p *parser) check(e *entry, obj bool) {
	switch {
	case p.err != nil:
	case !strings.ContainsRune("fdspScb", rune(e.kind)) || e.kind == 0:
		p.fail("type %q of %q", e.kind, e.name)
	case !obj || e.object == object.EmptyID:
		p.fail("%q has no object", e.name)
	case e.size < 0:
		p.fail("negative size of %q", e.name)
	}
}

// extra reads the member "abaca" of an entry. It returns the true mtime where Kopia's is clamped.
func (p *parser) extra(e *entry) (exact *posix.Time) {
	p.object(func(key []byte) {
		switch string(key) {
		case "i":
			e.ino = p.uint()
		case "c":
			e.ctime = p.timespec()
		case "n":
			e.name = string(p.base64())
		case "t":
			if s := p.string(); len(s) != 1 {
				p.fail("type %q", s)
			} else {
				e.kind = kind(s[0])
			}
		case "w":
			t := p.timespec()
			exact = &t
		case "l":
			e.nlink = uint32(p.bounded(1<<32 - 1))
		case "d":
			e.scope = p.uint()
		case "r":
			p.expect('[')
			e.major = uint32(p.bounded(1<<32 - 1))
			p.expect(',')
			e.minor = uint32(p.bounded(1<<32 - 1))
			p.expect(']')
		case "s":
			e.target = string(p.base64())
		case "x":
			e.xattrs = p.xattrs()
		case "f":
			e.flags = uint8(p.bounded(255))
		case "m":
			e.mark = mark(p.bounded(255))
		default:
			p.skip(0)
		}
	})
	return exact
}

func (p *parser) xattrs() (xs []posix.Attr) {
	p.array(func() {
		x := posix.Attr{Name: string(p.base64())}
		p.expect(',')
		x.Value = bytes.Clone(p.base64())
		xs = append(xs, x)
	})
	return xs
}

func (p *parser) totals(t *totals) {
	p.object(func(key []byte) {
		switch string(key) {
		case "size":
			t.bytes = p.int()
		case "files":
			t.files = p.int()
		case "symlinks":
			t.symlinks = p.int()
		case "dirs":
			t.dirs = p.int()
		case "numIgnoredErrors":
			t.marked = p.int()
		default:
			p.skip(0)
		}
	})
}

func (p *parser) timespec() (t posix.Time) {
	p.expect('[')
	t.Sec = p.int()
	p.expect(',')
	t.Nsec = uint32(p.bounded(999_999_999))
	p.expect(']')
	return t
}

func (p *parser) mode() uint16 {
	var m os.FileMode
	for _, c := range p.string() {
		if c < '0' || c > '7' || m>>28 != 0 {
			p.fail("mode")
			return 0
		}
		m = m<<3 | os.FileMode(c-'0')
	}
	return unixMode(m)
}

func (p *parser) objectID() object.ID {
	s := p.string()
	if p.err != nil {
		return object.EmptyID
	}
	id, err := object.ParseID(string(s))
	if err != nil {
		p.fail("object %q", s)
	}
	return id
}

// A lineReader hands out lines, however long within reason, without their line break.
type lineReader struct {
	r    *bufio.Reader
	long []byte
}

// next returns a line that is valid until the following call. An end without a line break is an error.
func (l *lineReader) next() ([]byte, error) {
	line, err := l.r.ReadSlice('\n')
	if err == nil {
		return line[:len(line)-1], nil
	}
	l.long = l.long[:0]
	for errors.Is(err, bufio.ErrBufferFull) {
		l.long = append(l.long, line...)
		if len(l.long) > maxLine {
			return nil, malformed("a line of more than %d bytes", maxLine)
		}
		line, err = l.r.ReadSlice('\n')
	}
	if errors.Is(err, io.EOF) {
		return nil, malformed("the object ends too early")
	}
	if err != nil {
		return nil, err
	}
	l.long = append(l.long, line...)
	return l.long[:len(l.long)-1], nil
}

package engine

import (
	"bytes"
	"encoding/base64"
	"unicode/utf16"
	"unicode/utf8"
)

// A parser reads JSON from one line. It is written by hand because a directory of a million entries is read for
// every backup: it allocates nothing for what is not kept, and the first failure makes all later calls do nothing.
type parser struct {
	b   []byte
	i   int
	err error
	tmp []byte // the latest string that had escapes

	expected string // see dirDecoder
}

func (p *parser) fail(format string, args ...any) {
	if p.err == nil {
		p.err = malformed(format, args...)
	}
	p.i = len(p.b)
}

func (p *parser) peek() byte {
	if p.i < len(p.b) {
		return p.b[p.i]
	}
	return 0
}

func (p *parser) expect(c byte) {
	if p.peek() != c || p.i >= len(p.b) {
		p.fail("%q is missing", c)
		return
	}
	p.i++
}

// end fails unless all has been read.
func (p *parser) end() {
	if p.err == nil && p.i != len(p.b) {
		p.fail("something follows the value")
	}
}

// object calls member for every key; member must read the value. The key is valid until then.
func (p *parser) object(member func(key []byte)) {
	p.expect('{')
	if p.peek() == '}' {
		p.i++
		return
	}
	for p.err == nil {
		key := p.string()
		p.expect(':')
		if p.err != nil {
			return
		}
		member(key)
		if p.peek() == '}' {
			p.i++
			return
		}
		p.expect(',')
	}
}

// array calls element for every element; element must read it.
func (p *parser) array(element func()) {
	p.expect('[')
	if p.peek() == ']' {
		p.i++
		return
	}
	for p.err == nil {
		element()
		if p.peek() == ']' {
			p.i++
			return
		}
		p.expect(',')
	}
}

// string reads a string, which is valid until the next one is read.
func (p *parser) string() []byte {
	p.expect('"')
	rest := p.b[p.i:]
	for n, c := range rest { // most strings are too short for bytes.IndexByte to pay
		if c == '"' {
			p.i += n + 1
			return rest[:n]
		}
		if c == '\\' {
			return p.escaped()
		}
	}
	p.fail("a string does not end")
	return nil
}

func (p *parser) escaped() []byte {
	p.tmp = p.tmp[:0]
	for p.i < len(p.b) {
		c := p.b[p.i]
		p.i++
		switch c {
		case '"':
			return p.tmp
		case '\\':
			p.escape()
		default:
			p.tmp = append(p.tmp, c)
		}
	}
	p.fail("a string does not end")
	return nil
}

func (p *parser) escape() {
	c := p.peek()
	p.i++
	switch c {
	case '"', '\\', '/':
		p.tmp = append(p.tmp, c)
	case 'b':
		p.tmp = append(p.tmp, '\b')
	case 'f':
		p.tmp = append(p.tmp, '\f')
	case 'n':
		p.tmp = append(p.tmp, '\n')
	case 'r':
		p.tmp = append(p.tmp, '\r')
	case 't':
		p.tmp = append(p.tmp, '\t')
	case 'u':
		r := p.hex4()
		if utf16.IsSurrogate(r) && p.peek() == '\\' {
			p.i++
			p.expect('u')
			r = utf16.DecodeRune(r, p.hex4())
		}
		p.tmp = utf8.AppendRune(p.tmp, r)
	default:
		p.fail("unknown escape")
	}
}

func (p *parser) hex4() (r rune) {
	for range 4 {
		c := p.peek()
		p.i++
		switch {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c >= 'a' && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case c >= 'A' && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			p.fail("bad escape")
			return 0
		}
	}
	return r
}

// base64 reads a string of base64 without padding; the bytes are valid until the next string is read.
func (p *parser) base64() []byte {
	s := p.string()
	if p.err != nil {
		return nil
	}
	b, err := base64.RawStdEncoding.AppendDecode(make([]byte, 0, len(s)), s)
	if err != nil {
		p.fail("base64: %v", err)
	}
	return b
}

func (p *parser) uint() (v uint64) {
	start := p.i
	for ; p.i < len(p.b); p.i++ {
		c := p.b[p.i] - '0'
		if c > 9 {
			break
		}
		if v > (1<<64-1-uint64(c))/10 {
			p.fail("a number is too large")
			return 0
		}
		v = v*10 + uint64(c)
	}
	if p.i == start {
		p.fail("a number is missing")
	}
	return v
}

func (p *parser) bounded(limit uint64) uint64 {
	v := p.uint()
	if v > limit {
		p.fail("%d is larger than %d", v, limit)
	}
	return v
}

func (p *parser) int() int64 {
	if p.peek() == '-' && p.err == nil {
		p.i++
		return -int64(p.bounded(1<<63 - 1))
	}
	return int64(p.bounded(1<<63 - 1))
}

// maxDepth bounds the nesting of members that a later version may have added.
const maxDepth = 32

// skip reads a value of any type.
func (p *parser) skip(depth int) {
	if depth > maxDepth {
		p.fail("nested too deeply")
		return
	}
	switch p.peek() {
	case '{':
		p.object(func([]byte) { p.skip(depth + 1) })
	case '[':
		p.array(func() { p.skip(depth + 1) })
	case '"':
		p.string()
	default:
		start := p.i
		for p.i < len(p.b) && !bytes.ContainsRune([]byte(",]}"), rune(p.b[p.i])) {
			p.i++
		}
		if p.i == start {
			p.fail("a value is missing")
		}
	}
}

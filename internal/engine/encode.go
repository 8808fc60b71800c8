package engine

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/kopia/kopia/fs"

	"abaca/internal/posix"
)

// A dirEncoder writes one directory object. It leaves counting to the caller's totals, and order and uniqueness of names too.
type dirEncoder struct {
	w     io.Writer
	buf   []byte
	count int64
}

// encodeBatch is how many bytes are gathered before they are handed on.
const encodeBatch = 64 << 10

func newDirEncoder(w io.Writer, h header) *dirEncoder {
	d := &dirEncoder{w: w, buf: make([]byte, 0, encodeBatch+4096)}
	d.buf = append(d.buf, `{"stream":"`+streamDirectory+`","abaca":{"v":`...)
	d.buf = strconv.AppendInt(d.buf, formatVersion, 10)
	if h.self != nil {
		d.buf = append(d.buf, `,"self":`...)
		d.buf = appendEntry(d.buf, h.self)
	}
	d.buf = append(d.buf, "},\"entries\":["...)
	return d
}

// add writes one entry, which must sort behind all before it.
func (d *dirEncoder) add(e *entry) error {
	if d.count > 0 {
		d.buf = append(d.buf, ',')
	}
	d.count++
	d.buf = append(d.buf, '\n')
	d.buf = appendEntry(d.buf, e)
	if len(d.buf) < encodeBatch {
		return nil
	}
	return d.flush()
}

// close writes what follows the entries; mtime is the directory's own.
func (d *dirEncoder) close(t totals, mtime posix.Time) error {
	d.buf = append(d.buf, "\n],\"summary\":"...)
	d.buf = appendSummary(d.buf, t, mtime)
	d.buf = append(d.buf, "}\n"...)
	return d.flush()
}

func (d *dirEncoder) flush() error {
	_, err := d.w.Write(d.buf)
	d.buf = d.buf[:0]
	return err
}

// appendEntry writes e as one JSON object without a line break.
func appendEntry(b []byte, e *entry) []byte {
	name, mangled := stockName(e.name)
	b = append(b, `{"name":`...)
	b = appendString(b, name)
	b = append(b, `,"type":"`...)
	if e.kind.special() {
		b = append(b, byte(kindFile))
	} else {
		b = append(b, byte(e.kind))
	}
	b = append(b, '"')
	if m := goMode(e.mode); m != 0 {
		b = append(b, `,"mode":"0`...)
		b = strconv.AppendUint(b, uint64(m), 8)
		b = append(b, '"')
	}
	b = appendField(b, `,"size":`, e.size)
	b = append(b, `,"mtime":"`...)
	b, exact := appendTime(b, e.mtime)
	b = append(b, '"')
	b = appendField(b, `,"uid":`, int64(e.uid))
	b = appendField(b, `,"gid":`, int64(e.gid))
	b = append(b, `,"obj":"`...)
	b = e.object.Append(b)
	b = append(b, `","abaca":`...)
	b = appendExtra(b, e, mangled, exact)
	if e.kind == kindDir {
		b = append(b, `,"summ":`...)
		b = appendSummary(b, e.totals, e.mtime)
	}
	return append(b, '}')
}

// appendExtra writes what Kopia has no words for.
func appendExtra(b []byte, e *entry, mangled, exact bool) []byte {
	b = append(b, `{"i":`...)
	b = strconv.AppendUint(b, e.ino, 10)
	b = append(b, `,"c":`...)
	b = appendTimespec(b, e.ctime)
	if mangled {
		b = append(b, `,"n":`...)
		b = appendBase64(b, []byte(e.name))
	}
	if e.kind.special() {
		b = append(b, `,"t":"`...)
		b = append(b, byte(e.kind), '"')
	}
	if !exact {
		b = append(b, `,"w":`...)
		b = appendTimespec(b, e.mtime)
	}
	if e.nlink > 1 && e.kind != kindDir {
		b = appendField(b, `,"l":`, int64(e.nlink))
	}
	if e.scope != 0 {
		b = append(b, `,"d":`...)
		b = strconv.AppendUint(b, e.scope, 10)
	}
	if e.kind == kindChar || e.kind == kindBlock {
		b = append(b, `,"r":[`...)
		b = strconv.AppendUint(b, uint64(e.major), 10)
		b = append(b, ',')
		b = strconv.AppendUint(b, uint64(e.minor), 10)
		b = append(b, ']')
	}
	if e.kind == kindSymlink {
		b = append(b, `,"s":`...)
		b = appendBase64(b, []byte(e.target))
	}
	if len(e.xattrs) > 0 {
		b = append(b, `,"x":`...)
		b = appendXattrs(b, e.xattrs)
	}
	b = appendField(b, `,"f":`, int64(e.flags))
	b = appendField(b, `,"m":`, int64(e.mark))
	return append(b, '}')
}

func appendXattrs(b []byte, xs []posix.Attr) []byte {
	for i, x := range xs {
		b = append(b, "[,"[min(i, 1)])
		b = appendBase64(b, []byte(x.Name))
		b = append(b, ',')
		b = appendBase64(b, x.Value)
	}
	return append(b, ']')
}

// appendSummary writes Kopia's directory summary. "numFailed" must be there for stock Kopia; what is marked is
// counted as "ignored" errors, since a snapshot with failed entries is shown as broken.
func appendSummary(b []byte, t totals, mtime posix.Time) []byte {
	b = append(b, `{"size":`...)
	b = strconv.AppendInt(b, t.bytes, 10)
	b = append(b, `,"files":`...)
	b = strconv.AppendInt(b, t.files, 10)
	b = append(b, `,"symlinks":`...)
	b = strconv.AppendInt(b, t.symlinks, 10)
	b = append(b, `,"dirs":`...)
	b = strconv.AppendInt(b, t.dirs, 10)
	b = append(b, `,"maxTime":"`...)
	b, _ = appendTime(b, mtime)
	b = append(b, `","numFailed":0`...)
	b = appendField(b, `,"numIgnoredErrors":`, t.marked)
	return append(b, '}')
}

// appendField writes a number with its key, or nothing for 0.
func appendField(b []byte, key string, v int64) []byte {
	if v == 0 {
		return b
	}
	return strconv.AppendInt(append(b, key...), v, 10)
}

func appendTimespec(b []byte, t posix.Time) []byte {
	b = append(b, '[')
	b = strconv.AppendInt(b, t.Sec, 10)
	b = append(b, ',')
	b = strconv.AppendUint(b, uint64(t.Nsec), 10)
	return append(b, ']')
}

func appendBase64(b, raw []byte) []byte {
	b = append(b, '"')
	b = base64.RawStdEncoding.AppendEncode(b, raw)
	return append(b, '"')
}

// Kopia keeps times as nanoseconds since 1970 in an int64; a time outside of that is shown to it as the nearest it knows.
const (
	minStockSecond = -1<<63/1_000_000_000 + 1
	maxStockSecond = (1<<63-1)/1_000_000_000 - 1
)

// appendTime writes t as RFC 3339 in UTC; exact is false where it had to be clamped.
func appendTime(b []byte, t posix.Time) (_ []byte, exact bool) {
	sec := min(max(t.Sec, minStockSecond), maxStockSecond)
	b = time.Unix(sec, int64(t.Nsec)).UTC().AppendFormat(b, time.RFC3339Nano)
	return b, sec == t.Sec
}

// appendString writes valid UTF-8 as a JSON string.
func appendString(b []byte, s string) []byte {
	const digits = "0123456789abcdef"
	b = append(b, '"')
	from := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' {
			continue
		}
		b = append(b, s[from:i]...)
		from = i + 1
		if c == '"' || c == '\\' {
			b = append(b, '\\', c)
		} else {
			b = append(b, `\u00`...)
			b = append(b, digits[c>>4], digits[c&15])
		}
	}
	b = append(b, s[from:]...)
	return append(b, '"')
}

// mangledSuffix ends every mangled name. A name that ends with it in the source is mangled too, so that
// no two names of a directory can become one.
const mangledSuffix = ".abaca-name"

// stockName returns what stock Kopia is told instead of a name that it cannot handle: bytes that are no UTF-8.
// The stand-in is unique within the directory, readable, and no longer than 255 bytes, since an operator may
// have to restore it with the stock command.
func stockName(name string) (stock string, mangled bool) {
	if utf8.ValidString(name) && !strings.HasSuffix(name, mangledSuffix) {
		return name, false
	}
	readable := strings.ToValidUTF8(name, "_")
	for len(readable) > 160 {
		_, n := utf8.DecodeLastRuneInString(readable)
		readable = readable[:len(readable)-n]
	}
	sum := sha256.Sum256([]byte(name))
	return readable + "~" + hex.EncodeToString(sum[:16]) + mangledSuffix, true
}

// goMode turns permissions as in st_mode into those of os.FileMode, which is what Kopia keeps.
func goMode(mode uint16) os.FileMode {
	m := os.FileMode(mode & 0o777)
	if mode&0o4000 != 0 {
		m |= os.ModeSetuid
	}
	if mode&0o2000 != 0 {
		m |= os.ModeSetgid
	}
	if mode&0o1000 != 0 {
		m |= os.ModeSticky
	}
	return m
}

// unixMode is the inverse of goMode.
func unixMode(m os.FileMode) uint16 {
	mode := uint16(m & 0o777)
	if m&os.ModeSetuid != 0 {
		mode |= 0o4000
	}
	if m&os.ModeSetgid != 0 {
		mode |= 0o2000
	}
	if m&os.ModeSticky != 0 {
		mode |= 0o1000
	}
	return mode
}

// stockTime is what Kopia is told of a time; see minStockSecond.
func stockTime(t posix.Time) fs.UTCTimestamp {
	sec := min(max(t.Sec, minStockSecond), maxStockSecond)
	return fs.UTCTimestampFromTime(time.Unix(sec, int64(t.Nsec)))
}

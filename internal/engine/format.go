package engine

import (
	"fmt"

	"github.com/kopia/kopia/repo/object"

	"abaca/internal/posix"
)

// This file says what a saved directory looks like. encode.go writes it, decode.go reads it.
//
// A directory is an object with the prefix "k" that holds JSON which stock Kopia reads, with what Kopia
// has no words for in a member "abaca". It stands on lines, so that both sides work through directories of
// any size one entry at a time:
//
//	{"stream":"kopia:directory","abaca":{"v":1,"self":{…}},"entries":[
//	{"name":"a","type":"f","mode":"0644","size":3,"mtime":"…","uid":1,"gid":1,"obj":"…","abaca":{…}},
//	{"name":"b", … }
//	],"summary":{"size":3,"files":2,"symlinks":0,"dirs":1,"maxTime":"…","numFailed":0}}
//
// Entries are sorted by their raw names, byte by byte. "self" stands in the root directory alone and
// describes the root itself; the manifest's root entry cannot, since stock commands rewrite it.
//
// Rules that stock Kopia imposes, all of them tried:
//   - "obj" is never missing: maintenance panics on an entry without one.
//   - "type" is f, d or s: anything else stops a stock restore. FIFOs, sockets and devices are empty files to Kopia.
//   - Names are valid UTF-8; any other name is mangled and its bytes are kept in "abaca" (see stockName).
//   - What is kept alive is what "obj" reaches, so nothing may be referenced from "abaca" alone.
//   - Kopia overwrites a directory's mtime with its summary's maxTime, so maxTime is the directory's own mtime.

// formatVersion is the version of the "abaca" members. A reader refuses a newer one.
const formatVersion = 1

// streamDirectory and streamIndirect are Kopia's names for the two kinds of JSON objects.
const (
	streamDirectory = "kopia:directory"
	streamIndirect  = "kopia:indirect"
)

// prefixDirectory and prefixIndirect mark the contents that belong to such objects; Kopia keeps them in packs of their own.
const (
	prefixDirectory = "k"
	prefixIndirect  = "x"
)

// A kind is a type of file.
type kind byte

// The kinds of files. The first three are Kopia's "type"; the others stand in "abaca"."t".
const (
	kindFile    kind = 'f'
	kindDir     kind = 'd'
	kindSymlink kind = 's'
	kindFIFO    kind = 'p'
	kindSocket  kind = 'S'
	kindChar    kind = 'c'
	kindBlock   kind = 'b'
)

// special reports whether Kopia has no word for the kind.
func (k kind) special() bool { return k != kindFile && k != kindDir && k != kindSymlink }

// A mark says what is wrong with an entry.
type mark byte

// The marks.
const (
	markNone       mark = iota
	markChanged         // the file kept changing while it was read: its content may be torn
	markUnreadable      // the content, or a directory's list of entries, could not be read: the object is empty
	markAttributes      // the content is right, but extended attributes could not be read or are too large to keep
)

// File flags that are kept for the report; they are never set by a restore.
const (
	flagImmutable  = 1 << iota // chattr +i
	flagAppendOnly             // chattr +a
)

// An entry is one name in a directory, with the attributes of its inode.
type entry struct {
	name  string     // raw bytes, without '/' and NUL; "name" and, where mangled, "abaca"."n" (base64)
	kind  kind       // "type", "abaca"."t"
	mode  uint16     // permissions with setuid, setgid and sticky as in st_mode; "mode", in Go's bits
	uid   uint32     // "uid"
	gid   uint32     // "gid"
	size  int64      // "size": bytes of content of a file or length of a symlink's target; 0 for all other kinds
	mtime posix.Time // "mtime", clamped to years that Kopia parses; "abaca"."w" [seconds, nanoseconds] where that changes it

	// object is a file's content, a directory's entries or a symlink's target; an empty object for other kinds.
	// A file with holes always has an indirect object (see chunkRef).
	object object.ID // "obj"

	// What follows stands in "abaca".

	ino    uint64     // "i": proves, with ctime, that a file is the one that was read
	ctime  posix.Time // "c": [seconds, nanoseconds]
	nlink  uint32     // "l", where it is more than 1 and this is no directory: entries of equal (scope, ino) are one file
	scope  uint64     // "d": names the nested file system (a subvolume) that ino counts in; 0 is the root's
	major  uint32     // "r": [major, minor] of a device
	minor  uint32
	target string       // "s" (base64): where a symlink points, so that restoring it reads no object
	xattrs []posix.Attr // "x" (base64): [name, value, name, value, …], sorted by name
	flags  uint8        // "f"
	mark   mark         // "m"
	totals totals       // of a directory: all that is beneath it; Kopia's "summ"
}

// Totals counts what is in a directory and beneath it.
type totals struct {
	bytes    int64 // of file content
	files    int64 // and FIFOs, sockets, devices
	symlinks int64
	dirs     int64 // the directory itself included
	marked   int64 // entries with a mark
}

func (t *totals) add(o totals) {
	t.bytes += o.bytes
	t.files += o.files
	t.symlinks += o.symlinks
	t.dirs += o.dirs
	t.marked += o.marked
}

// entries counts every directory entry beneath, which a Report calls files; the directory itself is not one.
func (t totals) entries() int64 { return t.files + t.symlinks + max(0, t.dirs-1) }

// count adds one entry, and what is beneath it.
func (t *totals) count(e *entry) {
	switch e.kind {
	case kindDir:
		t.add(e.totals)
	case kindSymlink:
		t.symlinks++
	default:
		t.files++
		t.bytes += e.size
	}
	if e.mark != markNone {
		t.marked++
	}
}

// A chunkRef is one entry of an indirect object, the list of pieces that a large or sparse file consists of.
// It stands on lines as a directory does:
//
//	{"stream":"kopia:indirect","entries":[
//	{"l":1048576,"o":"…"},
//	{"s":1048576,"l":8388608,"o":"…","h":1}
//	]}
//
// An indirect object's own bytes may be an indirect object in turn, which stock Kopia follows too.
type chunkRef struct {
	start  int64
	length int64
	object object.ID // what stock Kopia reads; zeros for a hole
	hole   bool      // "h": nothing is allocated here in the source
}

// A header is what stands before the entries of a directory.
type header struct {
	version int
	self    *entry // the root directory's own attributes; nil in all other directories
}

// A formatError says that an object is not what this package writes.
type formatError struct{ what string }

func (e *formatError) Error() string { return "malformed directory object: " + e.what }

func malformed(format string, args ...any) error {
	return &formatError{fmt.Sprintf(format, args...)}
}

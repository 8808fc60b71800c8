package engine

import (
	"golang.org/x/sys/unix"

	"abaca/internal/posix"
)

// An item is one name of a directory that is being saved. There may be a million of them, so it is small and holds
// no pointers; the names stand in the listing's arena.
type item struct {
	ino, rdev      uint64
	size           int64
	mtime, ctime   int64 // seconds
	mtimeN, ctimeN uint32
	uid, gid       uint32
	nlink          uint32
	nameAt         uint32
	nameLen        uint16
	mode           uint16
	kind           kind
	state          itemState
	flags          uint8
}

// An itemState says what is known of an item.
type itemState byte

const (
	stateChanged    itemState = iota // differs from the base, or is not there: must be saved
	stateSame                        // equals the base's entry, a directory as far as its own attributes go
	stateResumed                     // equals the entry of an earlier attempt
	stateGone                        // vanished since it was listed
	stateUnreadable                  // nothing can be read of it; kept as an empty entry with a mark
)

func kindOf(mode uint32) kind {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return kindFile
	case unix.S_IFDIR:
		return kindDir
	case unix.S_IFLNK:
		return kindSymlink
	case unix.S_IFIFO:
		return kindFIFO
	case unix.S_IFSOCK:
		return kindSocket
	case unix.S_IFCHR:
		return kindChar
	default:
		return kindBlock
	}
}

// set takes over a status; the name and the state stay.
func (it *item) set(st *posix.Stat) {
	it.ino, it.rdev, it.nlink = st.Ino, st.Rdev, st.Nlink
	it.mtime, it.mtimeN = st.Mtime.Sec, st.Mtime.Nsec
	it.ctime, it.ctimeN = st.Ctime.Sec, st.Ctime.Nsec
	it.uid, it.gid, it.mode = st.UID, st.GID, uint16(st.Perm())
	it.kind = kindOf(st.Mode)
	it.size = 0
	if it.kind == kindFile || it.kind == kindSymlink {
		it.size = st.Size
	}
	it.flags = 0
	if st.Immutable {
		it.flags |= flagImmutable
	}
	if st.AppendOnly {
		it.flags |= flagAppendOnly
	}
}

// bytes is what the item counts for in sizes: content, and nothing else.
func (it *item) bytes() int64 {
	if it.kind == kindFile {
		return it.size
	}
	return 0
}

// fill makes e the entry of an item, without what has to be read: object, target, attributes, totals.
func (it *item) fill(e *entry, name string, scope uint64) {
	*e = entry{
		name: name, kind: it.kind, mode: it.mode, uid: it.uid, gid: it.gid, size: it.size,
		mtime: posix.Time{Sec: it.mtime, Nsec: it.mtimeN}, ctime: posix.Time{Sec: it.ctime, Nsec: it.ctimeN},
		ino: it.ino, nlink: it.nlink, scope: scope, flags: it.flags,
	}
	if it.kind == kindDir {
		e.nlink = 1 // it counts subdirectories, which says nothing
	}
	if it.kind == kindChar || it.kind == kindBlock {
		e.major, e.minor = unix.Major(it.rdev), unix.Minor(it.rdev)
	}
}

// equals reports whether the base's entry still describes the item. Equal inode numbers, change times and sizes prove
// that nothing has been written since: the change time cannot be set by anybody. The other fields cost nothing to
// compare, and help where a file system was restored from an image.
func (it *item) equals(e *entry, scope uint64) bool {
	return e.kind == it.kind && e.ino == it.ino && e.size == it.size && e.scope == scope &&
		e.ctime.Sec == it.ctime && e.ctime.Nsec == it.ctimeN && e.ctime != (posix.Time{}) &&
		e.mtime.Sec == it.mtime && e.mtime.Nsec == it.mtimeN &&
		e.mode == it.mode && e.uid == it.uid && e.gid == it.gid && e.flags == it.flags &&
		(e.nlink == it.nlink || it.kind == kindDir) && e.mark == markNone
}

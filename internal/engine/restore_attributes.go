package engine

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"abaca/internal/posix"
)

const (
	setIDs        = unix.S_ISUID | unix.S_ISGID
	accessACL     = "system.posix_acl_access"
	defaultACL    = "system.posix_acl_default"
	ownerReadable = 0o600
)

// A subject is something whose attributes can be set: an open file or directory, or an entry that is never opened.
type subject struct {
	dir  int
	name string
	fd   int // -1 for what is reached by name

	halted func() error // the restorer's
}

func (r *restorer) openSubject(fd int) subject { return subject{fd: fd, halted: r.halted} }

func (r *restorer) closedSubject(dir int, name string) subject {
	return subject{dir: dir, name: name, fd: -1, halted: r.halted}
}

func (n subject) isOpen() bool { return n.fd >= 0 }

func (n subject) chown(uid, gid uint32) error {
	if err := n.halted(); err != nil {
		return err
	}
	if n.isOpen() {
		return posix.Chown(n.fd, uid, gid)
	}
	return posix.ChownAt(n.dir, n.name, uid, gid)
}

func (n subject) chmod(mode uint32) error {
	if err := n.halted(); err != nil {
		return err
	}
	if n.isOpen() {
		return posix.Chmod(n.fd, mode)
	}
	return posix.ChmodAt(n.dir, n.name, mode)
}

func (n subject) setMtime(t posix.Time) error {
	if err := n.halted(); err != nil {
		return err
	}
	if n.isOpen() {
		return posix.SetMtime(n.fd, t)
	}
	return posix.SetMtimeAt(n.dir, n.name, t)
}

func (n subject) setAttr(a posix.Attr) error {
	if err := n.halted(); err != nil {
		return err
	}
	if n.isOpen() {
		return posix.SetAttr(n.fd, a)
	}
	return posix.SetAttrAt(n.dir, n.name, a)
}

func (n subject) removeAttr(name string) error {
	if err := n.halted(); err != nil {
		return err
	}
	if n.isOpen() {
		return posix.RemoveAttr(n.fd, name)
	}
	return posix.RemoveAttrAt(n.dir, n.name, name)
}

func (n subject) attrs() ([]posix.Attr, error) {
	if n.isOpen() {
		return posix.Attrs(n.fd)
	}
	return posix.AttrsAt(n.dir, n.name)
}

// sameAttributes reports whether st is what was saved, extended attributes aside.
func sameAttributes(e *entry, st *posix.Stat) bool {
	return st.Perm() == permOf(e) && st.UID == e.uid && st.GID == e.gid && st.Mtime == e.mtime
}

// permOf: the mode of a symbolic link is always this one on Linux, whatever was saved.
func permOf(e *entry) uint32 {
	if e.kind == kindSymlink {
		return 0o777
	}
	return uint32(e.mode)
}

// proven reports that st is the very inode that was saved and has not been touched since: the kernel sets ctime with
// every change of content or attributes, and nobody can set it back.
func proven(e *entry, st *posix.Stat) bool {
	return e.ino != 0 && e.ino == st.Ino && e.ctime == st.Ctime && e.ctime != (posix.Time{}) && e.mtime == st.Mtime &&
		st.Type() == e.kind.fileType() && (e.kind != kindFile || e.size == st.Size)
}

// fileType returns the S_IFMT bits of a kind.
func (k kind) fileType() uint32 {
	switch k {
	case kindDir:
		return unix.S_IFDIR
	case kindSymlink:
		return unix.S_IFLNK
	case kindFIFO:
		return unix.S_IFIFO
	case kindSocket:
		return unix.S_IFSOCK
	case kindChar:
		return unix.S_IFCHR
	case kindBlock:
		return unix.S_IFBLK
	default:
		return unix.S_IFREG
	}
}

// dress gives an inode the saved attributes and touches only what differs. st is its status now; fresh says that it
// was made just now and has no extended attributes. It returns what could not be set, in words; only errors that
// would meet every file are errors.
//
// The order matters: chown clears setuid, setgid and capabilities, so owners come first and modes after attributes;
// an ACL changes the mode's group bits; everything but chmod of something else changes ctime only, so time is last.
func (n subject) dress(e *entry, st posix.Stat, fresh bool) (problems []string, err error) {
	complain := func(what string, err error) error {
		if err == nil {
			return nil
		}
		if f := fatal(err); f != nil {
			return f
		}
		problems = append(problems, fmt.Sprintf("%s: %v", what, err))
		return nil
	}
	mode := permOf(e)
	chowned := st.UID != e.uid || st.GID != e.gid
	if chowned {
		err := n.chown(e.uid, e.gid)
		if errors.Is(err, unix.EPERM) {
			mode &^= setIDs // they would lend the wrong owner's rights
		}
		if err := complain("owner", err); err != nil {
			return problems, err
		}
	}
	changed, err := n.dressAttrs(e, st, fresh, complain)
	if err != nil {
		return problems, err
	}
	if e.kind != kindSymlink && (chowned || changed || st.Perm() != mode) {
		if err := complain("mode", n.chmod(mode)); err != nil {
			return problems, err
		}
	}
	if fresh || st.Mtime != e.mtime {
		err = complain("time", n.setMtime(e.mtime))
	}
	return problems, err
}

// dressAttrs sets and removes extended attributes; changed says whether it did anything.
func (n subject) dressAttrs(e *entry, st posix.Stat, fresh bool, complain func(string, error) error) (changed bool, err error) {
	var have []posix.Attr
	if !fresh {
		have, err = n.attrs()
		if err != nil {
			return false, complain("extended attributes", err)
		}
	}
	if e.mark == markAttributes {
		have = nil // what could not be saved must not be taken away
	}
	if slices.EqualFunc(have, e.xattrs, equalAttr) {
		return false, nil
	}
	if n.isOpen() && e.kind == kindFile && st.Perm()&ownerReadable != ownerReadable {
		if err := n.chmod(st.Perm() | ownerReadable); err != nil { // an ordinary owner needs it
			return false, complain("extended attributes", err)
		}
	}
	for _, a := range have {
		if _, keep := findAttr(e.xattrs, a.Name); keep {
			continue
		}
		if err := complain("attribute "+printable(a.Name), n.removeAttr(a.Name)); err != nil {
			return true, err
		}
	}
	for _, a := range e.xattrs {
		if i, ok := findAttr(have, a.Name); ok && bytes.Equal(have[i].Value, a.Value) {
			continue
		}
		if err := complain("attribute "+printable(a.Name), n.setAttr(a)); err != nil {
			return true, err
		}
	}
	return true, nil
}

func equalAttr(a, b posix.Attr) bool { return a.Name == b.Name && bytes.Equal(a.Value, b.Value) }

func findAttr(attrs []posix.Attr, name string) (int, bool) {
	return slices.BinarySearchFunc(attrs, name, func(a posix.Attr, name string) int { return strings.Compare(a.Name, name) })
}

func printable(s string) string { return strings.Trim(fmt.Sprintf("%q", s), `"`) }

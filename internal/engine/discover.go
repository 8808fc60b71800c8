package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/kopia/kopia/repo/object"
	"golang.org/x/sys/unix"

	"abaca/internal/posix"
)

// errPrevious says that the base could not be read. A base saves nothing but time, so the save starts over without it.
var errPrevious = errors.New("reading the previous snapshot")

// discover lists a directory and compares it with the base. It is the only place where names are looked up, each once.
// A directory that cannot be listed is left with an empty listing and a mark; gone says that there is none any more.
func (s *saver) discover(ctx context.Context, n *node) (gone bool, err error) {
	n.fd, err = n.parentOpen()
	if errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errLost) {
		return true, nil
	}
	if err == nil {
		err = s.readOwn(n)
	}
	if err == nil {
		err = s.list(ctx, n)
	}
	if isTheFiles(err) {
		n.mark = markUnreadable
		n.listing, n.whole, n.clean = listing{}, true, false
		s.marks.add(n.path(""), n.mark, err)
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("reading a directory: %w", err)
	}
	if err := s.compare(ctx, n); err != nil {
		return false, err
	}
	n.left = len(n.dirs)
	if n.clean {
		n.keepDirs()
	}
	return false, nil
}

// readOwn reads the directory's own attributes, from the descriptor: what its parent has listed may be another by now.
func (s *saver) readOwn(n *node) error {
	st, err := posix.StatFD(n.fd)
	if err != nil {
		return err
	}
	n.own.set(&st)
	n.dev = st.Dev
	if n.parent != nil {
		n.scope = n.parent.scope
		if n.dev != n.parent.dev {
			n.scope = nestedScope(n.parent.scope, n.name)
		}
	}
	n.attrs, err = s.readAttrs(n.fd)
	if err != nil {
		n.mark = markAttributes
		s.marks.add(n.path(""), n.mark, err)
	}
	return nil
}

// nestedScope names a file system inside another, such as a subvolume, by the way to it: inode numbers repeat in there.
func nestedScope(outer uint64, name string) uint64 {
	h := fnv.New64a()
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], outer)
	h.Write(b[:])
	h.Write([]byte(name))
	return max(1, h.Sum64())
}

// A nameRef is a name in a listing's arena. Names are gathered as such, because growing a slice of a million items
// takes the memory of two.
type nameRef struct {
	at     uint32
	length uint16
	kind   kind
}

// list reads all names, sorts them and looks each up.
func (s *saver) list(ctx context.Context, n *node) error {
	buf := s.dirBuffers.Get().(*[]byte)
	defer s.dirBuffers.Put(buf)
	r, err := posix.NewDirReader(n.fd, *buf)
	if err != nil {
		return err
	}
	var names []nameRef
	var arena strings.Builder // whose bytes become the string without a copy
	for {
		name, typ, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		names = append(names, nameRef{uint32(arena.Len()), uint16(len(name)), kindOf(uint32(typ) << 12)})
		arena.Write(name)
	}
	n.arena = arena.String()
	slices.SortFunc(names, func(a, b nameRef) int {
		return strings.Compare(n.arena[a.at:][:a.length], n.arena[b.at:][:b.length])
	})
	n.items = make([]item, len(names))
	for i, r := range names {
		n.items[i] = item{nameAt: r.at, nameLen: r.length, kind: r.kind}
	}
	n.whole = true
	return s.lookUp(ctx, n)
}

// lookUp reads the status of every name.
func (s *saver) lookUp(ctx context.Context, n *node) error {
	var found, bytes int64
	for i := range n.items {
		if i%1024 == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
			s.progress.find(found, bytes)
			found, bytes = 0, 0
		}
		it, name := &n.items[i], n.nameOf(i)
		st, err := posix.StatAt(n.fd, name)
		switch {
		case err == nil:
		case errors.Is(err, fs.ErrNotExist):
			it.state = stateGone
			continue
		case isTheFiles(err):
			it.state = stateUnreadable
			s.marks.add(n.path(name), markUnreadable, err)
			found++
			continue
		default:
			return err
		}
		it.set(&st)
		if n.parent == nil && isLostAndFound(&s.root, name, &st) {
			it.state = stateGone
			continue
		}
		if it.kind == kindDir && st.Mount != s.root.Mount {
			it.state = stateUnreadable
			s.marks.add(n.path(name), markUnreadable, errForeign)
		}
		found++
		bytes += it.bytes()
	}
	s.progress.find(found, bytes)
	return nil
}

// isLostAndFound tells the directory that ext file systems keep in their root for fsck, which is neither saved nor
// removed; a tenant's own of that name is saved.
func isLostAndFound(root *posix.Stat, name string, st *posix.Stat) bool {
	const extRoot, extLostAndFound = 2, 11 // inode numbers that ext2, ext3 and ext4 fix
	return name == "lost+found" && root.IsMount && root.Ino == extRoot && st.Ino == extLostAndFound &&
		st.Type() == unix.S_IFDIR
}

// judge tells an item from what the base (e) and an earlier attempt (r) have of it, if anything.
func (s *saver) judge(ctx context.Context, it *item, e, r *entry, scope uint64) error {
	if it.state != stateChanged {
		return nil
	}
	as := stateSame
	switch {
	case e != nil && it.equals(e, scope):
	case r != nil && it.kind != kindDir && it.equals(r, scope):
		e, as = r, stateResumed
	default:
		return nil
	}
	damaged, err := s.damaged(ctx, e)
	if err == nil && !damaged {
		it.state = as
	}
	return err
}

// compare finds out what differs from the base, and which directories are to be discovered next.
func (s *saver) compare(ctx context.Context, n *node) error {
	base, err := s.openPrevious(ctx, n.base)
	if err != nil {
		return err
	}
	defer base.close()
	if n.resumed == object.EmptyID {
		n.resumed = s.resumed.dirs[n.id()]
	}
	again, err := s.openPrevious(ctx, n.resumed)
	if err != nil {
		return err
	}
	defer again.close()
	n.clean = n.base != object.EmptyID && n.mark == markNone && (n.parent != nil || base.describes(&n.own))
	var files, bytes int64
	for i := range n.items {
		it := &n.items[i]
		e, between, err := base.find(n.nameOf(i))
		if err != nil {
			return err
		}
		r, _, err := again.find(n.nameOf(i))
		if err != nil {
			return err
		}
		if between > 0 {
			n.clean = false // these were removed
		}
		if err := s.judge(ctx, it, e, r, n.scope); err != nil {
			return err
		}
		if it.state != stateSame && (e != nil || it.state != stateGone) {
			n.clean = false
		}
		if it.kind == kindDir && (it.state == stateSame || it.state == stateChanged) {
			d := dirResult{item: i}
			if e != nil && e.kind == kindDir {
				d.base = e.object
			}
			if r != nil && r.kind == kindDir {
				d.resumed = r.object
			}
			n.dirs = append(n.dirs, d)
		} else if it.state == stateSame || it.state == stateResumed {
			files++
			bytes += it.bytes()
		}
	}
	left, err := base.rest()
	if err != nil {
		return err
	}
	if left > 0 {
		n.clean = false
	}
	n.totals = base.totals()
	s.progress.do(files, bytes)
	return nil
}

package engine

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/kopia/kopia/repo/object"

	"abaca/internal/posix"
)

// A node is one directory between being found and being saved. It goes through these hands, one at a time:
//
//	pending   its parent has listed it; the node is made when its turn comes
//	listed    discover.go has read its names and compared them with the base
//	ready     all directories in it are saved
//	saved     store.go has written its object, or the base's was found to be right; its parent knows
type node struct {
	parent *node
	slot   int // in the parent's dirs
	name   string
	dev    uint64
	scope  uint64    // see entry.scope
	base   object.ID // the directory object in the base; empty for none

	resumed object.ID // the same, of an earlier attempt at this save

	fd    int // -1 while closed
	own   item
	attrs []posix.Attr
	mark  mark

	listing
	whole  bool        // items are all names; else those that are missing here are as in the base
	clean  bool        // nothing differs from the base
	totals totals      // of the base's object, while clean
	dirs   []dirResult // the directories among items, in order
	next   int         // which of dirs is to be discovered next
	left   int         // how many of dirs are not saved yet
}

// A dirResult is what a saved directory leaves with its parent; until then base says where to compare it.
type dirResult struct {
	item    int
	base    object.ID
	resumed object.ID
	object  object.ID
	totals  totals
	attrs   []posix.Attr
	mark    mark
}

// A listing is the names of a directory, sorted, with their status.
type listing struct {
	arena string
	items []item
}

// nameOf returns a part of the arena, which is to be cloned by who keeps it longer than the listing.
func (l *listing) nameOf(i int) string {
	it := &l.items[i]
	return l.arena[it.nameAt:][:it.nameLen]
}

// keepDirs forgets all items but directories, since the base has the others.
func (n *node) keepDirs() {
	var kept listing
	var arena strings.Builder
	for slot := range n.dirs {
		d := &n.dirs[slot]
		it, name := n.items[d.item], n.nameOf(d.item)
		it.nameAt = uint32(arena.Len())
		arena.WriteString(name)
		d.item = len(kept.items)
		kept.items = append(kept.items, it)
	}
	kept.arena = arena.String()
	n.listing, n.whole = kept, false
}

// id is what a checkpoint knows the directory by: its inode number among its siblings'.
func (n *node) id() fileID {
	if n.parent == nil {
		return fileID{0, n.own.ino}
	}
	return fileID{n.parent.scope, n.own.ino}
}

// path returns where the node is, beneath the root, for people to read.
func (n *node) path(name string) string {
	var parts []string
	if name != "" {
		parts = append(parts, name)
	}
	for ; n.parent != nil; n = n.parent {
		parts = append(parts, n.name)
	}
	slices.Reverse(parts)
	return strings.Join(parts, "/")
}

// maxPath bounds a path that is handed to the kernel at once, whose own limit is 4096.
const maxPath = 3500

// open returns a descriptor of the node's directory, which the caller closes. It is reached from the nearest
// directory that is still open; what is found there may have been moved or replaced in the meantime, but it is a
// directory below the root in any case.
func (n *node) open() (int, error) {
	var names []string
	length := 0
	at := n
	for ; at.fd < 0 && length < maxPath; at = at.parent {
		names = append(names, at.name)
		length += len(at.name) + 1
	}
	slices.Reverse(names)
	if at.fd >= 0 {
		if len(names) == 0 {
			names = []string{"."}
		}
		return openPath(at.fd, names)
	}
	above, err := at.open() // the path is too long for one call
	if err != nil {
		return -1, err
	}
	defer posix.Close(above)
	return openPath(above, names)
}

func openPath(dir int, names []string) (int, error) {
	return posix.OpenDir(dir, strings.Join(names, "/"))
}

// errLost says that a directory that had been listed is not where it was; what is in it cannot be reached any more.
var errLost = errors.New("the directory above was moved or removed while it was being saved")

// parentOpen opens the node's directory from its parent.
func (n *node) parentOpen() (int, error) {
	if n.parent == nil {
		return n.fd, nil
	}
	above, done, err := n.parent.at()
	if err != nil {
		return -1, fmt.Errorf("%w: %w", errLost, err)
	}
	defer done()
	return posix.OpenDir(above, n.name)
}

// at returns a descriptor to work with and a function that closes it if need be.
func (n *node) at() (fd int, done func(), err error) {
	if n.fd >= 0 {
		return n.fd, func() {}, nil
	}
	fd, err = n.open()
	if err != nil {
		return -1, nil, err
	}
	return fd, func() { posix.Close(fd) }, nil
}

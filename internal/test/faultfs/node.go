package faultfs

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// A node is a file, a directory or something else with attributes.
type node struct {
	id           uint64
	now, durable state
	changes      []change // since it was last synced, in their order
	names        map[string]*node
	durableNames map[string]*node
	links        int // names that it has now
}

// A state is what a node is besides its names.
type state struct {
	mode, uid, gid, rdev uint32
	mtime, ctime         time.Time
	data                 []byte // of a file; of a symbolic link where it leads
	xattrs               map[string][]byte
}

// A change is one to a node's state.
type change struct {
	content bool // whether it is one to what the file holds, which fdatasync makes durable
	off     int64
	data    []byte // written at off
	do      func(*state)
}

func (c change) on(s *state) {
	if c.do != nil {
		c.do(s)
		return
	}
	if need := c.off + int64(len(c.data)); need > int64(len(s.data)) {
		s.resize(need)
	}
	copy(s.data[c.off:], c.data)
}

// torn is a write of which only the beginning was done; any other change is whole or was not made.
func (c change) torn(r *rand.Rand) (change, bool) {
	if c.do != nil || len(c.data) == 0 {
		return c, false
	}
	c.data = c.data[:r.IntN(len(c.data))]
	return c, true
}

func (s *state) resize(size int64) {
	if size <= int64(len(s.data)) {
		clear(s.data[size:])
		s.data = s.data[:size]
		return
	}
	if size <= int64(cap(s.data)) {
		s.data = s.data[:size]
		return
	}
	bigger := make([]byte, size, size+size/4)
	copy(bigger, s.data)
	s.data = bigger
}

func (s state) clone() state {
	s.data = bytes.Clone(s.data)
	s.xattrs = maps.Clone(s.xattrs)
	return s
}

func (f *FS) newNode(mode, uid, gid uint32) *node {
	f.nodesMade++
	at := now()
	n := &node{id: f.nodesMade, now: state{mode: mode, uid: uid, gid: gid, mtime: at, ctime: at}}
	n.durable = n.now.clone() // an empty file, should its name become durable before it does
	if n.isDir() {
		n.names, n.durableNames = map[string]*node{}, map[string]*node{}
	}
	f.nodes[n.id] = n
	return n
}

func (n *node) is(kind uint32) bool { return n.now.mode&syscall.S_IFMT == kind }
func (n *node) isDir() bool         { return n.is(fuse.S_IFDIR) }

// change makes a change that is not durable. What cannot be opened cannot be synced either, so that its attributes are as durable as its name.
func (f *FS) change(n *node, c change) {
	f.changed++
	c.on(&n.now)
	n.now.ctime = now()
	if c.content {
		n.now.mtime = n.now.ctime
	}
	if !n.is(fuse.S_IFREG) && !n.isDir() {
		n.durable = n.now.clone()
		return
	}
	n.changes = append(n.changes, c)
}

// sync makes a node's changes durable, those of its attributes only if all is asked for.
func (n *node) sync(all bool) {
	var rest []change
	for _, c := range n.changes {
		if all || c.content {
			c.on(&n.durable)
		} else {
			rest = append(rest, c)
		}
	}
	n.changes = rest
	n.durable.mtime, n.durable.ctime = n.now.mtime, n.now.ctime
}

// lose decides what stays of the changes that are not durable, and forgets the rest.
func (n *node) lose(loss Loss, r *rand.Rand) {
	kept := 0
	switch {
	case len(n.changes) == 0:
	case loss == Files:
		kept = r.IntN(2) * len(n.changes)
	case loss == Tails:
		kept = r.IntN(len(n.changes) + 1)
	}
	for i, c := range n.changes {
		switch {
		case i < kept:
			c.on(&n.durable)
		case loss == Scattered && r.IntN(2) == 0:
			if part, ok := c.torn(r); ok && r.IntN(4) == 0 {
				c = part
			}
			c.on(&n.durable)
		case loss == Tails && i == kept:
			if part, ok := c.torn(r); ok {
				part.on(&n.durable)
			}
		}
	}
	n.changes = nil
	n.now, n.names = n.durable.clone(), maps.Clone(n.durableNames)
}

// A move is a change of names that is made as a whole.
type move []naming

// A naming gives a name in a directory to a node, or takes the name away where there is none.
type naming struct {
	dir  *node
	name string
	to   *node
}

func (f *FS) move(m move) {
	f.changed++
	for _, c := range m {
		if c.to == nil {
			delete(c.dir.names, c.name)
		} else {
			c.dir.names[c.name] = c.to
		}
		c.dir.now.mtime = now()
		c.dir.now.ctime = c.dir.now.mtime
	}
	f.moves = append(f.moves, m)
}

// endure makes a move durable.
func (m move) endure() {
	for _, c := range m {
		if c.to == nil {
			delete(c.dir.durableNames, c.name)
		} else {
			c.dir.durableNames[c.name] = c.to
		}
		c.dir.durable.mtime, c.dir.durable.ctime = c.dir.now.mtime, c.dir.now.ctime
	}
}

func (m move) touches(dirs map[*node]bool) bool {
	for _, c := range m {
		if dirs[c.dir] {
			return true
		}
	}
	return false
}

// syncNames makes the names in a directory durable and, because moves between directories are made in both or in neither, whatever
// happened before such a move in the other.
func (f *FS) syncNames(dir *node) {
	due, dirs := make([]bool, len(f.moves)), map[*node]bool{dir: true}
	for i := len(f.moves) - 1; i >= 0; i-- {
		if due[i] = f.ext4 || f.moves[i].touches(dirs); due[i] {
			for _, c := range f.moves[i] {
				dirs[c.dir] = true
			}
		}
	}
	var rest []move
	for i, m := range f.moves {
		if due[i] {
			m.endure()
		} else {
			rest = append(rest, m)
		}
	}
	f.moves = rest
}

// sync is what fsync and fdatasync come to. The power may fail at that moment, before anything is durable.
func (f *FS) sync(n *node, all bool) fuse.Status {
	f.syncs++
	if f.syncs == f.last {
		f.cut = true
		close(f.failed)
		return fuse.EIO
	}
	n.sync(all || n.isDir())
	if n.isDir() || f.ext4 {
		f.syncNames(n)
	}
	return fuse.OK
}

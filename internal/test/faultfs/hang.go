package faultfs

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// A Hang has operations wait until it is over.
type Hang struct {
	below         *node
	ops           []string
	interruptible bool
	met           func()        // closes Met
	Met           chan struct{} // closed when an operation hangs
	over          chan struct{}
	End           func() // has all go on
	caught        atomic.Int64
}

// Caught counts the operations that have hung so far.
func (h *Hang) Caught() int64 { return h.caught.Load() }

// HangUp has operations below a path of the file system hang, the whole of it included where that is Dir, as on a server that has stopped answering: those of
// these names, which are FUSE's (Lookup, Open, Read, Write, ReadDir, StatFs, …), all of them where there are none. No signal ends such a call.
func (f *FS) HangUp(path string, ops ...string) *Hang { return f.hangUp(path, false, ops) }

// HangUpInterruptibly is HangUp with calls that signals end.
func (f *FS) HangUpInterruptibly(path string, ops ...string) *Hang { return f.hangUp(path, true, ops) }

func (f *FS) hangUp(path string, interruptible bool, ops []string) *Hang {
	f.t.Helper()
	h := &Hang{ops: ops, interruptible: interruptible, Met: make(chan struct{}), over: make(chan struct{})}
	h.met = sync.OnceFunc(func() { close(h.Met) })
	h.End = sync.OnceFunc(func() { close(h.over) })
	f.mu.Lock()
	defer f.mu.Unlock()
	if h.below = f.find(path); h.below == nil {
		f.t.Fatalf("%s is not there", path)
	}
	f.hangs = append(f.hangs, h)
	f.t.Cleanup(h.End) // before it is unmounted, which hangs otherwise
	return h
}

// find returns the node at a path, nil for none.
func (f *FS) find(path string) *node {
	n := f.nodes[fuse.FUSE_ROOT_ID]
	for name := range strings.SplitSeq(strings.TrimPrefix(path, f.Dir), "/") {
		if name == "" {
			continue
		}
		if n = n.names[name]; n == nil {
			return nil
		}
	}
	return n
}

// hang waits where the operation is to hang.
func (f *FS) hang(cancel <-chan struct{}, op string, id uint64) fuse.Status {
	f.mu.Lock()
	hangs := slices.Clone(f.hangs)
	n := f.nodes[id]
	hangs = slices.DeleteFunc(hangs, func(h *Hang) bool {
		return len(h.ops) > 0 && !slices.Contains(h.ops, op) || !h.below.holds(n)
	})
	f.mu.Unlock()
	for _, h := range hangs {
		select {
		case <-h.over:
			continue
		default:
		}
		h.caught.Add(1)
		h.met()
		interrupted := cancel
		if !h.interruptible {
			interrupted = nil
		}
		select {
		case <-h.over:
		case <-interrupted:
			return fuse.Status(syscall.EINTR)
		}
	}
	return fuse.OK
}

// holds reports whether other is n or lies below it.
func (n *node) holds(other *node) bool {
	if n == other {
		return true
	}
	for _, child := range n.names {
		if child.holds(other) {
			return true
		}
	}
	return false
}

// Changes counts what was changed so far, so that a test can tell that nothing is any more.
func (f *FS) Changes() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changed
}

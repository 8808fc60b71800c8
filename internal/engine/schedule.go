package engine

import (
	"context"
	"strings"
	"sync"

	"abaca/internal/posix"
)

// A schedule hands directories to workers: discovery first and depth first, so that totals are known early, until as
// many items are held as memory allows; then saving, which lets go of them.
type schedule struct {
	mu      sync.Mutex
	wake    *sync.Cond
	stack   []*node // directories with undiscovered ones in them
	ready   []*node // directories that can be saved
	storing int     // workers that save one
	held    int     // items in memory
	open    int     // descriptors of nodes
	stopped bool
	done    chan struct{} // closed once stopped

	unfinished map[*node]struct{} // listed, but not saved
}

// What bounds the memory and the descriptors of a save, whatever the tree is.
const (
	maxHeld = 400_000
	maxOpen = 256
)

func newSchedule() *schedule {
	q := &schedule{done: make(chan struct{}), unfinished: map[*node]struct{}{}}
	q.wake = sync.NewCond(&q.mu)
	return q
}

// stop makes all workers return.
func (q *schedule) stop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.end()
}

func (q *schedule) end() {
	if !q.stopped {
		q.stopped = true
		close(q.done)
		q.wake.Broadcast()
	}
}

// take returns a directory to discover or one to save, or nothing once all is done or stopped.
func (q *schedule) take() (discover, save *node) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for !q.stopped {
		if len(q.stack) > 0 && (q.held < maxHeld || len(q.ready) == 0 && q.storing == 0) {
			defer q.wakeNext()
			return q.popChild(), nil
		}
		if last := len(q.ready) - 1; last >= 0 {
			n := q.ready[last]
			q.ready[last] = nil
			q.ready = q.ready[:last]
			q.storing++
			defer q.wakeNext()
			return nil, n
		}
		q.wake.Wait()
	}
	return nil, nil
}

// wakeNext passes the wake-up on while there is more to do, so that no worker sleeps beside work.
func (q *schedule) wakeNext() {
	if len(q.stack)+len(q.ready) > 0 {
		q.wake.Signal()
	}
}

// popChild makes a node of the next directory in the one on top of the stack.
func (q *schedule) popChild() *node {
	top := len(q.stack) - 1
	p := q.stack[top]
	d := &p.dirs[p.next]
	n := &node{parent: p, slot: p.next, name: strings.Clone(p.nameOf(d.item)), base: d.base, resumed: d.resumed, fd: -1}
	p.next++
	if p.next == len(p.dirs) {
		q.stack[top] = nil
		q.stack = q.stack[:top]
	}
	return n
}

// discovered takes over a directory that has been listed. Those that are unchanged down to the bottom are saved by it.
func (q *schedule) discovered(n *node, gone bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if n.fd >= 0 {
		q.open++
	}
	q.held += len(n.items)
	q.unfinished[n] = struct{}{}
	switch {
	case gone:
		q.finished(n, dirResult{}, true)
	case len(n.dirs) > 0:
		if q.open > maxOpen && n.parent != nil {
			q.close(n)
		}
		q.stack = append(q.stack, n)
		q.wake.Signal()
	default:
		q.becomeReady(n)
	}
}

// saved takes over the result of a directory that has been saved.
func (q *schedule) saved(n *node, r dirResult) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.storing--
	q.finished(n, r, false)
	q.wake.Signal()
}

// becomeReady is called with a directory in which all directories are saved.
func (q *schedule) becomeReady(n *node) {
	if n.clean {
		q.finished(n, dirResult{object: n.base, totals: n.totals, attrs: n.attrs}, false)
		return
	}
	if q.open > maxOpen && n.parent != nil {
		q.close(n)
	}
	q.ready = append(q.ready, n)
	q.wake.Signal()
}

func (q *schedule) close(n *node) {
	if n.fd >= 0 {
		posix.Close(n.fd)
		n.fd = -1
		q.open--
	}
}

// finished tells a directory's parent what became of it, and so on upwards.
func (q *schedule) finished(n *node, r dirResult, gone bool) {
	q.held -= len(n.items)
	delete(q.unfinished, n)
	p := n.parent
	if p == nil {
		n.dirs = []dirResult{r}
		q.end()
		return
	}
	q.close(n)
	d := &p.dirs[n.slot]
	it := &p.items[d.item]
	r.item, r.base = d.item, d.base
	r.mark = n.mark
	*d = r
	if n.own.kind == 0 { // it could not even be opened
		n.own = *it
	}
	n.own.nameAt, n.own.nameLen, n.own.state = it.nameAt, it.nameLen, it.state
	switch {
	case gone:
		it.state = stateGone
		p.clean = false
	case n.own != *it: // changed since its parent was listed
		*it = n.own
		it.state = stateChanged
		p.clean = false
	case it.state != stateSame || r.object != r.base:
		it.state = stateChanged
		p.clean = false
	default:
		d.attrs = nil // the base's entry has them
	}
	if p.left--; p.left == 0 && p.next == len(p.dirs) {
		q.becomeReady(p)
	}
}

// run is one worker.
func (s *saver) run(ctx context.Context) error {
	defer s.queue.stop() // a worker ends when all is done, or has failed
	for {
		toDiscover, toSave := s.queue.take()
		switch {
		case toDiscover != nil:
			gone, err := s.discover(ctx, toDiscover)
			if err != nil {
				return err
			}
			s.progress.do(1, 0)
			s.queue.discovered(toDiscover, gone)
		case toSave != nil:
			r, err := s.store(ctx, toSave)
			if err != nil {
				return err
			}
			s.parts.withdraw(toSave.id())
			s.queue.saved(toSave, r)
		default:
			return ctx.Err()
		}
	}
}

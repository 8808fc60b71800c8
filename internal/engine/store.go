package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/kopia/kopia/repo/object"
	"golang.org/x/sync/errgroup"
)

// How the names of a directory are saved: a window of them is in memory with all that there is to say of them, and its
// parts are read side by side.
const (
	windowSize = 1024
	batchSize  = 32
)

// store saves what has changed in a directory, and writes its object.
func (s *saver) store(ctx context.Context, n *node) (dirResult, error) {
	base, err := s.openPrevious(ctx, n.base)
	if err != nil {
		return dirResult{}, err
	}
	defer base.close()
	again, err := s.openPrevious(ctx, n.resumed)
	if err != nil {
		return dirResult{}, err
	}
	defer again.close()
	out := s.w.newStream(ctx, prefixDirectory)
	size := min(windowSize, len(n.items))
	w := dirWriter{
		s: s, n: n, base: base, again: again, out: out, enc: newDirEncoder(out, s.headerOf(n)), round: s.parts.round.Load(),
		entries: make([]entry, size), fates: make([]fate, size),
	}
	w.totals.dirs = 1
	for from := 0; from < len(n.items); from += windowSize {
		if err := w.window(ctx, from, min(from+windowSize, len(n.items))); err != nil {
			return dirResult{}, err
		}
	}
	if err := w.upTo(""); err != nil {
		return dirResult{}, err
	}
	var own entry
	n.own.fill(&own, "", n.scope)
	if err := w.enc.close(w.totals, own.mtime); err != nil {
		return dirResult{}, err
	}
	id, err := out.finish()
	if err != nil {
		return dirResult{}, err
	}
	return dirResult{object: id, totals: w.totals, attrs: n.attrs}, nil
}

// headerOf describes the root directory in its own object, since nothing else does.
func (s *saver) headerOf(n *node) header {
	if n.parent != nil {
		return header{}
	}
	self := new(entry)
	n.own.fill(self, "/", n.scope)
	self.object, self.xattrs, self.mark = s.empty, n.attrs, n.mark
	s.distrust(self)
	return header{self: self}
}

// A dirWriter merges today's names with the base's entries into a directory object.
type dirWriter struct {
	s       *saver
	n       *node
	base    *previousReader
	again   *previousReader // of an earlier attempt
	out     *stream
	round   int64 // the checkpoint before which the beginning was published last
	enc     *dirEncoder
	totals  totals
	dirs    int     // how many of the node's directories have been passed
	entries []entry // of the window
	fates   []fate
}

// A fate is what became of an item that was to be saved.
type fate byte

const (
	fateSaved fate = iota // the entry says it all
	fateGone              // it vanished before it could be read
)

// window saves the items from up to to.
func (w *dirWriter) window(ctx context.Context, from, to int) error {
	if err := w.read(ctx, from, to); err != nil {
		return err
	}
	for i := from; i < to; i++ {
		if err := w.merge(i, &w.entries[i-from], w.fates[i-from]); err != nil {
			return err
		}
		w.entries[i-from], w.fates[i-from] = entry{}, fateSaved
	}
	if now := w.s.parts.round.Load(); now != w.round {
		w.round = now
		if err := w.publish(); err != nil {
			return err
		}
	}
	return w.s.breathe(ctx)
}

// read fills the window's entries with what has changed, several files at a time.
func (w *dirWriter) read(ctx context.Context, from, to int) error {
	var changed []int
	for i := from; i < to; i++ {
		it := &w.n.items[i]
		if it.state == stateChanged && it.kind != kindDir {
			changed = append(changed, i)
		}
	}
	if len(changed) == 0 {
		return nil
	}
	fd, done, err := w.n.at()
	if errors.Is(err, fs.ErrNotExist) || isTheFiles(err) {
		return w.lost(from, changed)
	}
	if err != nil {
		return fmt.Errorf("opening a directory again: %w", err)
	}
	defer done()
	group, ctx := errgroup.WithContext(ctx)
	for len(changed) > 0 {
		batch := changed[:min(batchSize, len(changed))]
		changed = changed[len(batch):]
		read := func() error {
			defer w.s.reader()()
			for _, i := range batch {
				f, err := w.s.saveItem(ctx, w.n, fd, &w.n.items[i], w.n.nameOf(i), &w.entries[i-from])
				if err != nil {
					return err
				}
				w.fates[i-from] = f
			}
			return nil
		}
		if len(changed) == 0 {
			if err := read(); err != nil {
				group.Wait()
				return err
			}
			break
		}
		group.Go(read)
	}
	return group.Wait()
}

// lost marks files that cannot be reached any more, because their directory is not where it was listed.
func (w *dirWriter) lost(from int, changed []int) error {
	for _, i := range changed {
		w.fates[i-from] = fateGone
		w.s.progress.do(1, w.n.items[i].bytes())
		w.s.marks.add(w.n.path(w.n.nameOf(i)), markUnreadable, errLost)
	}
	return nil
}

// merge writes what comes before item i in the base, as far as it is still right, and then the item.
func (w *dirWriter) merge(i int, e *entry, f fate) error {
	it, name := &w.n.items[i], w.n.nameOf(i)
	if err := w.upTo(name); err != nil {
		return err
	}
	before, err := w.base.peek()
	if err != nil {
		return err
	}
	if before != nil && before.name == name {
		w.base.pass()
	} else {
		before = nil
	}
	switch {
	case it.state == stateGone && it.kind == kindDir:
		w.passDir(i)
		return nil
	case it.state == stateGone || f == fateGone:
		return nil
	case it.state == stateUnreadable:
		it.fill(e, name, w.n.scope)
		e.object, e.size, e.mark = w.s.empty, 0, markUnreadable
		if it.kind == kindDir {
			e.object, e.totals.dirs = w.s.emptyDir, 1
		}
		w.s.progress.do(1, 0)
	case it.state == stateSame && before == nil:
		return fmt.Errorf("%w: the entry of %q is gone", errPrevious, name)
	case it.kind == kindDir:
		d := w.passDir(i)
		if it.state == stateSame {
			e = before
			break
		}
		it.fill(e, name, w.n.scope)
		e.object, e.totals, e.xattrs, e.mark = d.object, d.totals, d.attrs, d.mark
		w.s.distrust(e)
	case it.state == stateSame:
		e = before
	case it.state == stateResumed:
		if e, _, err = w.again.find(name); e == nil || err != nil {
			return fmt.Errorf("%w: the entry of %q is gone: %w", errPrevious, name, err)
		}
	}
	return w.emit(e)
}

// passDir returns the result of the directory that is item i.
func (w *dirWriter) passDir(i int) *dirResult {
	for w.dirs < len(w.n.dirs) && w.n.dirs[w.dirs].item < i {
		w.dirs++
	}
	if w.dirs == len(w.n.dirs) || w.n.dirs[w.dirs].item != i {
		return &dirResult{object: w.s.emptyDir}
	}
	return &w.n.dirs[w.dirs]
}

// upTo passes the base's entries before name, all of them for the empty name. Where the items are not all names they are kept.
func (w *dirWriter) upTo(name string) error {
	for {
		e, err := w.base.peek()
		if e == nil || err != nil || name != "" && e.name >= name {
			return err
		}
		w.base.pass()
		if w.n.whole {
			continue
		}
		if err := w.emit(e); err != nil {
			return err
		}
	}
}

func (w *dirWriter) emit(e *entry) error {
	if e.object == object.EmptyID {
		return fmt.Errorf("%q has no object", e.name) // stock maintenance would panic; never let it out
	}
	w.totals.count(e)
	return w.enc.add(e)
}

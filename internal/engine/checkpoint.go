package engine

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/object"
	"github.com/kopia/kopia/snapshot"

	"abaca"
	"abaca/internal/posix"
)

// A checkpoint makes what a running save has done survive a crash, and keeps it from being collected. It is an
// incomplete snapshot under the save's id whose root is no tree but a flat list, of
//
//   - the directories that are saved while their parent is not,
//   - the beginnings of directories and large files that are being saved,
//   - the root of the base, whose own snapshot could be deleted while the save goes by it,
//
// named by scope and inode number. A save under the same id finds it and compares with it as with a base: what is
// taken from it has to prove itself by change time and so on like everything else.

// baseName is what the entry of the base's root is called.
const baseName = "~base"

// A progressList collects the beginnings that are published between checkpoints.
type progressList struct {
	round atomic.Int64 // grows with every checkpoint: who is in the middle of something large publishes then

	mu    sync.Mutex
	parts map[fileID]entry
}

func (l *progressList) publish(e entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.parts == nil {
		l.parts = map[fileID]entry{}
	}
	l.parts[fileID{e.scope, e.ino}] = e
}

func (l *progressList) withdraw(id fileID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.parts, id)
}

// checkpoints writes one on every tick until the walk ends.
func (s *saver) checkpoints(ctx context.Context, every time.Duration, write func(context.Context) error) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-s.queue.done:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			s.parts.round.Add(1)
			if err := write(ctx); err != nil {
				return fmt.Errorf("writing a checkpoint: %w", err)
			}
		}
	}
}

// checkpoint writes one and removes those before it.
func (s *saver) checkpoint(ctx context.Context, req abaca.SaveRequest, base object.ID, started, now time.Time) error {
	entries := s.queue.loose()
	s.parts.mu.Lock()
	for _, e := range s.parts.parts {
		entries = append(entries, e)
	}
	s.parts.mu.Unlock()
	if base != object.EmptyID {
		entries = append(entries, entry{name: baseName, kind: kindDir, nlink: 1, object: base, totals: totals{dirs: 1}})
	}
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	entries = slices.CompactFunc(entries, func(a, b entry) bool { return a.name == b.name })
	out := s.w.newStream(ctx, prefixDirectory)
	enc := newDirEncoder(out, header{})
	sum := totals{dirs: 1}
	for i := range entries {
		sum.count(&entries[i])
		if err := enc.add(&entries[i]); err != nil {
			return err
		}
	}
	if err := enc.close(sum, posix.TimeOf(now)); err != nil {
		return err
	}
	id, err := out.finish()
	if err != nil {
		return err
	}
	root := entry{kind: kindDir, mode: 0o700, object: id, totals: sum, mtime: posix.TimeOf(now)}
	m := newManifest(req, &root, started, now)
	m.IncompleteReason = reasonCheckpoint
	return s.commit(ctx, m)
}

// looseName names an entry in a checkpoint's list.
func looseName(id fileID) string { return fmt.Sprintf("%016x-%016x", id.scope, id.ino) }

// loose returns the saved directories whose parents are not.
func (q *schedule) loose() []entry {
	q.mu.Lock()
	defer q.mu.Unlock()
	var all []entry
	for n := range q.unfinished {
		for _, d := range n.dirs {
			if d.object == object.EmptyID || d.object == d.base {
				continue
			}
			it := &n.items[d.item]
			id := fileID{n.scope, it.ino}
			e := entry{kind: kindDir, nlink: 1, ino: it.ino, scope: n.scope, object: d.object, totals: d.totals}
			e.name = looseName(id)
			all = append(all, e)
		}
	}
	return all
}

// A resumption is what earlier attempts under the same id have left.
type resumption struct {
	dirs  map[fileID]object.ID
	files map[fileID]entry
	base  object.ID // of the earlier attempt
}

// resume reads the checkpoints of an id.
func resume(ctx context.Context, r repo.Repository, checkpoints []*snapshot.Manifest) (*resumption, error) {
	found := &resumption{dirs: map[fileID]object.ID{}, files: map[fileID]entry{}}
	for _, m := range checkpoints {
		if err := found.read(ctx, r, m.RootEntry.ObjectID); err != nil {
			return nil, err
		}
	}
	return found, nil
}

func (f *resumption) read(ctx context.Context, r repo.Repository, list object.ID) error {
	o, err := r.OpenObject(ctx, list)
	if err != nil {
		return baseError(ctx, err)
	}
	defer o.Close()
	dec, err := newDirDecoder(o)
	if err != nil {
		return baseError(ctx, err)
	}
	for {
		var e entry
		if err := dec.next(&e); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return baseError(ctx, err)
		}
		switch {
		case e.name == baseName:
			f.base = e.object
		case e.kind == kindDir:
			f.dirs[fileID{e.scope, e.ino}] = e.object
		default:
			f.files[fileID{e.scope, e.ino}] = e
		}
	}
}

// publish lets the next checkpoint keep the part of a directory that has been written.
func (w *dirWriter) publish() error {
	if err := w.enc.flush(); err != nil {
		return err
	}
	part := w.out.clone()
	enc := &dirEncoder{w: part, count: w.enc.count}
	if err := enc.close(w.totals, posix.Time{}); err != nil {
		return err
	}
	id, err := part.finish()
	if err != nil {
		return err
	}
	self := w.n.id()
	w.s.parts.publish(entry{name: looseName(self), kind: kindDir, nlink: 1, ino: self.ino, scope: self.scope, object: id, totals: w.totals})
	return nil
}

// publish lets the next checkpoint keep the part of a large file that has been stored.
func (f *fileReader) publish() error {
	if err := f.collect(true); err != nil || f.list == nil {
		return err
	}
	id, err := f.list.clone().finish()
	if err != nil {
		return err
	}
	e := f.about
	e.name, e.object, e.size, e.xattrs = looseName(fileID{e.scope, e.ino}), id, f.end, nil
	f.s.parts.publish(e)
	return nil
}

// resume takes over the part of the file that an earlier attempt has stored, if the file is still the same.
func (f *fileReader) resume() error {
	id := fileID{f.about.scope, f.about.ino}
	part, ok := f.s.resumed.files[id]
	if !ok || part.ctime != f.about.ctime || part.mtime != f.about.mtime || part.size > f.size {
		return nil
	}
	list, ok := part.object.IndexObjectID()
	if !ok {
		return nil
	}
	o, err := f.s.w.session.OpenObject(f.ctx, list)
	if err != nil {
		return baseError(f.ctx, err)
	}
	defer o.Close()
	dec := chunkDecoder{lines: lineReader{r: bufio.NewReader(o)}}
	for {
		ref, err := dec.next()
		if errors.Is(err, io.EOF) {
			f.progress(f.end)
			return nil
		}
		if err != nil {
			return baseError(f.ctx, err)
		}
		if err := f.add(ref); err != nil {
			return err
		}
		f.end = ref.start + ref.length
	}
}

// clone copies what has not been stored of a stream, so that the copy can be finished while the stream goes on.
func (s *stream) clone() *stream {
	c := *s
	c.buf = slices.Clone(s.buf)
	if s.list != nil {
		c.list = s.list.clone()
	}
	return &c
}

func (x *indirect) clone() *indirect {
	return &indirect{out: x.out.clone(), buf: slices.Clone(x.buf), count: x.count}
}

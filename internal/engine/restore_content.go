package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"

	"abaca/internal/posix"
)

// writePiece is how much goes into one write; see the measurements in ARCHITECTURE.md.
const writePiece = 256 << 10

// copyPiece is how much of a file is copied in one go.
const copyPiece = 16 << 20

// begin makes the new file, under its own name where that is free. j.mu is held if several workers share j.
func (r *restorer) begin(j *job) (err error) {
	fd, err := r.dirs.use(j.dir)
	if err != nil {
		return err
	}
	defer r.dirs.done(j.dir)
	create := func(name string) error {
		err := r.change(j.dir, fd, func() error {
			j.out, err = posix.Create(fd, name, r.firstMode(&j.e))
			return err
		})
		if err == nil {
			r.mu.Lock()
			r.begun[j] = struct{}{}
			r.mu.Unlock()
		}
		return err
	}
	j.temp = ""
	if !j.exists {
		if err = create(j.e.name); !errors.Is(err, fs.ErrExist) {
			return wrap("make the file", err)
		}
	}
	j.temp = r.temp()
	return wrap("make the file", create(j.temp))
}

// firstMode is the mode that a new file begins with: the saved one where the file most likely belongs to its owner from the
// beginning, which spares setting it; else one that shows the content to nobody who may not see it in the end.
func (r *restorer) firstMode(e *entry) uint32 {
	if e.uid == r.uid && e.gid == r.gid && len(e.xattrs) == 0 {
		return uint32(e.mode) & 0o777
	}
	return 0o600
}

func wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// write writes a piece of content at off.
func (r *restorer) write(j *job, data []byte, off int64) error {
	r.tally.stored.Add(int64(len(data)))
	for len(data) > 0 {
		n := min(len(data), writePiece)
		if err := r.halted(); err != nil {
			return err
		}
		if err := posix.WriteAt(j.out, data[:n], off); err != nil {
			return fmt.Errorf("write: %w", err)
		}
		data, off = data[n:], off+int64(n)
	}
	return nil
}

// complete dresses the new file and gives it its name, or removes it if err says that it is not as it should be.
func (r *restorer) complete(ctx context.Context, j *job, err error) error {
	if j.out < 0 {
		return err
	}
	if err == nil {
		err = r.dressNew(j)
	}
	if err != nil {
		return errors.Join(err, r.drop(j))
	}
	fd, err := r.dirs.use(j.dir)
	if err != nil {
		return errors.Join(err, r.drop(j))
	}
	defer r.dirs.done(j.dir)
	if err := r.closeOut(j); err != nil {
		return errors.Join(fmt.Errorf("close: %w", err), r.discard(fd, j.newName()))
	}
	if j.temp == "" {
		return nil
	}
	return r.put(ctx, j, fd, j.temp)
}

// newName is what the new file is called until it is complete.
func (j *job) newName() string {
	if j.temp != "" {
		return j.temp
	}
	return j.e.name
}

func (r *restorer) closeOut(j *job) error {
	r.mu.Lock()
	delete(r.begun, j)
	r.mu.Unlock()
	err := posix.Close(j.out)
	j.out = -1
	return err
}

// drop removes a new file that will not be completed, unless its name has become that of another file since.
func (r *restorer) drop(j *job) error {
	st, serr := posix.StatFD(j.out)
	err := errors.Join(serr, r.closeOut(j))
	if gerr := r.guard(); gerr != nil {
		return errors.Join(err, gerr)
	}
	fd, derr := r.dirs.use(j.dir)
	if derr != nil {
		return errors.Join(err, derr)
	}
	defer r.dirs.done(j.dir)
	if now, nerr := posix.StatAt(fd, j.newName()); nerr != nil || !now.Same(&st) {
		return errors.Join(err, ignoreMissing(nerr))
	}
	return errors.Join(err, r.discard(fd, j.newName()))
}

// discard removes a file that was made here and is of no use; what is gone already is.
func (r *restorer) discard(fd int, name string) error {
	if err := r.guard(); err != nil {
		return err
	}
	return ignoreMissing(posix.Unlink(fd, name))
}

// abandon drops what is not complete when a restore is broken off, so that it takes no space. No worker runs any more.
func (r *restorer) abandon() {
	for len(r.begun) > 0 {
		for j := range r.begun {
			_ = r.drop(j) // the error that broke off the restore is the one that counts
		}
	}
}

func (r *restorer) dressNew(j *job) error {
	if err := r.halted(); err != nil {
		return err
	}
	if j.trailingHole {
		if err := posix.Truncate(j.out, j.e.size); err != nil {
			return fmt.Errorf("set the size: %w", err)
		}
	}
	st, err := posix.StatFD(j.out) // often what it was made with is right
	if err != nil {
		return fmt.Errorf("examine the new file: %w", err)
	}
	problems, err := r.openSubject(j.out).dress(&j.e, st, true)
	r.tally.incomplete(j, problems)
	return err
}

// compare restores a file whose place is taken by one of the same size: it is read and compared chunk by chunk, and
// only where a chunk differs a new file is written, with what is equal from the old one.
func (w *worker) compare(ctx context.Context, j *job) error {
	fd, err := w.dirs.use(j.dir)
	if err != nil {
		return err
	}
	old, st, err := posix.OpenFile(fd, j.e.name, unix.O_RDONLY|unix.O_NOATIME)
	w.dirs.done(j.dir)
	if errors.Is(err, posix.ErrNotRegular) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return w.rewrite(ctx, j) // swapped since it was looked at, or unreadable to an ordinary user
	}
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer posix.Close(old)
	if st.Size != j.e.size || st.Ino != j.st.Ino || w.hash == nil {
		return w.rewrite(ctx, j)
	}
	j.st = st
	if !w.mayKeep(j) {
		return w.rewrite(ctx, j)
	}
	same, err := w.sameHoles(ctx, j, old)
	if err != nil {
		return err
	}
	if !same {
		return w.rewrite(ctx, j)
	}
	if done, err := w.repair(ctx, j, old); done || err != nil {
		return err
	}
	p := patch{worker: w, job: j, old: old}
	if err := w.eachChunk(ctx, &j.e, p.chunk(ctx)); err != nil || p.begun {
		return w.complete(ctx, j, err)
	}
	return w.dressExisting(w.openSubject(old), &j.e, &j.st, j)
}

// A patch compares a file with its saved chunks and writes a new one as soon as one differs.
type patch struct {
	*worker
	job   *job
	old   int
	begun bool
}

func (p *patch) chunk(ctx context.Context) func(chunk) error {
	return func(c chunk) error {
		p.count(p.job, c.length)
		if c.hole {
			return nil
		}
		buf := p.buffer(c.length)
		n, err := posix.ReadAt(p.old, buf, c.start)
		if err != nil {
			return fmt.Errorf("read what is there: %w", err)
		}
		same := n == len(buf) && p.contentHash.matches(buf, c.id)
		if same && !p.begun {
			return nil
		}
		if !p.begun {
			if err := p.start(c.start); err != nil {
				return err
			}
		}
		if same {
			return p.write(p.job, buf, c.start)
		}
		return p.contents.one(ctx, c, func(data []byte) error { return p.write(p.job, data, c.start) })
	}
}

// start makes the new file and copies what has been found equal, which ends at upTo.
func (p *patch) start(upTo int64) error {
	if err := p.begin(p.job); err != nil {
		return err
	}
	p.begun = true
	p.job.trailingHole = true
	for off := int64(0); off < upTo; {
		start, end, err := posix.NextData(p.old, off)
		if err != nil {
			return fmt.Errorf("find the data of what is there: %w", err)
		}
		if start >= upTo || start >= end {
			return nil
		}
		end = min(end, upTo, start+copyPiece)
		if err := p.halted(); err != nil {
			return err
		}
		if err := posix.CopyRange(p.old, p.job.out, start, end-start); err != nil {
			return fmt.Errorf("copy what is there: %w", err)
		}
		p.tally.stored.Add(end - start)
		off = end
	}
	return nil
}

// sameHoles reports whether the file old has its holes where the saved one has.
func (w *worker) sameHoles(ctx context.Context, j *job, old int) (bool, error) {
	if j.e.direct() { // it has none
		sparse, err := posix.Sparse(old, j.st.Size)
		return !sparse, err
	}
	same, from, at := true, int64(0), int64(0)
	run := func(end int64) error { // one range of data, from..end
		start, stop, err := posix.NextData(old, at)
		if err != nil {
			return fmt.Errorf("find the data of what is there: %w", err)
		}
		same = same && start == from && stop == end
		at = end
		return nil
	}
	inData := false
	err := w.eachChunk(ctx, &j.e, func(c chunk) error {
		if !same {
			return nil
		}
		if c.hole && inData {
			inData = false
			return run(c.start)
		}
		if !c.hole && !inData {
			inData, from = true, c.start
		}
		return nil
	})
	if err != nil || !same {
		return false, err
	}
	if inData {
		err = run(j.e.size)
	}
	if err == nil && at < j.e.size {
		inData, from = true, j.e.size
		err = run(j.e.size)
	}
	return same, err
}

// rewrite writes the whole file anew without a plan.
func (w *worker) rewrite(ctx context.Context, j *job) error {
	if err := w.begin(j); err != nil {
		return err
	}
	j.trailingHole = true
	err := w.eachChunk(ctx, &j.e, func(c chunk) error {
		w.count(j, c.length)
		if c.hole {
			return nil
		}
		return w.contents.one(ctx, c, func(data []byte) error { return w.write(j, data, c.start) })
	})
	return w.complete(ctx, j, err)
}

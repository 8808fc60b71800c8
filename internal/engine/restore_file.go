package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"abaca/internal/posix"
)

// A job is one entry that may not be as it was saved.
type job struct {
	dir    *targetDir
	e      entry
	st     posix.Stat // what has its name now
	exists bool
	group  *linkGroup // of a file with several names
	leads  bool

	counted atomic.Int64 // bytes of its content that progress has counted

	// While content is being written, perhaps by several workers:
	mu           sync.Mutex
	out          int    // the new file; -1 before it is made
	temp         string // its name until it is complete; empty when it was made under its own
	left         int    // pieces to come, and one for the planner
	trailingHole bool   // the size must be set, since the last chunk may be a hole
	err          error  // the first of any of them
}

func (j *job) path() string { return join(j.dir.path(), j.e.name) }

// replaces reports whether what has the job's name is sure not to stay.
func (j *job) replaces() bool {
	return j.st.Type() != j.e.kind.fileType() || j.e.kind == kindFile && j.st.Size != j.e.size && j.e.mark != markUnreadable
}

// settle ends a job, well or not. Only errors that end the whole restore are returned.
func (r *restorer) settle(j *job, err error) error {
	if err == nil {
		err = r.syncFile(j)
	}
	if err != nil {
		if reason := fatal(err); reason != nil {
			return reason
		}
		r.tally.fail(j.path(), err)
	} else {
		r.tally.marked(j)
	}
	if j.e.kind == kindFile {
		r.meter.do(0, j.e.size-j.counted.Load())
	}
	r.meter.do(1, 0)
	return r.finishJob(j.dir)
}

// count lets progress move while a large file is on its way.
func (r *restorer) count(j *job, bytes int64) {
	j.counted.Add(bytes)
	r.meter.do(0, bytes)
}

// end is settle for a job that others may wait for.
func (r *restorer) end(ctx context.Context, j *job, err error) error {
	if j.leads {
		if lerr := r.lead(ctx, j, err); lerr != nil {
			return lerr
		}
	}
	return r.settle(j, err)
}

// finishJob counts down what is unfinished in d, and dresses d and what is above it when nothing is.
func (r *restorer) finishJob(d *targetDir) error {
	for ; d != nil && d.unfinished.Add(-1) == 0; d = d.parent {
		err := r.dressDir(d)
		if err == nil {
			err = r.syncDir(d)
		}
		if err != nil {
			if reason := fatal(err); reason != nil {
				return reason
			}
			r.tally.fail(d.path(), err)
		}
		r.dirs.forget(d)
	}
	return nil
}

// dressDir gives a directory its saved attributes.
func (r *restorer) dressDir(d *targetDir) error {
	if d.saved.kind != kindDir && d.saved.mode == 0 {
		return nil // nothing is known of it
	}
	fd, err := r.dirs.use(d)
	if err != nil {
		return err
	}
	defer r.dirs.done(d)
	st, err := posix.StatFD(fd)
	if err != nil {
		return fmt.Errorf("examine the directory: %w", err)
	}
	if proven(&d.saved, &st) {
		return nil
	}
	return r.dressExisting(r.openSubject(fd), &d.saved, &st, d)
}

// dressExisting is dress for what may carry flags that forbid it. It counts what could not be set.
func (r *restorer) dressExisting(n subject, e *entry, st *posix.Stat, at location) error {
	if err := r.halted(); err != nil {
		return err
	}
	if n.isOpen() && (st.Immutable || st.AppendOnly) {
		have, err := n.attrs()
		if err == nil && sameAttributes(e, st) && slices.EqualFunc(have, e.xattrs, equalAttr) {
			return nil
		}
		if posix.ClearFlags(n.fd) == nil {
			r.tally.note(at.path(), "an immutable or append-only flag was taken off")
		}
	}
	problems, err := n.dress(e, *st, false)
	r.tally.incomplete(at, problems)
	return err
}

// put gives the complete file temp its own name in the open directory fd.
func (r *restorer) put(ctx context.Context, j *job, fd int, temp string) error {
	name := j.e.name
	err := r.change(j.dir, fd, func() error { return posix.Rename(fd, temp, fd, name) })
	switch {
	case errors.Is(err, unix.EISDIR), errors.Is(err, unix.ENOTEMPTY), errors.Is(err, fs.ErrExist):
		err = r.putOverDir(ctx, j, fd, temp)
	case errors.Is(err, fs.ErrPermission) && r.unflag(fd, name):
		r.tally.note(j.path(), "was immutable or append-only, and is replaced")
		err = posix.Rename(fd, temp, fd, name)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("put the file in place: %w", err), r.discard(fd, temp))
	}
	return nil
}

// putOverDir moves a directory out of the way first, which takes one step, and then removes it, which takes many.
func (r *restorer) putOverDir(ctx context.Context, j *job, fd int, temp string) error {
	old := r.temp()
	err := r.change(j.dir, fd, func() error { return posix.Rename(fd, j.e.name, fd, old) })
	if errors.Is(err, fs.ErrPermission) && r.unflag(fd, j.e.name) {
		r.tally.note(j.path(), "was immutable or append-only, and is replaced")
		err = posix.Rename(fd, j.e.name, fd, old)
	}
	if err != nil {
		return err
	}
	if err = r.halted(); err == nil {
		err = posix.Rename(fd, temp, fd, j.e.name)
	}
	if err != nil {
		return err
	}
	return r.remove(ctx, j.dir, fd, old)
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// place restores what has no content to be read: links, special files, empty files.
func (r *restorer) place(ctx context.Context, j *job) error {
	fd, err := r.dirs.use(j.dir)
	if err != nil {
		return err
	}
	defer r.dirs.done(j.dir)
	if j.exists && r.sameNode(j, fd) && r.mayKeep(j) {
		problems, err := r.closedSubject(fd, j.e.name).dress(&j.e, j.st, false)
		r.tally.incomplete(j, problems)
		return err
	}
	name := j.e.name
	if j.exists {
		name = r.temp()
	}
	err = r.change(j.dir, fd, func() error { return r.makeNode(fd, name, &j.e) })
	if errors.Is(err, fs.ErrExist) { // somebody made it since it was looked for
		name = r.temp()
		err = r.change(j.dir, fd, func() error { return r.makeNode(fd, name, &j.e) })
	}
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EOPNOTSUPP) {
		r.tally.incomplete(j, []string{fmt.Sprintf("cannot be made here: %v", err)})
		return nil
	}
	if err != nil {
		return fmt.Errorf("make it: %w", err)
	}
	st, err := posix.StatAt(fd, name)
	if err != nil {
		return fmt.Errorf("examine what was made: %w", err)
	}
	problems, err := r.closedSubject(fd, name).dress(&j.e, st, true)
	r.tally.incomplete(j, problems)
	if err == nil && name != j.e.name {
		err = r.put(ctx, j, fd, name)
	}
	return err
}

// sameNode reports whether a link or special file is there already, attributes aside.
func (r *restorer) sameNode(j *job, fd int) bool {
	if j.st.Type() != j.e.kind.fileType() {
		return false
	}
	switch j.e.kind {
	case kindSymlink:
		target, err := posix.Readlink(fd, j.e.name)
		return err == nil && target == j.e.target
	case kindChar, kindBlock:
		return j.st.Rdev == unix.Mkdev(j.e.major, j.e.minor)
	}
	return true
}

func (r *restorer) makeNode(fd int, name string, e *entry) error {
	if e.kind == kindSymlink {
		return posix.Symlink(e.target, fd, name)
	}
	return posix.Mknod(fd, name, e.kind.fileType()|0o600, unix.Mkdev(e.major, e.minor))
}

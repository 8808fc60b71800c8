package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"

	"abaca/internal/posix"
)

// change runs do, which makes, renames or removes an entry of d. Before the first change d's default ACL goes, which
// new entries would inherit; it comes back with the directory's attributes. Flags and modes that forbid the change go
// too.
func (r *restorer) change(d *targetDir, fd int, do func() error) error {
	if err := r.halted(); err != nil {
		return err
	}
	if !d.fresh {
		d.prepare.Do(func() { _ = posix.RemoveAttr(fd, defaultACL) }) // dress finds what an error here leaves
	}
	err := do()
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	opened, ferr := r.unlock(fd)
	if opened {
		r.tally.note(d.path(), "an immutable or append-only flag was taken off the directory")
	}
	if ferr != nil {
		return err
	}
	if err := r.halted(); err != nil {
		return err
	}
	return do()
}

// unlock makes an open directory changeable: without flags (which opened reports), and writable to its owner.
func (r *restorer) unlock(fd int) (opened bool, err error) {
	st, err := posix.StatFD(fd)
	if err == nil {
		err = r.halted()
	}
	if err != nil {
		return false, err
	}
	if st.Immutable || st.AppendOnly {
		if err := posix.ClearFlags(fd); err != nil {
			return false, err
		}
		opened = true
	}
	if st.Perm()&0o700 != 0o700 {
		err = posix.Chmod(fd, st.Perm()|0o700)
	}
	return opened, err
}

// unflag takes the immutable and append-only flags off an entry; it reports whether there were any and they are gone.
func (r *restorer) unflag(dir int, name string) bool {
	st, err := posix.StatAt(dir, name)
	if err != nil || !st.Immutable && !st.AppendOnly || r.halted() != nil {
		return false
	}
	var fd int
	switch st.Type() {
	case unix.S_IFREG:
		fd, _, err = posix.OpenFile(dir, name, unix.O_RDONLY)
	case unix.S_IFDIR:
		fd, err = posix.OpenDir(dir, name)
	default:
		return false
	}
	if err != nil {
		return false
	}
	defer posix.Close(fd)
	return posix.ClearFlags(fd) == nil
}

// removeExtras removes the entries of d that are not among names.
func (w *walker) removeExtras(ctx context.Context, d *targetDir, fd int, names nameSet) error {
	reader, err := posix.NewDirReader(fd, w.dents)
	if err != nil {
		return fmt.Errorf("list the directory: %w", err)
	}
	for {
		name, _, err := reader.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("list the directory: %w", err)
		}
		if _, saved := names[w.key(name)]; saved || strings.HasPrefix(string(name), w.tempPrefix) {
			continue
		}
		extra := string(name)
		if st, err := posix.StatAt(fd, extra); d.parent == nil && err == nil && isLostAndFound(&d.self, extra, &st) {
			continue
		}
		if err := w.remove(ctx, d, fd, extra); err != nil {
			if fatal(err) != nil || ctx.Err() != nil {
				return err
			}
			w.tally.fail(join(d.path(), extra), fmt.Errorf("remove what is extra: %w", err))
		}
	}
}

func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

// remove removes an entry of d, whatever it is, with all that is in it.
func (r *restorer) remove(ctx context.Context, d *targetDir, fd int, name string) error {
	err := r.change(d, fd, func() error { return posix.Unlink(fd, name) })
	if errors.Is(err, fs.ErrPermission) && r.unflag(fd, name) {
		r.tally.note(join(d.path(), name), "was immutable or append-only, and is removed")
		err = posix.Unlink(fd, name)
	}
	if errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EPERM) { // POSIX says EPERM for a directory
		err = r.removeDir(ctx, d, fd, name)
	}
	if err == nil {
		r.removed.Add(1)
	}
	return ignoreMissing(err)
}

// removeDir removes a directory tree of any depth with three descriptors: the subdirectories of its subdirectories
// are moved up into it until there are none. It stays within one mount.
func (r *restorer) removeDir(ctx context.Context, d *targetDir, fd int, name string) error {
	st, err := posix.StatAt(fd, name)
	if err != nil {
		return err
	}
	if st.Type() != unix.S_IFDIR {
		return unix.EPERM // what unlink said of it
	}
	if st.Mount != d.self.Mount {
		return unix.EBUSY // a mount point
	}
	top, err := r.openToEmpty(fd, name)
	if err != nil {
		return err
	}
	defer posix.Close(top)
	for done := false; !done; {
		if done, err = r.emptyOnce(ctx, top, top, &st); err != nil {
			return err
		}
	}
	return r.change(d, fd, func() error { return posix.Rmdir(fd, name) })
}

// openToEmpty opens a directory that is about to be removed and makes it changeable.
func (r *restorer) openToEmpty(dir int, name string) (int, error) {
	fd, err := posix.OpenDir(dir, name)
	if errors.Is(err, fs.ErrPermission) {
		if cerr := posix.ChmodAt(dir, name, 0o700); cerr != nil {
			return -1, err
		}
		fd, err = posix.OpenDir(dir, name)
	}
	if err != nil {
		return -1, err
	}
	if _, err := r.unlock(fd); err != nil {
		posix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// emptyOnce goes through dir once: directories directly in top are emptied and removed, those further down are moved
// to top, everything else is removed. done says that there was nothing.
func (r *restorer) emptyOnce(ctx context.Context, top, dir int, mount *posix.Stat) (done bool, err error) {
	reader, err := posix.NewDirReader(dir, nil)
	if err != nil {
		return false, err
	}
	for done = true; ; done = false {
		entry, _, err := reader.Next()
		if err == io.EOF {
			return done, nil
		}
		if err == nil {
			err = errors.Join(ctx.Err(), r.halted())
		}
		if err != nil {
			return false, err
		}
		name := string(entry)
		err = posix.Unlink(dir, name)
		if errors.Is(err, unix.EPERM) && r.unflag(dir, name) {
			err = posix.Unlink(dir, name)
		}
		if errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EPERM) {
			err = r.flatten(ctx, top, dir, name, mount)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, fmt.Errorf("remove %q: %w", printable(name), err)
		}
	}
}

func (r *restorer) flatten(ctx context.Context, top, dir int, name string, mount *posix.Stat) error {
	if dir != top {
		err := posix.Rename(dir, name, top, r.temp())
		if errors.Is(err, fs.ErrPermission) { // an ordinary owner must be able to write to what changes its ".."
			if err = posix.ChmodAt(dir, name, 0o700); err == nil {
				err = posix.Rename(dir, name, top, r.temp())
			}
		}
		return err
	}
	st, err := posix.StatAt(dir, name)
	if err != nil {
		return err
	}
	if st.Mount != mount.Mount {
		return unix.EBUSY
	}
	sub, err := r.openToEmpty(dir, name)
	if err != nil {
		return err
	}
	defer posix.Close(sub)
	for done := false; !done; {
		if done, err = r.emptyOnce(ctx, top, sub, mount); err != nil {
			return err
		}
	}
	if err := r.halted(); err != nil {
		return err
	}
	return posix.Rmdir(dir, name)
}

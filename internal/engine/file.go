package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"

	"abaca/internal/posix"
)

// maxAttempts is how often a file that changes under its reader is read before it is kept with a mark.
const maxAttempts = 3

// isTheFiles reports whether an error speaks of one file or directory rather than of the save: the entry is marked,
// and the rest goes on.
func isTheFiles(err error) bool {
	for _, e := range []error{unix.EACCES, unix.EPERM, unix.EIO, unix.ELOOP, unix.ENOTDIR, unix.ENXIO, unix.ESTALE,
		unix.EUCLEAN, unix.EBADMSG, unix.ENODATA, unix.EXDEV, unix.ETXTBSY, unix.EOVERFLOW, unix.EOPNOTSUPP, unix.ENOKEY} {
		if errors.Is(err, e) {
			return true
		}
	}
	return errors.Is(err, errForeign) || errors.Is(err, errAttrs) || errors.Is(err, errLost)
}

var (
	errForeign = errors.New("another file system is mounted here")
	errAttrs   = errors.New("too many extended attributes")
)

// maxAttrs bounds the bytes of extended attributes that one entry may have.
const maxAttrs = 8 << 20

func (s *saver) readAttrs(fd int) ([]posix.Attr, error) { return boundAttrs(posix.Attrs(fd)) }

func boundAttrs(attrs []posix.Attr, err error) ([]posix.Attr, error) {
	size := 0
	for _, a := range attrs {
		size += len(a.Name) + len(a.Value)
	}
	if size > maxAttrs {
		return nil, errAttrs
	}
	return attrs, err
}

// saveItem saves anything but a directory.
func (s *saver) saveItem(ctx context.Context, n *node, dir int, it *item, name string, e *entry) (fate, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	f, err := s.tryItem(ctx, n, dir, it, name, e)
	if errors.Is(err, posix.ErrNotRegular) || errors.Is(err, unix.EINVAL) && it.kind == kindSymlink {
		// It became something else since it was listed: look again, once.
		var st posix.Stat
		if st, err = posix.StatAt(dir, name); err == nil {
			it.set(&st)
			f, err = s.tryItem(ctx, n, dir, it, name, e)
		}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f, err = fateGone, nil
	case isTheFiles(err) || errors.Is(err, posix.ErrNotRegular) || errors.Is(err, unix.EINVAL):
		it.fill(e, name, n.scope)
		e.object, e.size, e.mark = s.empty, 0, markUnreadable
		if it.kind == kindDir {
			e.object, e.totals.dirs = s.emptyDir, 1
		}
		s.marks.add(n.path(name), e.mark, err)
		err = nil
	case err != nil:
		return 0, fmt.Errorf("saving %q: %w", n.path(name), err)
	}
	s.progress.do(1, it.bytes())
	return f, err
}

func (s *saver) tryItem(ctx context.Context, n *node, dir int, it *item, name string, e *entry) (fate, error) {
	if it.kind == kindFile {
		return fateSaved, s.saveFile(ctx, n, dir, name, e)
	}
	if it.kind == kindDir {
		return 0, posix.ErrNotRegular // it was none when its parent was listed
	}
	it.fill(e, name, n.scope)
	var err error
	e.object = s.empty
	if it.kind == kindSymlink {
		if e.target, err = posix.Readlink(dir, name); err != nil {
			return 0, err
		}
		e.size = int64(len(e.target))
		if e.object, err = s.w.put(ctx, "", []byte(e.target)); err != nil {
			return 0, err
		}
	}
	e.xattrs, err = boundAttrs(posix.AttrsAt(dir, name))
	if err != nil {
		if !isTheFiles(err) {
			return 0, err
		}
		e.mark = markAttributes
		s.marks.add(n.path(name), e.mark, err)
	}
	s.distrust(e)
	return fateSaved, nil
}

// saveFile reads a regular file, again if it changes meanwhile. The entry tells of the file that was opened, which may
// be another than the one that was listed.
func (s *saver) saveFile(ctx context.Context, n *node, dir int, name string, e *entry) error {
	for attempt := 1; ; attempt++ {
		steady, err := s.readFile(ctx, n, dir, name, e)
		if err != nil || steady {
			return err
		}
		if attempt == maxAttempts {
			e.mark = markChanged
			s.marks.add(n.path(name), e.mark, errChanged)
			return nil
		}
	}
}

var errChanged = errors.New("it changed while it was read")

// readFile reads a file once; steady says that it did not change meanwhile.
func (s *saver) readFile(ctx context.Context, n *node, dir int, name string, e *entry) (steady bool, err error) {
	fd, st, err := posix.OpenFile(dir, name, unix.O_RDONLY|unix.O_NOATIME)
	if err != nil {
		return false, err
	}
	defer posix.Close(fd)
	var it item
	it.set(&st)
	it.fill(e, name, n.scope)
	if known := s.links.find(e); known != nil {
		name := e.name
		*e = *known
		e.name = name
		return true, nil
	}
	e.object, e.size, err = s.content(ctx, fd, &st, e)
	if err != nil {
		return false, err
	}
	e.xattrs, err = s.readAttrs(fd)
	if err != nil {
		if !isTheFiles(err) {
			return false, err
		}
		e.mark = markAttributes
		s.marks.add(n.path(name), e.mark, err)
	}
	if !s.still {
		now, err := posix.StatFD(fd)
		if err != nil {
			return false, err
		}
		if now.Mtime != st.Mtime || now.Ctime != st.Ctime || now.Size != st.Size || e.size != st.Size {
			return false, nil
		}
	}
	s.distrust(e)
	s.links.keep(e)
	return true, nil
}

// How long after a change another one may leave the same change time: the kernel's clock ticks at least every 10 ms,
// and file systems that keep whole seconds need two.
const (
	fineTick   = 20 * time.Millisecond
	coarseTick = 2 * time.Second
)

// distrust takes away the proof that an entry is what was read, where a later change might not be seen: its change
// time is so young that it could stay the same. The next save reads such a file again.
func (s *saver) distrust(e *entry) {
	tick := fineTick
	if e.ctime.Nsec == 0 {
		tick = coarseTick
	}
	if s.kernelNow().Sub(e.ctime.Time()) < tick {
		e.ctime = posix.Time{}
	}
}

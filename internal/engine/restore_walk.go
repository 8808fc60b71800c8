package engine

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"

	"github.com/kopia/kopia/repo/object"
	"golang.org/x/sys/unix"

	"abaca/internal/posix"
)

// maxSubdirs is how many subdirectories are remembered before they are visited.
const maxSubdirs = 4096

// A walker goes through the saved directories, each with the directory of the share that it becomes.
type walker struct {
	*restorer
	plan  *planner
	names []nameSet // sets to use again
	dents []byte    // buffer for directory entries
}

// A nameSet holds 128-bit hashes of names, with seeds of this run, instead of names: a directory of a million long
// names takes a few dozen megabytes.
type nameSet map[[2]uint64]struct{}

func newWalker(r *restorer) *walker {
	return &walker{restorer: r, plan: newPlanner(r), dents: make([]byte, 64<<10)}
}

func (w *walker) key(name []byte) [2]uint64 {
	return [2]uint64{maphash.Bytes(w.seeds[0], name), maphash.Bytes(w.seeds[1], name)}
}

// visit makes the entries of d those of the saved directory obj, and goes on to its subdirectories. Only errors that
// end the whole restore are returned.
func (w *walker) visit(ctx context.Context, d *targetDir, obj object.ID) error {
	d.unfinished.Add(1)
	stream, err := w.open(ctx, d, obj)
	if err != nil {
		return w.blame(ctx, d, w.finishJob(d), err)
	}
	defer stream.Close()
	names := w.takeNames()
	defer w.giveNames(names)
	var subdirs []entry
	for last := false; !last; {
		subdirs = subdirs[:0]
		if last, err = w.entries(ctx, d, stream.decoder, names, &subdirs); err != nil {
			return w.blame(ctx, d, w.finishJob(d), err)
		}
		for i := range subdirs {
			if err := w.enter(ctx, d, &subdirs[i]); err != nil {
				return err
			}
		}
	}
	return w.finishJob(d)
}

// blame decides what an error with a directory means: earlier is returned first, the end of everything next, and
// otherwise the directory counts as failed.
func (w *walker) blame(ctx context.Context, d *targetDir, earlier, err error) error {
	if earlier != nil {
		return earlier
	}
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if reason := fatal(err); reason != nil {
		return reason
	}
	w.tally.fail(d.path(), err)
	return nil
}

// A dirStream is a saved directory being read.
type dirStream struct {
	object.Reader
	decoder *dirDecoder
}

func (w *walker) open(ctx context.Context, d *targetDir, obj object.ID) (dirStream, error) {
	reader, err := w.source.OpenObject(ctx, obj)
	if err != nil {
		return dirStream{}, fmt.Errorf("%w: open directory %v: %w", errDamaged, obj, err)
	}
	decoder, err := newDirDecoder(reader)
	if err != nil {
		reader.Close()
		return dirStream{}, fmt.Errorf("%w: directory %v: %w", errDamaged, obj, err)
	}
	if d.parent == nil && decoder.header.self != nil {
		d.saved = *decoder.header.self
	}
	return dirStream{reader, decoder}, nil
}

// entries handles entries up to the end of the directory (last) or until there are maxSubdirs subdirectories to visit.
// At the end what is extra goes.
func (w *walker) entries(ctx context.Context, d *targetDir, decoder *dirDecoder, names nameSet, subdirs *[]entry) (last bool, err error) {
	fd, err := w.dirs.use(d)
	if err != nil {
		return false, err
	}
	defer w.dirs.done(d)
	for len(*subdirs) < maxSubdirs {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		var e entry
		err := decoder.next(&e)
		if err == io.EOF {
			if d.fresh {
				return true, nil
			}
			return true, w.removeExtras(ctx, d, fd, names)
		}
		if err != nil {
			return false, fmt.Errorf("%w: %w", errDamaged, err)
		}
		if !d.fresh {
			names[w.key([]byte(e.name))] = struct{}{}
		}
		if e.kind == kindDir {
			*subdirs = append(*subdirs, e)
			continue
		}
		if err := w.entry(ctx, d, fd, &e); err != nil {
			return false, err
		}
	}
	return false, nil
}

// entry passes by what is proven to be right, and makes a job of the rest.
func (w *walker) entry(ctx context.Context, d *targetDir, fd int, e *entry) error {
	j := &job{dir: d, e: *e, out: -1}
	if !d.fresh {
		st, err := posix.StatAt(fd, e.name)
		switch {
		case err == nil:
			j.st, j.exists = st, true
		case !errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("examine %q: %w", printable(e.name), err)
		}
	}
	if w.clearing {
		if j.exists && j.replaces() {
			return w.blame(ctx, d, nil, w.remove(ctx, d, fd, e.name))
		}
		return nil
	}
	d.unfinished.Add(1)
	if e.nlink > 1 {
		if leads := w.links.join(j); !leads {
			return w.linkIfReady(ctx, j)
		}
	}
	if e.mark == markNone && j.exists && proven(e, &j.st) && w.mayKeep(j) {
		return w.end(ctx, j, nil)
	}
	return w.plan.add(ctx, j)
}

// enter goes into a subdirectory, which is made if need be.
func (w *walker) enter(ctx context.Context, parent *targetDir, e *entry) error {
	parent.unfinished.Add(1)
	d := &targetDir{parent: parent, name: e.name, saved: *e, fd: -1}
	if err := w.ensureDir(ctx, d); err != nil {
		if w.clearing && errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return w.blame(ctx, d, w.finishJob(parent), err)
	}
	w.meter.do(1, 0)
	if e.mark == markUnreadable {
		// What was in it is not known, so what is in it stays.
		w.tally.incomplete(d, []string{"was saved without its entries"})
		d.unfinished.Add(1)
		return w.finishJob(d)
	}
	return w.visit(ctx, d, e.object)
}

// ensureDir finds or makes the directory that d stands for, removing what is in its place.
func (w *walker) ensureDir(ctx context.Context, d *targetDir) error {
	up, err := w.dirs.use(d.parent)
	if err != nil {
		return err
	}
	defer w.dirs.done(d.parent)
	if !d.parent.fresh {
		found, err := w.clearForDir(ctx, d, up)
		if found || err != nil {
			return err
		}
	}
	if w.clearing {
		return fs.ErrNotExist
	}
	err = w.change(d.parent, up, func() error { return posix.Mkdir(up, d.name, 0o700) })
	if err != nil {
		return fmt.Errorf("make the directory: %w", err)
	}
	d.fresh = true
	return w.adopt(d, up)
}

// clearForDir opens the directory if it is there, and removes anything else that has its name.
func (w *walker) clearForDir(ctx context.Context, d *targetDir, up int) (found bool, err error) {
	st, err := posix.StatAt(up, d.name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("examine: %w", err)
	}
	if st.Type() != unix.S_IFDIR {
		return false, w.remove(ctx, d.parent, up, d.name)
	}
	if err = w.adopt(d, up); errors.Is(err, fs.ErrPermission) && posix.ChmodAt(up, d.name, st.Perm()|0o700) == nil {
		err = w.adopt(d, up)
	}
	return true, err
}

// adopt opens the directory and remembers which it is.
func (w *walker) adopt(d *targetDir, up int) error {
	fd, st, err := openDir(up, d.name)
	if err != nil {
		return fmt.Errorf("open the directory: %w", err)
	}
	if st.Perm()&0o100 == 0 && unix.Geteuid() != 0 {
		// An ordinary owner cannot look for names in it otherwise. Its saved mode comes at the end.
		if err := posix.Chmod(fd, st.Perm()|0o700); err != nil {
			posix.Close(fd)
			return fmt.Errorf("make the directory searchable: %w", err)
		}
	}
	d.fd, d.self, d.users = fd, st, 1
	w.dirs.done(d)
	return nil
}

func (w *walker) takeNames() nameSet {
	if n := len(w.names); n > 0 {
		set := w.names[n-1]
		w.names = w.names[:n-1]
		return set
	}
	return nameSet{}
}

func (w *walker) giveNames(set nameSet) {
	if len(set) > 1<<15 {
		return // clearing it would cost every small directory to come
	}
	clear(set)
	w.names = append(w.names, set)
}

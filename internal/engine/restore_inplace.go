package engine

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"abaca/internal/posix"
)

// Large files of which little differs are repaired in place: a new file would have to be written whole, where the file
// system cannot share blocks. Small ones are replaced, which takes one step.
//
// A restore that dies in between leaves such a file torn, but never taken for whole: its change time is made durable
// before its first byte changes, so that neither the next restore nor the next save trusts what they knew of it. The
// share stays marked as being restored until a restore has gone through.
const (
	inPlaceFrom = 8 << 20 // bytes of a file
	inPlaceMost = 1 << 14 // chunks that differ, which are remembered
)

// repair overwrites the chunks of an open file that differ. done is false where the file is to be replaced instead,
// and then nothing has been changed.
func (w *worker) repair(ctx context.Context, j *job, old int) (done bool, err error) {
	if j.e.size < inPlaceFrom || j.st.Nlink != 1 || j.e.nlink != 1 {
		return false, nil // another name may be somebody's outside of the share, and keeps its content
	}
	wrong, err := w.differing(ctx, j, old)
	if errors.Is(err, errTooMuch) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if len(wrong) == 0 {
		return true, w.dressExisting(w.openSubject(old), &j.e, &j.st, j)
	}
	for _, c := range wrong { // as long as one cannot be read the file stays as it is
		if err := w.contents.one(ctx, c, func([]byte) error { return ctx.Err() }); err != nil {
			return false, err
		}
	}
	fd, err := w.openInPlace(j)
	if err != nil {
		return false, nil // immutable, running or swapped: replacing it says what is wrong, if anything is
	}
	defer posix.Close(fd)
	return true, w.overwrite(ctx, j, fd, wrong)
}

var errTooMuch = errors.New("too much differs")

// differing returns the chunks that an open file does not have, or errTooMuch as soon as that is more than half of what has been
// compared.
func (w *worker) differing(ctx context.Context, j *job, old int) (wrong []chunk, err error) {
	var bad, seen int64
	err = w.eachChunk(ctx, &j.e, func(c chunk) error {
		w.count(j, c.length)
		seen += c.length
		if c.hole {
			return nil
		}
		buf := w.buffer(c.length)
		n, err := posix.ReadAt(old, buf, c.start)
		if err != nil {
			return fmt.Errorf("read what is there: %w", err)
		}
		if n == len(buf) && w.contentHash.matches(buf, c.id) {
			return nil
		}
		wrong = append(wrong, c)
		if bad += c.length; bad > max(inPlaceFrom, seen/2) || len(wrong) > inPlaceMost {
			w.count(j, -seen)
			return errTooMuch
		}
		return nil
	})
	return wrong, err
}

var errSwapped = errors.New("the file was replaced meanwhile")

// openInPlace opens the job's file for writing if it is still the one that was compared.
func (w *worker) openInPlace(j *job) (int, error) {
	dir, err := w.dirs.use(j.dir)
	if err != nil {
		return -1, err
	}
	defer w.dirs.done(j.dir)
	fd, st, err := posix.OpenFile(dir, j.e.name, unix.O_RDWR)
	if err != nil {
		return -1, err
	}
	if !st.Same(&j.st) || st.Size != j.e.size || st.Nlink != 1 {
		return -1, errors.Join(errSwapped, posix.Close(fd))
	}
	return fd, nil
}

// overwrite writes chunks into an open file and dresses it.
func (w *worker) overwrite(ctx context.Context, j *job, fd int, wrong []chunk) error {
	if err := w.halted(); err != nil {
		return err
	}
	if err := posix.SetMtime(fd, j.st.Mtime); err != nil { // which sets the change time
		return fmt.Errorf("mark the file as changed: %w", err)
	}
	if err := unix.Fsync(fd); err != nil {
		return fmt.Errorf("mark the file as changed: %w", err)
	}
	for _, c := range wrong {
		err := w.contents.one(ctx, c, func(data []byte) error {
			if err := w.halted(); err != nil {
				return err
			}
			w.tally.stored.Add(int64(len(data)))
			return wrap("write", posix.WriteAt(fd, data, c.start))
		})
		if err != nil {
			return err
		}
	}
	st, err := posix.StatFD(fd)
	if err != nil {
		return fmt.Errorf("examine the file: %w", err)
	}
	return w.dressExisting(w.openSubject(fd), &j.e, &st, j)
}

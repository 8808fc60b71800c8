package posix

import (
	"errors"
	"io"

	"golang.org/x/sys/unix"
)

// ReadAt reads until buf is full or the file ends; n below len(buf) without an error is the end of the file.
func ReadAt(fd int, buf []byte, off int64) (n int, err error) {
	for n < len(buf) {
		m, err := unix.Pread(fd, buf[n:], off+int64(n))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return n, err
		}
		if m == 0 {
			break
		}
		n += m
	}
	return n, nil
}

// WriteAt writes all of buf.
func WriteAt(fd int, buf []byte, off int64) error {
	for len(buf) > 0 {
		m, err := unix.Pwrite(fd, buf, off)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		if m == 0 {
			return io.ErrShortWrite
		}
		buf, off = buf[m:], off+int64(m)
	}
	return nil
}

// Truncate sets the size of an open file; growing makes a hole.
func Truncate(fd int, size int64) error {
	return again(func() error { return unix.Ftruncate(fd, size) })
}

// PunchHole frees the blocks of a range, which reads as zeros from then on; EOPNOTSUPP where that cannot be.
func PunchHole(fd int, off, length int64) error {
	return again(func() error {
		return unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, length)
	})
}

// NextData returns the first range of data at or after off, the rest being holes; start == end == the file's size where
// no data follows. File systems that keep no holes report the whole file as data.
func NextData(fd int, off int64) (start, end int64, err error) {
	start, err = seek(fd, off, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) { // no data from here on
		size, err := seek(fd, 0, io.SeekEnd)
		return size, size, err
	}
	if err != nil {
		return 0, 0, err
	}
	end, err = seek(fd, start, unix.SEEK_HOLE)
	if errors.Is(err, unix.ENXIO) { // the file shrank in between
		return start, start, nil
	}
	return start, end, err
}

// Sparse reports whether a file has a hole before size. The number of its blocks does not tell: attributes and the lists of
// blocks themselves count among them. It moves the file's position.
func Sparse(fd int, size int64) (bool, error) {
	hole, err := seek(fd, 0, unix.SEEK_HOLE)
	if errors.Is(err, unix.ENXIO) { // the file is empty, or became so
		return false, nil
	}
	return hole < size, err
}

func seek(fd int, off int64, whence int) (pos int64, err error) {
	err = again(func() error {
		pos, err = unix.Seek(fd, off, whence)
		return err
	})
	return pos, err
}

// CopyRange copies a range of one file to the same place in another inside the kernel, which shares the blocks where
// the file system can, and otherwise through a buffer. The end of the source ends it early without an error.
func CopyRange(from, to int, off, length int64) error {
	in, out := off, off
	for length > 0 {
		n, err := unix.CopyFileRange(from, &in, to, &out, int(min(length, 1<<30)), 0)
		switch {
		case err == unix.EINTR:
		case err == unix.EXDEV || err == unix.EINVAL || err == unix.ENOSYS || err == unix.EOPNOTSUPP:
			return copyBuffered(from, to, in, length)
		case err != nil:
			return err
		case n == 0:
			return nil
		}
		length -= int64(max(n, 0))
	}
	return nil
}

func copyBuffered(from, to int, off, length int64) error {
	buf := make([]byte, min(length, 256<<10))
	for length > 0 {
		n, err := ReadAt(from, buf[:min(length, int64(len(buf)))], off)
		if err != nil || n == 0 {
			return err
		}
		if err := WriteAt(to, buf[:n], off); err != nil {
			return err
		}
		off, length = off+int64(n), length-int64(n)
	}
	return nil
}

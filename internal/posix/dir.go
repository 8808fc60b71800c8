package posix

import (
	"bytes"
	"encoding/binary"
	"io"

	"golang.org/x/sys/unix"
)

// A DirReader reads the entries of an open directory in the kernel's order with one buffer, so that a directory of
// any size takes the same memory. Entries made or removed while it reads may or may not be seen, as readdir(3) says.
type DirReader struct {
	fd  int
	buf []byte
	at  int
	end int
}

// NewDirReader reads from the start of the directory fd, whose file position it owns from now on. buf may be nil;
// a buffer of 32 KiB or more can be handed from one reader to the next.
func NewDirReader(fd int, buf []byte) (*DirReader, error) {
	if len(buf) < 32<<10 {
		buf = make([]byte, 64<<10)
	}
	if _, err := unix.Seek(fd, 0, io.SeekStart); err != nil {
		return nil, err
	}
	return &DirReader{fd: fd, buf: buf}, nil
}

// Offsets of struct linux_dirent64.
const (
	direntReclen = 16
	direntType   = 18
	direntName   = 19
)

// Next returns the next entry but "." and "..", or io.EOF. The name is valid until the call after; typ is the entry's
// d_type (DT_REG, DT_DIR, …), DT_UNKNOWN on file systems that do not keep it.
func (r *DirReader) Next() (name []byte, typ uint8, err error) {
	for {
		for r.at >= r.end {
			if err := r.fill(); err != nil {
				return nil, 0, err
			}
		}
		rec := r.buf[r.at:r.end]
		length := int(binary.NativeEndian.Uint16(rec[direntReclen:]))
		r.at += length
		name = rec[direntName:length]
		if i := bytes.IndexByte(name, 0); i >= 0 {
			name = name[:i]
		}
		if string(name) != "." && string(name) != ".." {
			return name, rec[direntType], nil
		}
	}
}

func (r *DirReader) fill() error {
	r.at, r.end = 0, 0
	return again(func() error {
		n, err := unix.Getdents(r.fd, r.buf)
		if err == nil && n == 0 {
			err = io.EOF
		}
		r.end = max(n, 0)
		return err
	})
}

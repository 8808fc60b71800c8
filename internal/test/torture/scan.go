package torture

import (
	"crypto/sha256"
	"fmt"
	"io"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"abaca/internal/posix"
)

// A record is everything about one directory entry that a restore must bring back.
type record struct {
	stat    posix.Stat
	target  string // of a symbolic link
	attrs   []posix.Attr
	extents string // ranges of data, the rest being holes
	content [sha256.Size]byte
	leader  string // the first path, in byte order of the walk, of the same inode
}

// scan reads a tree; the keys are paths below root, "." for root itself.
func scan(root string) (map[string]record, error) {
	fd, err := unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", root, err)
	}
	defer unix.Close(fd)
	s := scanner{records: map[string]record{}, first: map[[2]uint64]string{}, buf: make([]byte, 1<<20)}
	r := record{leader: "."}
	if r.stat, err = posix.StatFD(fd); err != nil {
		return nil, err
	}
	if r.attrs, err = posix.Attrs(fd); err != nil {
		return nil, err
	}
	s.records["."] = r
	return s.records, s.dir(fd, "")
}

type scanner struct {
	records map[string]record
	first   map[[2]uint64]string
	buf     []byte
}

func (s *scanner) dir(fd int, path string) error {
	names, err := list(fd)
	if err != nil {
		return fmt.Errorf("list %q: %w", path, err)
	}
	for _, name := range names {
		at := strings.TrimPrefix(path+"/"+name, "/")
		r, err := s.entry(fd, name, at)
		if err != nil {
			return fmt.Errorf("read %q: %w", at, err)
		}
		s.records[at] = r
		if r.stat.Type() != unix.S_IFDIR {
			continue
		}
		child, err := posix.OpenDir(fd, name)
		if err != nil {
			return fmt.Errorf("open %q: %w", at, err)
		}
		err = s.dir(child, at)
		unix.Close(child)
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *scanner) entry(dir int, name, path string) (r record, err error) {
	if r.stat, err = posix.StatAt(dir, name); err != nil {
		return r, err
	}
	if r.attrs, err = posix.AttrsAt(dir, name); err != nil {
		return r, err
	}
	id := [2]uint64{r.stat.Dev, r.stat.Ino}
	r.leader = path
	if first, ok := s.first[id]; ok && r.stat.Type() != unix.S_IFDIR {
		r.leader = first
		leader := s.records[first]
		r.target, r.extents, r.content = leader.target, leader.extents, leader.content
		return r, nil
	}
	s.first[id] = path
	switch r.stat.Type() {
	case unix.S_IFLNK:
		r.target, err = posix.Readlink(dir, name)
	case unix.S_IFREG:
		err = r.read(dir, name, s.buf)
	}
	return r, err
}

// read hashes the ranges of data, so that holes of any size cost nothing.
func (r *record) read(dir int, name string, buf []byte) error {
	fd, _, err := posix.OpenFile(dir, name, unix.O_RDONLY|unix.O_NOATIME)
	if err == unix.EACCES {
		return nil // an ordinary user and a file of mode 000: the rest is compared
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	hash := sha256.New()
	for off := int64(0); off < r.stat.Size; {
		start, end, err := posix.NextData(fd, off)
		if err != nil {
			return err
		}
		if start >= end {
			break
		}
		r.extents += fmt.Sprintf("%d-%d ", start, end)
		for off = start; off < end; {
			n, err := posix.ReadAt(fd, buf[:min(int64(len(buf)), end-off)], off)
			if err != nil {
				return err
			}
			if n == 0 {
				return io.ErrUnexpectedEOF
			}
			hash.Write(buf[:n])
			off += int64(n)
		}
	}
	r.content = [sha256.Size]byte(hash.Sum(nil))
	return nil
}

// list returns the names in a directory, sorted.
func list(dir int) ([]string, error) {
	reader, err := posix.NewDirReader(dir, nil)
	if err != nil {
		return nil, err
	}
	var names []string
	for {
		name, _, err := reader.Next()
		if err == io.EOF {
			slices.Sort(names)
			return names, nil
		}
		if err != nil {
			return nil, err
		}
		names = append(names, string(name))
	}
}

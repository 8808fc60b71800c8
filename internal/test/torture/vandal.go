package torture

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// spoil makes one change.
func (g *gardener) spoil() error {
	if len(g.entries) == 0 {
		return g.plant()
	}
	path := pick(g, g.entries)
	switch g.random.IntN(16) {
	case 0, 1:
		return g.scribble(path)
	case 2:
		return g.whenRegular(path, func(fs.FileInfo) error { return os.Truncate(path, int64(g.size())) })
	case 3:
		return g.append(path)
	case 4:
		return g.adorn(pick(g, slices.Concat(g.dirs, g.entries)))
	case 5:
		return os.Remove(path)
	case 6:
		if dir := pick(g, g.dirs); dir != g.dirs[0] {
			return removeAll(dir)
		}
		return fs.ErrNotExist
	case 7, 8:
		return g.plant()
	case 9:
		return g.retype(path)
	case 10:
		if dir := pick(g, g.dirs); dir != g.dirs[0] {
			return g.retype(dir)
		}
		return fs.ErrNotExist
	case 11:
		return os.Rename(path, filepath.Join(pick(g, g.dirs), g.name()))
	case 12:
		return unix.Renameat2(unix.AT_FDCWD, path, unix.AT_FDCWD, pick(g, slices.Concat(g.entries, g.dirs[1:])), unix.RENAME_EXCHANGE)
	case 13:
		return os.Link(path, filepath.Join(pick(g, g.dirs), g.name()))
	case 14:
		return g.cut(path)
	default:
		return g.whenRegular(path, func(st fs.FileInfo) error {
			fd, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				return err
			}
			defer fd.Close()
			return unix.Fallocate(int(fd.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, max(1, st.Size()/2))
		})
	}
}

// whenRegular keeps away from FIFOs, which hang, and links, which lead out of the tree.
func (g *gardener) whenRegular(path string, do func(fs.FileInfo) error) error {
	st, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return errNotFile
	}
	return do(st)
}

// scribble changes bytes, and half of the time sets the modification time back as rootkits and some editors do.
func (g *gardener) scribble(path string) error {
	return g.whenRegular(path, func(st fs.FileInfo) error {
		fd, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer fd.Close()
		if _, err := fd.WriteAt(g.bytes(1+g.random.IntN(100)), g.random.Int64N(min(st.Size(), 16<<20)+1)); err != nil {
			return err
		}
		if g.random.IntN(2) == 0 {
			return nil
		}
		return os.Chtimes(path, st.ModTime(), st.ModTime())
	})
}

func (g *gardener) append(path string) error {
	return g.whenRegular(path, func(fs.FileInfo) error {
		fd, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			return err
		}
		defer fd.Close()
		_, err = fd.Write(g.bytes(g.size()))
		return err
	})
}

// retype puts something of another type in an entry's place.
func (g *gardener) retype(path string) error {
	st, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if err := removeAll(path); err != nil {
		return err
	}
	if st.IsDir() {
		switch g.random.IntN(3) {
		case 0:
			return os.Symlink(".", path) // what the vandal does beneath it stays in the tree
		case 1:
			return unix.Mkfifo(path, 0o600)
		default:
			return os.WriteFile(path, g.bytes(10), 0o600)
		}
	}
	if g.random.IntN(3) == 0 {
		return os.Symlink("/", path)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(path, "in the way"), g.bytes(10), 0o600)
}

// cut makes a hard link an inode of its own with the same content.
func (g *gardener) cut(path string) error {
	return g.whenRegular(path, func(st fs.FileInfo) error {
		if st.Size() > 64<<20 {
			return errNotFile
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := os.Remove(path); err != nil {
			return err
		}
		return os.WriteFile(path, content, st.Mode().Perm())
	})
}

// removeAll is os.RemoveAll, which opens the directory above and would wait for ever if that had become a FIFO.
func removeAll(path string) error {
	if _, err := os.Lstat(path); err != nil {
		return err
	}
	return os.RemoveAll(path)
}

// Package backend reaches the files of shares: one file for each kind of back end.
package backend

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"abaca"
	"abaca/internal/posix"
)

// A Directory keeps each share in a directory below its own path. The path is opened once; everything is reached from
// that descriptor, without following symbolic links.
type Directory struct {
	given, real string // as configured, absolute; and with its own symbolic links resolved
	root        *os.File
}

// ownPrefix is that of names below the path that belong to the back end; removedPrefix marks the root directory of a share
// that is being deleted.
const (
	ownPrefix     = ".abaca-"
	removedPrefix = ownPrefix + "removed-"
)

// OpenDirectory opens the directory at path, making it where it does not exist.
func OpenDirectory(path string) (*Directory, error) {
	given, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open back end: %w", err)
	}
	if err := posix.MakeDirs(given, 0o755); err != nil {
		return nil, fmt.Errorf("open back end: %w", err)
	}
	real, err := filepath.EvalSymlinks(given)
	if err != nil {
		return nil, fmt.Errorf("open back end: %w", err)
	}
	root, err := os.Open(real)
	if err != nil {
		return nil, fmt.Errorf("open back end: %w", err)
	}
	return &Directory{given: given, real: real, root: root}, nil
}

// Close closes the back end.
func (d *Directory) Close() error { return d.root.Close() }

// Absolute returns where a share's root directory is on this machine.
func (d *Directory) Absolute(share string) string { return filepath.Join(d.given, share) }

func (d *Directory) fd() int { return int(d.root.Fd()) }

// ask waits until the file system answers. The back end may be closed meanwhile.
func (d *Directory) ask() error {
	raw, err := d.root.SyscallConn()
	if err != nil {
		return err
	}
	closed := raw.Control(func(fd uintptr) { err = posix.Ask(int(fd)) })
	return errors.Join(closed, err)
}

// Create makes a share's root directory. Anybody may write in it: as in Manila's own drivers, who reaches it is decided
// by the export and the directories above.
func (d *Directory) Create(_ context.Context, share string) error {
	if err := posix.CheckName(share); err != nil {
		return fmt.Errorf("make share directory %q: %w", share, err)
	}
	if err := posix.Mkdir(d.fd(), share, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make share directory: %w", err)
	}
	fd, err := posix.OpenDir(d.fd(), share)
	if err != nil {
		return fmt.Errorf("make share directory: %w", err)
	}
	// The umask has had its say in Mkdir; the mode and the entry must be durable before the share is called available.
	err = errors.Join(posix.Chmod(fd, 0o777), unix.Fsync(fd), posix.Close(fd), d.root.Sync())
	if err != nil {
		return fmt.Errorf("make share directory: %w", err)
	}
	return nil
}

// Mount opens a share's root directory.
func (d *Directory) Mount(_ context.Context, share string) (*abaca.Volume, error) {
	fd, err := posix.OpenDir(d.fd(), share)
	if err != nil {
		return nil, &abaca.Reason{Text: "the share's directory cannot be opened", Err: err}
	}
	return &abaca.Volume{Root: os.NewFile(uintptr(fd), share)}, nil
}

// Locate turns an absolute path into one relative to the back end's, see manager.Backend.
func (d *Directory) Locate(_ context.Context, absolute string) (string, error) {
	refuse := func(why string) (string, error) {
		return "", abaca.Errorf(abaca.Invalid, "The export path %q %s.", absolute, why)
	}
	clean := path.Clean(absolute)
	share, ok := strings.CutPrefix(clean, d.given+"/")
	if !ok {
		share, ok = strings.CutPrefix(clean, d.real+"/")
	}
	if !ok || !path.IsAbs(absolute) || strings.ContainsRune(absolute, 0) {
		return refuse("is not below the back end's path")
	}
	if strings.HasPrefix(share, ownPrefix) {
		return refuse("is the back end's own")
	}
	fd, err := posix.OpenDir(d.fd(), share)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return refuse("does not exist")
	case errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP):
		return refuse("is not a directory, or is reached through a symbolic link")
	case err != nil:
		return refuse("cannot be opened")
	}
	return share, posix.Close(fd)
}

// Usage returns the bytes allocated to the files below a share's root; a file with several links counts once for each.
func (d *Directory) Usage(ctx context.Context, share string) (int64, error) {
	fd, err := posix.OpenDir(d.fd(), share)
	if err != nil {
		return 0, &abaca.Reason{Text: "the share's directory cannot be opened", Err: err}
	}
	n, err := usage(ctx, fd)
	if err = errors.Join(err, posix.Close(fd)); err != nil {
		return 0, fmt.Errorf("measure share: %w", err)
	}
	return n, nil
}

const sector = 512 // bytes, the unit of st_blocks

func usage(ctx context.Context, dir int) (bytes int64, err error) {
	err = eachEntry(ctx, dir, func(name string, st posix.Stat) error {
		bytes += st.Blocks * sector
		if st.Type() != unix.S_IFDIR {
			return nil
		}
		fd, err := posix.OpenDir(dir, name)
		if err != nil {
			return ignoreGone(err)
		}
		below, err := usage(ctx, fd)
		bytes += below
		return errors.Join(err, posix.Close(fd))
	})
	return bytes, err
}

// Remove deletes a share. Its root directory takes another name first, so that the share is gone at once and a crash leaves
// nothing that looks like one; a root that cannot be renamed, as a mount point cannot, is emptied where it is.
func (d *Directory) Remove(ctx context.Context, share string) error {
	if err := abaca.Guard(ctx)(); err != nil {
		return fmt.Errorf("remove share: %w", err)
	}
	parent, name := path.Split(share)
	at := d.fd()
	if parent != "" {
		fd, err := posix.OpenDir(at, strings.TrimSuffix(parent, "/"))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("remove share: %w", err)
		}
		defer posix.Close(fd)
		at = fd
	}
	aside := removedPrefix + name
	switch err := posix.Rename(at, name, at, aside); {
	case err == nil, errors.Is(err, fs.ErrNotExist):
		err = removeTree(ctx, at, aside)
		return wrap("remove share", errors.Join(err, unix.Fsync(at)))
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.EXDEV), errors.Is(err, unix.ENAMETOOLONG), errors.Is(err, unix.ENOTEMPTY):
		return wrap("remove share", errors.Join(emptyTree(ctx, at, name), unix.Fsync(at)))
	default:
		return wrap("remove share", err)
	}
}

func wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// removeTree removes the directory name in dir and all below it.
func removeTree(ctx context.Context, dir int, name string) error {
	if err := emptyTree(ctx, dir, name); err != nil {
		return err
	}
	return ignoreGone(posix.Rmdir(dir, name))
}

// emptyTree removes all that is below the directory name in dir.
func emptyTree(ctx context.Context, dir int, name string) error {
	fd, err := posix.OpenDir(dir, name)
	if err != nil {
		return ignoreGone(err)
	}
	mayChange := abaca.Guard(ctx)
	err = eachEntry(ctx, fd, func(child string, st posix.Stat) error {
		if err := mayChange(); err != nil {
			return err
		}
		if st.Type() == unix.S_IFDIR {
			return removeTree(ctx, fd, child)
		}
		return ignoreGone(posix.Unlink(fd, child))
	})
	return errors.Join(err, posix.Close(fd))
}

// eachEntry calls f with every entry of an open directory until ctx ends.
func eachEntry(ctx context.Context, dir int, f func(name string, st posix.Stat) error) error {
	r, err := posix.NewDirReader(dir, nil)
	if err != nil {
		return err
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		raw, _, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		name := string(raw)
		st, err := posix.StatAt(dir, name)
		if err == nil {
			err = f(name, st)
		}
		if ignoreGone(err) != nil {
			return err
		}
	}
}

// ignoreGone drops the error of finding that an entry has vanished, which is what a removal wants and a count forgives.
func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

package backend

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"abaca"
	"abaca/internal/posix"
)

// A Btrfs is a Directory on btrfs. Shares are subvolumes there, and a backup is read from a read-only snapshot of the
// subvolume that holds the share, so that it is one point in time.
type Btrfs struct{ *Directory }

// snapshotDir, below the back end's path and closed to everybody else, is where snapshots are while they are read.
const snapshotDir = ".abaca-snapshots"

// OnBtrfs reports whether the directory lies on btrfs.
func (d *Directory) OnBtrfs() (bool, error) {
	yes, err := posix.OnBtrfs(d.fd())
	return yes, wrap("look at back end", err)
}

// Create makes a share's root directory, a subvolume.
func (b *Btrfs) Create(ctx context.Context, share string) error {
	err := posix.CreateSubvolume(b.fd(), share)
	if err != nil && !errors.Is(err, fs.ErrExist) && !errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("make share subvolume: %w", err)
	}
	return b.Directory.Create(ctx, share) // where no subvolume may be made, a directory will do
}

// Snapshot opens the share as it is at this moment, see manager.Snapshotter. Where that cannot be had the share is opened
// as it is, and the Volume says that it is not still: nested subvolumes would be missing from a snapshot, and taking one may not be
// allowed to this process.
func (b *Btrfs) Snapshot(ctx context.Context, share, name string) (*abaca.Volume, error) {
	fd, err := posix.OpenDir(b.fd(), share)
	if err != nil {
		return nil, &abaca.Reason{Text: "the share's directory cannot be opened", Err: err}
	}
	defer unix.Close(fd)
	if nested, err := posix.HasNestedSubvolumes(fd); nested || errors.Is(err, unix.ENOTTY) {
		return b.Mount(ctx, share)
	} else if err != nil {
		return nil, fmt.Errorf("look for nested subvolumes: %w", err)
	}
	subvolume, below, err := subvolumeOf(fd)
	if err != nil {
		return nil, fmt.Errorf("find the share's subvolume: %w", err)
	}
	defer unix.Close(subvolume)
	dir, err := b.openSnapshots()
	if err != nil {
		return nil, err
	}
	mayChange := abaca.Guard(ctx)
	if err = mayChange(); err == nil {
		err = destroy(dir, name) // left behind by a crash
	}
	if err == nil {
		err = posix.SnapshotSubvolume(subvolume, dir, name)
	}
	if err != nil {
		unix.Close(dir)
		if errors.Is(err, fs.ErrPermission) {
			return b.Mount(ctx, share)
		}
		return nil, fmt.Errorf("take snapshot: %w", err)
	}
	release := func() error {
		err := mayChange() // since whoever has the work now may read a snapshot of the same name
		if err == nil {
			err = destroy(dir, name)
		}
		return errors.Join(wrap("remove snapshot", err), posix.Close(dir))
	}
	root, err := posix.OpenDir(dir, path.Join(name, below))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open snapshot: %w", err), release())
	}
	return &abaca.Volume{Root: os.NewFile(uintptr(root), share), Still: true, Release: release}, nil
}

// subvolumeOf opens the root of the subvolume that holds an open directory, and says where in it the directory is.
func subvolumeOf(fd int) (subvolume int, below string, err error) {
	at, err := unix.Dup(fd)
	if err != nil {
		return -1, "", err
	}
	for {
		st, err := posix.StatFD(at)
		if err != nil {
			return -1, "", errors.Join(err, posix.Close(at))
		}
		if st.IsSubvolume() {
			return at, below, nil
		}
		parent, err := posix.OpenParent(at)
		if err != nil {
			return -1, "", errors.Join(err, posix.Close(at))
		}
		name, err := nameIn(parent, st)
		err = errors.Join(err, posix.Close(at))
		if err != nil {
			return -1, "", errors.Join(err, posix.Close(parent))
		}
		at, below = parent, path.Join(name, below)
	}
}

// nameIn finds the name that a directory has in its parent.
func nameIn(parent int, child posix.Stat) (name string, err error) {
	found := errors.New("found")
	err = eachEntry(context.Background(), parent, func(n string, st posix.Stat) error {
		if st.Same(&child) {
			name = n
			return found
		}
		return nil
	})
	if errors.Is(err, found) {
		return name, nil
	}
	return "", errors.Join(err, fs.ErrNotExist) // moved at this very moment, or the root of a bind mount
}

func (b *Btrfs) openSnapshots() (int, error) {
	if err := posix.Mkdir(b.fd(), snapshotDir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return -1, fmt.Errorf("make place for snapshots: %w", err)
	}
	dir, err := posix.OpenDir(b.fd(), snapshotDir)
	return dir, wrap("open place for snapshots", err)
}

// destroy removes a snapshot; none is no error.
func destroy(dir int, name string) error { return ignoreGone(posix.DestroySubvolume(dir, name)) }

// Sweep removes the snapshots that nobody reads any more, see manager.Snapshotter.
func (b *Btrfs) Sweep(ctx context.Context, inUse func(name string) (bool, error)) error {
	dir, err := posix.OpenDir(b.fd(), snapshotDir)
	if err != nil {
		return wrap("open place for snapshots", ignoreGone(err))
	}
	defer unix.Close(dir)
	return eachEntry(ctx, dir, func(name string, _ posix.Stat) error {
		used, err := inUse(name)
		if err != nil || used {
			return err
		}
		return wrap("remove snapshot", destroy(dir, name))
	})
}

// Remove deletes a share, at once where it is a subvolume without others in it.
func (b *Btrfs) Remove(ctx context.Context, share string) error {
	if !strings.Contains(share, "/") && abaca.Guard(ctx)() == nil {
		if err := posix.DestroySubvolume(b.fd(), share); err == nil {
			return wrap("remove share", unix.Fsync(b.fd()))
		}
	}
	return b.Directory.Remove(ctx, share)
}

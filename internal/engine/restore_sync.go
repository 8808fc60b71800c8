package engine

import (
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"

	"abaca"
	"abaca/internal/posix"
)

// What is written must outlast a power failure before anybody is told that it is there. Most file systems do that for the whole share
// at once, in the end. Those that pass calls on to a server (FUSE, SMB, 9P) keep the call for the whole to themselves, so that there each file
// and directory is synced when it is finished.

// syncFile makes a job's file durable, unless nothing was done to it.
func (r *restorer) syncFile(j *job) error {
	if !r.syncEach || j.e.kind != kindFile || j.exists && j.e.mark == markNone && proven(&j.e, &j.st) {
		return nil
	}
	fd, err := r.dirs.use(j.dir)
	if err != nil {
		return err
	}
	defer r.dirs.done(j.dir)
	file, _, err := posix.OpenFile(fd, j.e.name, unix.O_RDONLY)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, posix.ErrNotRegular):
		return nil // somebody else has been there since
	case errors.Is(err, fs.ErrPermission):
		r.tally.incomplete(j, []string{"may be lost in a power failure, since it cannot be opened"})
		return nil
	case err != nil:
		return fmt.Errorf("open it to sync it: %w", err)
	}
	return errors.Join(synced(file), posix.Close(file))
}

// syncDir makes a directory's names and attributes durable.
func (r *restorer) syncDir(d *targetDir) error {
	if !r.syncEach {
		return nil
	}
	fd, err := r.dirs.use(d)
	if err != nil {
		return err
	}
	defer r.dirs.done(d)
	if err := synced(fd); !errors.Is(err, unix.EINVAL) { // servers that keep names durable themselves have no call for it
		return err
	}
	return nil
}

func synced(fd int) error {
	if err := unix.Fsync(fd); err != nil {
		return &abaca.Reason{Text: "the share's file system failed", Err: fmt.Errorf("sync: %w", err)}
	}
	return nil
}

// syncWhole makes durable what has not been synced file by file.
func syncWhole(fd int) error {
	if err := unix.Syncfs(fd); err != nil {
		return &abaca.Reason{Text: "the share's file system failed", Err: fmt.Errorf("sync: %w", err)}
	}
	return nil
}

package posix

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// MakeDirs makes the directory at an absolute path of the process's own, and those above it that are missing; one that is there
// already is no error. Their names outlast a power failure once this has returned, also those that a killed process has made.
func MakeDirs(path string, mode fs.FileMode) error {
	parent := filepath.Dir(path)
	err := os.Mkdir(path, mode)
	if errors.Is(err, fs.ErrNotExist) && parent != path {
		if err := MakeDirs(parent, mode); err != nil {
			return err
		}
		err = os.Mkdir(path, mode)
	}
	there := err != nil // or cannot be made
	if there {
		info, serr := os.Stat(path)
		if serr != nil {
			return err
		}
		if !info.IsDir() {
			return &fs.PathError{Op: "mkdir", Path: path, Err: unix.ENOTDIR}
		}
	}
	err = SyncDir(parent)
	if there && err != nil && !errors.Is(err, unix.EIO) {
		return nil // such as an operator's directory in one that this process may not read
	}
	return err
}

// SyncDir makes the names in the directory at a path of the process's own outlast a power failure.
func SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Package posix reaches files relative to open directories and never through a path that somebody else could have
// changed in between. It is the only package of abaca that makes system calls on shares.
//
// Directories are plain file descriptors. A name is one component, kept as the bytes that the kernel gave; where a
// relative path of several components is allowed, the function says so. No call follows a symbolic link, leaves the
// tree below the descriptor it was given, or opens anything but a directory or a regular file: a FIFO would hang its
// reader, a device may act on being opened.
//
// Errors are the kernel's own (errors.Is with fs.ErrNotExist and the like works); the caller says what it was doing.
package posix

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"
)

// Errors that the kernel does not have.
var (
	// ErrNotRegular is returned by OpenFile for anything but a regular file, which has not been opened then.
	ErrNotRegular = errors.New("not a regular file")
	// ErrName is returned by CheckName.
	ErrName = errors.New("not a file name")
)

// CheckName returns ErrName unless name can be one component of a path: 1 to 255 bytes, neither "." nor "..",
// without '/' and NUL. Names from outside must pass it before any other function of this package sees them.
func CheckName(name string) error {
	if name == "" || name == "." || name == ".." || len(name) > unix.NAME_MAX || strings.ContainsAny(name, "/\x00") {
		return ErrName
	}
	return nil
}

// again repeats a call that a signal interrupted, which network and user-space file systems let show.
func again(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

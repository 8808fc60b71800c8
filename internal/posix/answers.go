package posix

import "golang.org/x/sys/unix"

// Ask asks the server of the file system on which an open file lies for something that no cache knows, and so takes as long as the server does.
// A local file system answers at once.
func Ask(fd int) error {
	var st unix.Statfs_t
	return again(func() error { return unix.Fstatfs(fd, &st) })
}

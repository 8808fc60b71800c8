package posix

import "golang.org/x/sys/unix"

// PassesOn reports whether the file system passes calls on to a server and syncfs(2) is not among them, so that only a file's own
// fsync(2) makes what was written outlast a power failure.
func PassesOn(fd int) (bool, error) {
	var st unix.Statfs_t
	if err := again(func() error { return unix.Fstatfs(fd, &st) }); err != nil {
		return false, err
	}
	switch st.Type {
	case unix.FUSE_SUPER_MAGIC, unix.SMB_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC, unix.V9FS_MAGIC:
		return true, nil
	}
	return false, nil
}

package posix

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Mkdir makes a directory; the umask applies to mode.
func Mkdir(dir int, name string, mode uint32) error {
	return again(func() error { return unix.Mkdirat(dir, name, mode) })
}

// Mknod makes a FIFO, socket or device node; mode carries the type, rdev only matters for devices.
func Mknod(dir int, name string, mode uint32, rdev uint64) error {
	return again(func() error { return unix.Mknodat(dir, name, mode, int(rdev)) })
}

// Symlink makes a symbolic link; target is stored as it is and means nothing here.
func Symlink(target string, dir int, name string) error {
	return again(func() error { return unix.Symlinkat(target, dir, name) })
}

// Readlink returns what a symbolic link stores, up to 64 KiB.
func Readlink(dir int, name string) (string, error) {
	for size := 256; ; size *= 4 {
		buf := make([]byte, size)
		n, err := unix.Readlinkat(dir, name, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return "", err
		}
		if n < size || size >= 64<<10 { // a full buffer may be a cut-off answer
			return string(buf[:n]), nil
		}
	}
}

// Link gives the entry oldName, of a symbolic link itself, another name. EEXIST where that is taken.
func Link(oldDir int, oldName string, dir int, name string) error {
	return again(func() error { return unix.Linkat(oldDir, oldName, dir, name, 0) })
}

// LinkFD gives an open file another name. It needs no privilege, and fails with ENOENT once its last name is gone.
func LinkFD(fd int, dir int, name string) error {
	path := procPath(fd, "")
	return again(func() error { return unix.Linkat(unix.AT_FDCWD, path, dir, name, unix.AT_SYMLINK_FOLLOW) })
}

// Rename moves an entry, replacing what has the new name if it is of a replaceable type. When both names are links
// to one inode the kernel does nothing, and both stay.
func Rename(oldDir int, oldName string, dir int, name string) error {
	return again(func() error { return unix.Renameat(oldDir, oldName, dir, name) })
}

// Exchange swaps two entries of whatever types in one step; EINVAL where the file system cannot.
func Exchange(oldDir int, oldName string, dir int, name string) error {
	return again(func() error { return unix.Renameat2(oldDir, oldName, dir, name, unix.RENAME_EXCHANGE) })
}

// Unlink removes an entry that is not a directory; EISDIR or EPERM for one that is.
func Unlink(dir int, name string) error {
	return again(func() error { return unix.Unlinkat(dir, name, 0) })
}

// Rmdir removes an empty directory.
func Rmdir(dir int, name string) error {
	return again(func() error { return unix.Unlinkat(dir, name, unix.AT_REMOVEDIR) })
}

// Chown sets owner and group of an open file or directory. The kernel clears setuid, setgid and capabilities with it.
func Chown(fd int, uid, gid uint32) error {
	return again(func() error { return unix.Fchown(fd, int(uid), int(gid)) })
}

// ChownAt is Chown for an entry that is not opened, such as a symbolic link itself.
func ChownAt(dir int, name string, uid, gid uint32) error {
	return again(func() error { return unix.Fchownat(dir, name, int(uid), int(gid), unix.AT_SYMLINK_NOFOLLOW) })
}

// Chmod sets permissions, setuid, setgid and sticky of an open file or directory.
func Chmod(fd int, mode uint32) error {
	return again(func() error { return unix.Fchmod(fd, mode) })
}

// ChmodAt is Chmod for an entry that is not opened. A symbolic link has no permissions: EOPNOTSUPP.
func ChmodAt(dir int, name string, mode uint32) error {
	err := again(func() error { return unix.Fchmodat(dir, name, mode, unix.AT_SYMLINK_NOFOLLOW) })
	if err != unix.ENOSYS && err != unix.EOPNOTSUPP && err != unix.EPERM {
		return err
	}
	return chmodHandle(dir, name, mode) // fchmodat2 came with Linux 6.6
}

func chmodHandle(dir int, name string, mode uint32) error {
	handle, err := openBeneath(dir, name, unix.O_PATH, 0)
	if err != nil {
		return err
	}
	defer unix.Close(handle)
	st, err := StatFD(handle)
	if err != nil {
		return err
	}
	if st.Type() == unix.S_IFLNK {
		return unix.EOPNOTSUPP
	}
	return again(func() error { return unix.Chmod(procPath(handle, ""), mode) })
}

// SetMtime sets the modification time of an open file or directory and leaves the access time.
func SetMtime(fd int, t Time) error {
	ts := mtimeOnly(t)
	return again(func() error {
		// A null path means the descriptor itself; package unix has no such call.
		_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(&ts)), 0, 0, 0)
		if errno != 0 {
			return errno
		}
		return nil
	})
}

// SetMtimeAt is SetMtime for an entry that is not opened, such as a symbolic link itself.
func SetMtimeAt(dir int, name string, t Time) error {
	ts := mtimeOnly(t)
	return again(func() error { return unix.UtimesNanoAt(dir, name, ts[:], unix.AT_SYMLINK_NOFOLLOW) })
}

func mtimeOnly(t Time) [2]unix.Timespec {
	return [2]unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Sec: t.Sec, Nsec: int64(t.Nsec)}}
}

// Inode flags of <linux/fs.h> that package unix lacks.
const (
	immutableFlag  = 0x10
	appendOnlyFlag = 0x20
)

// ClearFlags takes the immutable and append-only flags off an open file or directory. It needs CAP_LINUX_IMMUTABLE;
// ENOTTY or EOPNOTSUPP where the file system has no flags.
func ClearFlags(fd int) error {
	flags, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
	if err != nil {
		return err
	}
	return unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, int(flags&^(immutableFlag|appendOnlyFlag)))
}

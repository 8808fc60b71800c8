package posix

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// beneath is how every path is resolved: see openat2(2).
const beneath = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS

// OpenDir opens the directory at path, one or more components below dir, or "." for dir itself, for reading. Mount points on the way are
// crossed; a symbolic link gives ELOOP or ENOTDIR.
func OpenDir(dir int, path string) (int, error) {
	return openBeneath(dir, path, unix.O_RDONLY|unix.O_DIRECTORY, 0)
}

// OpenParent opens the directory above dir. That leaves dir, so the caller compares device and inode number with
// those of the directory that it expects before it uses the descriptor.
func OpenParent(dir int) (int, error) {
	fd := -1
	err := again(func() (err error) {
		fd, err = unix.Openat(dir, "..", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
		return err
	})
	return fd, err
}

// Create makes a new regular file and opens it for reading and writing; it fails with EEXIST where the name is taken.
// The umask applies to mode.
func Create(dir int, name string, mode uint32) (int, error) {
	return openBeneath(dir, name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, mode)
}

// OpenFile opens a regular file with flags such as O_RDONLY, O_RDWR or O_NOATIME, and returns its status. What it is
// gets decided on a descriptor that is not open for anything (O_PATH), so that a FIFO or device put in the file's
// place at the last moment is not opened: ErrNotRegular. O_NOATIME is dropped where the kernel refuses it.
func OpenFile(dir int, name string, flags int) (int, Stat, error) {
	handle, err := openBeneath(dir, name, unix.O_PATH, 0)
	if err != nil {
		return -1, Stat{}, err
	}
	defer unix.Close(handle)
	st, err := StatFD(handle)
	if err != nil {
		return -1, Stat{}, err
	}
	if st.Type() != unix.S_IFREG {
		return -1, st, ErrNotRegular
	}
	fd, err := reopen(handle, flags)
	return fd, st, err
}

// reopen opens what an O_PATH descriptor stands for. The magic link leads to that very inode whatever its name is now.
func reopen(handle, flags int) (int, error) {
	path := procPath(handle, "")
	fd := -1
	err := again(func() (err error) {
		fd, err = unix.Open(path, flags|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
		return err
	})
	if err == unix.EPERM && flags&unix.O_NOATIME != 0 {
		return reopen(handle, flags&^unix.O_NOATIME)
	}
	return fd, err
}

// procPath names what stands below an open directory, or with an empty name the descriptor itself, for the calls that
// take only a path. The last component is the only one in it that anybody else can change.
func procPath(fd int, name string) string {
	const self = "/proc/self/fd/"
	b := make([]byte, 0, len(self)+8+len(name))
	b = append(b, self...)
	b = strconv.AppendInt(b, int64(fd), 10)
	if name != "" {
		b = append(b, '/')
		b = append(b, name...)
	}
	return string(b)
}

// Close closes a descriptor. The error matters after writing: network file systems report lost data here.
func Close(fd int) error {
	// Linux frees the descriptor even when close is interrupted, so it is not repeated.
	if err := unix.Close(fd); err != unix.EINTR {
		return err
	}
	return nil
}

// openBeneath is openat2 confined to the tree below dir, with a fallback for kernels before 5.6 and for sandboxes
// that refuse the call.
func openBeneath(dir int, path string, flags int, mode uint32) (int, error) {
	flags |= unix.O_CLOEXEC | unix.O_NOFOLLOW
	if flags&unix.O_PATH == 0 {
		flags |= unix.O_NOCTTY
	}
	how := unix.OpenHow{Flags: uint64(flags), Mode: uint64(mode), Resolve: beneath}
	fd := -1
	err := again(func() (err error) {
		fd, err = unix.Openat2(dir, path, &how)
		return err
	})
	// EAGAIN: a rename elsewhere raced with the look-up; the component-wise look-up does not mind.
	if err == unix.ENOSYS || err == unix.EPERM || err == unix.EAGAIN {
		return openStepwise(dir, path, flags, mode)
	}
	return fd, err
}

// openStepwise opens one component after the other without following links, which never leaves dir because no
// component may be "..". Against a directory that is moved meanwhile it is as safe as the descriptors it holds.
func openStepwise(dir int, path string, flags int, mode uint32) (int, error) {
	at := dir
	defer func() {
		if at != dir {
			unix.Close(at)
		}
	}()
	for {
		name, rest, more := strings.Cut(path, "/")
		if err := CheckName(name); err != nil && path != "." {
			return -1, unix.EXDEV // what openat2 says of an attempt to leave
		}
		stepFlags, stepMode := flags, mode
		if more {
			stepFlags, stepMode = unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0
		}
		fd := -1
		err := again(func() (err error) {
			fd, err = unix.Openat(at, name, stepFlags, stepMode)
			return err
		})
		if err != nil || !more {
			return fd, err
		}
		if at != dir {
			unix.Close(at)
		}
		at, path = fd, rest
	}
}

package posix

import (
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A Time is a time as file systems keep it: nanoseconds count forward from seconds, before 1970 too. Unlike time.Time
// it is comparable with ==.
type Time struct {
	Sec  int64
	Nsec uint32 // below one thousand million
}

// TimeOf converts a time; the zone and the monotonic reading do not matter.
func TimeOf(t time.Time) Time { return Time{Sec: t.Unix(), Nsec: uint32(t.Nanosecond())} }

// Time converts t to UTC.
func (t Time) Time() time.Time { return time.Unix(t.Sec, int64(t.Nsec)).UTC() }

// A Stat is the status of one directory entry, from one statx(2).
type Stat struct {
	Mode    uint32 // as st_mode: type, setuid, setgid, sticky and permissions
	Nlink   uint32
	UID     uint32
	GID     uint32
	Dev     uint64
	Ino     uint64
	Size    int64
	Blocks  int64  // of 512 bytes, allocated
	Rdev    uint64 // of a device node, as unix.Mkdev makes it
	Mtime   Time
	Ctime   Time
	Mount   uint64 // which mount it was reached through; 0 where the kernel does not tell (before 5.8)
	IsMount bool   // the root of a mount
	// Immutable and AppendOnly are the inode flags of chattr(1), false on file systems that have none.
	Immutable, AppendOnly bool
}

// Type returns the S_IFMT part of the mode.
func (s *Stat) Type() uint32 { return s.Mode & unix.S_IFMT }

// Perm returns the mode without the type: permissions, setuid, setgid and sticky.
func (s *Stat) Perm() uint32 { return s.Mode &^ unix.S_IFMT }

// Same reports whether both stand for one inode.
func (s *Stat) Same(t *Stat) bool { return s.Dev == t.Dev && s.Ino == t.Ino }

const statMask = unix.STATX_TYPE | unix.STATX_MODE | unix.STATX_NLINK | unix.STATX_UID | unix.STATX_GID |
	unix.STATX_MTIME | unix.STATX_CTIME | unix.STATX_INO | unix.STATX_SIZE | unix.STATX_BLOCKS | unix.STATX_MNT_ID

// StatAt returns the status of name in dir, of a symbolic link itself; automounts are not triggered.
func StatAt(dir int, name string) (Stat, error) {
	return statx(dir, name, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT)
}

// StatFD returns the status of an open descriptor, also of one opened with O_PATH.
func StatFD(fd int) (Stat, error) { return statx(fd, "", unix.AT_EMPTY_PATH) }

func statx(dir int, name string, flags int) (Stat, error) {
	var x unix.Statx_t
	errno := rawStatx(dir, name, flags, &x)
	for errno == unix.EINTR {
		errno = rawStatx(dir, name, flags, &x)
	}
	if errno != 0 {
		return Stat{}, errno
	}
	return Stat{
		Mode: uint32(x.Mode), Nlink: x.Nlink, UID: x.Uid, GID: x.Gid,
		Dev: unix.Mkdev(x.Dev_major, x.Dev_minor), Ino: x.Ino,
		Size: int64(x.Size), Blocks: int64(x.Blocks),
		Rdev:       unix.Mkdev(x.Rdev_major, x.Rdev_minor),
		Mtime:      Time{x.Mtime.Sec, x.Mtime.Nsec},
		Ctime:      Time{x.Ctime.Sec, x.Ctime.Nsec},
		Mount:      x.Mnt_id,
		IsMount:    x.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0,
		Immutable:  x.Attributes&unix.STATX_ATTR_IMMUTABLE != 0,
		AppendOnly: x.Attributes&unix.STATX_ATTR_APPEND != 0,
	}, nil
}

// rawStatx is unix.Statx without its allocation for names, of which a scan looks up millions.
func rawStatx(dir int, name string, flags int, x *unix.Statx_t) unix.Errno {
	var path [256]byte // a name and the NUL at its end
	if len(name) >= len(path) || strings.IndexByte(name, 0) >= 0 {
		return unix.EINVAL
	}
	copy(path[:], name)
	_, _, errno := unix.Syscall6(unix.SYS_STATX, uintptr(dir), uintptr(unsafe.Pointer(&path)), uintptr(flags), statMask,
		uintptr(unsafe.Pointer(x)), 0)
	return errno
}

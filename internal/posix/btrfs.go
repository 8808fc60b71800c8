package posix

import (
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The ioctls of btrfs that this package uses, from include/uapi/linux/btrfs.h; each takes one page.
const (
	btrfsSnapDestroy      = 0x5000940f // _IOW(0x94, 15, 4096)
	btrfsSubvolCreate     = 0x5000940e // _IOW(0x94, 14, 4096)
	btrfsSnapCreateV2     = 0x50009417 // _IOW(0x94, 23, 4096)
	btrfsGetSubvolRootref = 0xd000943d // _IOWR(0x94, 61, 4096)
	btrfsInoLookupUser    = 0xd000943e // _IOWR(0x94, 62, 4096)

	btrfsSubvolReadOnly = 1 << 1
	btrfsRootInode      = 256 // the inode number of every subvolume's root
)

// volArgs is struct btrfs_ioctl_vol_args.
type volArgs struct {
	_    int64 // a descriptor, in other uses
	name [4088]byte
}

// volArgsV2 is struct btrfs_ioctl_vol_args_v2.
type volArgsV2 struct {
	fd    int64
	_     uint64 // a transaction, in answers
	flags uint64
	_     [4]uint64
	name  [4040]byte
}

// rootrefs is struct btrfs_ioctl_get_subvol_rootref_args.
type rootrefs struct {
	_     uint64 // where the next list begins, kept by the kernel from call to call
	refs  [255]struct{ tree, dir uint64 }
	count uint8
	_     [7]byte
}

// lookupUser is struct btrfs_ioctl_ino_lookup_user_args.
type lookupUser struct {
	dir, tree uint64
	_         [256 + 3824]byte // the name and the path to it, in answers
}

func ioctl[T any](fd int, request uint, arg *T) error {
	return again(func() error {
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(request), uintptr(unsafe.Pointer(arg))); errno != 0 {
			return errno
		}
		return nil
	})
}

// OnBtrfs reports whether an open file lies on btrfs.
func OnBtrfs(fd int) (bool, error) {
	var st unix.Statfs_t
	if err := again(func() error { return unix.Fstatfs(fd, &st) }); err != nil {
		return false, err
	}
	return st.Type == unix.BTRFS_SUPER_MAGIC, nil
}

// IsSubvolume reports whether a directory on btrfs with this status is the root of a subvolume.
func (s *Stat) IsSubvolume() bool { return s.Ino == btrfsRootInode && s.Type() == unix.S_IFDIR }

// CreateSubvolume makes an empty subvolume called name in dir, on btrfs.
func CreateSubvolume(dir int, name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	var arg volArgs
	copy(arg.name[:], name)
	return ioctl(dir, btrfsSubvolCreate, &arg)
}

// SnapshotSubvolume makes a read-only snapshot, called name in dir, of the subvolume whose root directory is open as
// subvolume. Subvolumes nested in it are empty directories in the snapshot. It is one point in time: what was written
// before is in it, data still in the page cache too.
func SnapshotSubvolume(subvolume, dir int, name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	arg := volArgsV2{fd: int64(subvolume), flags: btrfsSubvolReadOnly}
	copy(arg.name[:], name)
	return ioctl(dir, btrfsSnapCreateV2, &arg)
}

// DestroySubvolume removes the subvolume or snapshot called name in dir with all its files. ENOTEMPTY says that others
// are nested in it, EINVAL or ENOTDIR that it is none.
func DestroySubvolume(dir int, name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	var arg volArgs
	copy(arg.name[:], name)
	return ioctl(dir, btrfsSnapDestroy, &arg)
}

// HasNestedSubvolumes reports whether subvolumes lie beneath an open directory on btrfs. Kernels before 4.18 cannot tell: ENOTTY.
func HasNestedSubvolumes(dir int) (bool, error) {
	var list rootrefs
	for {
		err := ioctl(dir, btrfsGetSubvolRootref, &list)
		more := errors.Is(err, unix.EOVERFLOW) // the list is full
		if err != nil && !more {
			return false, err
		}
		for _, ref := range list.refs[:list.count] {
			at := lookupUser{dir: ref.dir, tree: ref.tree}
			switch err := ioctl(dir, btrfsInoLookupUser, &at); {
			case err == nil:
				return true, nil
			case errors.Is(err, unix.EACCES), errors.Is(err, unix.ENOENT): // it lies elsewhere, or has just gone
			default:
				return false, err
			}
		}
		if !more {
			return false, nil
		}
	}
}

package posix

import (
	"errors"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// An Attr is an extended attribute. POSIX ACLs are attributes too, "system.posix_acl_access" and
// "system.posix_acl_default", whose values name users and groups by number.
type Attr struct {
	Name  string
	Value []byte
}

// Attrs returns the extended attributes of an open file or directory, sorted by name; none where the file system has
// no attributes. It fails with EBADF on O_PATH descriptors.
func Attrs(fd int) ([]Attr, error) {
	return readAttrs(
		func(buf []byte) (int, error) { return unix.Flistxattr(fd, buf) },
		func(name string, buf []byte) (int, error) { return unix.Fgetxattr(fd, name, buf) })
}

// AttrsAt is Attrs for an entry that is not opened: a symbolic link itself, a FIFO, a device.
func AttrsAt(dir int, name string) ([]Attr, error) {
	path := procPath(dir, name)
	return readAttrs(
		func(buf []byte) (int, error) { return unix.Llistxattr(path, buf) },
		func(attr string, buf []byte) (int, error) { return unix.Lgetxattr(path, attr, buf) })
}

// SetAttr sets one attribute of an open file or directory.
func SetAttr(fd int, a Attr) error {
	return again(func() error { return unix.Fsetxattr(fd, a.Name, a.Value, 0) })
}

// SetAttrAt is SetAttr for an entry that is not opened.
func SetAttrAt(dir int, name string, a Attr) error {
	path := procPath(dir, name)
	return again(func() error { return unix.Lsetxattr(path, a.Name, a.Value, 0) })
}

// RemoveAttr removes one attribute of an open file or directory; one that is not there is no error.
func RemoveAttr(fd int, attr string) error {
	return ignoreNoData(again(func() error { return unix.Fremovexattr(fd, attr) }))
}

// RemoveAttrAt is RemoveAttr for an entry that is not opened.
func RemoveAttrAt(dir int, name, attr string) error {
	path := procPath(dir, name)
	return ignoreNoData(again(func() error { return unix.Lremovexattr(path, attr) }))
}

func ignoreNoData(err error) error {
	if err == unix.ENODATA {
		return nil
	}
	return err
}

func readAttrs(list func([]byte) (int, error), get func(string, []byte) (int, error)) ([]Attr, error) {
	var small [256]byte // most entries have no attributes, or one
	names, err := grow(small[:], list)
	if errors.Is(err, unix.EOPNOTSUPP) || err == nil && len(names) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var attrs []Attr
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names), "\x00"), "\x00") {
		var buf [256]byte
		value, err := grow(buf[:], func(b []byte) (int, error) { return get(name, b) })
		if err == unix.ENODATA {
			continue // removed since it was listed
		}
		if err != nil {
			return nil, err
		}
		attrs = append(attrs, Attr{name, slices.Clone(value)})
	}
	slices.SortFunc(attrs, func(a, b Attr) int { return strings.Compare(a.Name, b.Name) })
	return attrs, nil
}

// grow calls read with ever larger buffers until the answer fits.
func grow(buf []byte, read func([]byte) (int, error)) ([]byte, error) {
	for {
		n, err := read(buf)
		switch {
		case err == nil:
			return buf[:n], nil
		case err == unix.EINTR:
		case err == unix.ERANGE && len(buf) < 1<<20:
			buf = make([]byte, 16*len(buf))
		default:
			return nil, err
		}
	}
}

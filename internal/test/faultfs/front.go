package faultfs

import (
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// A front answers the kernel. Nobody changes anything behind the kernel's back, so that it may remember what it is told.
type front struct {
	fuse.RawFileSystem // answers what is not here with ENOSYS
	fs                 *FS
	listings           map[uint64][]fuse.DirEntry // that are being read, by their handles; guarded by fs.mu, as the next
	handles            uint64
}

const remembered = time.Hour

// with does something to a node, unless the operation is to hang.
func (b *front) with(cancel <-chan struct{}, op string, id uint64, do func(*node) fuse.Status) fuse.Status {
	if status := b.fs.hang(cancel, op, id); !status.Ok() {
		return status
	}
	b.fs.mu.Lock()
	defer b.fs.mu.Unlock()
	n := b.fs.nodes[id]
	switch {
	case b.fs.cut:
		return fuse.EIO
	case n == nil:
		return fuse.Status(syscall.ESTALE)
	}
	return do(n)
}

// within does something in a directory.
func (b *front) within(cancel <-chan struct{}, op string, id uint64, do func(dir *node) fuse.Status) fuse.Status {
	return b.with(cancel, op, id, func(n *node) fuse.Status {
		if !n.isDir() {
			return fuse.ENOTDIR
		}
		return do(n)
	})
}

func (n *node) attr(out *fuse.Attr) {
	s := &n.now
	*out = fuse.Attr{
		Ino: n.id, Size: uint64(len(s.data)), Blocks: (uint64(len(s.data)) + 511) / 512, Blksize: 4096,
		Mode: s.mode, Nlink: uint32(n.links), Rdev: s.rdev, Owner: fuse.Owner{Uid: s.uid, Gid: s.gid},
	}
	if n.isDir() {
		out.Nlink = 2
		for _, c := range n.names {
			if c.isDir() {
				out.Nlink++
			}
		}
	}
	out.SetTimes(&s.mtime, &s.mtime, &s.ctime)
}

func (n *node) entry(out *fuse.EntryOut) fuse.Status {
	out.NodeId, out.Generation = n.id, 1
	n.attr(&out.Attr)
	out.SetEntryTimeout(remembered)
	out.SetAttrTimeout(0) // the sizes and links of others change with a node's
	return fuse.OK
}

func (b *front) Lookup(cancel <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	return b.within(cancel, "Lookup", h.NodeId, func(dir *node) fuse.Status {
		if n := dir.names[name]; n != nil {
			return n.entry(out)
		}
		return fuse.ENOENT
	})
}

func (b *front) Forget(uint64, uint64) {}

func (b *front) GetAttr(cancel <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	return b.with(cancel, "GetAttr", in.NodeId, func(n *node) fuse.Status {
		n.attr(&out.Attr)
		return fuse.OK
	})
}

func (b *front) SetAttr(cancel <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	return b.with(cancel, "SetAttr", in.NodeId, func(n *node) fuse.Status {
		if size, ok := in.GetSize(); ok {
			b.fs.change(n, change{content: true, do: func(s *state) { s.resize(int64(size)) }})
		}
		if mode, ok := in.GetMode(); ok {
			b.fs.change(n, change{do: func(s *state) { s.mode = s.mode&syscall.S_IFMT | mode&0o7777 }})
		}
		uid, changeUser := in.GetUID()
		gid, changeGroup := in.GetGID()
		if changeUser || changeGroup {
			b.fs.change(n, change{do: func(s *state) {
				if changeUser {
					s.uid = uid
				}
				if changeGroup {
					s.gid = gid
				}
			}})
		}
		if t, ok := in.GetMTime(); ok {
			b.fs.change(n, change{do: func(s *state) { s.mtime = t }})
		}
		n.attr(&out.Attr)
		return fuse.OK
	})
}

// make puts a new node into a directory.
func (b *front) make(cancel <-chan struct{}, op string, h *fuse.InHeader, name string, mode uint32, out *fuse.EntryOut, dress func(*node)) fuse.Status {
	return b.within(cancel, op, h.NodeId, func(dir *node) fuse.Status {
		if dir.names[name] != nil {
			return fuse.Status(syscall.EEXIST)
		}
		n := b.fs.newNode(mode, h.Uid, h.Gid)
		if dress != nil {
			dress(n)
		}
		n.links = 1
		b.fs.move(move{{dir, name, n}})
		return n.entry(out)
	})
}

func (b *front) Mknod(cancel <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	return b.make(cancel, "Mknod", &in.InHeader, name, in.Mode, out, func(n *node) {
		n.now.rdev, n.durable.rdev = in.Rdev, in.Rdev
	})
}

func (b *front) Mkdir(cancel <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	return b.make(cancel, "Mkdir", &in.InHeader, name, fuse.S_IFDIR|in.Mode, out, nil)
}

func (b *front) Symlink(cancel <-chan struct{}, h *fuse.InHeader, target, name string, out *fuse.EntryOut) fuse.Status {
	return b.make(cancel, "Symlink", h, name, fuse.S_IFLNK|0o777, out, func(n *node) {
		n.now.data, n.durable.data = []byte(target), []byte(target)
	})
}

func (b *front) Create(cancel <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE
	return b.make(cancel, "Create", &in.InHeader, name, fuse.S_IFREG|in.Mode&0o7777, &out.EntryOut, nil)
}

func (b *front) Readlink(cancel <-chan struct{}, h *fuse.InHeader) (target []byte, _ fuse.Status) {
	status := b.with(cancel, "Readlink", h.NodeId, func(n *node) fuse.Status {
		target = n.now.data
		return fuse.OK
	})
	return target, status
}

func (b *front) Link(cancel <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	return b.within(cancel, "Link", in.NodeId, func(dir *node) fuse.Status {
		n := b.fs.nodes[in.Oldnodeid]
		if n == nil || dir.names[name] != nil {
			return fuse.Status(syscall.EEXIST)
		}
		n.links++
		b.fs.move(move{{dir, name, n}})
		n.now.ctime = now()
		return n.entry(out)
	})
}

func (b *front) Unlink(cancel <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	return b.within(cancel, "Unlink", h.NodeId, func(dir *node) fuse.Status {
		n := dir.names[name]
		switch {
		case n == nil:
			return fuse.ENOENT
		case n.isDir():
			return fuse.EISDIR
		}
		n.links--
		n.now.ctime = now()
		b.fs.move(move{{dir, name, nil}})
		return fuse.OK
	})
}

func (b *front) Rmdir(cancel <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	return b.within(cancel, "Rmdir", h.NodeId, func(dir *node) fuse.Status {
		n := dir.names[name]
		switch {
		case n == nil:
			return fuse.ENOENT
		case !n.isDir():
			return fuse.ENOTDIR
		case len(n.names) > 0:
			return fuse.Status(syscall.ENOTEMPTY)
		}
		b.fs.move(move{{dir, name, nil}})
		return fuse.OK
	})
}

// The flags of renameat2.
const (
	renameNoReplace = 1
	renameExchange  = 2
)

func (b *front) Rename(cancel <-chan struct{}, in *fuse.RenameIn, oldName, newName string) fuse.Status {
	return b.within(cancel, "Rename", in.NodeId, func(from *node) fuse.Status {
		to := b.fs.nodes[in.Newdir]
		if to == nil || !to.isDir() {
			return fuse.ENOTDIR
		}
		n, old := from.names[oldName], to.names[newName]
		switch {
		case n == nil || old == nil && in.Flags&renameExchange != 0:
			return fuse.ENOENT
		case in.Flags&renameExchange != 0:
			b.fs.move(move{{from, oldName, old}, {to, newName, n}})
			return fuse.OK
		case old == nil:
		case in.Flags&renameNoReplace != 0:
			return fuse.Status(syscall.EEXIST)
		case old == n:
			return fuse.OK
		case old.isDir() && !n.isDir():
			return fuse.EISDIR
		case !old.isDir() && n.isDir():
			return fuse.ENOTDIR
		case len(old.names) > 0:
			return fuse.Status(syscall.ENOTEMPTY)
		default:
			old.links--
		}
		b.fs.move(move{{from, oldName, nil}, {to, newName, n}})
		n.now.ctime = now()
		return fuse.OK
	})
}

func (b *front) StatFs(cancel <-chan struct{}, h *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	return b.with(cancel, "StatFs", h.NodeId, func(*node) fuse.Status {
		*out = fuse.StatfsOut{Blocks: 1 << 24, Bfree: 1 << 23, Bavail: 1 << 23, Files: 1 << 20, Ffree: 1 << 19, Bsize: 4096, Frsize: 4096, NameLen: 255}
		return fuse.OK
	})
}

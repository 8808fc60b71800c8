package faultfs

import (
	"bytes"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
)

func (b *front) Open(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	return b.with(cancel, "Open", in.NodeId, func(n *node) fuse.Status {
		if n.isDir() {
			return fuse.EISDIR
		}
		out.OpenFlags = fuse.FOPEN_KEEP_CACHE // SQLite maps the file that its processes share
		if in.Flags&syscall.O_TRUNC != 0 {
			b.fs.change(n, change{content: true, do: func(s *state) { s.resize(0) }})
		}
		return fuse.OK
	})
}

func (b *front) Read(cancel <-chan struct{}, in *fuse.ReadIn, _ []byte) (fuse.ReadResult, fuse.Status) {
	var data []byte
	status := b.with(cancel, "Read", in.NodeId, func(n *node) fuse.Status {
		if all := n.now.data; in.Offset < uint64(len(all)) {
			data = bytes.Clone(all[in.Offset:min(uint64(len(all)), in.Offset+uint64(in.Size))])
		}
		return fuse.OK
	})
	return fuse.ReadResultData(data), status
}

func (b *front) Write(cancel <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	return uint32(len(data)), b.with(cancel, "Write", in.NodeId, func(n *node) fuse.Status {
		b.fs.change(n, change{content: true, off: int64(in.Offset), data: bytes.Clone(data)})
		return fuse.OK
	})
}

func (b *front) Fallocate(cancel <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	const keepSize, punchHole = 1, 2
	if in.Mode&^(keepSize|punchHole) != 0 {
		return fuse.Status(syscall.EOPNOTSUPP)
	}
	// The request is not there any more when the change becomes durable.
	mode, start, end := in.Mode, in.Offset, in.Offset+in.Length
	return b.with(cancel, "Fallocate", in.NodeId, func(n *node) fuse.Status {
		b.fs.change(n, change{content: true, do: func(s *state) {
			size := uint64(len(s.data))
			if mode&keepSize == 0 && end > size {
				s.resize(int64(end))
			}
			if mode&punchHole != 0 && start < size {
				clear(s.data[start:min(end, size)])
			}
		}})
		return fuse.OK
	})
}

func (b *front) Release(<-chan struct{}, *fuse.ReleaseIn) {}

// Flush is what close comes to, which makes nothing durable.
func (b *front) Flush(cancel <-chan struct{}, in *fuse.FlushIn) fuse.Status {
	return b.with(cancel, "Flush", in.NodeId, func(*node) fuse.Status { return fuse.OK })
}

func (b *front) Fsync(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	const dataOnly = 1
	return b.with(cancel, "Fsync", in.NodeId, func(n *node) fuse.Status { return b.fs.sync(n, in.FsyncFlags&dataOnly == 0) })
}

func (b *front) FsyncDir(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	return b.Fsync(cancel, in)
}

func (b *front) OpenDir(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	return b.within(cancel, "OpenDir", in.NodeId, func(*node) fuse.Status {
		b.handles++
		out.Fh = b.handles
		return fuse.OK
	})
}

func (b *front) ReleaseDir(in *fuse.ReleaseIn) {
	b.fs.mu.Lock()
	defer b.fs.mu.Unlock()
	delete(b.listings, in.Fh)
}

// ReadDir lists the names that there were when the listing began.
func (b *front) ReadDir(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return b.within(cancel, "ReadDir", in.NodeId, func(dir *node) fuse.Status {
		if in.Offset == 0 {
			var all []fuse.DirEntry
			for name, n := range dir.names {
				all = append(all, fuse.DirEntry{Name: name, Mode: n.now.mode, Ino: n.id, Off: uint64(len(all)) + 1})
			}
			b.listings[in.Fh] = all
		}
		for all := b.listings[in.Fh]; in.Offset < uint64(len(all)) && out.AddDirEntry(all[in.Offset]); {
			in.Offset++
		}
		return fuse.OK
	})
}

func (b *front) GetXAttr(cancel <-chan struct{}, h *fuse.InHeader, name string, dest []byte) (uint32, fuse.Status) {
	size := 0
	status := b.with(cancel, "GetXAttr", h.NodeId, func(n *node) fuse.Status {
		value, ok := n.now.xattrs[name]
		if !ok {
			return fuse.ENOATTR
		}
		return fill(dest, value, &size)
	})
	return uint32(size), status
}

// fill copies what is asked for into dest, or says how large that would have to be.
func fill(dest, value []byte, size *int) fuse.Status {
	*size = len(value)
	if len(value) > len(dest) {
		return fuse.ERANGE
	}
	copy(dest, value)
	return fuse.OK
}

func (b *front) ListXAttr(cancel <-chan struct{}, h *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	size := 0
	status := b.with(cancel, "ListXAttr", h.NodeId, func(n *node) fuse.Status {
		var names []byte
		for name := range n.now.xattrs {
			names = append(append(names, name...), 0)
		}
		return fill(dest, names, &size)
	})
	return uint32(size), status
}

func (b *front) SetXAttr(cancel <-chan struct{}, in *fuse.SetXAttrIn, name string, data []byte) fuse.Status {
	const create, replace = 1, 2
	return b.with(cancel, "SetXAttr", in.NodeId, func(n *node) fuse.Status {
		_, there := n.now.xattrs[name]
		switch {
		case there && in.Flags&create != 0:
			return fuse.Status(syscall.EEXIST)
		case !there && in.Flags&replace != 0:
			return fuse.ENOATTR
		}
		value := bytes.Clone(data)
		b.fs.change(n, change{do: func(s *state) {
			if s.xattrs == nil {
				s.xattrs = map[string][]byte{}
			}
			s.xattrs[name] = value
		}})
		return fuse.OK
	})
}

func (b *front) RemoveXAttr(cancel <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	return b.with(cancel, "RemoveXAttr", h.NodeId, func(n *node) fuse.Status {
		if _, there := n.now.xattrs[name]; !there {
			return fuse.ENOATTR
		}
		b.fs.change(n, change{do: func(s *state) { delete(s.xattrs, name) }})
		return fuse.OK
	})
}

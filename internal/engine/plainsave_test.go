package engine

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"testing"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/compression"
	"github.com/kopia/kopia/repo/object"
	"golang.org/x/sys/unix"

	"abaca/internal/posix"
)

// newRepository opens an empty repository with nothing but Kopia.
func newRepository(t testing.TB) repo.DirectRepository {
	t.Helper()
	empty, err := makeEmpty()
	must(t, err)
	return openStock(t, filepath.Join(newRoot(t, testProject), dirName(testProject), blobDir), empty.password)
}

// A plainSaver saves a tree in the simplest way that the format allows, with chunks of a fixed size, so that the
// restorer is tested against the format and not against the saver alone.
type plainSaver struct {
	w         repo.RepositoryWriter
	chunkSize int
	mark      mark // put on every entry, with the size and content that such an entry has
}

func plainSave(t testing.TB, r repo.DirectRepository, root string, chunkSize int) (object.ID, totals) {
	t.Helper()
	return plainSaver{chunkSize: chunkSize}.save(t, r, root)
}

func plainSaveMarked(t testing.TB, r repo.DirectRepository, root string, m mark) (object.ID, totals) {
	t.Helper()
	return plainSaver{chunkSize: 1 << 20, mark: m}.save(t, r, root)
}

func (s plainSaver) save(t testing.TB, r repo.DirectRepository, root string) (object.ID, totals) {
	t.Helper()
	ctx := context.Background()
	ctx, w, err := r.NewDirectWriter(ctx, repo.WriteSessionOptions{Purpose: "test"})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close(ctx)
	fd, err := unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	s.w = w
	self, err := s.attributes(fd, fd, ".")
	if err != nil {
		t.Fatal(err)
	}
	id, all, err := s.dir(ctx, fd, &self, true)
	if err == nil {
		err = w.Flush(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
	return id, all
}

func (s *plainSaver) put(ctx context.Context, prefix string, data []byte) (object.ID, error) {
	w := s.w.NewObjectWriter(ctx, object.WriterOptions{Prefix: "", Splitter: "FIXED-8M", Compressor: compression.Name("s2-default"), MetadataCompressor: "zstd-fastest"})
	if prefix != "" {
		w.Close()
		w = s.w.NewObjectWriter(ctx, object.WriterOptions{Prefix: "k", Splitter: "FIXED-8M", MetadataCompressor: "zstd-fastest"})
	}
	defer w.Close()
	if _, err := w.Write(data); err != nil {
		return object.EmptyID, err
	}
	return w.Result()
}

func (s *plainSaver) attributes(fd, dir int, name string) (entry, error) {
	st, err := posix.StatAt(dir, name)
	if name == "." {
		st, err = posix.StatFD(fd)
	}
	if err != nil {
		return entry{}, err
	}
	e := entry{
		name: name, mode: uint16(st.Perm()), uid: st.UID, gid: st.GID, mtime: st.Mtime, ctime: st.Ctime, ino: st.Ino, nlink: st.Nlink,
		major: unix.Major(st.Rdev), minor: unix.Minor(st.Rdev),
	}
	for k := range slices.Values([]kind{kindFile, kindDir, kindSymlink, kindFIFO, kindSocket, kindChar, kindBlock}) {
		if k.fileType() == st.Type() {
			e.kind = k
		}
	}
	if e.kind == kindDir {
		e.nlink = 1
	}
	if e.kind == kindFile {
		e.size = st.Size
	}
	if name == "." {
		e.xattrs, err = posix.Attrs(fd)
	} else {
		e.xattrs, err = posix.AttrsAt(dir, name)
	}
	return e, err
}

func (s *plainSaver) dir(ctx context.Context, fd int, self *entry, root bool) (object.ID, totals, error) {
	all := totals{dirs: 1}
	names, err := namesIn(fd)
	if err != nil {
		return object.EmptyID, all, err
	}
	var buf bytes.Buffer
	h := header{version: formatVersion}
	if root {
		h.self = self
		if self.object, err = s.put(ctx, "k", nil); err != nil {
			return object.EmptyID, all, err
		}
	}
	enc := newDirEncoder(&buf, h)
	for _, name := range names {
		e, err := s.entry(ctx, fd, name)
		if err != nil {
			return object.EmptyID, all, fmt.Errorf("%q: %w", name, err)
		}
		if e.mark = s.mark; e.mark == markUnreadable {
			e.size = 0
			if e.object, err = s.put(ctx, "", nil); err != nil {
				return object.EmptyID, all, err
			}
		}
		all.count(&e)
		if err := enc.add(&e); err != nil {
			return object.EmptyID, all, err
		}
	}
	if err := enc.close(all, self.mtime); err != nil {
		return object.EmptyID, all, err
	}
	id, err := s.put(ctx, "k", buf.Bytes())
	return id, all, err
}

func namesIn(fd int) (names []string, err error) {
	r, err := posix.NewDirReader(fd, nil)
	if err != nil {
		return nil, err
	}
	for {
		name, _, err := r.Next()
		if err == io.EOF {
			slices.Sort(names)
			return names, nil
		}
		if err != nil {
			return nil, err
		}
		names = append(names, string(name))
	}
}

func (s *plainSaver) entry(ctx context.Context, dir int, name string) (entry, error) {
	e, err := s.attributes(-1, dir, name)
	if err != nil {
		return e, err
	}
	switch e.kind {
	case kindDir:
		fd, err := posix.OpenDir(dir, name)
		if err != nil {
			return e, err
		}
		defer posix.Close(fd)
		e.object, e.totals, err = s.dir(ctx, fd, &e, false)
		return e, err
	case kindFile:
		fd, _, err := posix.OpenFile(dir, name, unix.O_RDONLY)
		if err != nil {
			return e, err
		}
		defer posix.Close(fd)
		e.object, err = s.content(ctx, fd, e.size)
		return e, err
	case kindSymlink:
		if e.target, err = posix.Readlink(dir, name); err != nil {
			return e, err
		}
		e.size = int64(len(e.target))
		e.object, err = s.put(ctx, "", []byte(e.target))
		return e, err
	}
	e.object, err = s.put(ctx, "", nil)
	return e, err
}

func (s *plainSaver) content(ctx context.Context, fd int, size int64) (object.ID, error) {
	var list bytes.Buffer
	var only object.ID
	count, holes := 0, false
	fmt.Fprintf(&list, `{"stream":"kopia:indirect","entries":[`)
	add := func(start, length int64, id object.ID, hole bool) {
		if count++; count > 1 {
			list.WriteByte(',')
		}
		fmt.Fprintf(&list, "\n"+`{"s":%d,"l":%d,"o":"%v"`, start, length, id)
		if hole {
			holes = true
			fmt.Fprintf(&list, `,"h":1`)
		}
		list.WriteByte('}')
		only = id
	}
	buf := make([]byte, s.chunkSize)
	zeros, err := s.put(ctx, "", make([]byte, 1)) // any object will do for a hole here
	if err != nil {
		return zeros, err
	}
	for off := int64(0); off < size; {
		start, end, err := posix.NextData(fd, off)
		if err != nil {
			return zeros, err
		}
		if start > off {
			add(off, start-off, zeros, true)
		}
		for off = start; off < end; {
			n, err := posix.ReadAt(fd, buf[:min(int64(len(buf)), end-off)], off)
			if err != nil {
				return zeros, err
			}
			id, err := s.put(ctx, "", buf[:n])
			if err != nil {
				return zeros, err
			}
			add(off, int64(n), id, false)
			off += int64(n)
		}
	}
	if count == 0 {
		return s.put(ctx, "", nil)
	}
	if count == 1 && !holes {
		return only, nil
	}
	list.WriteString("\n]}\n")
	id, err := s.put(ctx, "k", list.Bytes())
	if err != nil {
		return id, err
	}
	return object.ParseID("I" + id.String())
}

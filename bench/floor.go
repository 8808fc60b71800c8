package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"abaca/internal/posix"
)

// The bare floors: what the kernel alone takes for what a backup program cannot do without.

// floorThreads read and list at a time.
const floorThreads = 8

// walkTree lists a tree and takes the status of every entry, and reads the files too if asked.
func walkTree(ctx context.Context, tree string, read bool) (string, error) {
	fd, err := unix.Open(tree, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	group, ctx := errgroup.WithContext(ctx)
	q := &stack{fds: []int{fd}, pending: 1}
	q.wake = sync.NewCond(&q.mu)
	for range floorThreads {
		group.Go(func() error {
			w := floorWalker{stack: q, names: make([]byte, 64<<10)}
			if read {
				w.content = make([]byte, 256<<10)
			}
			return w.run(ctx)
		})
	}
	err = group.Wait()
	return fmt.Sprintf("%d entries", q.entries), err
}

// A stack holds open directories that are to be listed.
type stack struct {
	mu      sync.Mutex
	wake    *sync.Cond
	fds     []int
	pending int // directories not yet listed
	entries int
}

func (s *stack) push(fd int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fds = append(s.fds, fd)
	s.pending++
	s.wake.Signal()
}

func (s *stack) pop() (fd int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.fds) == 0 && s.pending > 0 {
		s.wake.Wait()
	}
	if s.pending == 0 {
		return 0, false
	}
	last := len(s.fds) - 1
	fd = s.fds[last]
	s.fds = s.fds[:last]
	return fd, true
}

func (s *stack) listed(entries int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entries += entries
	if s.pending--; s.pending == 0 {
		s.wake.Broadcast()
	}
}

type floorWalker struct {
	*stack
	names   []byte
	content []byte // nil where files are not read
}

func (w *floorWalker) run(ctx context.Context) error {
	var failed error
	for {
		fd, ok := w.pop()
		if !ok {
			return failed
		}
		// After a failure the rest is only closed, so that nobody waits for it.
		n, err := 0, errors.Join(failed, ctx.Err())
		if err == nil {
			n, err = w.list(fd)
		}
		failed = err
		unix.Close(fd)
		w.listed(n)
	}
}

func (w *floorWalker) list(fd int) (entries int, err error) {
	r, err := posix.NewDirReader(fd, w.names)
	if err != nil {
		return 0, err
	}
	for ; ; entries++ {
		raw, typ, err := r.Next()
		if errors.Is(err, io.EOF) {
			return entries, nil
		}
		if err != nil {
			return entries, err
		}
		name := string(raw)
		switch {
		case typ == unix.DT_DIR:
			err = w.enter(fd, name)
		case typ == unix.DT_REG && w.content != nil:
			err = w.read(fd, name)
		default:
			_, err = posix.StatAt(fd, name)
		}
		if err != nil {
			return entries, fmt.Errorf("%s: %w", name, err)
		}
	}
}

func (w *floorWalker) enter(dir int, name string) error {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	_, err = posix.StatFD(fd)
	w.push(fd)
	return err
}

func (w *floorWalker) read(dir int, name string) error {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NOATIME, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	st, err := posix.StatFD(fd)
	if err != nil {
		return err
	}
	for got := int64(0); got < st.Size; {
		n, err := unix.Read(fd, w.content)
		if err != nil || n == 0 {
			return err
		}
		got += int64(n)
	}
	return nil
}

// prepareCreate lists the regular files and directories of Tree, and then measures making them below Other with one
// thread: their sizes are true, their content is zeros and attributes are left alone.
func prepareCreate(_ *hands, _ context.Context, req request) (func() (string, error), error) {
	type file struct {
		path string
		size int64
		dir  bool
	}
	var files []file
	err := filepath.Walk(req.Tree, func(path string, info os.FileInfo, err error) error {
		if err != nil || path == req.Tree || !info.IsDir() && !info.Mode().IsRegular() {
			return err
		}
		files = append(files, file{path[len(req.Tree)+1:], info.Size(), info.IsDir()})
		return nil
	})
	zeros := make([]byte, 256<<10)
	return func() (string, error) {
		for _, f := range files {
			path := filepath.Join(req.Other, f.path)
			if f.dir {
				if err := unix.Mkdir(path, 0o755); err != nil {
					return "", err
				}
				continue
			}
			if err := createFile(path, f.size, zeros); err != nil {
				return "", err
			}
		}
		return fmt.Sprintf("%d entries", len(files)), nil
	}, err
}

func createFile(path string, size int64, zeros []byte) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for size > 0 {
		n, err := unix.Write(fd, zeros[:min(size, int64(len(zeros)))])
		if err != nil {
			return err
		}
		size -= int64(n)
	}
	return nil
}

package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// An annex is what lies beside a repository's blobs: the wrapped password, copies, notes. Names are relative, with at most one
// slash, and contents are not empty: versitygw 1.8.0 takes the end of an empty object for the next request. What is not there is
// fs.ErrNotExist. What put, create and remove have done survives a power loss.
type annex interface {
	read(ctx context.Context, name string) ([]byte, error)
	put(ctx context.Context, name string, content []byte) error
	// create puts what must not be there yet: of several that try, in whatever processes, one succeeds; it is fs.ErrExist to the others.
	create(ctx context.Context, name string, content []byte) error
	remove(ctx context.Context, name string) error // what is not there is no error
	list(ctx context.Context, dir string) (names []string, err error)
	// exclude keeps everybody else, in whatever processes, from being here at the same time. Who does not wait gets errExcluded. The
	// context that it returns ends when the right is lost.
	exclude(ctx context.Context, wait bool) (held context.Context, release func(), err error)
}

// errExcluded says that another process is at work where one at a time may be.
var errExcluded = errors.New("another process is mending or maintaining this repository")

// exclusionFile is locked by who maintains or mends a repository.
const exclusionFile = "maintenance.lock"

// A dirAnnex keeps everything as files in a directory, which several hosts may have mounted.
type dirAnnex struct{ dir string }

func (a dirAnnex) path(name string) string { return filepath.Join(a.dir, filepath.FromSlash(name)) }

func (a dirAnnex) read(_ context.Context, name string) ([]byte, error) {
	return os.ReadFile(a.path(name))
}

func (a dirAnnex) put(_ context.Context, name string, content []byte) error {
	if err := a.makeParents(name); err != nil {
		return err
	}
	return writeDurably(a.path(name), content)
}

// makeParents makes the annex, and the directory in it that a name has.
func (a dirAnnex) makeParents(name string) error {
	err := makeDir(a.dir)
	if err == nil && strings.Contains(name, "/") {
		err = makeDir(filepath.Dir(a.path(name)))
	}
	return err
}

func (a dirAnnex) create(_ context.Context, name string, content []byte) error {
	if err := a.makeParents(name); err != nil {
		return err
	}
	return placeDurably(a.path(name), content, linkNew)
}

// linkNew gives a file its name unless that is taken. File systems without hard links have a rename that does the same.
func linkNew(draft, path string) error {
	err := os.Link(draft, path)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return unix.Renameat2(unix.AT_FDCWD, draft, unix.AT_FDCWD, path, unix.RENAME_NOREPLACE)
	}
	return err
}

func (a dirAnnex) remove(_ context.Context, name string) error { return removeDurably(a.path(name)) }

func (a dirAnnex) list(_ context.Context, dir string) (names []string, err error) {
	entries, err := os.ReadDir(a.path(dir))
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") { // a draft
			names = append(names, e.Name())
		}
	}
	return names, ignoreMissing(err)
}

func (a dirAnnex) exclude(ctx context.Context, wait bool) (held context.Context, release func(), err error) {
	for {
		f, err := tryLock(a.path(exclusionFile))
		switch {
		case err != nil:
			return nil, nil, err
		case f != nil:
			return ctx, func() { f.Close() }, nil
		case !wait:
			return nil, nil, errExcluded
		}
		// flock cannot be interrupted by a context.
		select {
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// tryLock takes the lock on a file, which ends when the file is closed or the process dies; nil means that another has it.
func tryLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return f, nil
	}
	f.Close()
	if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, unix.EINTR) {
		return nil, nil
	}
	return nil, err
}

// writeDurably puts a small file in place in one step; it stays there through a power loss once this has returned.
func writeDurably(path string, content []byte) error { return placeDurably(path, content, os.Rename) }

// placeDurably writes a draft and gives it its name, by whichever way of doing that.
func placeDurably(path string, content []byte, place func(draft, path string) error) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = place(f.Name(), path)
	}
	if err == nil {
		err = syncDir(dir)
	}
	return err
}

// removeDurably removes a file so that it stays gone through a power loss; one that is not there is no error.
func removeDurably(path string) error {
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return errors.Join(err, syncDir(filepath.Dir(path)))
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// makeDir makes a directory below an existing one, durably; one that is there already is no error, and may have been made by a process
// that was killed before it could say so.
func makeDir(path string) error {
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// A steadyAnnex gives up on an annex that does not answer, and tries again what failed in passing.
type steadyAnnex struct {
	annex
	patience patience
}

func (a steadyAnnex) read(ctx context.Context, name string) (content []byte, err error) {
	return result(ctx, a.patience, func(ctx context.Context) ([]byte, error) { return a.annex.read(ctx, name) })
}

func (a steadyAnnex) put(ctx context.Context, name string, content []byte) error {
	content = bytes.Clone(content)
	return a.patience.run(ctx, func(ctx context.Context) error { return a.annex.put(ctx, name, content) })
}

// create may have succeeded though it seems to have failed, and so finds its own content there when it is tried again.
func (a steadyAnnex) create(ctx context.Context, name string, content []byte) error {
	content = bytes.Clone(content)
	err := a.patience.run(ctx, func(ctx context.Context) error { return a.annex.create(ctx, name, content) })
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	there, rerr := a.read(ctx, name)
	if errors.Is(rerr, fs.ErrNotExist) { // some servers refuse a write while another one is under way, which may come to nothing
		return a.patience.run(ctx, func(ctx context.Context) error { return a.annex.create(ctx, name, content) })
	}
	if rerr != nil {
		return fmt.Errorf("reading %s back: %w", name, rerr)
	}
	if bytes.Equal(there, content) {
		return nil
	}
	return err
}

// heldBy is the key of the annex in a context that exclude has returned.
type heldBy struct{}

// exclude lets who has the right already in: what mends is called on its own, and by those who keep maintenance away.
func (a steadyAnnex) exclude(ctx context.Context, wait bool) (held context.Context, release func(), err error) {
	if ctx.Value(heldBy{}) == a.annex {
		return ctx, func() {}, nil
	}
	held, release, err = a.annex.exclude(ctx, wait)
	if err != nil {
		return nil, nil, err
	}
	return context.WithValue(held, heldBy{}, a.annex), release, nil
}

func (a steadyAnnex) remove(ctx context.Context, name string) error {
	return a.patience.run(ctx, func(ctx context.Context) error { return a.annex.remove(ctx, name) })
}

func (a steadyAnnex) list(ctx context.Context, dir string) ([]string, error) {
	return result(ctx, a.patience, func(ctx context.Context) ([]string, error) { return a.annex.list(ctx, dir) })
}

// has reports whether there is something of this name.
func (a steadyAnnex) has(ctx context.Context, name string) (bool, error) {
	_, err := a.read(ctx, name)
	return err == nil, ignoreMissing(err)
}

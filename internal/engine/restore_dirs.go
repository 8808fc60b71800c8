package engine

import (
	"container/list"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"abaca/internal/posix"
)

// A targetDir is a directory of the share while what is in it is being restored.
type targetDir struct {
	parent *targetDir // nil for the root
	name   string
	saved  entry      // its own attributes; the zero kind where none were saved
	self   posix.Stat // what it was when it was opened; names the inode, which the path must still lead to
	fresh  bool       // made by this run, so that nothing of anybody else's is in it

	// unfinished counts what must be over before the directory's own times can be set: the walker's visit, entries
	// that a worker still has, subdirectories.
	unfinished atomic.Int32
	prepare    sync.Once // see change

	// The cache's.
	fd    int // -1 while closed
	users int
	idle  *list.Element
}

// A dirCache keeps the descriptors of directories that are used, and of the latest that are not, up to its limit. A
// closed one is opened again by its name in its parent. So a tree of any depth takes a bounded number of descriptors.
type dirCache struct {
	mu    sync.Mutex
	idle  *list.List // of *targetDir that have a descriptor but no user, the latest first
	limit int
}

func newDirCache(limit int) *dirCache { return &dirCache{idle: list.New(), limit: limit} }

// errMoved says that somebody moved or replaced a directory while it was being restored.
var errMoved = errors.New("the directory was moved or replaced meanwhile")

// use returns the directory's descriptor, which stays open until done.
func (c *dirCache) use(d *targetDir) (int, error) {
	c.mu.Lock()
	if d.fd >= 0 {
		d.users++
		if d.idle != nil {
			c.idle.Remove(d.idle)
			d.idle = nil
		}
		c.mu.Unlock()
		return d.fd, nil
	}
	c.mu.Unlock()

	fd, err := c.reopen(d)
	if err != nil {
		return -1, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if d.fd >= 0 { // somebody else was faster
		posix.Close(fd)
		if d.idle != nil {
			c.idle.Remove(d.idle)
			d.idle = nil
		}
	} else {
		d.fd = fd
	}
	d.users++
	return d.fd, nil
}

func (c *dirCache) reopen(d *targetDir) (int, error) {
	up, err := c.use(d.parent)
	if err != nil {
		return -1, err
	}
	defer c.done(d.parent)
	fd, st, err := openDir(up, d.name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		err = errMoved
	}
	if err == nil && !st.Same(&d.self) {
		posix.Close(fd)
		err = errMoved
	}
	if err != nil {
		return -1, fmt.Errorf("open the directory again: %w", err)
	}
	return fd, nil
}

// done gives back what use returned.
func (c *dirCache) done(d *targetDir) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d.users--; d.users > 0 {
		return
	}
	d.idle = c.idle.PushFront(d)
	if c.idle.Len() > c.limit {
		c.shut(c.idle.Back())
	}
}

// forget closes a directory that is finished.
func (c *dirCache) forget(d *targetDir) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d.idle != nil {
		c.shut(d.idle)
	}
}

// shutAll closes what is left, after a run that was broken off too.
func (c *dirCache) shutAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.idle.Len() > 0 {
		c.shut(c.idle.Back())
	}
}

func (c *dirCache) shut(e *list.Element) {
	d := c.idle.Remove(e).(*targetDir)
	posix.Close(d.fd)
	d.fd, d.idle = -1, nil
}

// openDir opens a directory and says which it is.
func openDir(dir int, name string) (int, posix.Stat, error) {
	fd, err := posix.OpenDir(dir, name)
	if err != nil {
		return -1, posix.Stat{}, err
	}
	st, err := posix.StatFD(fd)
	if err != nil {
		posix.Close(fd)
		return -1, posix.Stat{}, err
	}
	return fd, st, nil
}

// path returns the directory's path below the root, for messages only.
func (d *targetDir) path() string {
	if d == nil || d.parent == nil {
		return ""
	}
	path := d.name
	for up := d.parent; up.parent != nil && len(path) < 4096; up = up.parent {
		path = up.name + "/" + path
	}
	return path
}

// Package faultfs is a file system that forgets, at a power cut, whatever nobody has made durable, and hangs when it is told to.
//
// It is as forgetful as POSIX lets a file system be. What is written to a file, its size and its attributes last once that file was
// synced; a name in a directory, made, moved or taken away, once that directory was, and a file that was synced can be gone because its
// name was not. A rename happens in both directories or in neither. Every real file system promises more, and none more than some of it:
// see Ext4.
package faultfs

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// An FS is mounted until its test ends. Its methods are called by one goroutine.
type FS struct {
	Dir string // where it is mounted; the root's own name needs no syncing

	t      testing.TB
	server *fuse.Server

	mu        sync.Mutex
	ext4      bool
	cut       bool
	nodes     map[uint64]*node
	nodesMade uint64
	moves     []move        // of names, that are not durable yet, in their order
	syncs     int64         // how many were asked for
	last      int64         // the sync at which the power fails; 0 for none
	failed    chan struct{} // closed when it has failed there
	changed   int64         // how often anything was
	hangs     []*Hang
}

// An Option changes what an FS is like.
type Option func(*FS)

// Ext4 has every sync make all names durable, as one commit of a journal does. A loss that this file system shows is one that
// people have seen.
func Ext4(f *FS) { f.ext4 = true }

// Mount mounts an empty file system. Where this machine cannot, the test is skipped or, where CI is set, fails.
func Mount(t testing.TB, options ...Option) *FS {
	t.Helper()
	if _, err := os.Stat("/dev/fuse"); err != nil || os.Geteuid() != 0 {
		need(t, "it mounts a file system with FUSE, which takes root and /dev/fuse")
	}
	f := &FS{Dir: t.TempDir(), t: t, nodes: map[uint64]*node{}}
	for _, o := range options {
		o(f)
	}
	root := f.newNode(fuse.S_IFDIR|0o755, 0, 0)
	if root.id != fuse.FUSE_ROOT_ID {
		t.Fatal("the root is not the first node")
	}
	f.mount()
	t.Cleanup(f.unmount)
	return f
}

// need ends a test that lacks something: loudly here, and as a failure where everything has to be tested.
func need(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal("this test cannot run: " + what)
	}
	t.Skip("NOT TESTED: " + what)
}

func (f *FS) mount() {
	f.t.Helper()
	// The descriptor is not for the servers that tests start: with it they would keep the file system from failing with its test.
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		f.t.Fatalf("open /dev/fuse: %v", err)
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions,max_read=%d", fd, maxIO)
	if err := unix.Mount("faultfs", f.Dir, "fuse.faultfs", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		f.t.Fatalf("mount: %v", err)
	}
	server, err := fuse.NewServer(f.front(), fmt.Sprintf("/dev/fd/%d", fd), &fuse.MountOptions{MaxWrite: maxIO, DisableReadDirPlus: true})
	if err != nil {
		f.t.Fatalf("serve: %v", errors.Join(err, unix.Unmount(f.Dir, unix.MNT_DETACH)))
	}
	f.server = server
	go server.Serve()
	// Go's runtime asks whether a file that it opens can be polled, and has no other thread meanwhile to answer that here. So the kernel hears
	// that none can before Go asks; this is the name that the library has for it.
	polled, err := unix.Open(filepath.Join(f.Dir, ".go-fuse-epoll-hack"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		f.t.Fatalf("mount: %v", err)
	}
	_, err = unix.Poll([]unix.PollFd{{Fd: int32(polled), Events: unix.POLLIN}}, 0)
	if err := errors.Join(err, unix.Close(polled)); err != nil {
		f.t.Fatalf("mount: %v", err)
	}
}

// maxIO is how much the kernel reads or writes at a time, in bytes.
const maxIO = 1 << 20

// unmount takes the file system away, whoever still has files of it open, and waits until the kernel has let go of it.
func (f *FS) unmount() {
	if err := unix.Unmount(f.Dir, unix.MNT_DETACH); err != nil {
		f.t.Errorf("unmount: %v", err)
		return
	}
	f.server.Wait()
}

func (f *FS) front() fuse.RawFileSystem {
	return &front{RawFileSystem: fuse.NewDefaultRawFileSystem(), fs: f, listings: map[uint64][]fuse.DirEntry{}}
}

// Cut is the moment at which the power fails: from now on everything fails, and nothing becomes durable.
func (f *FS) Cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cut = true
}

// Syncs counts what was made durable so far, so that a test can tell that something was.
func (f *FS) Syncs() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.syncs
}

// A Loss says what a power cut takes of what is not durable.
type Loss int

const (
	All       Loss = iota // everything
	Files                 // all that is not durable of some files, and some names
	Tails                 // the latest of each file's changes, the last of which may be torn, and the latest of all names
	Scattered             // some changes here and there, whatever their order
	losses
)

func (l Loss) String() string { return [...]string{"all", "files", "tails", "scattered"}[l] }

// Losses are all there are.
func Losses() []Loss { return []Loss{All, Files, Tails, Scattered} }

// Restore has the power come back: what was durable is there, and of the rest what the loss leaves, which the seed decides. Nothing of the
// file system may be open any more.
func (f *FS) Restore(loss Loss, seed uint64) {
	f.t.Helper()
	f.t.Logf("the power comes back; lost: %v, seed %d", loss, seed)
	f.unmount()
	f.mu.Lock()
	r := rand.New(rand.NewPCG(seed, uint64(loss)))
	f.loseNames(loss, r)
	for id := uint64(1); id <= f.nodesMade; id++ { // in this order, so that a seed means one thing
		if n := f.nodes[id]; n != nil {
			n.lose(loss, r)
		}
	}
	f.count()
	f.cut, f.last = false, 0
	f.mu.Unlock()
	f.mount()
}

// loseNames decides which of the names that are not durable stay.
func (f *FS) loseNames(loss Loss, r *rand.Rand) {
	keep := 0
	if loss == Tails && len(f.moves) > 0 {
		keep = r.IntN(len(f.moves) + 1)
	}
	for i, m := range f.moves {
		if i < keep || (loss == Files || loss == Scattered) && r.IntN(2) == 0 {
			m.endure()
		}
	}
	f.moves = nil
}

// CutAfter has the power fail when n more syncs have been asked for, before the last of them has done anything; the channel is closed then.
func (f *FS) CutAfter(n int64) <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last, f.failed = f.syncs+n, make(chan struct{})
	return f.failed
}

// count counts the names of each node, and forgets those that have none.
func (f *FS) count() {
	root := f.nodes[fuse.FUSE_ROOT_ID]
	reached, dirs := map[uint64]*node{root.id: root}, []*node{root}
	for _, n := range f.nodes {
		n.links = 0
	}
	for len(dirs) > 0 {
		dir := dirs[len(dirs)-1]
		dirs = dirs[:len(dirs)-1]
		for _, n := range dir.names {
			n.links++
			if n.isDir() && reached[n.id] == nil {
				dirs = append(dirs, n)
			}
			reached[n.id] = n
		}
	}
	f.nodes = reached
}

// now is the time of a change.
func now() time.Time { return time.Now() }

// Sync makes all that is below a directory of the file system durable, as its users may have done, and the directory's own names. The error is
// that the power has failed.
func (f *FS) Sync(path string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cut {
		return unix.EIO
	}
	n := f.find(path)
	if n == nil {
		return unix.ENOENT
	}
	f.syncBelow(n)
	return nil
}

func (f *FS) syncBelow(n *node) {
	n.sync(true)
	if n.isDir() {
		f.syncNames(n)
		for _, child := range n.names {
			f.syncBelow(child)
		}
	}
}

package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

	"abaca/internal/posix"
)

// The linkGroups know the files of which several names were saved. The first name met leads: it is restored like any
// other file, and the others become links to it. A group is forgotten once all its names have been met.
type linkGroups struct {
	mu     sync.Mutex
	groups map[linkKey]*linkGroup
	kept   map[[2]uint64]*linkGroup // inodes of the share that a group has kept, so that no other group takes them
}

// A linkKey names an inode of the saved tree.
type linkKey struct{ scope, ino uint64 }

type linkGroup struct {
	met     uint32
	ready   bool // the leader is restored, or has failed
	failed  bool
	dir     *targetDir
	name    string
	inode   [2]uint64 // device and number in the share
	waiting []*job
}

func newLinkGroups() *linkGroups {
	return &linkGroups{groups: map[linkKey]*linkGroup{}, kept: map[[2]uint64]*linkGroup{}}
}

// join puts a job into its group and reports whether it leads.
func (t *linkGroups) join(j *job) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := linkKey{j.e.scope, j.e.ino}
	g := t.groups[key]
	leads := g == nil
	if leads {
		g = &linkGroup{dir: j.dir, name: j.e.name}
		t.groups[key] = g
	}
	if g.met++; g.met >= j.e.nlink {
		delete(t.groups, key)
	}
	j.group, j.leads = g, leads
	return leads
}

// mayKeep reports whether what is in the job's place can stay there as far as hard links go: a file that was saved
// with one name must be alone, and two groups never share an inode. It claims the inode for the job's group.
func (r *restorer) mayKeep(j *job) bool {
	if j.group == nil {
		return j.st.Nlink == 1
	}
	t := r.links
	t.mu.Lock()
	defer t.mu.Unlock()
	id := [2]uint64{j.st.Dev, j.st.Ino}
	if owner := t.kept[id]; owner != nil && owner != j.group {
		return false
	}
	t.kept[id] = j.group
	return true
}

// linkIfReady links a name to its leader, or leaves that to whoever finishes the leader.
func (r *restorer) linkIfReady(ctx context.Context, j *job) error {
	r.links.mu.Lock()
	if !j.group.ready {
		j.group.waiting = append(j.group.waiting, j)
		r.links.mu.Unlock()
		return nil
	}
	r.links.mu.Unlock()
	return r.link(ctx, j)
}

// lead tells a group how its leader has ended, and links those that waited.
func (r *restorer) lead(ctx context.Context, j *job, failed error) error {
	var inode [2]uint64
	if failed == nil {
		st, err := r.statJob(j)
		if err != nil {
			failed = err
		}
		inode = [2]uint64{st.Dev, st.Ino}
	}
	g := j.group
	r.links.mu.Lock()
	g.ready, g.failed, g.inode = true, failed != nil, inode
	waiting := g.waiting
	g.waiting = nil
	r.links.mu.Unlock()
	for _, other := range waiting {
		if err := r.link(ctx, other); err != nil {
			return err
		}
	}
	return nil
}

func (r *restorer) statJob(j *job) (posix.Stat, error) {
	fd, err := r.dirs.use(j.dir)
	if err != nil {
		return posix.Stat{}, err
	}
	defer r.dirs.done(j.dir)
	return posix.StatAt(fd, j.e.name)
}

// link makes the job's name one of its leader's, unless it is.
func (r *restorer) link(ctx context.Context, j *job) error {
	g := j.group
	if g.failed {
		return r.settle(j, fmt.Errorf("its first name %q could not be restored", join(g.dir.path(), g.name)))
	}
	if j.exists && j.st.Type() != unix.S_IFDIR && [2]uint64{j.st.Dev, j.st.Ino} == g.inode {
		return r.settle(j, nil)
	}
	err := r.linkNow(ctx, j)
	if reason := fatal(err); reason != nil {
		return reason
	}
	return r.settle(j, err)
}

func (r *restorer) linkNow(ctx context.Context, j *job) error {
	g := j.group
	from, err := r.dirs.use(g.dir)
	if err != nil {
		return err
	}
	defer r.dirs.done(g.dir)
	to, err := r.dirs.use(j.dir)
	if err != nil {
		return err
	}
	defer r.dirs.done(j.dir)

	temp := r.temp()
	if err := r.change(j.dir, to, func() error { return posix.Link(from, g.name, to, temp) }); err != nil {
		return fmt.Errorf("link to %q: %w", join(g.dir.path(), g.name), err)
	}
	st, err := posix.StatAt(to, temp)
	if err == nil && [2]uint64{st.Dev, st.Ino} != g.inode {
		err = errors.New("its first name was replaced meanwhile")
	}
	if err != nil {
		return errors.Join(err, r.discard(to, temp))
	}
	return r.put(ctx, j, to, temp)
}

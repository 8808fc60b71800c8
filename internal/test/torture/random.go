package torture

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Grow adds about n random entries to the tree at root: files of all sizes, some with holes, directories, symbolic
// and hard links, FIFOs, attributes, odd names, modes and times. Equal seeds give equal trees.
func Grow(root string, seed uint64, n int) error {
	g := &gardener{random: rand.New(rand.NewPCG(seed, 1)), dirs: []string{root}}
	for range n {
		if err := g.plant(); err != nil {
			return fmt.Errorf("grow %s: %w", root, err)
		}
	}
	return nil
}

// Vandalise spoils the tree at root in about n places: content with and without its time, sizes, modes, owners and
// attributes change; entries go, appear, move, swap places and turn into other types; hard links are made and cut.
// It returns how many changes it made, which is fewer than n where entries it chose were gone by then.
func Vandalise(root string, seed uint64, n int) (changes int, err error) {
	g := &gardener{random: rand.New(rand.NewPCG(seed, 2))}
	for changes < n {
		if err := g.survey(root); err != nil {
			return changes, err
		}
		for range max(1, n/4) {
			err := g.spoil()
			if err == nil {
				changes++
			} else if !excusable(err) {
				return changes, fmt.Errorf("vandalise %s: %w", root, err)
			}
		}
	}
	return changes, nil
}

// excusable errors come from earlier changes, or from what an ordinary user or this file system cannot do.
func excusable(err error) bool {
	for _, e := range []error{fs.ErrNotExist, fs.ErrExist, fs.ErrPermission, unix.ENOTDIR, unix.EISDIR, unix.EINVAL,
		unix.ENOTEMPTY, unix.EOPNOTSUPP, unix.ENAMETOOLONG, unix.EMLINK, unix.ENXIO, unix.ENOSPC, unix.EXDEV, unix.ELOOP, errNotFile} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

var errNotFile = errors.New("not a regular file")

type gardener struct {
	random  *rand.Rand
	dirs    []string // directories; the first is the root
	entries []string // everything else
}

// survey lists the tree as it is now. Paths beyond PATH_MAX are left alone.
func (g *gardener) survey(root string) error {
	g.dirs, g.entries = g.dirs[:0], g.entries[:0]
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || len(path) > 3500 {
			if d != nil && d.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		if d.IsDir() {
			g.dirs = append(g.dirs, path)
		} else {
			g.entries = append(g.entries, path)
		}
		return nil
	})
}

func pick[T any](g *gardener, of []T) T { return of[g.random.IntN(len(of))] }

func (g *gardener) name() string {
	name := fmt.Sprintf("%x", g.random.Uint32())
	return name + pick(g, []string{"", "", "", ".txt", "\xff", "\n", " ", "é", ".kopia-entry"})
}

func (g *gardener) bytes(n int) []byte {
	b := make([]byte, n)
	if g.random.IntN(2) == 0 {
		for i := range b {
			b[i] = "etaoin shrdlu\n"[g.random.IntN(14)]
		}
		return b
	}
	for i := range b {
		b[i] = byte(g.random.Uint32())
	}
	return b
}

// size prefers small files.
func (g *gardener) size() int { return g.random.IntN(1 << (g.random.IntN(10) + g.random.IntN(12))) }

// plant adds one entry.
func (g *gardener) plant() error {
	path := filepath.Join(pick(g, g.dirs), g.name())
	var err error
	switch kind := g.random.IntN(20); {
	case kind < 3:
		if err = os.Mkdir(path, 0o755); err == nil {
			g.dirs = append(g.dirs, path)
		}
	case kind == 3:
		err = os.Symlink("target-"+g.name(), path)
	case kind == 4:
		err = unix.Mkfifo(path, 0o644)
	case kind == 5 && len(g.entries) > 0:
		err = os.Link(pick(g, g.entries), path)
	case kind == 6:
		if err = os.WriteFile(path, g.bytes(g.size()), 0o644); err == nil {
			err = os.Truncate(path, int64(g.random.IntN(8<<20)))
		}
	default:
		err = os.WriteFile(path, g.bytes(g.size()), 0o644)
	}
	if err != nil {
		if excusable(err) {
			return nil
		}
		return err
	}
	if g.dirs[len(g.dirs)-1] != path {
		g.entries = append(g.entries, path)
	}
	return g.adorn(path)
}

// adorn gives an entry some attributes of its own.
func (g *gardener) adorn(path string) error {
	st, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if st.Mode()&fs.ModeSymlink == 0 && g.random.IntN(3) == 0 {
		mode := pick(g, []uint32{0o600, 0o755, 0o777, 0o4755, 0o2711, 0o1777, 0o640})
		if st.IsDir() && os.Getuid() != 0 {
			mode |= 0o700 // or it could be neither read nor removed
		}
		if err := unix.Chmod(path, mode); err != nil {
			return err
		}
	}
	if st.Mode().IsRegular() && g.random.IntN(4) == 0 {
		err := unix.Lsetxattr(path, "user."+g.name(), g.bytes(g.random.IntN(100)), 0)
		if err != nil && !excusable(err) {
			return err
		}
	}
	if g.random.IntN(4) == 0 {
		err := os.Lchown(path, g.random.IntN(70000), g.random.IntN(70000))
		if err != nil && !excusable(err) {
			return err
		}
	}
	at := unix.Timespec{Sec: g.random.Int64N(4e9) - 1e9, Nsec: g.random.Int64N(1e9)}
	return unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW)
}

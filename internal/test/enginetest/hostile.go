package enginetest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"abaca"
	"abaca/internal/test/torture"
)

func itoa(n uint64) string { return strconv.FormatUint(n, 10) }

// vault is a tree outside the share that must never change; the returned function checks that.
func (s *suite) vault() (path string, untouched func()) {
	path = s.TempDir()
	s.must(torture.Grow(path, 99, 60))
	for _, name := range []string{"a", "b", "f", "sub"} { // names that the restored tree has too
		s.must(os.WriteFile(filepath.Join(path, name), []byte("outside"), 0o600))
	}
	before := s.changeTimes(path)
	return path, func() {
		s.Helper()
		if s.changeTimes(path) != before {
			s.Errorf("the restore changed what is outside the share")
		}
	}
}

// planted puts links, FIFOs and devices where files and directories will be restored.
func (s *suite) planted() {
	outside, untouched := s.vault()
	source, target := s.TempDir(), s.TempDir()
	for _, dir := range []string{"d1/sub", "d2", "d3"} {
		s.must(os.MkdirAll(filepath.Join(source, dir), 0o755))
		for _, f := range []string{"a", "b", "f"} {
			s.must(os.WriteFile(filepath.Join(source, dir, f), []byte("restored "+dir+f), 0o644))
		}
	}
	s.must(os.Link(filepath.Join(source, "d1/sub/a"), filepath.Join(source, "d2/linked")))
	ref, _ := s.save(source, "one", "")

	s.must(os.Symlink(outside, filepath.Join(target, "d1")))
	s.must(os.Mkdir(filepath.Join(target, "d2"), 0o755))
	s.must(os.Symlink(filepath.Join(outside, "a"), filepath.Join(target, "d2/a")))
	linked := filepath.Join(s.TempDir(), "linked") // outside too, but its inode is in the share
	s.must(os.WriteFile(linked, []byte("outside"), 0o600))
	s.must(os.Link(linked, filepath.Join(target, "d2/b")))
	s.must(unix.Mkfifo(filepath.Join(target, "d2/f"), 0o644))
	s.must(os.Symlink(outside, filepath.Join(target, "extra")))
	s.must(unix.Mknod(filepath.Join(target, "d3"), unix.S_IFSOCK|0o600, 0))
	if os.Getuid() == 0 {
		s.must(unix.Mknod(filepath.Join(target, "d2/linked"), unix.S_IFCHR|0o600, int(unix.Mkdev(10, 130)))) // a watchdog
	} else {
		s.Log("SKIPPED: a planted device, which needs privileges")
	}
	s.restore(ref, target)
	s.equal(source, target)
	untouched()
	var st unix.Stat_t
	s.must(unix.Lstat(linked, &st))
	if content, err := os.ReadFile(linked); err != nil || string(content) != "outside" || st.Nlink != 1 || st.Mode&0o777 != 0o600 {
		s.Errorf("a file linked into the share became %q, %+v, %v", content, st, err)
	}
}

// swapped exchanges directories and links without pause while restores run.
func (s *suite) swapped() {
	outside, untouched := s.vault()
	source, target := s.TempDir(), s.TempDir()
	for i := range 40 {
		dir := filepath.Join(source, "d"+itoa(uint64(i%4)), "sub", itoa(uint64(i)))
		s.must(os.MkdirAll(dir, 0o755))
		for _, f := range []string{"a", "b", "f"} {
			s.must(os.WriteFile(filepath.Join(dir, f), fmt.Appendf(nil, "%d", i), 0o644))
		}
	}
	ref, _ := s.save(source, "one", "")
	s.restore(ref, target)

	stop := make(chan struct{})
	var racers sync.WaitGroup
	for i := range 4 {
		racers.Go(func() {
			dir := filepath.Join(target, "d"+itoa(uint64(i)))
			trap := filepath.Join(target, "trap"+itoa(uint64(i)))
			opened, err := os.Open(dir) // so that the racer itself stays inside
			if err != nil {
				s.Error(err)
				return
			}
			defer opened.Close()
			for {
				select {
				case <-stop:
					return
				default:
				}
				os.Symlink(outside, trap) // the restore removes it as extra
				unix.Renameat2(unix.AT_FDCWD, dir, unix.AT_FDCWD, trap, unix.RENAME_EXCHANGE)
				unix.Renameat2(int(opened.Fd()), "sub", unix.AT_FDCWD, trap, unix.RENAME_EXCHANGE)
			}
		})
	}
	const rounds = 20
	broken := 0
	for range rounds {
		_, err := s.engine.Restore(s.Context(), Project, ref, s.volume(target), func(abaca.Progress) {})
		if err != nil {
			broken++
		}
	}
	close(stop)
	racers.Wait()
	s.Logf("%d of %d restores were disturbed", broken, rounds)
	untouched()
	s.restore(ref, target) // in peace
	s.equal(source, target)
	untouched()
}

// brokenOff cancels restores at ever later points, and lets the last one run.
func (s *suite) brokenOff() {
	source, target := s.TempDir(), s.TempDir()
	s.must(torture.Grow(source, 3, 400))
	ref, _ := s.save(source, "one", "")
	for round := range uint64(6) {
		_, err := torture.Vandalise(target, round, 60)
		s.must(err)
		ctx, cancel := context.WithCancel(s.Context())
		calls := uint64(0)
		_, err = s.engine.Restore(ctx, Project, ref, s.volume(target), func(abaca.Progress) {
			if calls++; calls > round {
				cancel()
			}
		})
		cancel()
		if err != nil && !errors.Is(err, context.Canceled) {
			s.Fatal(err)
		}
		s.must(os.WriteFile(filepath.Join(target, ".abaca-0123456789abcdef-"+itoa(round)), []byte("leftover"), 0o600))
	}
	s.restore(ref, target)
	s.equal(source, target)
}

// flagged makes files and directories of the share immutable.
func (s *suite) flagged() {
	source, target := s.TempDir(), s.TempDir()
	s.must(torture.Grow(source, 8, 100))
	s.must(os.WriteFile(filepath.Join(source, "file"), []byte("as saved"), 0o644))
	s.must(os.Mkdir(filepath.Join(source, "dir"), 0o755))
	s.must(os.WriteFile(filepath.Join(source, "dir/inside"), []byte("as saved"), 0o644))
	ref, _ := s.save(source, "one", "")
	s.restore(ref, target)
	const immutable, appendOnly = 0x10, 0x20
	setFlag := func(path string, set uint32) error {
		f, err := os.Open(filepath.Join(target, path))
		if err != nil {
			return err
		}
		defer f.Close()
		flags, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS)
		if err != nil {
			return err
		}
		return unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, int(flags&^(immutable|appendOnly)|set))
	}
	s.must(os.WriteFile(filepath.Join(target, "file"), []byte("spoiled!"), 0o644))
	s.must(os.WriteFile(filepath.Join(target, "extra"), []byte("extra"), 0o644))
	s.must(os.MkdirAll(filepath.Join(target, "extra-dir/sub"), 0o755))
	s.must(os.WriteFile(filepath.Join(target, "dir/extra"), nil, 0o600))
	for _, f := range []struct {
		path string
		flag uint32
	}{
		{"file", immutable}, {"extra", appendOnly}, {"extra-dir/sub", immutable}, {"extra-dir", appendOnly},
		{"dir/inside", immutable}, {"dir", immutable},
	} {
		if err := setFlag(f.path, f.flag); err != nil {
			s.Skipf("SKIPPED: flags need privileges and a file system that has them: %v", err)
		}
		s.Cleanup(func() { setFlag(f.path, 0) })
	}
	report := s.restore(ref, target)
	s.equal(source, target)
	if report.Detail == "" {
		s.Error("nothing was reported")
	}
}

func (s *suite) gone() {
	source, target := s.TempDir(), s.TempDir()
	s.must(torture.Grow(source, 1, 20))
	ref, _ := s.save(source, "one", "")
	s.must(os.WriteFile(filepath.Join(target, "mine"), nil, 0o600))
	s.must(s.engine.Delete(s.Context(), Project, "one"))
	s.must(s.engine.Delete(s.Context(), Project, "one"))
	for _, r := range []abaca.Ref{ref, "never"} {
		_, err := s.engine.Restore(s.Context(), Project, r, s.volume(target), func(abaca.Progress) {})
		if !errors.Is(err, abaca.ErrPermanent) {
			s.Errorf("restoring %q: %v", r, err)
		}
	}
	if _, err := os.Stat(filepath.Join(target, "mine")); err != nil {
		s.Errorf("the share was touched: %v", err)
	}
}

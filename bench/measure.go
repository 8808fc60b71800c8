package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A figure is what one operation cost: seconds, seconds of user and system time, and peak resident bytes.
type figure struct {
	Wall, CPU float64
	RSS       int64
	Synced    float64 // wall time until all that was written would survive a power loss too
}

// median takes the median of each field by itself.
func median(all []figure) figure {
	return figure{
		Wall:   middle(all, func(f figure) float64 { return f.Wall }),
		CPU:    middle(all, func(f figure) float64 { return f.CPU }),
		RSS:    int64(middle(all, func(f figure) float64 { return float64(f.RSS) })),
		Synced: middle(all, func(f figure) float64 { return f.Synced }),
	}
}

func middle(all []figure, of func(figure) float64) float64 {
	values := make([]float64, len(all))
	for i, f := range all {
		values[i] = of(f)
	}
	slices.Sort(values)
	n := len(values)
	if n == 0 {
		return 0
	}
	return (values[(n-1)/2] + values[n/2]) / 2
}

func now() time.Time                      { return time.Now() }
func since(began time.Time) float64       { return time.Since(began).Seconds() }
func ofTimeval(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }

// ofProcess is what a process cost that began then and has just been waited for, its own children included.
func ofProcess(began time.Time, state *os.ProcessState) figure {
	f := figure{Wall: since(began)}
	if u, ok := state.SysUsage().(*syscall.Rusage); ok {
		f.CPU = ofTimeval(u.Utime) + ofTimeval(u.Stime)
		f.RSS = u.Maxrss << 10 // of the largest of the process and its children
	}
	return f
}

// runMeasured runs a command to its end.
func runMeasured(ctx context.Context, dir string, env []string, argv ...string) (figure, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	said := &tail{}
	cmd.Stderr = said
	began := now()
	err := cmd.Run()
	if err != nil {
		return figure{}, fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, said)
	}
	return ofProcess(began, cmd.ProcessState), nil
}

// A tail keeps the last that a program said.
type tail struct{ b []byte }

const tailLength = 2000

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if extra := len(t.b) - tailLength; extra > 0 {
		t.b = t.b[extra:]
	}
	return len(p), nil
}

func (t *tail) String() string { return string(bytes.TrimSpace(t.b)) }

// forgetPeak starts counting this process's peak memory anew.
func forgetPeak() { _ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) }

// peak is this process's peak resident memory since forgetPeak, or since its start where the kernel cannot forget.
func peak() int64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0
	}
	kib, _ := strconv.ParseInt(fields[0], 10, 64)
	return kib << 10
}

// dropCaches empties the kernel's caches of pages, names and inodes. Only root can; it says whether it did.
func dropCaches() bool {
	unix.Sync()
	return os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0) == nil
}

// syncTree waits until all of the file system that holds path is written.
func syncTree(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
}

// size is the sum of the sizes of the files below a directory.
func size(dir string) (total int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil {
			total += info.Size()
		}
		return err
	})
	return total, err
}

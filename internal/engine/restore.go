package engine

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/kopia/kopia/repo/object"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"abaca"
	"abaca/internal/posix"
)

// How a restore goes. One walker (restore_walk.go) goes through the saved directories and the share's at the same time.
// What the share's ctime proves to be untouched it passes by; what is missing it makes; what may differ becomes a job.
// The content that jobs are sure to need is planned in windows in the order of the packs (restore_plan.go). Workers
// compare, write and dress files (restore_file.go). Who finishes the last job in a directory sets its attributes.

// idleDirs is how many directories stay open without being in use.
const idleDirs = 256

// A restorer makes one tree equal to a saved one.
type restorer struct {
	source   source
	contents func() contentReader // one for each worker
	hash     func() contentHash   // nil where contents are not named by a hash known here
	dirs     *dirCache
	links    *linkTable
	tally    tally
	tasks    chan task
	workers  int

	tempPrefix string // of names that this run makes and that no saved tree has
	temps      atomic.Uint64
	seeds      [2]maphash.Seed
}

// newRestorer prepares a restore from src.
func newRestorer(src source, contents func() contentReader, hash func() contentHash) *restorer {
	workers := max(2, runtime.GOMAXPROCS(0))
	return &restorer{
		source: src, contents: contents, hash: hash, dirs: newDirCache(idleDirs), links: newLinkTable(),
		tasks: make(chan task, workers), workers: workers,
		tempPrefix: fmt.Sprintf(".abaca-%016x-", rand.Uint64()),
		seeds:      [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()},
	}
}

// temp returns a new name for something that is not complete. A leftover of a crash is an extra entry to the next run.
func (r *restorer) temp() string {
	return r.tempPrefix + strconv.FormatUint(r.temps.Add(1), 10)
}

// run restores the tree of the directory object root beneath the open directory fd.
func (r *restorer) run(ctx context.Context, fd int, root object.ID) error {
	defer r.dirs.shutAll()
	own, err := posix.OpenDir(fd, ".") // a file position of its own
	if err != nil {
		return fmt.Errorf("open the share's root: %w", err)
	}
	st, err := posix.StatFD(own)
	if err != nil {
		posix.Close(own)
		return fmt.Errorf("examine the share's root: %w", err)
	}
	top := &targetDir{self: st, fd: own, users: 1}
	defer posix.Close(own)

	group, ctx := errgroup.WithContext(ctx)
	for range r.workers {
		group.Go(func() error { return r.work(ctx) })
	}
	group.Go(func() error {
		defer close(r.tasks)
		w := newWalker(r)
		if err := w.visit(ctx, top, root); err != nil {
			return err
		}
		return w.plan.flush(ctx)
	})
	if err := group.Wait(); err != nil {
		if reason := fatal(err); reason != nil && !isReason(err) {
			return reason
		}
		return err
	}
	// What is written must outlast a power failure before anybody is told that it is there.
	if err := unix.Syncfs(own); err != nil {
		return &abaca.Reason{Text: "the share's file system failed", Err: fmt.Errorf("sync: %w", err)}
	}
	return r.tally.result()
}

func isReason(err error) bool {
	_, ok := errors.AsType[*abaca.Reason](err)
	return ok
}

// work carries out tasks until there are no more.
func (r *restorer) work(ctx context.Context) error {
	w := newWorker(r)
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case t, ok := <-r.tasks:
			if !ok {
				return nil
			}
			if err := w.do(ctx, t); err != nil {
				return err
			}
		}
	}
}

// restoreTree runs a restore and calls report about once a second.
func restoreTree(ctx context.Context, r *restorer, vol *abaca.Volume, root object.ID, all totals, report func(abaca.Progress), log *slog.Logger) (abaca.Report, error) {
	stop := make(chan struct{})
	reported := make(chan struct{})
	go func() {
		defer close(reported)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			report(r.progress(all))
			select {
			case <-tick.C:
			case <-stop:
				report(r.progress(all))
				return
			}
		}
	}()
	err := r.run(ctx, int(vol.Root.Fd()), root)
	close(stop)
	<-reported
	result := r.report(all)
	log.Info("restored a tree", "files", result.Files, "bytes", result.Bytes, "written", result.Stored,
		"incomplete", result.Unreadable, "failed", r.tally.failed, "error", err)
	return result, err
}

func (r *restorer) progress(all totals) abaca.Progress {
	p := abaca.Progress{
		FilesFound: all.entries(), BytesFound: all.bytes,
		FilesDone: r.tally.files.Load(), BytesDone: r.tally.bytes.Load(),
	}
	p.FilesFound, p.BytesFound = max(p.FilesFound, p.FilesDone), max(p.BytesFound, p.BytesDone)
	return p
}

func (r *restorer) report(all totals) abaca.Report {
	r.tally.mu.Lock()
	defer r.tally.mu.Unlock()
	return abaca.Report{
		Files: all.entries(), Bytes: all.bytes, Stored: r.tally.stored.Load(),
		Changed: r.tally.changed, Unreadable: r.tally.unreadable, Detail: strings.Join(r.tally.detail, "\n"),
	}
}

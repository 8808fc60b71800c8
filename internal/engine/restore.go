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
	"sync"
	"sync/atomic"

	"github.com/kopia/kopia/repo/object"
	"github.com/kopia/kopia/snapshot"
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

// Restore makes the tree beneath vol.Root equal to the saved one: what is extra goes, what is equal is left alone,
// what differs is replaced. It returns once that would survive a power loss, and may be repeated after a crash at any
// point. report is called about twice a second from one goroutine.
//
// Entries whose attributes could not all be set, as happens to an ordinary user, are counted in the report. Entries
// that could not be restored at all are named in the error, which comes after everything else has been restored; it
// wraps abaca.ErrPermanent when saved data is gone or damaged.
func (e *Engine) Restore(ctx context.Context, project abaca.ProjectID, ref abaca.Ref, vol *abaca.Volume, report func(abaca.Progress)) (_ abaca.Report, err error) {
	defer func() {
		if errors.Is(err, errStorage) { // and not the share, which may be full or refuse access as well
			err = storageReason(err)
		}
	}()
	ctx, settle := bounded(ctx)
	defer settle(&err)
	r, release, err := e.acquire(ctx, project, mustExist)
	if err != nil {
		return abaca.Report{}, missingRepository(err)
	}
	defer release()
	if err := e.refresh(ctx, r); err != nil {
		return abaca.Report{}, err
	}
	m, err := e.find(ctx, r, ref)
	if err != nil {
		return abaca.Report{}, err
	}
	if m == nil {
		return abaca.Report{}, gone(ref, errors.New("no such snapshot"))
	}
	said := reportOf(m)
	progress := new(meter)
	progress.find(said.Files, said.Bytes)
	stop := progress.tell(ctx, report)
	result, err := r.restore(ctx, int(vol.Root.Fd()), m.RootEntry.ObjectID, progress)
	if errors.Is(err, abaca.ErrPermanent) { // something is missing or damaged, and perhaps that is only the index
		if mended, merr := e.mendOpen(ctx, r); merr != nil {
			r.log.ErrorContext(ctx, "the index cannot be mended", "error", merr)
		} else if mended {
			result, err = r.restore(ctx, int(vol.Root.Fd()), m.RootEntry.ObjectID, progress)
		}
	}
	stop()
	result.Files, result.Bytes = said.Files, said.Bytes
	if err != nil {
		return result, fmt.Errorf("restore %s: %w", ref, err)
	}
	return result, nil
}

// find returns the finished snapshot of a ref, looking for it where the index may be lost if it is not there; nil for none.
func (e *Engine) find(ctx context.Context, r *repository, ref abaca.Ref) (*snapshot.Manifest, error) {
	m, _, err := finished(ctx, r.kopia, string(ref))
	if m != nil || err != nil {
		return m, err
	}
	if mended, merr := e.mendOpen(ctx, r); merr != nil || !mended {
		return nil, merr
	}
	m, _, err = finished(ctx, r.kopia, string(ref))
	return m, err
}

// restore runs a restore, and a second time when the share was full and removing what will not stay has made room.
func (r *repository) restore(ctx context.Context, fd int, root object.ID, progress *meter) (abaca.Report, error) {
	attempt := func(clearing bool, progress *meter) (*restorer, error) {
		t := newRestorer(ctx, newSource(r.kopia), readers(r.kopia), contentHashes(r.kopia.FormatManager()), r.log)
		t.clearing, t.meter = clearing, progress
		return t, t.run(ctx, fd, root)
	}
	t, err := attempt(false, progress)
	if !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EDQUOT) {
		return t.tally.report(), err
	}
	c, cerr := attempt(true, new(meter))
	if cerr != nil || c.removed.Load() == 0 {
		return t.tally.report(), err
	}
	t, err = attempt(false, progress)
	return t.tally.report(), err
}

func gone(ref abaca.Ref, err error) error {
	return &abaca.Reason{Text: "the backup's data is gone", Err: fmt.Errorf("restore %s: %w: %w", ref, abaca.ErrPermanent, err)}
}

// A restorer makes one tree equal to a saved one.
type restorer struct {
	source   source
	contents func() contentReader // one for each worker
	hash     func() contentHash   // nil where contents are not named by a hash known here
	dirs     *dirCache
	links    *linkGroups
	tally    tally
	meter    *meter
	halted   func() error // why nothing may be written any more; checked before each change, since calls may take for ever
	syncEach bool         // see syncFile
	guard    func() error // whether the share is this restore's still
	clearing bool         // only remove what is extra or will be replaced
	removed  atomic.Int64 // entries
	tasks    chan task
	workers  int

	mu    sync.Mutex
	begun map[*job]struct{} // that have a new file which is not complete

	uid, gid uint32 // of this process, whose new files most likely belong to them

	tempPrefix string // of names that this run makes and that no saved tree has
	temps      atomic.Uint64
	seeds      [2]maphash.Seed
}

// newRestorer prepares a restore from src, which ends before ctx does.
func newRestorer(ctx context.Context, src source, contents func() contentReader, hash func() contentHash, log *slog.Logger) *restorer {
	workers := max(2, runtime.GOMAXPROCS(0))
	return &restorer{
		source: src, contents: contents, hash: hash, halted: func() error { return nil }, guard: abaca.Guard(ctx), tally: tally{ctx: ctx, log: log}, meter: new(meter), begun: map[*job]struct{}{},
		dirs: newDirCache(idleDirs), links: newLinkGroups(),
		tasks: make(chan task, workers), workers: workers,
		uid:        uint32(unix.Geteuid()),
		gid:        uint32(unix.Getegid()),
		tempPrefix: fmt.Sprintf(".abaca-%016x-", rand.Uint64()), //nolint:gosec // G404: names need not be secret, a file that exists is not opened
		seeds:      [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()},
	}
}

// A fenced error says that the share is not this restore's any more. It ends the restore on the spot: nothing is tidied up, since what is
// there is another's to deal with.
type fenced struct{ error }

func (f fenced) Unwrap() error { return f.error }

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
	if r.syncEach, err = posix.PassesOn(own); err != nil {
		return fmt.Errorf("examine the share's file system: %w", err)
	}
	defer r.abandon()

	outer := ctx
	r.halted = func() error {
		if err := r.guard(); err != nil {
			return fenced{err}
		}
		return context.Cause(outer)
	}
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
	if n := top.unfinished.Load(); n != 0 {
		return fmt.Errorf("%d entries of the root were left unfinished", n) // a mistake in this package, not to be hidden
	}
	if err := r.halted(); err != nil {
		return err
	}
	if err := syncWhole(own); err != nil {
		return err
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

package engine

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/compression"
	"github.com/kopia/kopia/repo/content"
	"github.com/kopia/kopia/repo/object"
	"github.com/kopia/kopia/snapshot"
	"golang.org/x/sync/errgroup"

	"abaca"
	"abaca/internal/posix"
)

// Save keeps the tree beneath vol.Root under req.ID and returns once that would survive a power loss. If a finished
// snapshot of this id exists, it is returned as it is, with the report of then and nothing stored. What equals req.Parent is not read; a parent that is gone or
// damaged costs time only. report is called about twice a second from one goroutine.
//
// Files that change while they are read, or cannot be read, are kept with a mark and counted in the report; they are
// no errors. Where there is no repository though the project has saved data, as where a file system is not mounted, none is made: what
// went there would be lost when the other is back.
func (e *Engine) Save(ctx context.Context, req abaca.SaveRequest, vol *abaca.Volume, report func(abaca.Progress)) (_ abaca.Ref, _ abaca.Report, err error) {
	defer func() { err = storageReason(err) }()
	ctx, settle := bounded(ctx)
	defer settle(&err)
	d := create
	if req.More {
		d = mustExist
	}
	r, release, err := e.acquire(ctx, req.Project, d)
	if err != nil {
		return "", abaca.Report{}, missingRepository(err)
	}
	defer release()
	turn, err := r.takeTurn(ctx, req.ID)
	if err != nil {
		return "", abaca.Report{}, err
	}
	defer turn.end()
	since, err := r.collections(ctx)
	if err != nil {
		return "", abaca.Report{}, err
	}
	if err := e.refresh(ctx, r); err != nil {
		return "", abaca.Report{}, err
	}
	done, _, err := finished(ctx, r.kopia, req.ID)
	if err != nil {
		return "", abaca.Report{}, err
	}
	if done != nil {
		whole, err := e.acknowledge(ctx, r, done)
		if whole || err != nil {
			return abaca.Ref(req.ID), reportOf(done), err
		}
	}
	result, err := e.save(ctx, r, turn, req, vol, report, since, true)
	if errors.Is(err, errPrevious) {
		r.log.WarnContext(ctx, "saving without the previous snapshot", "id", req.ID, "error", err)
		if since, err = r.lookAnew(ctx); err != nil {
			return "", abaca.Report{}, err
		}
		result, err = e.save(ctx, r, turn, req, vol, report, since, false)
	}
	if err != nil {
		return "", abaca.Report{}, fmt.Errorf("saving %s: %w", req.ID, err)
	}
	return abaca.Ref(req.ID), result, nil
}

// A saver is one attempt to save one tree.
type saver struct {
	w      *writer
	source source // of what was saved before
	root   posix.Stat
	still  bool

	kernelNow func() time.Time // the clock of change times

	queue    *schedule
	progress meter
	marks    markList
	links    readFiles
	parts    progressList
	resumed  *resumption
	zeros    zeroCache

	empty    object.ID // an object of no bytes
	emptyDir object.ID

	readers      chan struct{}        // limits how many goroutines read files
	buffers      chan *[maxChunk]byte // of large files' chunks
	dirBuffers   sync.Pool
	smallBuffers sync.Pool

	flushing sync.Mutex
	flushed  atomic.Int64 // w.puts at the latest flush
}

// Limits of what one save does at a time. Reading waits for disks more than it uses processors.
const (
	workers      = 8
	chunkBuffers = 8
	flushPuts    = 50_000 // Kopia holds more than half a kilobyte for every content until they are flushed
)

// save makes one attempt, which compares with what was saved before or does without. Since is the latest collection that there was when
// the index was read.
func (e *Engine) save(ctx context.Context, r *repository, t *turn, req abaca.SaveRequest, vol *abaca.Volume, report func(abaca.Progress), since collection, compare bool) (abaca.Report, error) {
	started := e.config.Now()
	w, err := r.newWriter(ctx)
	if err != nil {
		return abaca.Report{}, err
	}
	defer w.session.Close(context.WithoutCancel(ctx))
	w.watch = r.storage.watch()
	defer w.watch.end()
	s, root, err := newSaver(ctx, w, vol, e.kernelNow)
	if err != nil {
		return abaca.Report{}, err
	}
	if compare {
		if err := s.findPrevious(ctx, req, root); err != nil {
			return abaca.Report{}, err
		}
	}
	stop := s.progress.tell(ctx, report)
	err = s.walk(ctx, root, e.config.Checkpoint, func(ctx context.Context) error {
		return t.publish(func() error {
			if err := e.keyed(ctx, r); err != nil {
				return err
			}
			return s.checkpoint(ctx, req, root.base, started, e.config.Now())
		})
	})
	stop()
	if err != nil {
		return abaca.Report{}, err
	}
	var tree entry
	root.own.fill(&tree, "/", 0)
	tree.object, tree.totals = root.dirs[0].object, root.dirs[0].totals
	result := abaca.Report{Files: tree.totals.entries(), Bytes: tree.totals.bytes}
	s.marks.fillIn(&result)
	m := newManifest(req, &tree, started, e.config.Now())
	noteReport(m, result)
	err = t.publish(func() error {
		if err := s.commit(ctx, m); err != nil {
			return err
		}
		if err := e.confirm(ctx, r, w, req.ID); err != nil {
			return err
		}
		if err := e.confirmKept(ctx, r, req.ID, since); err != nil {
			return err
		}
		if err := e.keyed(ctx, r); err != nil {
			return err
		}
		if err := w.renewal.settle(ctx); err != nil {
			return err
		}
		if err := abaca.Guard(ctx)(); err != nil { // a copy of what others have deleted by now would be for ever
			return err
		}
		return e.copyManifest(ctx, r, m)
	})
	result.Stored = w.stored.Load()
	return result, err
}

// newWriter begins a write session. Nothing of it is seen by others until it is flushed.
func (r *repository) newWriter(ctx context.Context) (*writer, error) {
	key, err := r.kopia.DeriveKey("abaca chunks", 32)
	if err != nil {
		return nil, fmt.Errorf("deriving the chunker's key: %w", err)
	}
	if err := r.damage.load(ctx); err != nil {
		return nil, err
	}
	w := &writer{
		codec: compression.Name(r.codec), gear: newGear([32]byte(key)),
		renewal: renewal{notes: &r.damage, done: map[content.ID]struct{}{}},
	}
	options := repo.WriteSessionOptions{Purpose: "save", OnUpload: func(n int64) { w.stored.Add(n) }}
	_, w.session, err = r.kopia.NewDirectWriter(context.WithoutCancel(ctx), options)
	if err != nil {
		return nil, fmt.Errorf("beginning to write: %w", err)
	}
	return w, nil
}

func newSaver(ctx context.Context, w *writer, vol *abaca.Volume, kernelNow func() time.Time) (*saver, *node, error) {
	s := &saver{
		w: w, source: newSource(w.session), still: vol.Still, resumed: &resumption{}, kernelNow: kernelNow, queue: newSchedule(),
		readers: make(chan struct{}, max(workers, runtime.GOMAXPROCS(0))),
		buffers: make(chan *[maxChunk]byte, chunkBuffers),
	}
	s.progress.stored = &w.stored
	for range chunkBuffers {
		s.buffers <- nil // made when first used
	}
	s.dirBuffers.New = func() any { b := make([]byte, 64<<10); return &b }
	s.smallBuffers.New = func() any { return new([minChunk]byte) }
	fd := int(vol.Root.Fd())
	var err error
	if s.root, err = posix.StatFD(fd); err != nil {
		return nil, nil, fmt.Errorf("reading the root directory: %w", err)
	}
	if s.empty, err = w.put(ctx, "", nil); err != nil {
		return nil, nil, err
	}
	none := w.newStream(ctx, prefixDirectory)
	if err := newDirEncoder(none, header{}).close(totals{dirs: 1}, posix.Time{}); err != nil {
		return nil, nil, err
	}
	if s.emptyDir, err = none.finish(); err != nil {
		return nil, nil, err
	}
	return s, &node{fd: fd, dev: s.root.Dev}, nil
}

// findPrevious finds what to compare with: the parent's root, if there is such a snapshot, and what earlier attempts at
// this save have left.
func (s *saver) findPrevious(ctx context.Context, req abaca.SaveRequest, root *node) error {
	_, checkpoints, err := finished(ctx, s.w.session, req.ID)
	if err != nil {
		return err
	}
	if s.resumed, err = resume(ctx, s.w.session, checkpoints); err != nil {
		return err
	}
	root.base = s.resumed.base
	if req.Parent == "" {
		return nil
	}
	m, _, err := finished(ctx, s.w.session, string(req.Parent))
	if err == nil && m != nil {
		root.base = m.RootEntry.ObjectID
	}
	return err
}

// walk discovers and saves the whole tree, and writes a checkpoint every so often.
func (s *saver) walk(ctx context.Context, root *node, every time.Duration, checkpoint func(context.Context) error) error {
	if _, err := s.discover(ctx, root); err != nil {
		return err
	}
	if root.mark == markUnreadable {
		return &abaca.Reason{Text: "the share's root directory cannot be read", Err: errors.New(s.marks.lines[0])}
	}
	group, ctx := errgroup.WithContext(ctx)
	defer context.AfterFunc(ctx, s.queue.stop)()
	s.queue.discovered(root, false)
	for range max(workers, runtime.GOMAXPROCS(0)) {
		group.Go(func() error { return s.run(ctx) })
	}
	group.Go(func() error { return s.checkpoints(ctx, every, checkpoint) })
	return group.Wait()
}

// commit makes a manifest, and all that it reaches, durable. It is the moment at which the snapshot exists.
func (s *saver) commit(ctx context.Context, m *snapshot.Manifest) error {
	if err := abaca.Guard(ctx)(); err != nil { // what was saved here, somebody else saves, or nobody wants any more
		return err
	}
	if _, err := snapshot.SaveSnapshot(ctx, s.w.session, m); err != nil {
		return fmt.Errorf("writing the manifest: %w", err)
	}
	id := m.Tags[tagID]
	_, checkpoints, err := finished(ctx, s.w.session, id)
	if err != nil {
		return err
	}
	for _, c := range checkpoints {
		if c.ID == m.ID {
			continue
		}
		if err := s.w.session.DeleteManifest(ctx, c.ID); err != nil {
			return fmt.Errorf("deleting a checkpoint: %w", err)
		}
	}
	if err := s.w.session.Flush(ctx); err != nil {
		return fmt.Errorf("flushing: %w", err)
	}
	return nil
}

// breathe is called now and then between files.
func (s *saver) breathe(ctx context.Context) error {
	if s.w.puts.Load()-s.flushed.Load() < flushPuts || !s.flushing.TryLock() {
		return nil
	}
	defer s.flushing.Unlock()
	s.flushed.Store(s.w.puts.Load())
	if err := s.w.session.Flush(ctx); err != nil {
		return fmt.Errorf("flushing: %w", err)
	}
	return nil
}

// reader waits for a turn to read files, and returns how to give it back.
func (s *saver) reader() (done func()) {
	s.readers <- struct{}{}
	return func() { <-s.readers }
}

func (s *saver) takeBuffer(ctx context.Context) ([]byte, error) {
	select {
	case b := <-s.buffers:
		if b == nil {
			b = new([maxChunk]byte)
		}
		return b[:], nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// giveBuffer takes back a buffer, or the beginning of one.
func (s *saver) giveBuffer(b []byte) { s.buffers <- (*[maxChunk]byte)(b[:maxChunk]) }

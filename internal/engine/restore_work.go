package engine

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	"abaca/internal/posix"
)

// A worker carries out tasks with buffers of its own.
type worker struct {
	*restorer
	contents    contentReader
	contentHash contentHash
	buf         []byte
}

func newWorker(r *restorer) *worker {
	w := &worker{restorer: r, contents: r.contents()}
	if r.hash != nil {
		w.contentHash = r.hash()
	}
	return w
}

// buffer returns n bytes that are valid until the next call.
func (w *worker) buffer(n int64) []byte {
	if int64(cap(w.buf)) < n {
		w.buf = make([]byte, max(n, 1<<20))
	}
	return w.buf[:n]
}

func (w *worker) eachChunk(ctx context.Context, e *entry, yield func(chunk) error) error {
	return chunksOf(ctx, w.source, e, yield)
}

// do returns only errors that end the whole restore.
func (w *worker) do(ctx context.Context, t task) error {
	for _, j := range t.jobs {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if err := w.end(ctx, j, w.job(ctx, j)); err != nil {
			return err
		}
	}
	return w.contents.each(ctx, t.pieces, func(p *piece, data []byte, err error) error {
		if err == nil {
			err = w.writePiece(p, data)
		}
		if err != nil && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if reason := fatal(err); reason != nil {
			_ = w.arrived(ctx, p.job, err) // removes the unfinished file
			return reason
		}
		w.count(p.job, p.length)
		return w.arrived(ctx, p.job, err)
	})
}

func (w *worker) writePiece(p *piece, data []byte) error {
	j := p.job
	j.mu.Lock()
	err := j.err
	if err == nil && j.out < 0 {
		err = w.begin(j)
	}
	j.mu.Unlock()
	if err != nil {
		return err
	}
	return w.write(j, data, p.start)
}

// job restores one entry for which no content was planned.
func (w *worker) job(ctx context.Context, j *job) error {
	switch {
	case j.e.kind == kindSymlink && j.e.target == "":
		return nil // was saved unreadable, which is counted: nothing takes the place of what is there
	case j.e.kind != kindFile:
		return w.place(ctx, j)
	case j.e.mark == markUnreadable:
		return w.keepContent(ctx, j)
	case j.e.size == 0 && (!j.exists || j.st.Type() != unix.S_IFREG || j.st.Size != 0 || !w.mayKeep(j)):
		return w.empty(ctx, j)
	default:
		return w.compare(ctx, j)
	}
}

// empty makes an empty file.
func (w *worker) empty(ctx context.Context, j *job) error {
	if err := w.begin(j); err != nil {
		return err
	}
	return w.complete(ctx, j, nil)
}

// keepContent restores a file that was saved without its content: what is there stays.
func (w *worker) keepContent(ctx context.Context, j *job) error {
	if !j.exists || j.st.Type() != unix.S_IFREG {
		return w.empty(ctx, j)
	}
	fd, err := w.dirs.use(j.dir)
	if err != nil {
		return err
	}
	defer w.dirs.done(j.dir)
	old, st, err := posix.OpenFile(fd, j.e.name, unix.O_RDONLY)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer posix.Close(old)
	return w.dressExisting(w.openSubject(old), &j.e, &st, j)
}

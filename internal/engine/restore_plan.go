package engine

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/kopia/kopia/repo/content"
)

// The limits of a window of planned reading, and of what a worker gets of it at once.
const (
	windowPieces = 8192
	windowBytes  = 256 << 20
	batchPieces  = 256
	batchBytes   = 4 << 20
)

// A piece is one chunk of a file that must be written.
type piece struct {
	job    *job
	start  int64
	length int64
	at     content.Info // where it lies
}

// A task is what a worker takes at once: jobs, or pieces that lie near to each other.
type task struct {
	jobs   []*job
	pieces []piece
}

// A planner sorts jobs into those that need content for sure and others, and orders the reading of content by packs,
// within a window that bounds memory.
type planner struct {
	*restorer
	jobs   []*job
	pieces []piece
	bytes  int64
}

func newPlanner(r *restorer) *planner { return &planner{restorer: r} }

// add plans a job. Only errors that end the whole restore are returned.
func (p *planner) add(ctx context.Context, j *job) error {
	if j.e.kind != kindFile || j.e.size == 0 || j.e.mark == markUnreadable || j.exists && !j.replaces() {
		p.jobs = append(p.jobs, j)
		if len(p.jobs) < batchPieces {
			return nil
		}
		return p.flushJobs(ctx)
	}
	j.left = 1 // the planner's own
	err := chunksOf(ctx, p.source, &j.e, func(c chunk) error { return p.piece(ctx, j, c) })
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return p.arrived(ctx, j, err)
}

func (p *planner) piece(ctx context.Context, j *job, c chunk) error {
	if c.hole {
		j.mu.Lock()
		j.trailingHole = true
		j.mu.Unlock()
		p.count(j, c.length)
		return nil
	}
	info, err := p.source.ContentInfo(ctx, c.id)
	if err != nil {
		return fmt.Errorf("%w: look up %v: %w", errDamaged, c.id, err)
	}
	if int64(info.OriginalLength) != c.length {
		return fmt.Errorf("%w: %v has %d bytes instead of %d", errDamaged, c.id, info.OriginalLength, c.length)
	}
	j.mu.Lock()
	j.left++
	j.mu.Unlock()
	p.pieces = append(p.pieces, piece{j, c.start, c.length, info})
	p.bytes += c.length
	if len(p.pieces) < windowPieces && p.bytes < windowBytes {
		return nil
	}
	return p.flush(ctx)
}

// flush hands everything that is planned to the workers.
func (p *planner) flush(ctx context.Context) error {
	if err := p.flushJobs(ctx); err != nil {
		return err
	}
	sortPieces(p.pieces)
	for rest := p.pieces; len(rest) > 0; {
		n := batchLength(rest)
		if err := p.send(ctx, task{pieces: rest[:n:n]}); err != nil {
			return err
		}
		rest = rest[n:]
	}
	p.pieces, p.bytes = make([]piece, 0, len(p.pieces)), 0 // the workers have the old ones
	return nil
}

// batchLength returns how many of the pieces a worker gets at once.
func batchLength(pieces []piece) (n int) {
	bytes := int64(0)
	for n < len(pieces) && n < batchPieces && (n == 0 || bytes+pieces[n].length <= batchBytes) {
		bytes += pieces[n].length
		n++
	}
	return n
}

// sortPieces sorts by where pieces lie, so that packs are read from front to back.
func sortPieces(pieces []piece) {
	slices.SortFunc(pieces, func(a, b piece) int {
		return cmp.Or(cmp.Compare(a.at.PackBlobID, b.at.PackBlobID), cmp.Compare(a.at.PackOffset, b.at.PackOffset))
	})
}

func (p *planner) flushJobs(ctx context.Context) error {
	if len(p.jobs) == 0 {
		return nil
	}
	jobs := p.jobs
	p.jobs = nil
	return p.send(ctx, task{jobs: jobs})
}

func (p *planner) send(ctx context.Context, t task) error {
	select {
	case p.tasks <- t:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// arrived counts down what a job waits for, and completes it when that was all.
func (r *restorer) arrived(ctx context.Context, j *job, err error) error {
	j.mu.Lock()
	if j.err == nil {
		j.err = err
	}
	j.left--
	last, begun := j.left == 0, j.out >= 0
	err = j.err
	j.mu.Unlock()
	if !last {
		return nil
	}
	if err == nil && !begun { // nothing but holes
		j.trailingHole = true
		err = r.begin(j)
	}
	return r.end(ctx, j, r.complete(ctx, j, err))
}

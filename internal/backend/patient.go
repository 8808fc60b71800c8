package backend

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"abaca"
)

// A Patient is a back end that may lie on a file server, which may stop answering: then every call into it hangs, and cannot be taken back. What
// somebody waits for is therefore asked for in goroutines that are left behind, of which there are few; work is done in the
// worker's own and hangs with it.
type Patient struct {
	name, path string // absolute
	log        *slog.Logger
	opened     chan struct{} // closed once files is set
	files      files
	closed     chan struct{}
	asked      chan struct{} // holds a token for each goroutine that asks

	mu     sync.Mutex
	asking bool // the probe is on its way
	since  time.Time
	now    func() time.Time
}

// files is a Directory or a Btrfs.
type files interface {
	Create(ctx context.Context, share string) error
	Remove(ctx context.Context, share string) error
	Mount(ctx context.Context, share string) (*abaca.Volume, error)
	Locate(ctx context.Context, absolute string) (string, error)
	Usage(ctx context.Context, share string) (int64, error)
	Reach(ctx context.Context) error
	ask() error
	Close() error
}

const (
	// slow is how long a file server may take to answer what a client or the start of the server waits for.
	slow = 3 * time.Second
	// slowSweep is how long the sweep of a back end may take before others go on.
	slowSweep = time.Minute
	// maxAsked bounds the goroutines that hang in one back end for the sake of those who wait.
	maxAsked = 4
	// retry is the pause before a back end is opened again that could not be.
	retry = 5 * time.Second
	// probing is how often a back end is asked whether it is there.
	probing = 5 * time.Second
)

// Open opens the back end called name in the directory at path, an absolute one. The driver is directory, which is btrfs where the path lies on it, or btrfs,
// which has to. An error that is known soon is returned; where the directory does not answer, the back end opens when it does.
func Open(name, driver, path string, log *slog.Logger) (*Patient, error) {
	p := &Patient{
		name: name, path: path, log: log.With("backend", name), opened: make(chan struct{}), closed: make(chan struct{}),
		asked: make(chan struct{}, maxAsked), now: time.Now,
	}
	first := make(chan error, 1)
	go p.open(driver, first)
	select {
	case err := <-first:
		if err != nil {
			return nil, errors.Join(fmt.Errorf("back end %s: %w", name, err), p.Close())
		}
	case <-time.After(slow):
		p.log.Error("the back end does not answer; its work waits until it does", "path", path)
	}
	return p, nil
}

// open opens the files, trying again after the first time, whose error somebody waits for.
func (p *Patient) open(driver string, first chan<- error) {
	for began := p.now(); ; {
		f, err := openFiles(driver, p.path)
		if err == nil {
			p.files = f
			close(p.opened)
		}
		late := p.now().Sub(began) > slow
		select {
		case first <- err:
		default: // nobody waits any more, or it is not the first time
		}
		switch {
		case err == nil && late:
			p.log.Info("the back end has answered")
			return
		case err == nil:
			return
		case late:
			p.log.Error("the back end cannot be opened; it will be tried again", "error", err)
		}
		select {
		case <-p.closed:
			return
		case <-time.After(retry):
		}
	}
}

func openFiles(driver, path string) (files, error) {
	d, err := OpenDirectory(path)
	if err != nil {
		return nil, err
	}
	btrfs, err := d.OnBtrfs()
	switch {
	case err != nil:
		return nil, errors.Join(err, d.Close())
	case btrfs:
		return &Btrfs{Directory: d}, nil
	case driver == "btrfs":
		return nil, errors.Join(fmt.Errorf("%s does not lie on btrfs", path), d.Close())
	}
	return d, nil
}

// Close lets go of the back end. Whatever hangs in it still does.
func (p *Patient) Close() error {
	close(p.closed)
	select {
	case <-p.opened:
		return p.files.Close()
	default:
		return nil
	}
}

// Answers reports whether the back end is open and has answered lately. It does not wait: it has it asked, now and then, and goes by whether
// an answer is overdue.
func (p *Patient) Answers() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.opened:
	default:
		return false
	}
	past := p.now().Sub(p.since)
	if p.asking {
		return past < slow
	}
	if past >= probing {
		p.asking, p.since = true, p.now()
		go p.probe()
	}
	return true
}

// probe asks the back end for something; that it answers with an error is an answer.
func (p *Patient) probe() {
	_ = p.files.ask()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asking = false
}

// ready waits until the back end is open.
func (p *Patient) ready(ctx context.Context) (files, error) {
	select {
	case <-p.opened:
		return p.files, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// ask has a goroutine ask the back end something, and leaves it behind after so long.
func ask[T any](ctx context.Context, p *Patient, limit time.Duration, do func(context.Context, files) (T, error)) (T, error) {
	type answer struct {
		v   T
		err error
	}
	var none T
	silent := abaca.Errorf(abaca.Unavailable, "The back end %s does not answer.", p.name)
	select {
	case p.asked <- struct{}{}:
	default:
		return none, silent
	}
	within, cancel := context.WithTimeout(ctx, limit)
	answers := make(chan answer, 1)
	go func() {
		defer func() { <-p.asked }()
		var a answer
		f, err := p.ready(within)
		if a.err = err; err == nil {
			a.v, a.err = do(within, f)
		}
		answers <- a
	}()
	defer cancel()
	select {
	case a := <-answers:
		if within.Err() != nil && ctx.Err() == nil && errors.Is(a.err, within.Err()) {
			a.err = silent
		}
		return a.v, a.err
	case <-within.Done():
		if ctx.Err() != nil {
			return none, ctx.Err()
		}
		return none, silent
	}
}

// Absolute returns where a share's root directory is on this machine.
func (p *Patient) Absolute(share string) string { return filepath.Join(p.path, share) }

// Locate is Directory.Locate within seconds; abaca.Unavailable where the back end does not answer.
func (p *Patient) Locate(ctx context.Context, absolute string) (string, error) {
	return ask(ctx, p, slow, func(ctx context.Context, f files) (string, error) { return f.Locate(ctx, absolute) })
}

// Create makes a share's root directory.
func (p *Patient) Create(ctx context.Context, share string) error {
	f, err := p.ready(ctx)
	if err != nil {
		return err
	}
	return f.Create(ctx, share)
}

// Remove deletes a share.
func (p *Patient) Remove(ctx context.Context, share string) error {
	f, err := p.ready(ctx)
	if err != nil {
		return err
	}
	return f.Remove(ctx, share)
}

// Mount opens a share's root directory.
func (p *Patient) Mount(ctx context.Context, share string) (*abaca.Volume, error) {
	f, err := p.ready(ctx)
	if err != nil {
		return nil, err
	}
	return f.Mount(ctx, share)
}

// Usage returns the bytes allocated to a share's files.
func (p *Patient) Usage(ctx context.Context, share string) (int64, error) {
	f, err := p.ready(ctx)
	if err != nil {
		return 0, err
	}
	return f.Usage(ctx, share)
}

// Snapshot opens the share as it is at this moment where the back end can hold it still, and as it is elsewhere.
func (p *Patient) Snapshot(ctx context.Context, share, name string) (*abaca.Volume, error) {
	f, err := p.ready(ctx)
	if err != nil {
		return nil, err
	}
	if still, ok := f.(*Btrfs); ok {
		return still.Snapshot(ctx, share, name)
	}
	return f.Mount(ctx, share)
}

// Sweep removes the snapshots that nobody reads any more. It gives up on a back end that does not answer within a minute.
func (p *Patient) Sweep(ctx context.Context, inUse func(name string) (bool, error)) error {
	_, err := ask(ctx, p, slowSweep, func(ctx context.Context, f files) (struct{}, error) {
		still, ok := f.(*Btrfs)
		if !ok {
			return struct{}{}, nil
		}
		return struct{}{}, still.Sweep(ctx, inUse)
	})
	return err
}

package manager

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"abaca"
	"abaca/internal/db"
)

// A lane works on up to n jobs of its operations at a time. There are two lanes, so that deleting a backup does not wait for hours
// behind the making of others.
//
// A share's file server that stops answering holds up the goroutine that calls it, and nothing can take that call back. A job that shows no progress for
// m.Silence therefore lends its slot to other work until it moves again; up to n jobs do, whether they still have their lease or have lost it.
// So a lane has 2n goroutines at most, and n dead jobs cost it nothing but their memory.
type lane struct {
	*Manager
	ops        []abaca.Operation
	n          int
	perProject int           // of the n; 0 for any number
	wake       chan struct{} // holds a token where it is to look for work at once
	ended      chan struct{} // a job has; holds one

	looked atomic.Int64 // when it has last been told of work or that there is none, in nanoseconds of the system's clock; 0 for never
	full   atomic.Bool  // whether all its slots are taken, so that it does not look

	mu    sync.Mutex
	tasks map[*task]struct{}
}

// A task is a job that somebody works on.
type task struct {
	job    db.Job
	asked  time.Duration // when its claim was sent, on the clock of Uptime
	log    *slog.Logger
	latest atomic.Pointer[abaca.Progress]
	moved  atomic.Int64 // when it showed progress last, in microseconds
	silent bool         // and its slot is lent; of the lane's goroutine
}

// report notes a job's progress.
func (t *task) report(p abaca.Progress, now time.Time) {
	if before := t.latest.Swap(&p); before == nil || *before != p {
		t.moved.Store(now.UnixMicro())
	}
}

func (m *Manager) newLane(ops []abaca.Operation, n, perProject int) *lane {
	return &lane{Manager: m, ops: ops, n: n, perProject: perProject, wake: make(chan struct{}, 1), ended: make(chan struct{}, 1), tasks: map[*task]struct{}{}}
}

// run works until ctx ends, and then gives what is under way m.Grace to stop.
func (l *lane) run(ctx context.Context) {
	tick := time.NewTicker(look)
	defer tick.Stop()
	defer l.leave(ctx)
	for {
		if l.hasSlot() && l.claim(ctx) {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-l.wake:
		case <-l.ended:
		case <-tick.C:
		}
	}
}

// claim takes up a job, if there is one whose share's back end answers.
func (l *lane) claim(ctx context.Context) bool {
	if l.astray.Load() {
		return false
	}
	asked, now := l.Uptime(), l.now()
	worker := db.Worker{Name: l.Host, PerProject: l.perProject, Backends: l.answering()}
	job, ok, err := l.DB.Claim(ctx, l.ops, worker, now, now.Add(l.Lease))
	if err != nil && ctx.Err() == nil {
		l.Log.ErrorContext(ctx, "looking for work", "error", err)
	}
	if err == nil {
		l.looked.Store(time.Now().UnixNano())
	}
	if !ok {
		return false
	}
	about := []any{"operation", job.Operation.Name, string(job.Operation.Kind) + "_id", job.ID, "attempt", job.Attempt,
		"project_id", job.Project, "request_id", job.Asked.Request, "user_id", job.Asked.User}
	t := &task{job: job, asked: asked, log: l.Log.With(about...)}
	t.moved.Store(now.UnixMicro())
	l.mu.Lock()
	l.tasks[t] = struct{}{}
	l.mu.Unlock()
	go func() {
		defer l.end(t)
		l.Manager.run(abaca.LogWith(ctx, about...), t)
	}()
	return true
}

func (l *lane) end(t *task) {
	l.mu.Lock()
	delete(l.tasks, t)
	l.mu.Unlock()
	select {
	case l.ended <- struct{}{}:
	default:
	}
}

// hasSlot reports whether another job may be taken up. It notes which jobs are silent.
func (l *lane) hasSlot() (has bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer func() { l.full.Store(!has) }()
	silent := 0
	for t := range l.tasks {
		still := l.now().Sub(time.UnixMicro(t.moved.Load())).Truncate(time.Second)
		switch is := still >= l.Silence; {
		case is && !t.silent:
			t.log.Warn("the work shows no progress; other work may have its slot meanwhile", "for", still)
			t.silent = true
		case !is && t.silent:
			t.log.Info("the work goes on")
			t.silent = false
		}
		if t.silent {
			silent++
		}
	}
	return len(l.tasks)-min(silent, l.n) < l.n
}

// leave waits for what is under way. What does not stop in time hangs in a share's file system: it is left behind, and offered to other workers.
func (l *lane) leave(ctx context.Context) {
	end := time.NewTimer(l.Grace)
	defer end.Stop()
	for {
		l.mu.Lock()
		left := len(l.tasks)
		l.mu.Unlock()
		if left == 0 {
			return
		}
		select {
		case <-l.ended:
			continue
		case <-end.C:
		}
		break
	}
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), look)
	defer cancel()
	l.mu.Lock()
	defer l.mu.Unlock()
	for t := range l.tasks {
		err := l.DB.Transact(after, func(tx *db.Tx) error { return tx.Release(after, t.job, l.now(), true, "interrupted") })
		t.log.ErrorContext(after, "the work hangs and is left behind; it goes on when a worker takes it up", "error", err)
	}
}

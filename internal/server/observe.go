package server

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"abaca"
	"abaca/internal/api"
	"abaca/internal/health"
	"abaca/internal/manager"
	"abaca/internal/metrics"
	"abaca/internal/trace"
)

// An observer has what the parts do counted, traced and logged.
type observer struct {
	metrics *metrics.Metrics
	tracer  *trace.Tracer // nil where no traces are asked for
	log     *slog.Logger
}

// openObserver makes the observer, and whatever it needs. What it asks of the server it asks at a scrape.
func (s *Server) openObserver(ctx context.Context, now func() time.Time) (*observer, error) {
	o := &observer{log: s.log, metrics: metrics.New(newState(s, now))}
	if !s.config.traces {
		return o, nil
	}
	var err error
	if o.tracer, err = trace.Open(ctx, s.log); err != nil {
		return nil, err
	}
	s.closers = append(s.closers, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), farewell)
		defer cancel()
		if err := o.tracer.Close(ctx); err != nil {
			s.log.WarnContext(ctx, "the last traces are not sent", "error", err)
		}
		return nil
	})
	return o, nil
}

// farewell is how long the last traces may take to be sent.
const farewell = 5 * time.Second

// lookup returns what looks variables up; the last of several entries for one wins.
func lookup(environ []string) func(name string) string {
	return func(name string) (value string) {
		for _, entry := range environ {
			if v, ok := strings.CutPrefix(entry, name+"="); ok {
				value = v
			}
		}
		return value
	}
}

// request is an api.Watcher.
func (o *observer) request(ctx context.Context, r *http.Request) (context.Context, func(api.Answered)) {
	began := time.Now()
	ctx, answered := o.tracer.Request(ctx, r.Header)
	return ctx, func(a api.Answered) {
		took := time.Since(began)
		o.metrics.Answered(a.Method, a.Route, a.Status, took)
		answered(a.Method, a.Route, a.Status)
		o.log.DebugContext(ctx, "answered", "method", a.Method, "route", a.Route, "status", a.Status, "took", took,
			"user_id", a.Caller.User, "project_id", a.Caller.Project)
	}
}

// work is a manager.Watcher.
func (o *observer) work(ctx context.Context, name string) (context.Context, func(outcome string)) {
	counted := o.metrics.WorkBegan(name)
	ctx, traced := o.tracer.Work(ctx, name)
	return ctx, func(outcome string) {
		counted(outcome)
		traced(outcome)
	}
}

// A watchedEngine is an engine whose work is counted and traced.
type watchedEngine struct {
	manager.Engine
	*observer
}

func (e watchedEngine) Save(ctx context.Context, req abaca.SaveRequest, vol *abaca.Volume, report func(abaca.Progress)) (
	abaca.Ref, abaca.Report, error,
) {
	ctx, ended := e.tracer.Part(ctx, "save")
	var last abaca.Progress
	ref, result, err := e.Engine.Save(ctx, req, vol, func(p abaca.Progress) {
		if p.FilesRead < last.FilesRead || p.BytesRead < last.BytesRead || p.Stored < last.Stored { // it has started over
			last = abaca.Progress{}
		}
		e.metrics.Saved(p.FilesRead-last.FilesRead, p.BytesRead-last.BytesRead, p.Stored-last.Stored)
		last = p
		report(p)
	})
	if err == nil { // the last of it was written when progress had ended
		e.metrics.Saved(0, 0, max(0, result.Stored-last.Stored))
	}
	ended(err, map[string]int64{
		"files": result.Files, "bytes": result.Bytes, "files_read": last.FilesRead, "bytes_read": last.BytesRead, "bytes_stored": result.Stored,
	})
	return ref, result, err
}

func (e watchedEngine) Restore(ctx context.Context, project abaca.ProjectID, ref abaca.Ref, vol *abaca.Volume, report func(abaca.Progress)) (
	abaca.Report, error,
) {
	ctx, ended := e.tracer.Part(ctx, "restore")
	result, err := e.Engine.Restore(ctx, project, ref, vol, report)
	files := result.Files
	if err != nil {
		files = 0 // how many it has come through is not known
	}
	e.metrics.Restored(files, result.Stored)
	ended(err, map[string]int64{"files": result.Files, "bytes": result.Bytes, "bytes_written": result.Stored})
	return result, err
}

func (e watchedEngine) Verify(ctx context.Context, project abaca.ProjectID, refs []abaca.Ref, slice abaca.Slice, report func(abaca.Progress)) (
	map[abaca.Ref]abaca.Verification, error,
) {
	ctx, ended := e.tracer.Part(ctx, "verify trees")
	found, err := e.Engine.Verify(ctx, project, refs, slice, report)
	var sum abaca.Verification
	for _, v := range found {
		e.metrics.Verified(v)
		sum.Files, sum.Bytes, sum.Damaged = sum.Files+v.Files, sum.Bytes+v.Bytes, sum.Damaged+v.Damaged
	}
	ended(err, map[string]int64{"trees": int64(len(found)), "files": sum.Files, "bytes": sum.Bytes, "damaged": sum.Damaged})
	return found, err
}

func (e watchedEngine) Maintain(ctx context.Context, project abaca.ProjectID) error {
	ctx, ended := e.tracer.Part(ctx, "maintain repository")
	err := e.Engine.Maintain(ctx, project)
	ended(err, nil)
	return err
}

// A state is what metrics ask of a server at a scrape.
type state struct {
	server *Server
	queues health.Probe[map[string]metrics.Waiting]
}

// How long measured queues are shown again, and how long a scrape waits for the database.
const (
	queuesFresh    = time.Second
	queuesPatience = 2 * time.Second
)

func newState(s *Server, now func() time.Time) *state {
	ask := func(ctx context.Context) (map[string]metrics.Waiting, error) {
		at := now()
		queues, err := s.DB.Queues(ctx, at)
		if err != nil {
			return nil, fmt.Errorf("scrape: %w", err)
		}
		waiting := make(map[string]metrics.Waiting, len(queues))
		for _, q := range queues {
			w := metrics.Waiting{Count: q.Waiting}
			if q.Waiting > 0 {
				w.Age = max(0, at.Sub(q.Since)) // what is to be tried again may have to wait still
			}
			waiting[q.Operation.Name] = w
		}
		return waiting, nil
	}
	return &state{server: s, queues: health.Probe[map[string]metrics.Waiting]{Ask: ask, Fresh: queuesFresh, Patience: queuesPatience}}
}

func (s *state) Waiting() (map[string]metrics.Waiting, error) { return s.queues.Get() }

func (s *state) Repositories() (n int, bytes int64, ok bool) { return s.server.Manager.Repositories() }

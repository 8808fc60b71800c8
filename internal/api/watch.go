package api

import (
	"context"
	"net/http"

	"abaca"
)

// An Answered is what is told of a request that has been answered.
type Answered struct {
	Method string // the request's, or other where no route has it
	Route  string // the pattern of a path, such as /v2/shares/{id}; Unrouted where no route was found, and never what the client made up
	Status int
	Caller abaca.Caller // zero where nobody was known
}

// Unrouted stands for the route of requests that have none, or that were refused before it was looked for.
const Unrouted = "unrouted"

// A watched is an answer that is watched on its way to the client.
type watched struct {
	http.ResponseWriter
	told Answered
}

func (w *watched) WriteHeader(status int) {
	if w.told.Status == 0 {
		w.told.Status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *watched) Write(b []byte) (int, error) {
	if w.told.Status == 0 {
		w.told.Status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController through.
func (w *watched) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// watch begins to watch a request, whose log lines carry its id. answered is deferred.
func (s *Server) watch(w http.ResponseWriter, r *http.Request, id string) (_ *watched, _ *http.Request, answered func()) {
	seen := &watched{ResponseWriter: w, told: Answered{Route: Unrouted}}
	ctx, tell := abaca.LogWith(r.Context(), "request_id", id), func(Answered) {}
	if s.Watch != nil {
		ctx, tell = s.Watch(ctx, r)
	}
	return seen, r.WithContext(ctx), func() {
		seen.told.Method = method(r)
		tell(seen.told)
	}
}

// method keeps a request's method within those that routes have; a client may send any word.
func method(r *http.Request) string {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete:
		return r.Method
	}
	return "other"
}

// A Watcher is told that a request begins. It returns the context to answer it in, and what is to be called when it has been answered.
type Watcher func(context.Context, *http.Request) (context.Context, func(Answered))

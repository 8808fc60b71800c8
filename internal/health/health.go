// Package health tells whether the parts of a server are ready, in the shapes of OpenStack's healthcheck middleware.
package health

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// How long the answer of a part is good, and how long it is waited for.
const (
	fresh    = time.Second
	patience = 2 * time.Second
)

// A Part is one thing that has to work for the server to be of use.
type Part struct {
	Reason string // what strangers are told when it does not: short, upper case, no path and no host
	Check  func(context.Context) error
	OneOf  bool // of many of its kind: without it the server is ready for everything else
}

// A Handler answers with 200 while the parts are well that everything needs, and else with 503 and their reasons. The reasons of others come
// last, after an OK where there is nothing else to say.
type Handler struct {
	parts    []*part
	log      *slog.Logger
	detailed func(*http.Request) bool
	draining atomic.Bool
}

type part struct {
	Part
	probe Probe[time.Duration] // answers with how long the check took
	sick  atomic.Bool          // when it was looked at last
}

// New makes a Handler. detailed says who may see errors in full; the log is told when a part falls ill or recovers.
func New(parts []Part, detailed func(*http.Request) bool, log *slog.Logger) *Handler {
	h := &Handler{log: log, detailed: detailed}
	for _, p := range parts {
		h.parts = append(h.parts, &part{Part: p, probe: Probe[time.Duration]{Fresh: fresh, Patience: patience, Ask: p.timed}})
	}
	return h
}

func (p Part) timed(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	err := p.Check(ctx)
	return time.Since(began), err
}

// Drain has the answer be DRAINING from now on, so that nobody sends more.
func (h *Handler) Drain() { h.draining.Store(true) }

// drainingReason is told while the server still answers but will stop soon.
const drainingReason = "DRAINING"

// A verdict is what was found of one part.
type verdict struct {
	reason string
	oneOf  bool
	took   time.Duration
	err    error
}

// look asks all parts, side by side.
func (h *Handler) look() []verdict {
	found := make([]verdict, len(h.parts))
	done := make(chan struct{}, len(h.parts))
	for i, p := range h.parts {
		go func() {
			found[i] = p.look(h.log)
			done <- struct{}{}
		}()
	}
	for range h.parts {
		<-done
	}
	return found
}

func (p *part) look(log *slog.Logger) verdict {
	took, err := p.probe.Get()
	switch was := p.sick.Swap(err != nil); {
	case err != nil && !was:
		log.Error("a part of the server is not ready", "part", p.Reason, "error", err)
	case err == nil && was:
		log.Info("a part of the server is ready again", "part", p.Reason)
	}
	return verdict{p.Reason, p.OneOf, took, err}
}

// ServeHTTP answers every method with the same, HEAD without a body. The query parameter detailed shows everything to who may see it.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	found := h.look()
	status, reasons := h.sum(found)
	w.Header().Set("Cache-Control", "no-store")
	switch {
	case r.Method == http.MethodHead && status == http.StatusOK:
		w.WriteHeader(http.StatusNoContent)
	case r.URL.Query().Has("detailed") && h.detailed(r):
		writeJSON(w, status, details(found, h.draining.Load()))
	case strings.Contains(r.Header.Get("Accept"), "application/json"):
		writeJSON(w, status, map[string]any{"detailed": false, "reasons": reasons})
	default:
		w.Header().Set("Content-Type", "text/plain; charset=UTF-8")
		w.WriteHeader(status)
		w.Write([]byte(strings.Join(reasons, "\n"))) //nolint:errcheck // the client is gone
	}
}

func (h *Handler) sum(found []verdict) (status int, reasons []string) {
	var lesser []string
	if h.draining.Load() {
		reasons = append(reasons, drainingReason)
	}
	for _, v := range found {
		switch {
		case v.err == nil:
		case v.oneOf:
			lesser = append(lesser, v.reason)
		default:
			reasons = append(reasons, v.reason)
		}
	}
	status = http.StatusServiceUnavailable
	if len(reasons) == 0 {
		status, reasons = http.StatusOK, []string{"OK"}
	}
	return status, append(reasons, lesser...)
}

func details(found []verdict, draining bool) map[string]any {
	parts := make([]map[string]any, len(found))
	for i, v := range found {
		parts[i] = map[string]any{"part": v.reason, "reason": "OK", "seconds": v.took.Seconds()}
		if v.err != nil {
			parts[i]["reason"] = v.err.Error()
		}
	}
	return map[string]any{"detailed": true, "draining": draining, "reasons": parts}
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	var b bytes.Buffer
	if err := json.NewEncoder(&b).Encode(body); err != nil {
		panic(err) // it is made of strings, numbers, booleans, lists and objects
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(bytes.TrimSuffix(b.Bytes(), []byte("\n"))) //nolint:errcheck // the client is gone
}

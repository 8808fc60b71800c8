// Package metrics counts what the server does and shows it in Prometheus' text format. It is the only user of Prometheus' client.
//
// No label has a value that a request or a tenant can make up: there are as many series as the program's own tables have rows.
// docs/metrics.md describes each metric; a test compares it with what is collected.
package metrics

import (
	"log/slog"
	"net/http"
	"runtime"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"abaca"
)

// Buckets of durations, in seconds: work takes from milliseconds to days, requests from less than one to a minute.
var (
	workBuckets    = []float64{0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, 48 * 3600}
	requestBuckets = []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60}
)

// Metrics are one server's. Its methods may be called concurrently.
type Metrics struct {
	registry *prometheus.Registry

	works    *prometheus.CounterVec   // by operation, outcome
	took     *prometheus.HistogramVec // by operation
	running  *prometheus.GaugeVec     // by operation
	lastDone *prometheus.GaugeVec     // by operation

	filesRead, bytesRead, bytesStored         prometheus.Counter
	filesRestored, bytesRestored              prometheus.Counter
	filesVerified, bytesVerified, filesBroken prometheus.Counter

	requests *prometheus.CounterVec   // by method, route, code
	latency  *prometheus.HistogramVec // by method, route
}

// New makes the metrics of a server whose state is asked of state at each scrape.
func New(state State) *Metrics {
	m := &Metrics{registry: prometheus.NewPedanticRegistry()}
	m.makeWork()
	m.makeData()
	m.makeRequests()
	m.registry.MustRegister(&stateCollector{state}, buildInfo(),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *Metrics) counter(name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	m.registry.MustRegister(c)
	return c
}

func (m *Metrics) makeWork() {
	m.works = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "abaca_operations_total", Help: "Claims of work that have come to an end, by how.",
	}, []string{"operation", "outcome"})
	m.took = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "abaca_operation_duration_seconds", Help: "Time from the claim of work to its end, whichever that was.", Buckets: workBuckets,
	}, []string{"operation"})
	m.running = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "abaca_operations_running", Help: "Work that is under way in this process.",
	}, []string{"operation"})
	m.lastDone = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "abaca_operation_last_success_timestamp_seconds",
		Help: "When work was last done in this process; 0 where it was not since the process began.",
	}, []string{"operation"})
	m.registry.MustRegister(m.works, m.took, m.running, m.lastDone)
	for _, name := range abaca.WorkNames() { // so that the first of anything is an increase
		for _, outcome := range abaca.WorkOutcomes {
			m.works.WithLabelValues(name, outcome)
		}
		m.took.WithLabelValues(name)
		m.running.WithLabelValues(name)
		m.lastDone.WithLabelValues(name)
	}
}

func (m *Metrics) makeData() {
	m.filesRead = m.counter("abaca_read_files_total", "Files of shares that were opened and read to be saved; unchanged ones are not.")
	m.bytesRead = m.counter("abaca_read_bytes_total", "Bytes of content read from shares to be saved.")
	m.bytesStored = m.counter("abaca_stored_bytes_total", "Bytes that saves have added to repositories: new content, compressed and encrypted.")
	m.filesRestored = m.counter("abaca_restored_files_total", "Directory entries of backups that restores have gone through.")
	m.bytesRestored = m.counter("abaca_restored_bytes_total", "Bytes of content that restores have written to shares; what was equal is not.")
	m.filesVerified = m.counter("abaca_verified_files_total", "Directory entries that verifications have found sound.")
	m.bytesVerified = m.counter("abaca_verified_bytes_total", "Bytes of content that verifications have read back and found equal to their hashes.")
	m.filesBroken = m.counter("abaca_verification_findings_total", "Directory entries that verifications have found damaged, anew in each round.")
}

func (m *Metrics) makeRequests() {
	m.requests = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "abaca_http_requests_total", Help: "Requests to the API that were answered, by route and status.",
	}, []string{"method", "route", "code"})
	m.latency = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "abaca_http_request_duration_seconds", Help: "Time from a request's header to the end of its answer.", Buckets: requestBuckets,
	}, []string{"method", "route"})
	m.registry.MustRegister(m.requests, m.latency)
}

// buildInfo says what is running.
func buildInfo() prometheus.Collector {
	version, revision := "unknown", "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		version = info.Main.Version
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				revision = s.Value
			}
		}
	}
	g := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "abaca_build_info", Help: "1; the labels say what was built from which source with which Go.",
		ConstLabels: prometheus.Labels{"version": version, "revision": revision, "goversion": runtime.Version()},
	})
	g.Set(1)
	return g
}

// WorkBegan counts work, one of abaca.WorkNames, that a worker takes up; ended is to be called with its outcome.
func (m *Metrics) WorkBegan(name string) (ended func(outcome string)) {
	began := time.Now()
	m.running.WithLabelValues(name).Inc()
	return func(outcome string) {
		m.running.WithLabelValues(name).Dec()
		m.works.WithLabelValues(name, outcome).Inc()
		m.took.WithLabelValues(name).Observe(time.Since(began).Seconds())
		if outcome == abaca.OutcomeDone {
			m.lastDone.WithLabelValues(name).SetToCurrentTime()
		}
	}
}

// Saved counts what a save has done since it was counted last.
func (m *Metrics) Saved(filesRead, bytesRead, stored int64) {
	m.filesRead.Add(float64(filesRead))
	m.bytesRead.Add(float64(bytesRead))
	m.bytesStored.Add(float64(stored))
}

// Restored counts what a restore has gone through, and what it has written.
func (m *Metrics) Restored(files, written int64) {
	m.filesRestored.Add(float64(files))
	m.bytesRestored.Add(float64(written))
}

// Verified counts what one tree's verification has found.
func (m *Metrics) Verified(v abaca.Verification) {
	m.filesVerified.Add(float64(v.Files))
	m.bytesVerified.Add(float64(v.Bytes))
	m.filesBroken.Add(float64(v.Damaged))
}

// Answered counts a request; method and route are of the API's table, never what a client made up.
func (m *Metrics) Answered(method, route string, status int, took time.Duration) {
	m.requests.WithLabelValues(method, route, strconv.Itoa(status)).Inc()
	m.latency.WithLabelValues(method, route).Observe(took.Seconds())
}

// Handler answers scrapes. What goes wrong in one goes to the log; the rest is shown all the same.
func (m *Metrics) Handler(log *slog.Logger) http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelError), ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: 4,
	})
}

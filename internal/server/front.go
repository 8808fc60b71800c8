package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"abaca/internal/auth"
	"abaca/internal/engine"
	"abaca/internal/health"
)

// disabledName is the file in the data directory that takes the server out of rotation while it exists.
const disabledName = "disabled"

// healthParts are what has to work for the server to be ready, in the words that strangers are told.
func (s *Server) healthParts(e *engine.Engine) []health.Part {
	parts := []health.Part{
		{Reason: "DISABLED BY FILE", Check: func(context.Context) error { return s.config.checkDisabled() }},
		{Reason: "DATABASE", Check: s.DB.Ping},
	}
	if !s.config.works() {
		return parts
	}
	parts = append(parts, health.Part{Reason: "REPOSITORY", Check: e.Reach},
		health.Part{Reason: "WORKERS", Check: func(context.Context) error { return s.Manager.Working() }})
	for _, name := range s.Manager.BackendNames() {
		if b, ok := s.Manager.Backends[name].(interface{ Reach(context.Context) error }); ok {
			parts = append(parts, health.Part{Reason: "BACKEND " + name, Check: b.Reach, OneOf: true})
		}
	}
	return parts
}

func (c *Config) checkDisabled() error {
	path := filepath.Join(c.DataDir, disabledName)
	_, err := os.Lstat(path)
	switch {
	case err == nil:
		return fmt.Errorf("%s exists", path)
	case errors.Is(err, fs.ErrNotExist):
		return nil
	}
	return fmt.Errorf("look for %s: %w", disabledName, err)
}

// forwarded are headers that proxies add. A request with one comes from somewhere else than its connection.
var forwarded = []string{"Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip"}

// isLocal reports whether a request was made on this machine, past all proxies, and by a client that knows where it asks: a web page
// whose name has been made to point to this machine does not.
func isLocal(r *http.Request) bool {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil || !isLoopback(host) || !auth.IsAddress(r.Host) {
		return false
	}
	for _, h := range forwarded {
		if r.Header.Get(h) != "" {
			return false
		}
	}
	return true
}

// withMetrics shows the metrics on the API's listener, to this machine alone. To others there is no such path.
func withMetrics(others, metrics http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == metricsPath && r.Method == http.MethodGet && isLocal(r) {
			metrics.ServeHTTP(w, r)
			return
		}
		others.ServeHTTP(w, r)
	})
}

const metricsPath = "/metrics"

// listenForScrapes opens the metrics' own listener. On a loopback address it takes requests from this machine alone, as the API's does.
func (s *Server) listenForScrapes(metrics, health http.Handler, b Bounds) error {
	l, err := net.Listen("tcp", s.config.Metrics.Listen)
	if err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	s.log.Info("metrics have an address of their own", "listen", l.Addr().String())
	inside := l.Addr().(*net.TCPAddr).IP.IsLoopback()
	mux := http.NewServeMux()
	mux.Handle("GET "+metricsPath, metrics)
	mux.Handle("/healthcheck", health)
	s.scrapes = &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if inside && !isLocal(r) {
				http.NotFound(w, r)
				return
			}
			mux.ServeHTTP(w, r)
		}),
		ReadHeaderTimeout: b.Header, ReadTimeout: b.Body, WriteTimeout: b.Whole, IdleTimeout: b.Idle, MaxHeaderBytes: b.HeaderBytes,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	s.scrapesListener = keepDoor(l, scrapers)
	s.closers = append(s.closers, func() error { return closeListener(s.scrapesListener) })
	return nil
}

// scrapers is how many connections the metrics' own listener takes at a time.
const scrapers = 16

// MetricsURL is where the metrics are, empty where this process shows none.
func (s *Server) MetricsURL() string {
	if s.scrapes != nil {
		return "http://" + s.scrapesListener.Addr().String() + metricsPath
	}
	if s.listener == nil {
		return ""
	}
	return strings.TrimSuffix(s.Endpoint(), "/v2") + metricsPath
}

// longestDrain bounds a stop: work that is interrupted waits for its next worker all the while.
const longestDrain = 5 * time.Minute

func (c *Config) checkMetrics() error {
	if c.Drain < 0 || c.Drain > longestDrain {
		return fmt.Errorf("drain: %v is not from 0 to %v", c.Drain, longestDrain)
	}
	if c.Metrics.Listen == "" {
		return nil
	}
	if _, err := hostOf(c.Metrics.Listen); err != nil {
		return fmt.Errorf("metrics.listen: %w", err)
	}
	return nil
}

// hostOf takes the host from an address to listen on.
func hostOf(address string) (host string, err error) {
	host, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return "", fmt.Errorf("%q is not host:port", address)
	}
	return host, nil
}

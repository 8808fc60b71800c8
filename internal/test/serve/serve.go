// Package serve starts whole servers in tests: a real database, real directories, real HTTP on a free port.
//
// The database is SQLite or, where the environment variable TEST_DATABASE is postgres, PostgreSQL.
package serve

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"abaca/internal/server"
	"abaca/internal/test/postgres"
)

// A Server is a running server and a client of it.
type Server struct {
	*server.Server
	*Client
	Config server.Config
	stop   func()
}

// Start serves from an empty directory until the test ends.
func Start(t testing.TB, options ...server.Option) *Server {
	return StartIn(t, t.TempDir(), options...)
}

// StartIn serves from dir, with what an earlier server left there, until the test ends or Stop is called.
func StartIn(t testing.TB, dir string, options ...server.Option) *Server {
	t.Helper()
	c, err := Config(dir)
	if err != nil {
		t.Fatal(err)
	}
	return StartWith(t, c, options...)
}

// StartWith is StartIn with a configuration that the test has changed.
func StartWith(t testing.TB, c server.Config, options ...server.Option) *Server {
	t.Helper()
	return StartLogging(t, c, slog.NewTextHandler(logWriter{t}, nil), options...)
}

// StartLogging is StartWith with a handler for the server's log.
func StartLogging(t testing.TB, c server.Config, log slog.Handler, options ...server.Option) *Server {
	t.Helper()
	if c.Database == "" {
		c.Database = Database(t, c.DataDir)
	}
	options = append([]server.Option{server.WithSettle(0)}, options...)
	srv, err := server.Open(context.Background(), c, slog.New(log), options...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ctx) }()
	s := &Server{Server: srv, Client: NewClient(t, srv.Endpoint()), Config: c}
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
		if err := srv.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	t.Cleanup(s.stop)
	return s
}

// Database returns which database a server with this data directory has in the tests; empty is SQLite.
func Database(t testing.TB, dataDir string) server.DatabaseURL {
	t.Helper()
	if os.Getenv("TEST_DATABASE") != "postgres" {
		return ""
	}
	return server.DatabaseURL(postgres.For(t, dataDir))
}

// Config is a server's in a test: everything below dir, on a free port, quick to try again.
func Config(dir string) (server.Config, error) {
	return server.Load("", nil, map[string]any{
		"data_dir": dir, "listen": "127.0.0.1:0", "workers.backoff": "10ms", "workers.lease": "4s", "log.level": "warn",
	})
}

// Stop stops the server in good order.
func (s *Server) Stop() { s.stop() }

// logWriter sends a server's log to the test's.
type logWriter struct{ t testing.TB }

func (w logWriter) Write(p []byte) (int, error) {
	w.t.Logf("server: %s", bytes.TrimSpace(p))
	return len(p), nil
}

// Share returns the directory of a share that has been made by request.
func (s *Server) Share(id string) string { return filepath.Join(s.Config.DataDir, "shares", id) }

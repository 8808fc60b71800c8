// Package server puts the parts together: from a configuration to a process that serves the API and does the work.
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
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"abaca"
	"abaca/internal/api"
	"abaca/internal/auth"
	"abaca/internal/backend"
	"abaca/internal/db"
	"abaca/internal/engine"
	"abaca/internal/health"
	"abaca/internal/manager"
	"abaca/internal/posix"
)

// What the data directory holds.
const (
	databaseName   = "abaca.db"
	repositoryName = "repository"
	connections    = "connections" // what the engine needs on this host of repositories that are in a bucket
	lockName       = "lock"
)

// A Server is open and listening; Serve makes it work, Close lets go of everything.
type Server struct {
	Manager *manager.Manager
	DB      *db.DB

	config   Config
	log      *slog.Logger
	listener net.Listener
	secure   bool // speaks TLS
	http     *http.Server
	health   *health.Handler
	policy   *auth.PolicyFile
	closers  []func() error // in the order of opening

	scrapes         *http.Server // of the metrics' own listener; nil without one
	scrapesListener net.Listener
}

// An Option changes a part before the server is put together; tests use them for what the outside world would do.
type Option func(*parts)

// parts are what options can change.
type parts struct {
	auth     api.Authenticator
	step     func(context.Context, string) error
	settle   time.Duration
	now      func() time.Time
	uptime   func() time.Duration
	engine   func(manager.Engine) manager.Engine // nil for the engine as it is
	patience time.Duration
	silence  time.Duration
	search   time.Duration
	grace    time.Duration
	bounds   Bounds
}

// WithAuthenticator has callers told apart by something else than the configuration's strategy.
func WithAuthenticator(a api.Authenticator) Option { return func(p *parts) { p.auth = a } }

// WithStep has f called between the steps of all work.
func WithStep(f func(ctx context.Context, name string) error) Option {
	return func(p *parts) { p.step = f }
}

// WithEngine puts something around the engine.
func WithEngine(wrap func(manager.Engine) manager.Engine) Option {
	return func(p *parts) { p.engine = wrap }
}

// WithSettle has shares stay busy with a backup or restore for this long at least.
func WithSettle(d time.Duration) Option { return func(p *parts) { p.settle = d } }

// WithClock has what is due at a time, and what is noted with one, follow another clock. Time that passes meanwhile is measured by
// the system's all the same.
func WithClock(now func() time.Time) Option { return func(p *parts) { p.now = now } }

// WithPatience has the server wait for so long for another process of the same host's to vanish from the database.
func WithPatience(d time.Duration) Option { return func(p *parts) { p.patience = d } }

// patience is longer than PostgreSQL takes to notice that a machine has vanished.
const patience = 15 * time.Second

// WithSilence has work that shows no progress for so long lend its slot, and gives it the grace to stop.
func WithSilence(silence, grace time.Duration) Option {
	return func(p *parts) { p.silence, p.grace = silence, grace }
}

const silence = time.Minute

// WithSearch has work wait for so long for a back end that is configured nowhere.
func WithSearch(d time.Duration) Option { return func(p *parts) { p.search = d } }

// search is longer than an operator takes to move a back end from one worker to another.
const search = 10 * time.Minute

// settle is one second by default: clients ask for a second backup of a share to see it refused while the first is made, and an
// empty share's would be over before they have asked.
const settle = time.Second

// Open makes what is missing, takes the data directory for this server alone, and listens.
func Open(ctx context.Context, c Config, log *slog.Logger, options ...Option) (_ *Server, err error) {
	p := parts{settle: settle, now: time.Now, uptime: posix.Uptime, patience: patience, silence: silence, search: search, grace: stopping, bounds: usualBounds()}
	for _, o := range options {
		o(&p)
	}
	if p.auth == nil && c.answers() {
		if p.auth, err = c.authenticator(ctx, log, p.now); err != nil {
			return nil, err
		}
	}
	log = slog.New(abaca.LogHandler(log.Handler()))
	s := &Server{config: c, log: log}
	if s.policy, err = c.policy(log); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	watch, err := s.openObserver(ctx, p.now)
	if err != nil {
		return nil, err
	}
	if err := posix.MakeDirs(c.DataDir, 0o700); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	instance, unlock, err := c.lock()
	if err != nil {
		return nil, err
	}
	s.closers = append(s.closers, unlock)
	audit, closeAudit, err := c.openAudit(log)
	if err != nil {
		return nil, err
	}
	if closeAudit != nil {
		s.closers = append(s.closers, closeAudit)
	}
	if s.DB, err = db.Open(ctx, c.database()); err != nil {
		return nil, err
	}
	s.closers = append(s.closers, s.DB.Close)
	e, err := s.openManager(ctx, p, watch, audit, instance)
	if err != nil {
		return nil, err
	}
	s.health = health.New(s.healthParts(e), isLocal, log)
	if err := s.listen(c, p, watch, audit); err != nil {
		return nil, err
	}
	return s, nil
}

// listen opens the listeners and makes what answers on them.
func (s *Server) listen(c Config, p parts, watch *observer, audit func(abaca.Audit)) error {
	scrape := watch.metrics.Handler(s.log)
	if c.Metrics.Listen != "" {
		if err := s.listenForScrapes(scrape, s.health, p.bounds); err != nil {
			return err
		}
	}
	if !c.answers() {
		return nil
	}
	listener, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return err
	}
	s.listener = keepDoor(listener, p.bounds.Connections)
	s.closers = append(s.closers, func() error { return closeListener(s.listener) })
	secure, err := c.tls(s.log)
	if err != nil {
		return err
	}
	s.secure = secure != nil
	if !s.secure && c.Auth.Strategy != "none" && !c.onLoopback() {
		s.log.Warn("tokens cross the network in the clear unless a proxy in front speaks TLS; see tls.cert_file", "listen", c.Listen)
	}
	var handler http.Handler = api.New(api.Config{
		DB: s.DB, Manager: s.Manager, Auth: p.auth, Policy: s.policy, ExportHost: c.ExportHost, ProxyHeaders: c.TrustProxyHeaders,
		Log: s.log, Audit: audit, Watch: watch.request, Health: s.health, Requests: p.bounds.Requests, Patience: p.bounds.Answer,
	})
	if s.scrapes == nil {
		handler = withMetrics(handler, scrape)
	}
	s.http = &http.Server{
		Handler:           handler,
		TLSConfig:         secure,
		Protocols:         onlyHTTP1(),
		ReadHeaderTimeout: p.bounds.Header, ReadTimeout: p.bounds.Body, WriteTimeout: p.bounds.Whole, IdleTimeout: p.bounds.Idle,
		MaxHeaderBytes: p.bounds.HeaderBytes,
		ErrorLog:       slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	return nil
}

func (c *Config) openEngine(key []byte, log *slog.Logger, now func() time.Time) (*engine.Engine, error) {
	root, bucket, err := c.place()
	if err != nil {
		return nil, err
	}
	e, err := engine.New(engine.Config{
		Root: root, Bucket: bucket, MasterKey: key, HoldKeys: c.holdKeys, Log: log, Now: now, Dense: c.Engine.Dense, Checkpoint: c.Engine.Checkpoint,
		FreeWithin: c.Engine.FreeWithin,
	})
	if err != nil {
		return nil, fmt.Errorf("open engine: %w", err)
	}
	return e, nil
}

// closer closes an engine. What still uses it by then hangs in the file system of a share, has nothing more to say, and ends with the process.
func closer(e *engine.Engine, log *slog.Logger) func() error {
	return func() error {
		ctx, cancel := context.WithTimeout(context.Background(), closing)
		defer cancel()
		err := e.Close(ctx)
		if errors.Is(err, context.DeadlineExceeded) {
			log.Error("work that hangs still has a repository open")
			return nil
		}
		return err
	}
}

// lock makes sure that one server at a time uses the data directory; OpenBeside needs none. The kernel lets go of the lock when the
// process ends, however.
// instance is the directory's id, unlike that of any other.
func (c *Config) lock() (instance string, unlock func() error, err error) {
	f, err := os.OpenFile(filepath.Join(c.DataDir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return "", nil, fmt.Errorf("lock data directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return "", nil, errors.Join(fmt.Errorf("the data directory %s is used by another abaca", c.DataDir), f.Close())
	}
	if instance, err = instanceOf(f); err != nil {
		return "", nil, errors.Join(err, f.Close())
	}
	return instance, f.Close, nil
}

// masterKey returns the master key, making it where nothing is encrypted with one yet. Another server may have put what there is
// into the database that they share.
func (s *Server) masterKey(ctx context.Context) ([]byte, error) {
	if s.config.Role == roleWorker {
		return s.config.masterKey(true) // nobody knows what others have encrypted
	}
	exists, err := s.DB.HasBackups(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(s.config.DataDir, repositoryName)); !errors.Is(err, fs.ErrNotExist) {
		exists = true
	}
	return s.config.masterKey(exists)
}

func (s *Server) openBackends() (map[string]manager.Backend, error) {
	backends := map[string]manager.Backend{}
	for _, c := range s.config.Backends {
		b, err := backend.Open(c.Name, c.Driver, c.Path, s.log)
		if err != nil {
			return nil, err
		}
		s.closers = append(s.closers, b.Close)
		backends[c.Name] = b
	}
	return backends, nil
}

func (c *Config) limits() map[abaca.Resource]int {
	limits := map[abaca.Resource]int{}
	for r := range abaca.DefaultLimits {
		limits[r] = c.Quotas[string(r)]
	}
	return limits
}

// How long requests and work have to come to a stop, and after that the engine for what it still does.
const (
	stopping = 15 * time.Second
	closing  = 5 * time.Second
)

// Endpoint is the URL that clients are given, empty where this process takes no requests.
func (s *Server) Endpoint() string {
	if s.listener == nil {
		return ""
	}
	scheme := "http://"
	if s.secure {
		scheme = "https://"
	}
	return scheme + s.listener.Addr().String() + "/v2"
}

// Serve answers requests and does the work until ctx ends; then it stops both in good order. /healthcheck says so for as long as the
// configuration has it before the rest stops answering.
func (s *Server) Serve(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	if s.config.works() {
		g.Go(func() error { return s.Manager.Run(ctx) })
	} else {
		g.Go(func() error { return s.Manager.Mind(ctx) })
	}
	g.Go(func() error {
		s.policy.Follow(ctx)
		return nil
	})
	serve := func(h *http.Server, run func() error) {
		g.Go(func() error {
			if err := run(); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		})
		g.Go(func() error {
			<-ctx.Done()
			s.health.Drain()
			time.Sleep(s.config.Drain)
			stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopping)
			defer cancel()
			return h.Shutdown(stop)
		})
	}
	if s.http != nil {
		serve(s.http, func() error {
			if s.secure {
				return s.http.ServeTLS(s.listener, "", "")
			}
			return s.http.Serve(s.listener)
		})
	}
	if s.scrapes != nil {
		serve(s.scrapes, func() error { return s.scrapes.Serve(s.scrapesListener) })
	}
	return g.Wait()
}

// Close lets go of everything in the reverse order of opening.
func (s *Server) Close() error {
	var errs []error
	for i := len(s.closers) - 1; i >= 0; i-- {
		errs = append(errs, s.closers[i]())
	}
	s.closers = nil
	return errors.Join(errs...)
}

// closeListener closes a listener where Serve has not done it already.
func closeListener(l net.Listener) error {
	if err := l.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

func (c *Config) level() (level slog.Level, err error) {
	return level, level.UnmarshalText([]byte(c.Log.Level))
}

// Logger makes the logger that the configuration asks for, writing to standard error.
func (c *Config) Logger() *slog.Logger {
	level, _ := c.level() // the configuration has been checked
	options := &slog.HandlerOptions{Level: level}
	if c.Log.Format == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, options))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, options))
}

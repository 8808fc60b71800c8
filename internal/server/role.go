package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"

	"github.com/google/uuid"

	"abaca"
	"abaca/internal/engine"
	"abaca/internal/manager"
)

// The roles that a process can have: to take requests, to do the work, or both.
const (
	roleAll    = "all"
	roleAPI    = "api"
	roleWorker = "worker"
)

// works reports whether this process does the work, for which it needs the shares' files, the repositories and the master key.
func (c *Config) works() bool { return c.Role != roleAPI }

// answers reports whether this process takes requests.
func (c *Config) answers() bool { return c.Role != roleWorker }

// checkRole refuses a process that could never meet those that do the rest, and a worker that would make a master key of its own.
func (c *Config) checkRole() error {
	switch {
	case c.Role != roleAll && c.Role != roleAPI && c.Role != roleWorker:
		return fmt.Errorf("role: %q is not all, api or worker", c.Role)
	case c.Role != roleAll && c.Database == "":
		return fmt.Errorf("role: %s needs a database that other processes share; database names none", c.Role)
	case c.Role == roleWorker && c.Repository == "":
		return errors.New("role: worker needs repositories that all workers reach; repository names none")
	case c.Role == roleWorker && c.MasterKey == "" && c.MasterKeyFile == "":
		return errors.New("role: worker needs the master key that all workers have, by master_key_file or master_key")
	}
	return nil
}

// openWork opens what work needs, and gives it to a manager's configuration.
func (s *Server) openWork(ctx context.Context, p parts, watch *observer, m *manager.Config) (*engine.Engine, error) {
	c := &s.config
	if err := s.DB.TakeSeat(ctx, c.Host, p.patience); err != nil {
		return nil, err
	}
	key, err := s.masterKey(ctx)
	if err != nil {
		return nil, err
	}
	if m.Backends, err = s.openBackends(); err != nil {
		return nil, err
	}
	e, err := c.openEngine(key, s.log, p.now)
	if err != nil {
		return nil, err
	}
	s.closers = append(s.closers, closer(e, s.log))
	if err := e.Admit(ctx); errors.Is(err, abaca.ErrPermanent) {
		return nil, fmt.Errorf("repository: %w", err)
	} else if err != nil {
		s.log.WarnContext(ctx, "the repositories cannot be reached yet", "error", err)
	}
	m.Engine = watchedEngine{e, watch}
	if p.engine != nil {
		m.Engine = p.engine(m.Engine)
	}
	return e, nil
}

// version is that of the build, as the Go command has noted it.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	return info.Main.Version
}

// instanceOf returns the id of a data directory, which its lock file holds; whoever has the lock makes it where there is none.
func instanceOf(lock *os.File) (string, error) {
	text, err := io.ReadAll(io.LimitReader(lock, 64))
	if err != nil {
		return "", fmt.Errorf("read the data directory's id: %w", err)
	}
	if id := strings.TrimSpace(string(text)); uuid.Validate(id) == nil {
		return id, nil
	}
	id := uuid.NewString()
	err = lock.Truncate(0)
	if err == nil {
		_, err = lock.WriteAt([]byte(id+"\n"), 0)
	}
	if err == nil {
		err = lock.Sync()
	}
	if err != nil {
		return "", fmt.Errorf("give the data directory an id: %w", err)
	}
	return id, nil
}

// openManager makes the manager, with what its work needs where this process works; then the engine is not nil.
func (s *Server) openManager(ctx context.Context, p parts, watch *observer, audit func(abaca.Audit), instance string) (*engine.Engine, error) {
	c := &s.config
	m := manager.Config{
		DB: s.DB, DefaultType: c.DefaultType,
		Protocols: c.ShareProtocols, DataProtocols: c.DataProtocols, Zone: c.Zone, Limits: c.limits(),
		Host: c.Host, Instance: instance, Role: c.Role, Version: version(),
		Heavy: c.Workers.Trees, HeavyPerProject: c.Workers.TreesPerProject, Light: c.Workers.Others, Lease: c.Workers.Lease, Tries: c.Workers.Tries,
		Backoff: c.Workers.Backoff, Settle: p.settle, Patience: p.patience, Silence: p.silence, Search: p.search, Grace: p.grace, VerifyShare: c.Verify.SharePerDay,
		House: c.Engine.FreeWithin / 20, // as the engine wants it
		Log:   s.log, Audit: audit, Watch: watch.work, Now: p.now, Uptime: p.uptime, Step: p.step,
	}
	if len(c.Backends) > 0 {
		m.DefaultBackend = c.Backends[0].Name
	}
	var e *engine.Engine
	if c.works() {
		var err error
		if e, err = s.openWork(ctx, p, watch, &m); err != nil {
			return nil, err
		}
	}
	s.Manager = manager.New(m)
	if c.works() {
		if err := s.Manager.Register(ctx); err != nil {
			return nil, err
		}
	}
	return e, s.Manager.EnsureDefaultType(ctx)
}

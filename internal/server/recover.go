package server

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"abaca/internal/db"
	"abaca/internal/manager"
)

// Recover makes a lost catalogue again from the repositories and the master key, see manager.Recover. No server may be running on the data
// directory, or on the same repositories elsewhere.
func Recover(ctx context.Context, c Config, log *slog.Logger, merge bool) (done manager.Recovery, err error) {
	if err := c.own("."); err != nil {
		return done, err
	}
	s := &Server{config: c, log: log}
	defer func() { err = errors.Join(err, s.Close()) }()
	_, unlock, err := c.lock()
	if err != nil {
		return done, err
	}
	s.closers = append(s.closers, unlock)
	key, err := c.masterKey(true)
	if err != nil {
		return done, err
	}
	if s.DB, err = db.Open(ctx, c.database()); err != nil {
		return done, err
	}
	s.closers = append(s.closers, s.DB.Close)
	backends, err := s.openBackends()
	if err != nil {
		return done, err
	}
	e, err := c.openEngine(key, log, time.Now)
	if err != nil {
		return done, err
	}
	s.closers = append(s.closers, closer(e, log))
	return manager.New(manager.Config{
		DB: s.DB, Engine: e, Backends: backends, DefaultBackend: c.Backends[0].Name, DefaultType: c.DefaultType,
		Protocols: c.ShareProtocols, Zone: c.Zone, Log: log, Now: time.Now,
	}).Recover(ctx, merge)
}

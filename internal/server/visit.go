package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"abaca"
	"abaca/internal/db"
	"abaca/internal/manager"
)

// A Visit has a data directory open beside the server that may be running on it. It takes no requests and does no work but what
// is asked of its Manager, of which Verify alone is of use: it has no back ends.
type Visit struct {
	Manager *manager.Manager
	DB      *db.DB

	close func() error
}

// OpenBeside opens a data directory that a server has used before. It makes nothing, and takes no lock.
func OpenBeside(ctx context.Context, c Config, log *slog.Logger) (_ *Visit, err error) {
	if err := c.ownData(); err != nil {
		return nil, err
	}
	log = slog.New(abaca.LogHandler(log.Handler()))
	key, err := c.masterKey(true)
	if err != nil {
		return nil, err
	}
	d, err := db.Join(ctx, c.database())
	if err != nil {
		return nil, err
	}
	e, err := c.openEngine(key, log)
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return &Visit{
		Manager: manager.New(manager.Config{DB: d, Engine: e, Lease: c.Workers.Lease, Log: log, Now: time.Now}),
		DB:      d,
		close:   func() error { return errors.Join(closer(e)(), d.Close()) },
	}, nil
}

// ownData fails where there is no data or it is another user's: what is written as root, a server that is not root could not read.
func (c *Config) ownData() error {
	left := databaseName // by every server that has used the directory
	if c.Database != "" {
		left = lockName
	}
	info, err := os.Stat(filepath.Join(c.DataDir, left))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no data in %s; data_dir or --data-dir says where a server keeps it", c.DataDir)
	}
	if err != nil {
		return fmt.Errorf("look for data: %w", err)
	}
	if of, ok := info.Sys().(*syscall.Stat_t); ok && int(of.Uid) != os.Geteuid() {
		return fmt.Errorf("the data in %s belongs to the user with the number %d, as whom this is to be run too", c.DataDir, of.Uid)
	}
	return nil
}

// Close lets go of everything.
func (v *Visit) Close() error { return v.close() }

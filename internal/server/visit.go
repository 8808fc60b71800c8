package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

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
	if !c.DataExists() {
		return nil, fmt.Errorf("there is no data in %s; data_dir or --data-dir says where a server keeps it", c.DataDir)
	}
	key, err := c.masterKey()
	if err != nil {
		return nil, err
	}
	d, err := db.JoinSQLite(ctx, filepath.Join(c.DataDir, databaseName))
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

// Close lets go of everything.
func (v *Visit) Close() error { return v.close() }

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
	"abaca/internal/posix"
)

// A Visit has a data directory open beside the server that may be running on it. It takes no requests and does no work but what
// is asked of its Manager, of which Verify and Shred alone are of use: it has no back ends.
type Visit struct {
	Manager *manager.Manager
	DB      *db.DB

	config Config
	close  func() error
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
	e, err := c.openEngine(key, log, time.Now)
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return &Visit{
		Manager: manager.New(manager.Config{DB: d, Engine: e, Lease: c.Workers.Lease, Log: log, Now: time.Now, Uptime: posix.Uptime}),
		DB:      d,
		config:  c,
		close:   func() error { return errors.Join(closer(e, log)(), d.Close()) },
	}, nil
}

// ownData fails where there is no data or it is another user's.
func (c *Config) ownData() error {
	if c.Database != "" {
		return c.own(lockName)
	}
	return c.own(databaseName) // which every server that has used the directory has left
}

// own fails where the data directory has nothing of this name or it is another user's: what is written as root, a server that is not root
// could not read.
func (c *Config) own(left string) error {
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

// auditCommand writes the line of a command that was given on this machine instead of in a request, by the user with this number.
func (c *Config) auditCommand(log *slog.Logger, a abaca.Audit, err error) error {
	write, done, aerr := c.openAudit(log)
	if aerr != nil || write == nil {
		return errors.Join(err, aerr)
	}
	a.Event, a.Caller.User, a.Outcome, a.Ended = abaca.AuditEnd, fmt.Sprintf("uid %d", os.Geteuid()), abaca.OutcomeDone, time.Now()
	if err != nil {
		a.Outcome = abaca.OutcomeFailed
	}
	write(a)
	return errors.Join(err, done())
}

// Shred destroys a project's key and what it has saved, see manager.Shred, and audits that.
func (v *Visit) Shred(ctx context.Context, project abaca.ProjectID, force bool) error {
	began := time.Now()
	err := v.Manager.Shred(ctx, project, force)
	return v.config.auditCommand(v.Manager.Log, abaca.Audit{
		Action: "shred_project", Resource: "project", ID: string(project), Owner: project, Began: began,
	}, err)
}

// Close lets go of everything.
func (v *Visit) Close() error { return v.close() }

package server

import (
	"context"
	"errors"

	"abaca/internal/db"
)

// Migrate gives the database this program's tables and returns of which version they were and are. A file must not be in use.
func Migrate(ctx context.Context, c Config) (before, after int64, err error) {
	if c.Database == "" {
		if err := c.ownData(); err != nil {
			return 0, 0, err
		}
		_, unlock, lerr := c.lock()
		if lerr != nil {
			return 0, 0, lerr
		}
		defer func() { err = errors.Join(err, unlock()) }()
	}
	return db.Migrate(ctx, c.database())
}

// TableVersions returns of which version the database's tables are, 0 for none, and which this program needs.
func TableVersions(ctx context.Context, c Config) (has, needs int64, err error) {
	if c.Database == "" {
		if err := c.ownData(); err != nil {
			return 0, 0, err
		}
	}
	return db.Versions(ctx, c.database())
}

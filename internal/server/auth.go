package server

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"abaca/internal/api"
	"abaca/internal/auth"
)

// A SettingError is a fault of what an operator has written: the configuration, or a file that it names.
type SettingError struct{ error }

func (e SettingError) Unwrap() error { return e.error }

func (c *Config) checkAuth() error {
	switch c.Auth.Strategy {
	case "none", "local":
		return nil
	case "keystone":
		if err := c.Auth.Keystone.check(); err != nil {
			return fmt.Errorf("auth.keystone.%w", err)
		}
		return nil
	}
	return fmt.Errorf("auth.strategy: %q is not a strategy; there are keystone, local and none", c.Auth.Strategy)
}

// authenticator makes what tells callers apart, by the configuration's strategy.
func (c *Config) authenticator(ctx context.Context, log *slog.Logger, now func() time.Time) (api.Authenticator, error) {
	switch c.Auth.Strategy {
	case "none":
		return auth.None{AnyName: c.Auth.LetAnyoneBeAdmin}, nil
	case "local":
		l, err := auth.OpenLocal(c.Auth.UsersFile, now, log)
		if err != nil {
			return nil, SettingError{err}
		}
		return l, nil
	case "keystone":
		k, err := c.Auth.Keystone.open(ctx, log, now)
		if err != nil {
			return nil, SettingError{err}
		}
		return k, nil
	}
	return nil, fmt.Errorf("auth.strategy: %q is not a strategy", c.Auth.Strategy)
}

// Users is the file of those who are known with auth.strategy local, to be read and edited whatever the strategy is.
func (c *Config) Users() *auth.UserFile {
	return &auth.UserFile{Path: c.Auth.UsersFile, Now: time.Now, Reserved: api.Resources()}
}

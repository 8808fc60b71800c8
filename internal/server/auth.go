package server

import (
	"fmt"

	"abaca/internal/api"
	"abaca/internal/auth"
)

// authenticator makes what tells callers apart, by the configuration's strategy.
func (c *Config) authenticator() (api.Authenticator, error) {
	switch c.Auth.Strategy {
	case "none":
		return auth.None{AnyName: c.Auth.LetAnyoneBeAdmin}, nil
	}
	return nil, fmt.Errorf("auth.strategy: %q is not a strategy", c.Auth.Strategy)
}

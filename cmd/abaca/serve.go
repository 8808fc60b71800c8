package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"abaca/internal/server"
)

// settings are the flags of the commands that read the server's configuration.
type settings struct{ file, listen, dataDir, role string }

func (s *settings) flags(cmd *cobra.Command) {
	s.dataFlags(cmd)
	cmd.Flags().StringVar(&s.role, "role", "", "what to do: api takes requests, worker does the work, all does both (default all)")
	cmd.Flags().StringVar(&s.listen, "listen", "", "address to listen on (default 127.0.0.1:8786)")
}

// dataFlags are those of commands that do not listen.
func (s *settings) dataFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.file, "config", "", "configuration file, YAML")
	cmd.Flags().StringVar(&s.dataDir, "data-dir", "", "directory that everything is kept below (default abaca-data)")
}

// load reads the configuration; a wrong one is a wrong command line.
func (s *settings) load() (server.Config, error) {
	given := map[string]any{}
	if s.listen != "" {
		given["listen"] = s.listen
	}
	if s.role != "" {
		given["role"] = s.role
	}
	if s.dataDir != "" {
		given["data_dir"] = s.dataDir
	}
	c, err := server.Load(s.file, os.Environ(), given)
	if err != nil {
		return c, usageError{err}
	}
	return c, nil
}

// repeated are the flags as they were given, for another command on the same data, each with a space before it.
func (s *settings) repeated() (flags string) {
	if s.file != "" {
		flags += " --config " + s.file
	}
	if s.dataDir != "" {
		flags += " --data-dir " + s.dataDir
	}
	return flags
}

// memoryLimit is where garbage begins to be collected more often, in bytes: what a save needs at a time is bounded, but as
// much again would be garbage. It is no hard limit, and GOMEMLIMIT in the environment replaces it.
const memoryLimit = 320 << 20

func newServeCommand() *cobra.Command {
	var s settings
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve the API and do the work, until SIGTERM or SIGINT",
		Args:  takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := s.load()
			if err != nil {
				return err
			}
			if os.Getenv("GOMEMLIMIT") == "" {
				debug.SetMemoryLimit(memoryLimit)
			}
			srv, err := server.Open(cmd.Context(), c, c.Logger())
			if _, ok := errors.AsType[server.SettingError](err); ok {
				return usageError{err}
			}
			if err != nil {
				return err
			}
			if err = greet(cmd.OutOrStdout(), srv.Endpoint(), c, s.repeated()); err == nil {
				err = srv.Serve(cmd.Context())
			}
			if cerr := srv.Close(); err == nil {
				err = cerr
			}
			return err
		},
	}
	s.flags(cmd)
	return cmd
}

// greet says what the process does now.
func greet(w io.Writer, endpoint string, c server.Config, where string) error {
	if endpoint != "" {
		return welcome(w, endpoint, c, where)
	}
	_, err := fmt.Fprintf(w, "abaca works as %s and takes no requests\n", c.Host)
	return err
}

// welcome prints where the server is and what to try first; where are the flags that lead other commands to its data.
func welcome(w io.Writer, endpoint string, c server.Config, where string) error {
	us, at := ourselves(), ""
	what := "Everything"
	switch {
	case c.Database != "" && (c.Repository != "" || c.Role == "api"):
		what = "Everything but the database and the backups"
	case c.Database != "":
		what = "Everything but the database"
	case c.Repository != "":
		what = "Everything but the backups"
	}
	if endpoint != "http://127.0.0.1:8786/v2" {
		at = " --endpoint " + endpoint
	}
	callers, first, login := "every caller is an administrator", "", " --os-auth-type none --os-endpoint "+endpoint
	switch c.Auth.Strategy {
	case "keystone":
		callers, at, login = "Keystone at "+c.Auth.Keystone.URL+" says who may do what", "", ""
		first = "  export OS_CLOUD=NAME     # or OS_AUTH_URL and so on: somebody who is known there\n" +
			"  export OS_SHARED_FILE_SYSTEM_ENDPOINT_OVERRIDE=" + endpoint + "     # until the catalog has it; README.md tells how\n"
	case "local":
		callers, at, login = "every caller needs a token", "", "" // which finds its way by the environment, not by an argument
		first = fmt.Sprintf("  export OS_AUTH_TYPE=admin_token OS_ENDPOINT=%s\n"+
			"  export OS_TOKEN=$(%s user add NAME --project PROJECT --role member%s)\n", endpoint, us, where)
	}
	_, err := fmt.Fprintf(w, `abaca serves shares and their backups at %s
%s is kept in %s; %s.

Try, in another terminal:
%s  %[6]s share create NFS 1 --name docs --wait%[7]s
  %[6]s backup create docs --name first --wait%[7]s
  openstack%[8]s share backup list

`, endpoint, what, c.DataDir, callers, first, us, at, login)
	return err
}

// ourselves is how the person at the terminal runs this program.
func ourselves() string {
	exe, err := os.Executable()
	if err != nil || strings.Contains(exe, "go-build") {
		return "go run ./cmd/abaca"
	}
	if path, err := filepath.Rel(".", exe); err == nil && !strings.HasPrefix(path, "..") {
		return "./" + path
	}
	return exe
}

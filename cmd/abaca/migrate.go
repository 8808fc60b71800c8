package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"abaca/internal/server"
)

func newMigrateCommand() *cobra.Command {
	var s settings
	var status bool
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Bring the database's tables up to date",
		Long: `Bring the database's tables up to date, and print of which version they were and are.

A server on PostgreSQL refuses tables that are older than it needs: stop the servers, migrate once, and start the new ones. One on
SQLite migrates by itself.`,
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := s.load()
			if err != nil {
				return err
			}
			if status {
				has, needs, err := server.TableVersions(cmd.Context(), c)
				if err == nil {
					_, err = fmt.Fprintf(cmd.OutOrStdout(), "the tables are of version %d; this program needs version %d\n", has, needs)
				}
				return err
			}
			before, after, err := server.Migrate(cmd.Context(), c)
			if err == nil {
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "the tables were of version %d and are of version %d\n", before, after)
			}
			return err
		},
	}
	s.dataFlags(cmd)
	cmd.Flags().BoolVar(&status, "status", false, "change nothing, print of which version they are")
	return cmd
}

package main

import (
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"abaca/internal/server"
)

func newRecoverCommand() *cobra.Command {
	var s settings
	var merge bool
	cmd := &cobra.Command{
		Use:   "recover",
		Short: "Make a lost database again from the repositories and the master key",
		Long: `Make a lost database again from the repositories and the master key: the shares that have backups or snapshots, these with their
names, times and sizes, and the quotas' usage. No server may be running. It reads the server's configuration, and adds all or nothing.

A share whose files are lost gets an empty directory and the status backup_restoring_error: restore a backup into it. What does not
come back is in docs/recovery.md.`,
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := s.load()
			if err != nil {
				return err
			}
			done, err := server.Recover(cmd.Context(), c, c.Logger(), merge)
			if err != nil {
				return err
			}
			for _, id := range slices.Sorted(maps.Keys(done.Unready)) {
				cmd.PrintErrf("share %s: %s\n", id, printable(done.Unready[id]))
			}
			for _, id := range done.Unrecorded {
				cmd.PrintErrf("%s: nothing is noted of it, so it became a backup without a name\n", id)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "recovered: projects %d, shares %d, backups %d, snapshots %d; there already: %d\n",
				done.Projects, done.Shares, done.Backups, done.Snapshots, done.Known)
			return err
		},
	}
	s.dataFlags(cmd)
	cmd.Flags().BoolVar(&merge, "merge", false, "add what is missing to a database that is not empty")
	return cmd
}

package main

import (
	"errors"

	"github.com/spf13/cobra"

	"abaca"
	"abaca/internal/server"
)

func newProjectCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "project", Short: "Look after what a project has saved"}
	return group(cmd, newProjectShred())
}

func newProjectShred() *cobra.Command {
	var s settings
	var yes, force bool
	cmd := &cobra.Command{
		Use:   "shred PROJECT",
		Short: "Destroy a project's key, and with it everything that it has saved",
		Long: `Destroy a project's key, and with it everything that it has saved. Nobody can bring it back, not with the master key, nor from a copy
of the repository that lacks the file "secret". The project's shares and their files stay as they are, and what it saves from then on has a
new key. It works on the server's data directory, whether or not a server is running on it.

With --force backups and snapshots that the project still has are deleted; a server, or the next one to start, removes them from its lists.`,
		Args: takes("PROJECT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !yes {
				return usagef("%swhat is shredded cannot be brought back; --yes says that this is meant", place(cmd))
			}
			c, err := s.load()
			if err != nil {
				return err
			}
			at, err := server.OpenBeside(cmd.Context(), c, c.Logger())
			if err != nil {
				return err
			}
			err = errors.Join(at.Shred(cmd.Context(), abaca.ProjectID(args[0]), force), at.Close())
			if err == nil {
				cmd.PrintErrf("The key of project %s, and what it had saved, is destroyed.\n", printable(args[0]))
			}
			return err
		},
	}
	s.dataFlags(cmd)
	cmd.Flags().BoolVar(&yes, "yes", false, "do it")
	cmd.Flags().BoolVar(&force, "force", false, "delete the project's backups and snapshots too")
	return cmd
}

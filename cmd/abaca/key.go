package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"abaca"
	"abaca/internal/server"
)

func newKeyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Look after the master key, without which no backup can be read",
		Long: `Look after the master key, without which no backup can be read.

It wraps the passwords of all projects' repositories. These commands work on the server's data directory, whether or not a server is
running on it, and read the server's configuration.`,
	}
	return group(cmd, newKeyRotate(), newKeyExport(), newKeyCheck())
}

func newKeyRotate() *cobra.Command {
	var s settings
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Change the master key, without touching what is saved",
		Long: `Make a new master key, put it in the place of the one of before, and wrap the passwords of all projects with it. What is saved
stays as it is, and servers on this machine go on. A rotation that was interrupted goes on when the command is given again.

Servers on several machines each have the key in a file of their own: put the new one there, the one of before into a file that
master_key_previous names, and give this command on one of them. It makes no key then; when it has ended, the previous one can go.`,
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := s.load()
			if err != nil {
				return err
			}
			done, err := c.RotateKey(cmd.Context(), c.Logger())
			if err != nil {
				return err
			}
			return printRotation(cmd, c, done)
		},
	}
	s.dataFlags(cmd)
	return cmd
}

func printRotation(cmd *cobra.Command, c server.Config, done server.Rotation) error {
	if len(done.Failed) > 0 {
		return fmt.Errorf("not all passwords could be wrapped with the new master key, so the previous one, in %s, is still needed: %s",
			done.Previous, strings.Join(done.Failed, "; "))
	}
	where := "the configuration"
	if c.MasterKeyFile != "" {
		where = c.MasterKeyFile
	}
	cmd.PrintErrf("The master key in %s opens everything; passwords wrapped with it: %d.\n", where, done.Rewrapped)
	switch {
	case done.Previous != "":
		cmd.PrintErrf("Nothing needs %s any more; remove it, and master_key_previous, from every machine.\n", done.Previous)
	case done.Continued:
		cmd.PrintErrf("This ended a rotation that was under way, and made no other key.\n")
	}
	cmd.PrintErrf("Keep a copy of the new key elsewhere (abaca key export), and the one of before for as long as copies of the repositories from before are kept.\n")
	return nil
}

func newKeyExport() *cobra.Command {
	var s settings
	var out string
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Print the master key, to be written down and locked away",
		Long: `Print the master key in groups of digits with its fingerprint, to be written down and locked away. What is printed is a key file as it
stands. It goes to a terminal or to a new file that its owner alone can read, and nowhere else.`,
		Example: "  abaca key export\n  abaca key export --out /media/stick/abaca.key",
		Args:    takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := s.load()
			if err != nil {
				return err
			}
			if out == "" && !isTerminal(cmd.OutOrStdout()) {
				return usagef("%sstandard output is no terminal, where the key could end up in a log; --out names a file", place(cmd))
			}
			text, err := c.ExportKey()
			if err != nil {
				return err
			}
			if out != "" {
				return writeSecret(out, text)
			}
			_, err = fmt.Fprint(cmd.OutOrStdout(), text)
			return err
		},
	}
	s.dataFlags(cmd)
	cmd.Flags().StringVar(&out, "out", "", "file to write; it must not exist")
	return cmd
}

func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// writeSecret makes a file that its owner alone can read.
func writeSecret(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Sync(), f.Close())
}

func newKeyCheck() *cobra.Command {
	var s settings
	cmd := &cobra.Command{
		Use:   "check [FILE]",
		Short: "Try a master key, by default the one in force, on every project",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef("%s%q is one argument too many", place(cmd), args[1])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := s.load()
			if err != nil {
				return err
			}
			check, err := c.CheckKey(cmd.Context(), strings.Join(args, ""), c.Logger())
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "fingerprint %s, projects that it opens: %d\n", check.Fingerprint, len(check.Opens))
			if err == nil && len(check.Others) > 0 {
				err = fmt.Errorf("it does not open %s", projectList(check.Others))
			}
			return err
		},
	}
	s.dataFlags(cmd)
	return cmd
}

func projectList(projects []abaca.ProjectID) string {
	names := make([]string, len(projects))
	for i, p := range projects {
		names[i] = printable(string(p))
	}
	return strings.Join(names, ", ")
}

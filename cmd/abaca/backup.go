package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"abaca/internal/client"
)

// newBackupCommand builds "abaca backup" and what is below it.
func newBackupCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "backup", Short: "Work with the share backups of a server"}
	r := newRemote(cmd)
	return group(cmd, newBackupCreate(r), newBackupList(r), newBackupShow(r), newBackupSet(r),
		newBackupRestore(r), newBackupDelete(r))
}

func newBackupCreate(r *remote) *cobra.Command {
	var options []string
	var wait bool
	cmd := &cobra.Command{
		Use:               "create SHARE",
		Short:             "Back a share up",
		Example:           "  abaca backup create papers --name monday --wait",
		Args:              takes("SHARE"),
		ValidArgsFunction: firstOnly(r.completeShares()),
		RunE: func(cmd *cobra.Command, args []string) error {
			request := client.NewBackup{Name: given(cmd, "name"), Description: given(cmd, "description")}
			var err error
			if request.Options, err = pairs("backup-option", options); err != nil {
				return err
			}
			c, err := r.connect(cmd)
			if err != nil {
				return err
			}
			share, err := c.FindShare(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			request.ShareID = share.ID
			backup, err := c.CreateBackup(cmd.Context(), request)
			if err != nil {
				return fmt.Errorf("backing up %q: %w", args[0], err)
			}
			if wait {
				if backup, err = awaitBackup(cmd, c, backup); err != nil {
					return err
				}
			}
			return r.printItem(cmd.OutOrStdout(), backup)
		},
	}
	flags := cmd.Flags()
	flags.String("name", "", "name of the backup")
	flags.String("description", "", "description of the backup")
	flags.StringArrayVar(&options, "backup-option", nil, "KEY=VALUE for the server, such as backup_type=nightly; may be repeated")
	flags.BoolVar(&wait, "wait", false, "wait until it is available")
	return cmd
}

// awaitBackup waits until a new backup is available and returns it as it is then.
func awaitBackup(cmd *cobra.Command, c *client.Client, backup *client.Backup) (*client.Backup, error) {
	what := label("backup", backup.Name, backup.ID)
	w := newWaiter(cmd.ErrOrStderr())
	err := w.wait(cmd.Context(), what, func(ctx context.Context) (state, error) {
		latest, err := c.Backup(ctx, backup.ID)
		if err != nil {
			return state{}, err
		}
		backup = latest
		if strings.Contains(backup.Status, "error") {
			return state{}, failed(ctx, c, what, backup.Status, backup.ShareID, backup.CreatedAt)
		}
		return state{backup.Status, backup.Progress, backup.Status == "available"}, nil
	})
	if err == nil {
		err = w.note(cmd.Context(), c, backup.ShareID, backup.CreatedAt)
	}
	return backup, err
}

func newBackupList(r *remote) *cobra.Command {
	var filter listing
	var share string
	cmd := &cobra.Command{
		Use:               "list",
		Short:             "List backups",
		Args:              takes(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			query, err := filter.query(cmd)
			if err != nil {
				return err
			}
			c, err := r.connect(cmd)
			if err != nil {
				return err
			}
			if share != "" {
				s, err := c.FindShare(cmd.Context(), share)
				if err != nil {
					return err
				}
				query.Set("share_id", s.ID)
			}
			backups, err := c.Backups(cmd.Context(), query)
			if err != nil {
				return fmt.Errorf("listing backups: %w", err)
			}
			rows := make([][]string, len(backups))
			for i, b := range backups {
				rows[i] = []string{b.ID, b.Name, b.ShareID, gib(b.Size), b.Status, percentOf(b), when(b.CreatedAt)}
			}
			return r.printList(cmd.OutOrStdout(), backups, []string{"ID", "NAME", "SHARE", "SIZE", "STATUS", "DONE", "CREATED"}, rows)
		},
	}
	filter.addFlags(cmd.Flags())
	cmd.Flags().StringVar(&share, "share", "", "only those of the share with this name or id")
	register(cmd, "share", r.completeShares())
	register(cmd, "status", cobra.FixedCompletions([]string{"available", "creating", "deleting", "error",
		"error_deleting", "restoring"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// percentOf is how far the work on a backup has come: of its restore while there is one, of its creation else.
func percentOf(b client.Backup) string {
	if b.Status == "restoring" {
		return strconv.Itoa(b.RestoreProgress) + "%"
	}
	return strconv.Itoa(b.Progress) + "%"
}

func newBackupShow(r *remote) *cobra.Command {
	return &cobra.Command{
		Use:               "show BACKUP",
		Short:             "Show a backup",
		Args:              takes("BACKUP"),
		ValidArgsFunction: firstOnly(r.completeBackups()),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := r.connect(cmd)
			if err != nil {
				return err
			}
			backup, err := c.FindBackup(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return r.printItem(cmd.OutOrStdout(), backup)
		},
	}
}

func newBackupSet(r *remote) *cobra.Command {
	status := choice{of: []string{"available", "creating", "deleting", "error", "error_deleting", "restoring"}}
	cmd := &cobra.Command{
		Use:               "set BACKUP",
		Short:             "Change a backup's name, description or, for administrators, status",
		Args:              takes("BACKUP"),
		ValidArgsFunction: firstOnly(r.completeBackups()),
		RunE: func(cmd *cobra.Command, args []string) error {
			changes := map[string]*string{}
			for _, f := range []string{"name", "description"} {
				value, clear := given(cmd, f), cmd.Flags().Changed("no-"+f)
				if value != nil && clear {
					return usagef("%s--%s and --no-%s exclude each other", place(cmd), f, f)
				}
				if value != nil || clear {
					changes[f] = value
				}
			}
			if len(changes) == 0 && status.value == "" {
				return usagef("%snothing to change; give --name, --description or --status", place(cmd))
			}
			c, err := r.connect(cmd)
			if err != nil {
				return err
			}
			backup, err := c.FindBackup(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if backup, err = change(cmd.Context(), c, backup, changes, status.value); err != nil {
				return fmt.Errorf("changing %q: %w", args[0], err)
			}
			return r.printItem(cmd.OutOrStdout(), backup)
		},
	}
	flags := cmd.Flags()
	flags.String("name", "", "new name")
	flags.String("description", "", "new description")
	flags.Bool("no-name", false, "take its name away")
	flags.Bool("no-description", false, "take its description away")
	flags.Var(&status, "status", "write its status by hand; starts no work and stops none (administrators)")
	register(cmd, "status", cobra.FixedCompletions(status.of, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// change makes the changes and returns the backup after them.
func change(ctx context.Context, c *client.Client, b *client.Backup, changes map[string]*string, status string) (*client.Backup, error) {
	var err error
	if len(changes) > 0 {
		if b, err = c.UpdateBackup(ctx, b.ID, changes); err != nil {
			return nil, err
		}
	}
	if status == "" {
		return b, nil
	}
	if err := c.ResetBackup(ctx, b.ID, status); err != nil {
		return nil, err
	}
	return c.Backup(ctx, b.ID)
}

func newBackupRestore(r *remote) *cobra.Command {
	var target string
	var wait bool
	cmd := &cobra.Command{
		Use:   "restore BACKUP",
		Short: "Make a share equal to a backup",
		Long: "Restore makes the share that was backed up, or another one, equal to the backup:\n" +
			"what was changed since comes back, and what was added since is removed.",
		Args:              takes("BACKUP"),
		ValidArgsFunction: firstOnly(r.completeBackups()),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := r.connect(cmd)
			if err != nil {
				return err
			}
			backup, err := c.FindBackup(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			id := ""
			if target != "" {
				share, err := c.FindShare(cmd.Context(), target)
				if err != nil {
					return err
				}
				id = share.ID
			}
			share, err := c.RestoreBackup(cmd.Context(), backup.ID, id)
			if err != nil {
				return fmt.Errorf("restoring %q: %w", args[0], err)
			}
			if wait {
				if err := awaitRestore(cmd, c, backup, share); err != nil {
					return err
				}
			}
			if backup, err = c.Backup(cmd.Context(), backup.ID); err != nil {
				return err
			}
			return r.printItem(cmd.OutOrStdout(), backup)
		},
	}
	cmd.Flags().StringVar(&target, "target-share", "", "name or id of the share to write to (default: the one that was backed up)")
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until the share is available")
	register(cmd, "target-share", r.completeShares())
	return cmd
}

// awaitRestore waits until the share that a restore writes to is available. Its status tells the outcome,
// the backup how far it is.
func awaitRestore(cmd *cobra.Command, c *client.Client, backup *client.Backup, share string) error {
	what := "restore of " + label("backup", backup.Name, backup.ID)
	before := backup.UpdatedAt
	if before == "" {
		before = backup.CreatedAt
	}
	w := newWaiter(cmd.ErrOrStderr())
	err := w.wait(cmd.Context(), what, func(ctx context.Context) (state, error) {
		b, err := c.Backup(ctx, backup.ID)
		if err != nil {
			return state{}, err
		}
		s, err := c.Share(ctx, share)
		if err != nil {
			return state{}, err
		}
		if strings.Contains(s.Status, "error") {
			return state{}, failed(ctx, c, what, s.Status, share, before)
		}
		if s.Status == "available" {
			return state{"restored", 100, true}, nil
		}
		return state{b.Status, b.RestoreProgress, false}, nil
	})
	if err != nil {
		return err
	}
	return w.note(cmd.Context(), c, share, before)
}

func newBackupDelete(r *remote) *cobra.Command {
	return newDelete(r, "backup", "Delete backups", r.completeBackups(), func(c *client.Client) deleter {
		return deleter{
			find: func(ctx context.Context, nameOrID string) (name, id string, err error) {
				b, err := c.FindBackup(ctx, nameOrID)
				if err != nil {
					return "", "", err
				}
				return b.Name, b.ID, nil
			},
			status: func(ctx context.Context, id string) (string, error) {
				b, err := c.Backup(ctx, id)
				if err != nil {
					return "", err
				}
				return b.Status, nil
			},
			remove: c.DeleteBackup,
		}
	})
}

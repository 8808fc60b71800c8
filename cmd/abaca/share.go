package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"abaca/internal/client"
)

// newShareCommand builds "abaca share" and what is below it.
func newShareCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "share", Short: "Work with the shares of a server"}
	r := newRemote(cmd)
	return group(cmd, newShareCreate(r), newShareList(r), newShareShow(r), newShareManage(r), newShareDelete(r))
}

func newShareCreate(r *remote) *cobra.Command {
	var request client.NewShare
	var properties []string
	var wait bool
	cmd := &cobra.Command{
		Use:     "create PROTOCOL SIZE",
		Short:   "Create an empty share of SIZE GiB",
		Example: "  abaca share create NFS 1 --name papers --wait",
		Args:    takes("PROTOCOL", "SIZE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			size, err := strconv.Atoi(args[1])
			if err != nil || size < 1 {
				return usagef("size %q: want whole GiB, 1 or more", args[1])
			}
			if request.Metadata, err = pairs("property", properties); err != nil {
				return err
			}
			request.Proto, request.Size = strings.ToUpper(args[0]), size
			request.Name, request.Description = given(cmd, "name"), given(cmd, "description")
			request.Type, request.Zone = given(cmd, "share-type"), given(cmd, "availability-zone")
			c, err := r.connect(cmd)
			if err != nil {
				return err
			}
			share, err := c.CreateShare(cmd.Context(), request)
			if err != nil {
				return fmt.Errorf("creating a share: %w", err)
			}
			return r.showMade(cmd, c, share, wait)
		},
	}
	flags := cmd.Flags()
	flags.String("name", "", "name of the share")
	flags.String("description", "", "description of the share")
	flags.String("share-type", "", "name or id of a share type (default: the server's)")
	flags.String("availability-zone", "", "zone to make it in (default: the server's)")
	flags.BoolVar(&request.Public, "public", false, "let every project see it (administrators)")
	flags.StringArrayVar(&properties, "property", nil, "KEY=VALUE to keep with it; may be repeated")
	flags.BoolVar(&wait, "wait", false, "wait until it is available")
	cmd.ValidArgsFunction = firstOnly(cobra.FixedCompletions([]string{"NFS", "CIFS"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func newShareManage(r *remote) *cobra.Command {
	var request client.AdoptedShare
	var wait bool
	cmd := &cobra.Command{
		Use:     "manage HOST PROTOCOL PATH",
		Aliases: []string{"adopt"},
		Short:   "Make a share of a directory that exists (administrators)",
		Example: "  abaca share manage server@local#local NFS 127.0.0.1:/srv/shares/papers --name papers",
		Args:    takes("HOST", "PROTOCOL", "PATH"),
		RunE: func(cmd *cobra.Command, args []string) error {
			request.Host, request.Proto, request.Path = args[0], strings.ToUpper(args[1]), args[2]
			request.Name, request.Description = given(cmd, "name"), given(cmd, "description")
			request.Type = given(cmd, "share-type")
			c, err := r.connect(cmd)
			if err != nil {
				return err
			}
			share, err := c.ManageShare(cmd.Context(), request)
			if err != nil {
				return fmt.Errorf("adopting %s: %w", request.Path, err)
			}
			return r.showMade(cmd, c, share, wait)
		},
	}
	flags := cmd.Flags()
	flags.String("name", "", "name of the share")
	flags.String("description", "", "description of the share")
	flags.String("share-type", "", "name or id of a share type (default: the server's)")
	flags.BoolVar(&request.Public, "public", false, "let every project see it")
	flags.BoolVar(&wait, "wait", false, "wait until it is available")
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	return cmd
}

// showMade prints a share that was just asked for, after waiting for it where that was asked for too.
func (r *remote) showMade(cmd *cobra.Command, c *client.Client, share *client.Share, wait bool) error {
	if wait {
		what := label("share", share.Name, share.ID)
		err := newWaiter(cmd.ErrOrStderr()).wait(cmd.Context(), what, func(ctx context.Context) (state, error) {
			latest, err := c.Share(ctx, share.ID)
			if err != nil {
				return state{}, err
			}
			share = latest
			if strings.Contains(share.Status, "error") {
				return state{}, failed(ctx, c, what, share.Status, share.ID, share.CreatedAt)
			}
			return state{status: share.Status, percent: unknown, done: share.Status == "available"}, nil
		})
		if err != nil {
			return err
		}
	}
	return r.printItem(cmd.OutOrStdout(), share)
}

func newShareList(r *remote) *cobra.Command {
	var filter listing
	cmd := &cobra.Command{
		Use:               "list",
		Short:             "List shares",
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
			shares, err := c.Shares(cmd.Context(), query)
			if err != nil {
				return fmt.Errorf("listing shares: %w", err)
			}
			rows := make([][]string, len(shares))
			for i, s := range shares {
				rows[i] = []string{s.ID, s.Name, s.Proto, gib(s.Size), s.Status, s.Type, when(s.CreatedAt)}
			}
			return r.printList(cmd.OutOrStdout(), shares, []string{"ID", "NAME", "PROTOCOL", "SIZE", "STATUS", "TYPE", "CREATED"}, rows)
		},
	}
	filter.addFlags(cmd.Flags())
	register(cmd, "status", cobra.FixedCompletions([]string{"available", "backup_creating", "backup_restoring",
		"backup_restoring_error", "creating", "deleting", "error", "error_deleting"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func newShareShow(r *remote) *cobra.Command {
	return &cobra.Command{
		Use:               "show SHARE",
		Short:             "Show a share and where its files are",
		Args:              takes("SHARE"),
		ValidArgsFunction: firstOnly(r.completeShares()),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := r.connect(cmd)
			if err != nil {
				return err
			}
			share, err := c.FindShare(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			paths, err := c.ExportLocations(cmd.Context(), share.ID)
			if err != nil {
				return fmt.Errorf("asking where the share's files are: %w", err)
			}
			return r.printItem(cmd.OutOrStdout(), located{share, paths})
		},
	}
}

// located is a share as the server shows it, with the paths of its files as one more key.
type located struct {
	share *client.Share
	paths []string
}

func (l located) MarshalJSON() ([]byte, error) {
	object, err := json.Marshal(l.share)
	if err != nil {
		return nil, err
	}
	paths, err := json.Marshal(l.paths)
	if err != nil {
		return nil, err
	}
	// A share always has an id, so that there is something before the comma.
	return fmt.Appendf(nil, `%s,"export_locations":%s}`, strings.TrimSuffix(string(object), "}"), paths), nil
}

func newShareDelete(r *remote) *cobra.Command {
	return newDelete(r, "share", "Delete shares and the files in them", r.completeShares(), func(c *client.Client) deleter {
		return deleter{
			find: func(ctx context.Context, nameOrID string) (name, id string, err error) {
				s, err := c.FindShare(ctx, nameOrID)
				if err != nil {
					return "", "", err
				}
				return s.Name, s.ID, nil
			},
			status: func(ctx context.Context, id string) (string, error) {
				s, err := c.Share(ctx, id)
				if err != nil {
					return "", err
				}
				return s.Status, nil
			},
			remove: c.DeleteShare,
		}
	})
}

// label is what a person calls a thing, in messages.
func label(kind, name, id string) string {
	if name == "" {
		name = id
	}
	return kind + " " + printable(name)
}

func gib(n int) string { return strconv.Itoa(n) + " GiB" }

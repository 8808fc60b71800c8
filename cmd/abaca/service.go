package main

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"abaca/internal/client"
)

// newServiceCommand builds "abaca service" and what is below it.
func newServiceCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "service", Short: "See the workers and back ends of a server, and have them rest (administrators)"}
	r := newRemote(cmd)
	return group(cmd, newServiceList(r), newServiceEnable(r), newServiceDisable(r))
}

func newServiceList(r *remote) *cobra.Command {
	filter := map[string]*string{}
	cmd := &cobra.Command{
		Use:               "list",
		Short:             "List workers (manila-data) and back ends (manila-share)",
		Args:              takes(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			query := url.Values{}
			for key, value := range filter {
				if cmd.Flags().Changed(key) {
					query.Set(key, *value)
				}
			}
			c, err := r.connect(cmd)
			if err != nil {
				return err
			}
			services, err := c.Services(cmd.Context(), query)
			if err != nil {
				return fmt.Errorf("listing services: %w", err)
			}
			rows := make([][]string, len(services))
			for i, s := range services {
				rows[i] = []string{strconv.Itoa(s.ID), s.Binary, s.Host, s.Status, s.State, when(s.UpdatedAt), s.Reason}
			}
			return r.printList(cmd.OutOrStdout(), services, []string{"ID", "BINARY", "HOST", "STATUS", "STATE", "SEEN", "REASON"}, rows)
		},
	}
	for key, usage := range map[string]string{
		"binary": "only those of manila-data or manila-share", "host": "only that on this host", "zone": "only those in this zone",
		"state": "only those that are up, or down", "status": "only those that are enabled, or disabled",
	} {
		filter[key] = cmd.Flags().String(key, "", usage)
	}
	register(cmd, "state", cobra.FixedCompletions([]string{"up", "down"}, cobra.ShellCompDirectiveNoFileComp))
	register(cmd, "status", cobra.FixedCompletions([]string{"enabled", "disabled"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// binaryOn is the binary of the service on a host: a back end's host is host@back end.
func binaryOn(host string) string {
	if strings.Contains(host, "@") {
		return "manila-share"
	}
	return "manila-data"
}

func newServiceEnable(r *remote) *cobra.Command {
	return newSwitch(r, &cobra.Command{
		Use:   "enable HOST",
		Short: "Have a worker or a back end take new work again",
	}, func(ctx context.Context, c *client.Client, host string) (*client.Service, error) {
		return c.EnableService(ctx, binaryOn(host), host)
	})
}

func newServiceDisable(r *remote) *cobra.Command {
	var reason string
	cmd := newSwitch(r, &cobra.Command{
		Use:     "disable HOST",
		Short:   "Have a worker or a back end end what is under way and take nothing new",
		Example: "  abaca service disable worker3 --reason \"new disks\"\n  abaca service disable abaca@files",
	}, func(ctx context.Context, c *client.Client, host string) (*client.Service, error) {
		return c.DisableService(ctx, binaryOn(host), host, reason)
	})
	cmd.Flags().StringVar(&reason, "reason", "", "why, for those who list services")
	return cmd
}

// newSwitch completes a command that switches the service on a host.
func newSwitch(r *remote, cmd *cobra.Command, do func(ctx context.Context, c *client.Client, host string) (*client.Service, error)) *cobra.Command {
	cmd.Args = takes("HOST")
	cmd.ValidArgsFunction = firstOnly(complete(r, (*client.Client).Services, func(s client.Service) (id, name, about string) {
		return s.Host, s.Host, fmt.Sprintf("%s, %s, %s", s.Binary, s.Status, s.State)
	}))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := r.connect(cmd)
		if err != nil {
			return err
		}
		s, err := do(cmd.Context(), c, args[0])
		if err != nil {
			return fmt.Errorf("switching service %q: %w", args[0], err)
		}
		return r.printItem(cmd.OutOrStdout(), s)
	}
	return cmd
}

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"abaca/internal/client"
)

// A deleter knows how things of one kind are found, looked at and deleted.
type deleter struct {
	find   func(ctx context.Context, nameOrID string) (name, id string, err error)
	status func(ctx context.Context, id string) (string, error)
	remove func(ctx context.Context, id string) error
}

// newDelete builds the command that deletes things of a kind, by names or ids.
func newDelete(r *remote, kind, short string, complete cobra.CompletionFunc, by func(*client.Client) deleter) *cobra.Command {
	var wait bool
	args := strings.ToUpper(kind) + "..."
	cmd := &cobra.Command{
		Use: "delete " + args, Short: short, Args: takes(args), ValidArgsFunction: complete,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := r.connect(cmd)
			if err != nil {
				return err
			}
			return deleteEach(cmd, kind, by(c), args, wait)
		},
	}
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until they are gone")
	return cmd
}

// deleteEach starts all deletions before it waits for any, and goes on after one that fails.
func deleteEach(cmd *cobra.Command, kind string, d deleter, args []string, wait bool) error {
	type deletion struct{ what, id string }
	var errs []error
	var started []deletion
	for _, arg := range args {
		name, id, err := d.find(cmd.Context(), arg)
		if err == nil {
			err = d.remove(cmd.Context(), id)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("deleting %q: %w", arg, err))
			continue
		}
		started = append(started, deletion{label(kind, name, id), id})
	}
	if wait {
		for _, s := range started {
			look := untilGone(s.what, func(ctx context.Context) (string, error) { return d.status(ctx, s.id) })
			if err := newWaiter(cmd.ErrOrStderr()).wait(cmd.Context(), s.what, look); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

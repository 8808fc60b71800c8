package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// A usageError is a command line that makes no sense, as opposed to a sensible one that failed.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// exitCode is 0 for success, 2 for a wrong command line and 1 for any other failure.
func exitCode(err error) int {
	if err == nil {
		return 0
	}
	if _, ok := errors.AsType[usageError](err); ok {
		return 2
	}
	return 1
}

// group makes a command of which only the subcommands do anything. Cobra alone would answer an unknown
// subcommand with help and success.
func group(cmd *cobra.Command, commands ...*cobra.Command) *cobra.Command {
	cmd.AddCommand(commands...)
	cmd.SuggestionsMinimumDistance = 2
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%s%w", place(cmd), err)
	})
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usagef("%sa command is missing, one of %s", place(cmd), strings.Join(names(cmd), ", "))
		}
		err := fmt.Errorf("%sthere is no command %q", place(cmd), args[0])
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			err = fmt.Errorf("%w; did you mean %q?", err, near[0])
		}
		return usageError{err}
	}
	return cmd
}

// place says which command is meant, such as "share list: "; nothing for the program itself, whose name main prints.
func place(cmd *cobra.Command) string {
	_, path, ok := strings.Cut(cmd.CommandPath(), " ")
	if !ok {
		return ""
	}
	return path + ": "
}

func names(cmd *cobra.Command) []string {
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	return names
}

// takes returns a check that a command is given these arguments, and more of the last one where it ends in "...".
func takes(wanted ...string) cobra.PositionalArgs {
	more := len(wanted) > 0 && strings.HasSuffix(wanted[len(wanted)-1], "...")
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < len(wanted) {
			return usagef("%smissing %s", place(cmd), strings.Join(wanted[len(args):], " "))
		}
		if len(args) > len(wanted) && !more {
			return usagef("%s%q is one argument too many", place(cmd), args[len(wanted)])
		}
		return nil
	}
}

// A choice is a flag's value that must be one of a few words.
type choice struct {
	value string
	of    []string
}

func (c *choice) String() string { return c.value }
func (c *choice) Type() string   { return strings.Join(c.of, "|") }

func (c *choice) Set(value string) error {
	if !slices.Contains(c.of, value) {
		return fmt.Errorf("want one of %s", strings.Join(c.of, ", "))
	}
	c.value = value
	return nil
}

package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"abaca/internal/auth"
)

func newUserCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "user",
		Short: "Say who may use the server, without an identity service",
		Long: `Say who may use the server where its configuration says auth.strategy: local.

Users and hashes of their tokens are kept in the file auth.users_file, by default users.yaml in the data directory. A running
server follows each change before the command returns.`,
	}
	return group(cmd, newUserAdd(), newUserList(), newUserRemove(), newUserRevoke())
}

func newUserAdd() *cobra.Command {
	var s settings
	var want auth.User
	var expires expiry
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Make a token for a user, who may be a new one, and print it",
		Long: `Make a token for a user, who may be a new one, and print it: alone on standard output, and never again.

A user works in one project. The role says what for: reader (look), member (back up, restore, delete) or admin (everything in every
project), each of which includes those before it. A user who is there already gets a further token, beside those of before.`,
		Example: "  abaca user add ann --project lab --role member\n  export ABACA_TOKEN=$(abaca user add ann --expires 90d)",
		Args:    takes("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			want.Name = args[0]
			if err := want.Check(); err != nil {
				return usageError{err}
			}
			return addUser(cmd, &s, want, time.Time(expires))
		},
		ValidArgsFunction: completeUsers(&s),
	}
	s.dataFlags(cmd)
	flags := cmd.Flags()
	flags.StringVar((*string)(&want.Project), "project", "", "project the user works in; it is made by being used")
	flags.StringSliceVar(&want.Roles, "role", nil, "reader, member, admin, or another one that the policy names; may be repeated")
	flags.Var(&expires, "expires", "when the token ends, such as 90d, 12h, 2027-01-31 (at 0:00 UTC) or never")
	register(cmd, "project", cobra.NoFileCompletions)
	register(cmd, "role", cobra.FixedCompletions([]string{"reader", "member", "admin"}, cobra.ShellCompDirectiveNoFileComp))
	register(cmd, "expires", cobra.NoFileCompletions)
	return cmd
}

func addUser(cmd *cobra.Command, s *settings, want auth.User, expires time.Time) error {
	c, err := s.load()
	if err != nil {
		return err
	}
	token, u, err := c.Users().Add(cmd.Context(), want, expires)
	if err != nil {
		return err
	}
	made := u.Tokens[len(u.Tokens)-1]
	cmd.PrintErrf("User %s, project %s, %s: token %s (expires: %s), shown this once; %s keeps its hash.\n",
		u.Name, u.Project, strings.Join(u.Roles, ", "), made.ID, moment(made.Expires, "never"), c.Auth.UsersFile)
	if odd := u.UnknownRoles(); len(odd) > 0 {
		cmd.PrintErrf("Without a policy that names it, a role allows nothing: %s.\n", strings.Join(odd, ", "))
	}
	if c.Auth.Strategy != "local" {
		cmd.PrintErrf("Here auth.strategy is %s; a server asks for tokens where it is local (ABACA_AUTH_STRATEGY=local).\n", c.Auth.Strategy)
	}
	if _, err := fmt.Fprintln(cmd.OutOrStdout(), token); err != nil {
		return fmt.Errorf("the token %s was made and could not be printed, so it is of no use: %w", made.ID, err)
	}
	return nil
}

func newUserList() *cobra.Command {
	var s settings
	var format choice
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the users and their tokens",
		Args:  takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			users, err := s.users()
			if err != nil {
				return err
			}
			var rows [][]string
			for _, u := range users {
				about := []string{u.Name, string(u.Project), strings.Join(u.Roles, ", ")}
				for _, t := range u.Tokens {
					rows = append(rows, append(about[:3:3], t.ID, moment(t.Created, ""), moment(t.Expires, "never")))
				}
				if len(u.Tokens) == 0 {
					rows = append(rows, append(about, "", "", ""))
				}
			}
			if users == nil {
				users = []auth.User{}
			}
			return printList(cmd.OutOrStdout(), format, users, []string{"NAME", "PROJECT", "ROLES", "TOKEN", "CREATED", "EXPIRES"}, rows)
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	s.dataFlags(cmd)
	addFormat(cmd, &format)
	return cmd
}

func newUserRemove() *cobra.Command {
	var s settings
	cmd := &cobra.Command{
		Use:   "remove NAME",
		Short: "Remove a user; what the project has stays",
		Args:  takes("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := s.load()
			if err != nil {
				return err
			}
			u, err := c.Users().Remove(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			cmd.PrintErrf("Removed %s with %s. What project %s has stays.\n", u.Name, counted(len(u.Tokens)), u.Project)
			return nil
		},
		ValidArgsFunction: completeUsers(&s),
	}
	s.dataFlags(cmd)
	return cmd
}

func newUserRevoke() *cobra.Command {
	var s settings
	cmd := &cobra.Command{
		Use:   "revoke NAME [TOKEN-ID]",
		Short: "Revoke a token of a user or, without its id, all of them; the user stays",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 2 {
				return nil
			}
			return takes("NAME")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := s.load()
			if err != nil {
				return err
			}
			n, err := c.Users().Revoke(cmd.Context(), args[0], strings.Join(args[1:], ""))
			if err != nil {
				return err
			}
			cmd.PrintErrf("Revoked %s of %s.\n", counted(n), args[0])
			return nil
		},
		ValidArgsFunction: completeUsers(&s),
	}
	s.dataFlags(cmd)
	return cmd
}

func (s *settings) users() ([]auth.User, error) {
	c, err := s.load()
	if err != nil {
		return nil, err
	}
	return c.Users().Users()
}

// completeUsers completes a user's name and, after it, the id of one of the user's tokens.
func completeUsers(s *settings) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		users, err := s.users()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var found []cobra.Completion
		for _, u := range users {
			switch {
			case len(args) == 0:
				found = append(found, cobra.CompletionWithDesc(u.Name, string(u.Project)))
			case len(args) == 1 && args[0] == u.Name && cmd.Name() == "revoke":
				for _, t := range u.Tokens {
					found = append(found, cobra.CompletionWithDesc(t.ID, "created "+moment(t.Created, "")))
				}
			}
		}
		return found, cobra.ShellCompDirectiveNoFileComp
	}
}

func counted(tokens int) string {
	if tokens == 1 {
		return "1 token"
	}
	return strconv.Itoa(tokens) + " tokens"
}

// moment prints a time to the second, in UTC as everywhere in the API.
func moment(t time.Time, zero string) string {
	if t.IsZero() {
		return zero
	}
	return t.UTC().Format(time.DateTime)
}

// An expiry is a time that a person names from now on or as a date; zero for never.
type expiry time.Time

func (e *expiry) String() string { return moment(time.Time(*e), "never") }
func (e *expiry) Type() string   { return "TIME" }

func (e *expiry) Set(text string) error {
	t, err := parseExpiry(text, time.Now())
	*e = expiry(t)
	return err
}

// longest is the furthest that an expiry can be told as a span of time, in days.
const longest = 100 * 365

func parseExpiry(text string, now time.Time) (time.Time, error) {
	wrong := errors.New("want a time to come, such as 90d, 12h, 2027-01-31, 2027-01-31T18:00:00Z or never")
	if text == "never" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t, err = time.Parse(time.DateOnly, text)
	}
	if days, ok := strings.CutSuffix(text, "d"); err != nil && ok {
		var n uint64
		if n, err = strconv.ParseUint(days, 10, 32); err != nil || n > longest {
			return time.Time{}, wrong
		}
		t = now.AddDate(0, 0, int(n))
	} else if err != nil {
		var span time.Duration
		span, err = time.ParseDuration(text)
		t = now.Add(span)
	}
	if err != nil || !t.After(now) {
		return time.Time{}, wrong
	}
	return t.UTC().Truncate(time.Second), nil
}

package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"abaca"
)

func newPolicyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "Show who may do what, by the defaults and the policy file",
		Long: `Show who may do what, by the defaults and the policy file.

The policy file overrides the defaults, which are Manila's, rule by rule. It is the one that auth.policy_file names or, without that,
policy.yaml in the data directory, and is read anew: a server that runs takes a change up within seconds.`,
	}
	return group(cmd, newPolicyListCommand(), newPolicyCheckCommand())
}

// A ruleItem is a rule as programs read it.
type ruleItem struct {
	Rule        string   `json:"rule"`
	Check       string   `json:"check"`
	From        string   `json:"from"` // "default", or file:line
	Description string   `json:"description"`
	Asked       []string `json:"asked"`
}

func newPolicyListCommand() *cobra.Command {
	var s settings
	var format choice
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the rules that are in force",
		Args:  takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := s.load()
			if err != nil {
				return err
			}
			rules, err := c.Rules()
			if err != nil {
				return usageError{err}
			}
			items := make([]ruleItem, len(rules))
			rows := make([][]string, len(rules))
			for i, r := range rules {
				from := r.Where
				if from == "" {
					from = "default"
				}
				items[i] = ruleItem{Rule: r.Name, Check: r.Check, From: from, Description: r.About, Asked: slices.Concat([]string{}, r.Asked)}
				rows[i] = []string{r.Name, strings.Join(strings.Fields(r.Check), " "), from, r.About, strings.Join(r.Asked, ", ")}
			}
			return printList(cmd.OutOrStdout(), format, items, []string{"RULE", "CHECK", "FROM", "DESCRIPTION", "ASKED AT"}, rows)
		},
	}
	s.dataFlags(cmd)
	addFormat(cmd, &format)
	return cmd
}

// A policyQuestion is what "abaca policy check" was asked.
type policyQuestion struct {
	settings                settings
	roles                   []string
	project, user           string
	ownerProject, ownerUser string
}

func newPolicyCheckCommand() *cobra.Command {
	var q policyQuestion
	cmd := &cobra.Command{
		Use:   "check RULE",
		Short: "Say whether a caller with some roles may do what a rule names",
		Long: `Say whether a caller with some roles may do what a rule names, to a thing of their own or, with --owner-project, of another
project. A member is a reader too, and an admin both; with auth.strategy keystone such roles must be given as well, as in its tokens.

The policy is asked alone: things of other projects do not exist for callers who are no administrators, whatever it says.
The exit code is 0 where the answer is yes, 1 where it is no and 2 where the question makes no sense.`,
		Example: "  abaca policy check share_backup:reset_status --role support\n" +
			"  abaca policy check share_backup:delete --role member --role reader --user ann --owner-user bob",
		Args:              takes("RULE"),
		ValidArgsFunction: q.complete,
		RunE:              func(cmd *cobra.Command, args []string) error { return q.answer(cmd, args[0]) },
	}
	q.settings.dataFlags(cmd)
	flags := cmd.Flags()
	flags.StringSliceVar(&q.roles, "role", nil, "a role of the caller; may be given several times")
	flags.StringVar(&q.project, "project", "project", "the caller's project")
	flags.StringVar(&q.user, "user", "user", "the caller's id")
	flags.StringVar(&q.ownerProject, "owner-project", "", "the project that the thing belongs to (default: the caller's)")
	flags.StringVar(&q.ownerUser, "owner-user", "", "the id of who made the thing (default: the caller's)")
	for _, flag := range []string{"role", "project", "user", "owner-project", "owner-user"} {
		register(cmd, flag, cobra.NoFileCompletions)
	}
	return cmd
}

func (q *policyQuestion) answer(cmd *cobra.Command, rule string) error {
	c, err := q.settings.load()
	if err != nil {
		return err
	}
	caller := abaca.Caller{User: q.user, Project: abaca.ProjectID(q.project), Roles: q.roles}
	ownerProject, ownerUser := caller.Project, caller.User
	if q.ownerProject != "" {
		ownerProject = abaca.ProjectID(q.ownerProject)
	}
	if q.ownerUser != "" {
		ownerUser = q.ownerUser
	}
	allowed, err := c.May(rule, caller, ownerProject, ownerUser)
	switch {
	case err != nil:
		return usageError{err}
	case !allowed:
		return fmt.Errorf("no, %s does not allow it", rule)
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), "yes")
	return err
}

// complete completes the names of the rules in force.
func (q *policyQuestion) complete(_ *cobra.Command, args []string, typed string) (found []cobra.Completion, _ cobra.ShellCompDirective) {
	c, err := q.settings.load()
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	rules, _ := c.Rules() // without rules nothing is completed
	for _, r := range rules {
		if strings.HasPrefix(r.Name, typed) {
			found = append(found, cobra.CompletionWithDesc(r.Name, r.About))
		}
	}
	return found, cobra.ShellCompDirectiveNoFileComp
}

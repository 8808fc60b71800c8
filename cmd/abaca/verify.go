package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"abaca"
	"abaca/internal/server"
)

// A verification is what "abaca verify" was asked for.
type verification struct {
	settings settings
	format   choice
	project  string
	share    percentage
	last     bool
}

func newVerifyCommand() *cobra.Command {
	v := verification{share: 1}
	cmd := &cobra.Command{
		Use:   "verify [BACKUP...]",
		Short: "Read backups back and say whether they can be restored",
		Long: `Read backups and share snapshots back from the repository, without writing them anywhere, and compare all contents with their hashes:
those with these names or ids or, without any, all. What was read and found is recorded as the server records its own verifications.

It works on the server's data directory, whether or not a server is running on it, and reads the server's configuration.
The exit code is 1 where something is damaged; what, stands on standard error.`,
		Example: "  abaca verify --data-dir /var/lib/abaca\n  abaca verify monday tuesday\n  abaca verify --share 10%\n  abaca verify --last",
		Args: func(cmd *cobra.Command, _ []string) error {
			if v.last && cmd.Flags().Changed("share") {
				return usagef("%s--last and --share exclude each other", place(cmd))
			}
			return nil
		},
		ValidArgsFunction: v.complete,
		RunE:              v.run,
	}
	v.settings.dataFlags(cmd)
	addFormat(cmd, &v.format)
	flags := cmd.Flags()
	flags.StringVar(&v.project, "project", "", "only what this project has")
	flags.Var(&v.share, "share", "read back a random part of the contents; directories are always read whole")
	flags.BoolVar(&v.last, "last", false, "verify nothing, print when each was verified last and what damage is known")
	register(cmd, "project", cobra.NoFileCompletions)
	register(cmd, "share", cobra.NoFileCompletions)
	return cmd
}

func (v *verification) run(cmd *cobra.Command, args []string) error {
	list := v.verify
	if v.last {
		list = v.lookUp
	}
	return v.visit(cmd.Context(), func(at *server.Visit) error {
		verified, err := list(cmd, at, args)
		if err != nil && len(verified) == 0 {
			return err
		}
		damaged := printDamage(cmd, verified)
		if perr := printVerified(cmd.OutOrStdout(), v.format, verified); perr != nil || err != nil {
			return errors.Join(err, perr)
		}
		if damaged > 0 {
			return fmt.Errorf("%d of %d are damaged", damaged, len(verified))
		}
		return nil
	})
}

// visit does something in the data directory that the configuration names.
func (v *verification) visit(ctx context.Context, do func(*server.Visit) error) error {
	c, err := v.settings.load()
	if err != nil {
		return err
	}
	at, err := server.OpenBeside(ctx, c, c.Logger())
	if err != nil {
		return err
	}
	return errors.Join(do(at), at.Close())
}

// lookUp returns the latest record of each tree that is meant.
func (v *verification) lookUp(cmd *cobra.Command, at *server.Visit, args []string) ([]abaca.Verified, error) {
	last, err := at.DB.LastVerified(cmd.Context(), abaca.ProjectID(v.project))
	if err != nil {
		return nil, err
	}
	return choose(last, func(r abaca.Verified) abaca.Saved { return r.Saved }, args)
}

// verify reads what is meant back, one project after the other: what a project cannot have read back does not keep the others
// from it.
func (v *verification) verify(cmd *cobra.Command, at *server.Visit, args []string) ([]abaca.Verified, error) {
	saved, err := at.DB.Saved(cmd.Context(), abaca.ProjectID(v.project))
	if err != nil {
		return nil, err
	}
	if saved, err = choose(saved, func(s abaca.Saved) abaca.Saved { return s }, args); err != nil {
		return nil, err
	}
	if len(saved) == 0 && v.project != "" {
		return nil, fmt.Errorf("nothing is saved of a project %q", v.project)
	}
	slice := v.share.slice()
	if v.share < 1 {
		cmd.PrintErrf("reading back a random part of the contents, from %s to %s of all hashes\n", percentage(slice.From), percentage(slice.To))
	}
	var errs []error
	verified := []abaca.Verified{}
	for len(saved) > 0 && cmd.Context().Err() == nil {
		var trees []abaca.Saved // of one project
		trees, saved = split(saved)
		done, err := verifyProject(cmd, at, trees, slice)
		verified = append(verified, done...)
		if err != nil {
			errs = append(errs, err)
		}
	}
	return verified, errors.Join(errs...)
}

// split returns the trees of the first tree's project, and the others.
func split(saved []abaca.Saved) (first, others []abaca.Saved) {
	for _, s := range saved {
		if s.Project == saved[0].Project {
			first = append(first, s)
		} else {
			others = append(others, s)
		}
	}
	return first, others
}

func verifyProject(cmd *cobra.Command, at *server.Visit, trees []abaca.Saved, slice abaca.Slice) ([]abaca.Verified, error) {
	project := trees[0].Project
	show := newProgress(cmd.ErrOrStderr(), "project "+printable(string(project)))
	defer show.finish()
	done, err := at.Manager.Verify(cmd.Context(), project, trees, slice, func(p abaca.Progress) { show.update("verifying", p.Percent()) })
	if err == nil {
		show.update("verified", 100)
	}
	return done, err
}

// choose returns those of list whose tree has one of the names or ids; without any, all.
func choose[T any](list []T, tree func(T) abaca.Saved, asked []string) ([]T, error) {
	if len(asked) == 0 {
		return list, nil
	}
	chosen := []T{}
	taken := map[int]bool{}
	for _, a := range asked {
		i, err := find(list, tree, a)
		if err != nil {
			return nil, err
		}
		if !taken[i] {
			taken[i] = true
			chosen = append(chosen, list[i])
		}
	}
	return chosen, nil
}

// find returns where in the list the one with an id is, or the only one with a name.
func find[T any](list []T, tree func(T) abaca.Saved, asked string) (int, error) {
	if i := slices.IndexFunc(list, func(v T) bool { return tree(v).ID == asked }); i >= 0 {
		return i, nil
	}
	var named []int
	for i, v := range list {
		if name := tree(v).Name; name != nil && *name == asked {
			named = append(named, i)
		}
	}
	switch len(named) {
	case 0:
		return 0, fmt.Errorf("no backup that holds data has the name or id %q", asked)
	case 1:
		return named[0], nil
	}
	return 0, fmt.Errorf("%d backups have the name %q; give the id", len(named), asked)
}

// complete completes backups by what the data directory holds. A failure completes nothing: there is no place to print it.
func (v *verification) complete(cmd *cobra.Command, _ []string, typed string) (found []cobra.Completion, _ cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), 3*time.Second)
	defer cancel()
	_ = v.visit(ctx, func(at *server.Visit) error {
		saved, err := at.DB.Saved(ctx, abaca.ProjectID(v.project))
		for _, s := range saved {
			if word, ok := completing(s.ID, nameOf(s), typed); ok {
				found = append(found, cobra.CompletionWithDesc(word, kindOf(s)+" of share "+string(s.Share)))
			}
		}
		return err
	})
	return found, cobra.ShellCompDirectiveNoFileComp
}

// A percentage is a flag's value, kept as a fraction of 1.
type percentage float64

// leastShare is the smallest part that makes sense: a repository has a few million contents at most.
const leastShare = 1e-6

func (p *percentage) Type() string { return "percentage" }

func (p percentage) String() string {
	return strconv.FormatFloat(math.Round(float64(p)*1e6)/1e4, 'f', -1, 64) + "%"
}

// Set reads a number with a percent sign. Without one it could be a fraction of 1 as well.
func (p *percentage) Set(text string) error {
	digits, ok := strings.CutSuffix(text, "%")
	n, err := strconv.ParseFloat(digits, 64)
	if !ok || err != nil || !(n >= leastShare*100 && n <= 100) {
		return errors.New("want a percentage such as 10%, up to 100%")
	}
	*p = percentage(n / 100)
	return nil
}

// slice chooses one of the parts of this width that lie side by side, so that each content is as likely to be read as any other.
func (p percentage) slice() abaca.Slice {
	parts := int(math.Ceil(1/float64(p) - 1e-9))
	from := min(float64(rand.IntN(parts))*float64(p), 1-float64(p)) //nolint:gosec // G404: a sample, no secret
	return abaca.Slice{From: from, To: min(1, from+float64(p))}
}

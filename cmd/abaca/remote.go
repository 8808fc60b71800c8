package main

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"abaca/internal/client"
)

// A remote is what the commands that talk to a server share: where it is and how its answers are printed.
type remote struct {
	options client.Options
	format  choice
}

// newRemote gives a group of commands the flags that all of them take.
func newRemote(cmd *cobra.Command) *remote {
	r := &remote{}
	flags := cmd.PersistentFlags()
	flags.StringVar(&r.options.Endpoint, "endpoint", "",
		"URL of the server, used without Keystone; a token, where one is needed, comes from ABACA_TOKEN or OS_TOKEN\n"+
			"(default: ABACA_ENDPOINT, else what OS_CLOUD or OS_AUTH_URL name, else "+client.DefaultEndpoint+")")
	flags.StringVar(&r.options.Cloud, "os-cloud", "", "entry of clouds.yaml to use (default: OS_CLOUD)")
	addFormat(cmd, &r.format)
	return r
}

func (r *remote) connect(cmd *cobra.Command) (*client.Client, error) {
	return client.Connect(cmd.Context(), r.options)
}

// register adds a completion for a flag, which fails only for a flag that does not exist or has one already.
func register(cmd *cobra.Command, flag string, complete cobra.CompletionFunc) {
	_ = cmd.RegisterFlagCompletionFunc(flag, complete)
}

// complete returns a completion from what the server lists. A failure completes nothing: there is no place to print it.
func complete[T any](r *remote, list func(*client.Client, context.Context, url.Values) ([]T, error),
	describe func(T) (id, name, about string)) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(cmd.Context(), 3*time.Second) // a shell that hangs is worse than none
		defer cancel()
		c, err := client.Connect(ctx, r.options)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		items, err := list(c, ctx, nil)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var found []cobra.Completion
		for _, item := range items {
			id, name, about := describe(item)
			if word, ok := completing(id, name, typed); ok {
				found = append(found, cobra.CompletionWithDesc(word, about))
			}
		}
		return found, cobra.ShellCompDirectiveNoFileComp
	}
}

// completing returns what completes a word that is typed: a name where shells take it as it is, or else an id.
func completing(id, name, typed string) (word string, ok bool) {
	if strings.HasPrefix(name, typed) && name == printable(name) && !strings.ContainsAny(name, " \t:") {
		return name, true
	}
	return id, strings.HasPrefix(id, typed)
}

func (r *remote) completeShares() cobra.CompletionFunc {
	return complete(r, (*client.Client).Shares, func(s client.Share) (id, name, about string) {
		return s.ID, s.Name, fmt.Sprintf("%s, %d GiB, %s", s.Proto, s.Size, s.Status)
	})
}

func (r *remote) completeBackups() cobra.CompletionFunc {
	return complete(r, (*client.Client).Backups, func(b client.Backup) (id, name, about string) {
		return b.ID, b.Name, fmt.Sprintf("%s, %s", b.Status, when(b.CreatedAt))
	})
}

// firstOnly restricts a completion to the first argument.
func firstOnly(complete cobra.CompletionFunc) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return complete(cmd, args, typed)
	}
}

// A listing is the flags that every list command takes, and the query made of them.
type listing struct {
	name, nameLike, status, sort string
	limit                        int
	marker                       string
	allProjects                  bool
}

func (l *listing) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&l.name, "name", "", "only those with exactly this name")
	flags.StringVar(&l.nameLike, "name~", "", "only those whose name contains this")
	flags.StringVar(&l.status, "status", "", "only those with this status")
	flags.StringVar(&l.sort, "sort", "", "KEY[:asc|desc], such as name or created_at:desc")
	flags.IntVar(&l.limit, "limit", 0, "at most this many (default: all)")
	flags.StringVar(&l.marker, "marker", "", "only those after the one with this id, the last of the page before")
	flags.BoolVar(&l.allProjects, "all-projects", false, "those of all projects (administrators)")
}

func (l *listing) query(cmd *cobra.Command) (url.Values, error) {
	q := url.Values{}
	for key, value := range map[string]string{"name": l.name, "name~": l.nameLike, "status": l.status, "marker": l.marker} {
		if cmd.Flags().Changed(key) {
			q.Set(key, value)
		}
	}
	if cmd.Flags().Changed("limit") {
		if l.limit < 1 {
			return nil, usagef("--limit %d: want 1 or more", l.limit)
		}
		q.Set("limit", strconv.Itoa(l.limit))
	}
	if l.sort != "" {
		key, dir, _ := strings.Cut(l.sort, ":")
		if dir == "" {
			dir = "asc"
		}
		if key == "" || dir != "asc" && dir != "desc" {
			return nil, usagef("--sort %q: want KEY, KEY:asc or KEY:desc", l.sort)
		}
		q.Set("sort_key", key)
		q.Set("sort_dir", dir)
	}
	if l.allProjects {
		q.Set("all_tenants", "1")
	}
	return q, nil
}

// pairs reads KEY=VALUE arguments of a flag.
func pairs(flag string, args []string) (map[string]string, error) {
	if len(args) == 0 {
		return nil, nil
	}
	m := make(map[string]string, len(args))
	for _, arg := range args {
		key, value, ok := strings.Cut(arg, "=")
		if !ok || key == "" {
			return nil, usagef("--%s %q: want KEY=VALUE", flag, arg)
		}
		m[key] = value
	}
	return m, nil
}

// given returns a pointer to a text flag's value, nil where the flag was not given.
func given(cmd *cobra.Command, flag string) *string {
	f := cmd.Flags().Lookup(flag)
	if f == nil || !f.Changed {
		return nil
	}
	value := f.Value.String()
	return &value
}

package client

import (
	"context"
	"fmt"
	"net/url"
	"strings"
)

// A LookupError says that what a person called a thing does not name exactly one.
type LookupError struct {
	Kind  string // "share" or "backup"
	Asked string
	Found int // 0, or how many have the name
}

func (e *LookupError) Error() string {
	if e.Found == 0 {
		return fmt.Sprintf("no %s has the name or id %q", e.Kind, e.Asked)
	}
	return fmt.Sprintf("%d %ss have the name %q; give the id", e.Found, e.Kind, e.Asked)
}

// FindShare returns the share with an id, or the only one with a name in the caller's project.
// Administrators reach other projects by id alone, so that a name never means someone else's share.
func (c *Client) FindShare(ctx context.Context, nameOrID string) (*Share, error) {
	return find(ctx, "share", nameOrID, c.Share, c.Shares)
}

// FindBackup returns the backup with an id, or the only one with a name in the caller's project.
func (c *Client) FindBackup(ctx context.Context, nameOrID string) (*Backup, error) {
	return find(ctx, "backup", nameOrID, c.Backup, c.Backups)
}

func find[T any](ctx context.Context, kind, asked string,
	byID func(context.Context, string) (*T, error), byQuery func(context.Context, url.Values) ([]T, error)) (*T, error) {
	if len(asked) == len("00000000-0000-0000-0000-000000000000") && strings.Count(asked, "-") == 4 {
		// A name may look like an id, so that an unknown id is looked for among the names.
		if v, err := byID(ctx, asked); err == nil || !IsNotFound(err) {
			return v, err
		}
	}
	found, err := byQuery(ctx, url.Values{"name": {asked}})
	if err != nil {
		return nil, err
	}
	if len(found) != 1 {
		return nil, &LookupError{Kind: kind, Asked: asked, Found: len(found)}
	}
	return &found[0], nil
}

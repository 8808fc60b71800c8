package db

import (
	"context"
	"fmt"

	"abaca"
)

// ownedTables are the tables of what belongs to projects, by the audit's words for it.
var ownedTables = map[string]string{
	string(abaca.KindBackup): "share_backups", string(abaca.KindShare): "shares", string(abaca.KindSnapshot): "share_snapshots",
	"message": "messages",
}

// Owner returns whose a thing is, empty for nobody's, for what there is not and for a kind of which nothing is owned. It is the same
// work whether or not there is such a thing, but for one value: callers who are told that there is none must not learn from the time it takes.
func (r reader) Owner(ctx context.Context, kind, id string) (project abaca.ProjectID, err error) {
	table, owned := ownedTables[kind]
	if !owned {
		return "", nil
	}
	if err := r.q.QueryRowContext(ctx, `SELECT coalesce((SELECT project_id FROM `+table+` WHERE id = $1), '')`, id).Scan(&project); err != nil {
		return "", fmt.Errorf("look for the owner of a %s: %w", kind, err)
	}
	return project, nil
}

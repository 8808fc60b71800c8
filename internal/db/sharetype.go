package db

import (
	"context"
	"encoding/json"
	"fmt"

	"abaca"
)

var shareTypes = table[abaca.ShareType]{
	name:    "share_types",
	what:    "share type",
	columns: "id, name, description, is_public, specs, created_at",
	scan:    scanShareType,
	sort:    map[string]string{"created_at": "created_at"},
}

func scanShareType(s scanner) (t abaca.ShareType, err error) {
	var specs string
	var created int64
	if err := s.Scan(&t.ID, &t.Name, &t.Description, &t.Public, &specs, &created); err != nil {
		return t, err
	}
	t.CreatedAt = fromMicros(created)
	return t, json.Unmarshal([]byte(specs), &t.Specs)
}

// ShareType returns the share type with this id.
func (r reader) ShareType(ctx context.Context, id abaca.ShareTypeID) (abaca.ShareType, error) {
	return shareTypes.get(ctx, r.q, string(id), "")
}

// VisibleShareType returns the share type with this id; publicOnly passes over private ones.
func (r reader) VisibleShareType(ctx context.Context, id abaca.ShareTypeID, publicOnly bool) (abaca.ShareType, error) {
	return r.shareType(ctx, "id", string(id), publicOnly)
}

// ShareTypeNamed returns the share type with this name; publicOnly passes over private ones.
func (r reader) ShareTypeNamed(ctx context.Context, name string, publicOnly bool) (abaca.ShareType, error) {
	return r.shareType(ctx, "name", name, publicOnly)
}

func (r reader) shareType(ctx context.Context, column, value string, publicOnly bool) (abaca.ShareType, error) {
	var c condition
	c.and(column+" = ?", value)
	if publicOnly {
		c.and("is_public")
	}
	row := r.q.QueryRowContext(ctx, "SELECT "+shareTypes.columns+" FROM share_types"+c.where(), c.args...)
	return one(row, scanShareType, "share type", value)
}

// ShareTypes lists the share types, oldest first; public, where it is set, picks those that are or are not.
func (r reader) ShareTypes(ctx context.Context, public *bool) ([]abaca.ShareType, error) {
	var c condition
	if public != nil {
		c.and("is_public = ?", *public)
	}
	return shareTypes.list(ctx, r.q, c, Page{Ascending: true})
}

// InsertShareType adds a share type; a name that is taken is a conflict.
func (tx *Tx) InsertShareType(ctx context.Context, t abaca.ShareType) error {
	n, err := tx.exec(ctx, `INSERT INTO share_types (id, name, description, is_public, specs, created_at)
		VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (name) DO NOTHING`,
		t.ID, t.Name, t.Description, t.Public, text(t.Specs), micros(t.CreatedAt))
	if err != nil {
		return fmt.Errorf("add share type: %w", err)
	}
	if n == 0 {
		return abaca.Errorf(abaca.Conflict, "A share type named %q exists already.", t.Name)
	}
	return nil
}

// DeleteShareType removes a share type that no share has.
func (tx *Tx) DeleteShareType(ctx context.Context, id abaca.ShareTypeID) error {
	var used bool
	if err := tx.q.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM shares WHERE share_type_id = $1)`, id).Scan(&used); err != nil {
		return fmt.Errorf("look for shares of the type: %w", err)
	}
	if used {
		return abaca.Errorf(abaca.Invalid, "Share type %s is in use.", id)
	}
	n, err := tx.exec(ctx, `DELETE FROM share_types WHERE id = $1`, id)
	if err != nil {
		return fmt.Errorf("delete share type: %w", err)
	}
	if n == 0 {
		return notFound("share type", id)
	}
	return nil
}

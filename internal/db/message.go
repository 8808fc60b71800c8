package db

import (
	"context"
	"fmt"
	"time"

	"abaca"
)

// A MessageFilter says which messages are listed: those that agree in every field that is set.
type MessageFilter struct {
	Project                                           abaca.ProjectID // empty: of every project
	ResourceID, ResourceType, Action, Detail, Request *string
	Since, Before                                     time.Time
}

var messages = table[abaca.Message]{
	name:    "messages",
	what:    "message",
	columns: "id, project_id, resource_type, resource_id, request_id, action_id, detail_id, message, created_at, expires_at",
	scan:    scanMessage,
	sort: map[string]string{
		"id": "id", "project_id": "project_id", "request_id": "request_id", "resource_type": "resource_type", "resource_id": "resource_id",
		"action_id": "action_id", "detail_id": "detail_id", "created_at": "created_at", "expires_at": "expires_at",
		"message_level": "id", // all have the same
	},
}

func scanMessage(s scanner) (m abaca.Message, err error) {
	var created, expires int64
	err = s.Scan(&m.ID, &m.Project, &m.ResourceType, &m.ResourceID, &m.RequestID, &m.Action, &m.Detail, &m.Text, &created, &expires)
	m.CreatedAt, m.ExpiresAt = fromMicros(created), fromMicros(expires)
	return m, err
}

// Message returns the message with this id if it is the project's; an empty project sees all.
func (r reader) Message(ctx context.Context, id string, project abaca.ProjectID) (abaca.Message, error) {
	return messages.get(ctx, r.q, id, project)
}

// Messages lists messages.
func (r reader) Messages(ctx context.Context, f MessageFilter, p Page) ([]abaca.Message, error) {
	var c condition
	c.inProject(f.Project)
	equal(&c, "resource_id", f.ResourceID)
	equal(&c, "resource_type", f.ResourceType)
	equal(&c, "action_id", f.Action)
	equal(&c, "detail_id", f.Detail)
	equal(&c, "request_id", f.Request)
	if !f.Since.IsZero() {
		c.and("created_at >= ?", micros(f.Since))
	}
	if !f.Before.IsZero() {
		c.and("created_at < ?", micros(f.Before))
	}
	return messages.list(ctx, r.q, c, p)
}

// InsertMessage adds a message.
func (tx *Tx) InsertMessage(ctx context.Context, m abaca.Message) error {
	_, err := tx.exec(ctx, `INSERT INTO messages (id, project_id, resource_type, resource_id, request_id, action_id, detail_id, message,
			created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		m.ID, m.Project, m.ResourceType, m.ResourceID, m.RequestID, m.Action, m.Detail, kept(m.Text), micros(m.CreatedAt), micros(m.ExpiresAt))
	if err != nil {
		return fmt.Errorf("add message: %w", err)
	}
	return nil
}

// Told reports whether the project has a message since a time that says the same of the same.
func (r reader) Told(ctx context.Context, m abaca.Message, since time.Time) (told bool, err error) {
	err = r.q.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM messages WHERE project_id = $1 AND detail_id = $2 AND created_at >= $3
		AND resource_id = $4 AND action_id = $5 AND message = $6)`, m.Project, m.Detail, micros(since), m.ResourceID, m.Action, m.Text).Scan(&told)
	if err != nil {
		return false, fmt.Errorf("look for a message: %w", err)
	}
	return told, nil
}

// KeepMessages removes a project's messages of one detail but for the newest ones.
func (tx *Tx) KeepMessages(ctx context.Context, project abaca.ProjectID, detail string, newest int) error {
	_, err := tx.exec(ctx, `DELETE FROM messages WHERE id IN (SELECT id FROM messages WHERE project_id = $1 AND detail_id = $2
		ORDER BY created_at DESC, id DESC LIMIT $3 OFFSET $4)`, project, detail, int64(1)<<62, newest)
	if err != nil {
		return fmt.Errorf("remove old messages: %w", err)
	}
	return nil
}

// DeleteMessage removes a message; one that is gone already is NotFound.
func (tx *Tx) DeleteMessage(ctx context.Context, id string) error {
	n, err := tx.exec(ctx, `DELETE FROM messages WHERE id = $1`, id)
	if err != nil {
		return fmt.Errorf("delete message: %w", err)
	}
	if n == 0 {
		return notFound("message", id)
	}
	return nil
}

// ExpireMessages removes the messages whose time has come.
func (tx *Tx) ExpireMessages(ctx context.Context, now time.Time) error {
	if _, err := tx.exec(ctx, `DELETE FROM messages WHERE expires_at <= $1`, micros(now)); err != nil {
		return fmt.Errorf("expire messages: %w", err)
	}
	return nil
}

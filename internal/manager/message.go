package manager

import (
	"context"
	"errors"
	"strconv"
	"time"

	"abaca"
	"abaca/internal/db"
)

// Manila's numbers for what was being done when a message was written, and for why it failed.
const (
	actionCreate  = "002"
	actionDelete  = "007"
	actionRestore = "028"
	actionVerify  = actionRestore // Manila has no number for it; whether a backup can be restored is what it is about

	detailUnknown = "001"
)

// messageLife is how long a message is kept.
const messageLife = 30 * 24 * time.Hour

// forTenant is what a tenant may read of an error: the engine's own words for it, or that there are none.
func forTenant(err error) string {
	if r, ok := errors.AsType[*abaca.Reason](err); ok {
		return r.Text
	}
	return "an internal error; the service's administrators can find the cause"
}

// tell writes a message for a share's owners. Clients filter messages by resource type and know SHARE, not backups.
func (m *Manager) tell(ctx context.Context, tx *db.Tx, project abaca.ProjectID, share abaca.ShareID, action, text string) error {
	now := m.now()
	return tx.InsertMessage(ctx, abaca.Message{
		ID: newID(), Project: project, ResourceType: "SHARE", ResourceID: string(share),
		Action: action, Detail: detailUnknown, Text: text, CreatedAt: now, ExpiresAt: now.Add(messageLife),
	})
}

// DeleteMessage removes a message of the caller's project.
func (m *Manager) DeleteMessage(ctx context.Context, caller abaca.Caller, id string) error {
	return m.DB.Transact(ctx, func(tx *db.Tx) error {
		if _, err := tx.Message(ctx, id, caller.Scope()); err != nil {
			return err
		}
		return tx.DeleteMessage(ctx, id)
	})
}

func plural(n int64, noun, one, many string) string {
	if n == 1 {
		return "1 " + noun + " " + one
	}
	return strconv.FormatInt(n, 10) + " " + noun + "s " + many
}

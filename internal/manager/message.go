package manager

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/google/uuid"

	"abaca"
	"abaca/internal/db"
)

// Manila's numbers for what was being done when a message was written, and for why it failed.
const (
	actionCreate  = "002"
	actionDelete  = "007"
	actionRestore = "028"
	actionVerify  = actionRestore // Manila has no number for it; whether a backup can be restored is what it is about

	detailUnknown       = "001"
	detailFromSnapshot  = "017" // a share could not be made with a snapshot's files
	detailTargetRefused = "032" // a backup cannot be restored into that share
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

// about makes a message of a job for the owners of its subject. Clients filter messages by resource type and know SHARE, not
// backups, so it is about the share that has to do with it. A job that nobody asked for, as a verification, has no request.
func about(job db.Job, share abaca.ShareID, action, text string) abaca.Message {
	return abaca.Message{
		Project: job.Project, ResourceType: "SHARE", ResourceID: string(share), RequestID: job.Asked.Request,
		Action: action, Detail: detailUnknown, Text: text,
	}
}

// tell writes a message.
func (m *Manager) tell(ctx context.Context, tx *db.Tx, msg abaca.Message) error {
	msg.ID, msg.CreatedAt = newID(), m.now()
	msg.ExpiresAt = msg.CreatedAt.Add(messageLife)
	return tx.InsertMessage(ctx, msg)
}

// How much a project can be told of refused targets, which cost nothing to ask for.
const (
	refusalsKept  = 100              // the newest
	refusalsApart = time.Hour        // the same is not told twice within this time
	refusalsWait  = 10 * time.Second // for the database, at most
)

// TellRefused writes a message about a target share that a restore of a backup was refused, where one was named. It is about a share
// that is the caller's to know of, goes to the caller's own project, and says what the answer says: nothing can be learnt from it
// that the caller has not been told. The answer stands without it, too. What has not the form of an id names no share.
func (m *Manager) TellRefused(ctx context.Context, caller abaca.Caller, id abaca.BackupID, target, share abaca.ShareID, reason error) {
	refused, ok := errors.AsType[*abaca.RequestError](reason)
	if !ok || uuid.Validate(string(target)) != nil || len(target) != len(uuid.Nil.String()) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), refusalsWait) // also for a client that is gone
	defer cancel()
	job := db.Job{Project: caller.Project, Asked: caller}
	msg := about(job, share, actionRestore, "restore share backup "+string(id)+": the target share was refused: "+refused.Message)
	msg.Detail = detailTargetRefused
	err := m.DB.Transact(ctx, func(tx *db.Tx) error {
		told, err := tx.Told(ctx, msg, m.now().Add(-refusalsApart))
		if err != nil || told {
			return err
		}
		if err := m.tell(ctx, tx, msg); err != nil {
			return err
		}
		return tx.KeepMessages(ctx, msg.Project, msg.Detail, refusalsKept)
	})
	if err != nil {
		m.Log.ErrorContext(ctx, "telling of a refused target", "request_id", caller.Request, "project_id", caller.Project, "error", err)
	}
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

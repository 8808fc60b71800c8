package db

import (
	"context"
	"fmt"
	"time"

	"abaca"
)

// A Queue is the work of one operation that waits for a worker.
type Queue struct {
	Operation abaca.Operation
	Waiting   int64
	Since     time.Time // when the oldest of it was offered, or may be tried again; zero where none waits
}

// Queues returns the work that no living worker has, for each operation. It reads the rows of unfinished work alone.
func (r reader) Queues(ctx context.Context, now time.Time) ([]Queue, error) {
	queues := make([]Queue, 0, len(abaca.Operations))
	for _, op := range abaca.Operations {
		q := Queue{Operation: op}
		var since int64
		err := r.q.QueryRowContext(ctx, queueQuery(tableOf[op.Kind]), op.Subject.During, micros(now)).Scan(&q.Waiting, &since)
		if err != nil {
			return nil, fmt.Errorf("measure queues: %w", err)
		}
		q.Since = fromMicros(since)
		queues = append(queues, q)
	}
	return queues, nil
}

// queueQuery names the project, of which there always is one, so that SQLite takes the index of unfinished work and not that of all by status.
func queueQuery(table string) string {
	return `SELECT count(*), coalesce(min(lease_until), 0) FROM ` + table + `
		WHERE status = $1 AND project_id >= '' AND lease_until IS NOT NULL AND (lease_owner IS NULL OR lease_until <= $2)`
}

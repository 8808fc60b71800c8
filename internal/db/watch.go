package db

import (
	"context"
	"database/sql"
)

// watched tells a database's Watch of what is asked.
type watched struct {
	asker
	db *DB
}

func (w watched) tell(query string) {
	if w.db.Watch != nil {
		w.db.Watch(query)
	}
}

func (w watched) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	w.tell(query)
	return w.asker.ExecContext(ctx, query, args...)
}

func (w watched) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	w.tell(query)
	return w.asker.QueryContext(ctx, query, args...)
}

func (w watched) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	w.tell(query)
	return w.asker.QueryRowContext(ctx, query, args...)
}

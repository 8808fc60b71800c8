package db

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"abaca"
)

// An asker is what a pool and a transaction have in common.
type asker interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// A querier asks a pool or a transaction. Its errors are classed.
type querier struct{ of asker }

func (q querier) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	res, err := q.of.ExecContext(ctx, query, args...)
	return res, classed(err)
}

func (q querier) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	rows, err := q.of.QueryContext(ctx, query, args...)
	return rows, classed(err)
}

func (q querier) QueryRowContext(ctx context.Context, query string, args ...any) row {
	return row{q.of.QueryRowContext(ctx, query, args...)}
}

// A row is the single row of a query, whose error comes when it is scanned.
type row struct{ of *sql.Row }

func (r row) Scan(dest ...any) error { return classed(r.of.Scan(dest...)) }

// classed makes an error Unavailable where the database, rather than what it was asked, is the cause, and trying again later
// may help.
func classed(err error) error {
	if err == nil || !isOutage(err) || abaca.FaultOf(err) == abaca.Unavailable {
		return err
	}
	return fmt.Errorf("%w: %w", abaca.Errorf(abaca.Unavailable, "The database does not answer; try again later."), err)
}

// busy is the error of a transaction that others have been in the way of for too long.
func busy(err error) error {
	return fmt.Errorf("%w: %w", abaca.Errorf(abaca.Unavailable, "The service is busy; try again later."), err)
}

// A folded error is one line. That of a connection has one for each address that was tried.
type folded struct{ error }

func (f folded) Error() string { return strings.Join(strings.Fields(f.error.Error()), " ") }
func (f folded) Unwrap() error { return f.error }

func isOutage(err error) bool {
	if errors.Is(err, context.Canceled) {
		return false // the caller has gone away
	}
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		switch e.Code() & 0xff { // what is above says more of it
		case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR,
			sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN:
			return true
		}
		return false
	}
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return outageCodes[e.Code] || outageClasses[e.Code[:min(2, len(e.Code))]]
	}
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return true
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return false // the caller's own
	}
	_, network := errors.AsType[net.Error](err)
	return network || errors.Is(err, driver.ErrBadConn) || errors.Is(err, pgconn.ErrConnClosed) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// PostgreSQL's codes, of "PostgreSQL Error Codes" in its manual, for what an operator or time mends.
var (
	outageClasses = map[string]bool{
		"08": true, // connection exception
		"53": true, // insufficient resources: connections, memory, disk
		"58": true, // system error: input and output
	}
	outageCodes = map[string]bool{
		"57P01": true, // admin shutdown
		"57P02": true, // crash shutdown
		"57P03": true, // cannot connect now: starting, stopping, recovering
		"57P05": true, // idle session timeout
		"25P03": true, // idle in a transaction timeout: this process has stalled
		"25006": true, // read only: a standby that is not in charge yet, or no longer
	}
)

// inTheWay reports whether a transaction failed because of another one, so that it is worth another run.
func inTheWay(err error, run int) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return false
	}
	switch e.Code {
	case "40001", "40P01": // serialization failure, deadlock
		return true
	case "23503", "23505": // A foreign or unique key: what was looked up before may have changed since, which the next run sees.
		return run == 1
	}
	return false
}

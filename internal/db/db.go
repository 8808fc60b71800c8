// Package db keeps abaca's rows, in SQLite or in PostgreSQL: all SQL is here, written once with numbered parameters.
//
// Reads may be made on a DB or inside a transaction; writes only inside one, see Transact.
package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/pressly/goose/v3"

	"abaca"
)

// A DB is an open database. It is safe for concurrent use.
type DB struct {
	reader
	*dialect
	read, write *sql.DB // the same one where the database has many writers
	seat        *seat   // of a worker; nil where the database has one server

	// Watch, where a test sets it before anything is asked, is told of every statement before it is run.
	Watch func(query string)
}

// A reader has the questions that can be asked of the database, in or out of a transaction.
type reader struct{ q querier }

// A Tx is a transaction. What it writes is seen by others all at once, or not at all.
type Tx struct {
	reader
	*dialect
}

// A dialect is all that differs between the databases in what they are asked.
type dialect struct {
	name      goose.Dialect
	version   string             // a query for the database's version
	migrated  string             // a query for whether the table of migrations exists
	text      string             // the type of text that is compared byte by byte, as Go compares strings
	isolation sql.IsolationLevel // of transactions: as though they were made one after the other
	unclaimed string             // ends a query for a row to be claimed: rows that another is claiming are passed over
	clock     string             // a query for the database's own time, in microseconds; empty where it is this machine's
	offer     string             // tells other processes that there is work, once the transaction commits; empty for none
	survey    string             // counts what the tables hold, for its planner; empty where the database does so by itself
}

// Open opens a database, which is the file with an absolute path or, where at is a postgres:// URL, one of PostgreSQL. An empty
// database is given its tables; a file's are brought up to date, since no other process serves it. Those of PostgreSQL, which
// several processes may share, are not: where they are older than this program an operator is told to have them migrated. Newer
// ones are refused.
func Open(ctx context.Context, at string) (*DB, error) {
	return openAt(ctx, at, "rwc", func(s *schema) error { return s.keepUp(ctx) })
}

// Join opens a database beside the server that may have it open. It makes nothing: one that does not exist, or whose tables are
// not of this program's version, is an error.
func Join(ctx context.Context, at string) (*DB, error) {
	return openAt(ctx, at, "rw", func(s *schema) error { return s.mustFit(ctx) })
}

func openAt(ctx context.Context, at, mode string, settle func(*schema) error) (*DB, error) {
	db, err := connect(at, mode)
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", Redacted(at), err)
	}
	s, err := db.schema(ctx)
	if err == nil {
		err = settle(s)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open database %s: %w", Redacted(at), folded{err}), db.Close())
	}
	return db, nil
}

func connect(at, mode string) (db *DB, err error) {
	if IsURL(at) {
		db, err = connectPostgres(at)
	} else {
		db, err = connectSQLite(at, mode)
	}
	if err == nil {
		db.reader = reader{querier{watched{db.read, db}}}
	}
	return db, err
}

// Close closes the database after the queries under way.
func (db *DB) Close() error {
	err := db.write.Close()
	if db.read != db.write {
		err = errors.Join(db.read.Close(), err)
	}
	if db.seat != nil {
		db.seat.leave()
	}
	return err
}

// Shared reports whether other processes may serve the same database.
func (db *DB) Shared() bool { return db.seat != nil }

// Clock returns the time of the database's machine.
func (db *DB) Clock(ctx context.Context) (time.Time, error) {
	if db.clock == "" {
		return time.Now(), nil
	}
	var us int64
	if err := db.q.QueryRowContext(ctx, db.clock).Scan(&us); err != nil {
		return time.Time{}, fmt.Errorf("ask the database for the time: %w", err)
	}
	return fromMicros(us), nil
}

// Survey has the database look at how much of what its tables hold, so that it answers a question by the index that leaves the least
// to be read. It is cheap where little has changed.
func (db *DB) Survey(ctx context.Context) error {
	if db.survey == "" {
		return nil
	}
	if _, err := db.write.ExecContext(ctx, db.survey); err != nil {
		return fmt.Errorf("survey the tables: %w", classed(err))
	}
	return nil
}

// Ping reports whether the database answers.
func (db *DB) Ping(ctx context.Context) error { return db.read.PingContext(ctx) }

// Transact runs f in a transaction, which commits when f returns nil. f must not use the DB itself. It is run again where another
// transaction has been in the way, so that nothing but the last run may be seen outside.
//
// Transactions are as though they were made one after the other: what f has read is still so when it commits. SQLite does make
// them one after the other, PostgreSQL fails one that would have noticed another.
func (db *DB) Transact(ctx context.Context, f func(*Tx) error) error {
	for run := 1; ; run++ {
		err := db.transact(ctx, f)
		if !inTheWay(err, run) {
			return err
		}
		if run == mostRuns {
			return busy(err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(rand.N(min(time.Millisecond<<min(run, 10), longestPause))): //nolint:gosec // nobody gains by guessing a pause
		}
	}
}

// A transaction that others are in the way of is run so often, after pauses of up to so long: some ten seconds in all.
const (
	mostRuns     = 100
	longestPause = 200 * time.Millisecond
)

// turn waits for the connection to write on. Where another process keeps the file locked, whoever has the connection waits for that, and the
// others not for all that are before them: clients would be gone by then.
func (db *DB) turn(ctx context.Context) (*sql.Conn, error) {
	wait, cancel := context.WithTimeout(ctx, longestTurn)
	defer cancel()
	conn, err := db.write.Conn(wait)
	if err != nil && ctx.Err() == nil && wait.Err() != nil {
		return nil, busy(err)
	}
	return conn, classed(err)
}

func (db *DB) transact(ctx context.Context, f func(*Tx) error) error {
	begin := db.write.BeginTx
	if db.read != db.write { // then there is one connection to write on
		conn, err := db.turn(ctx)
		if err != nil {
			return fmt.Errorf("begin transaction: %w", err)
		}
		defer conn.Close() //nolint:errcheck // it goes back to the pool, or was of no use to it
		begin = conn.BeginTx
	}
	tx, err := begin(ctx, &sql.TxOptions{Isolation: db.isolation})
	if err != nil {
		return fmt.Errorf("begin transaction: %w", classed(err))
	}
	if err := f(&Tx{reader{querier{watched{tx, db}}}, db.dialect}); err != nil {
		// A cancelled context, or a connection that broke, has rolled back already.
		if rerr := tx.Rollback(); rerr != nil && !errors.Is(rerr, sql.ErrTxDone) && abaca.FaultOf(err) != abaca.Unavailable {
			return errors.Join(err, rerr)
		}
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit transaction: %w", classed(err))
	}
	return nil
}

// exec runs a statement and returns how many rows it changed: for a conditional UPDATE, the verdict.
func (tx *Tx) exec(ctx context.Context, query string, args ...any) (int64, error) {
	res, err := tx.q.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// kept is text as it is stored where its bytes may be any, since it quotes what others have said or named: PostgreSQL refuses
// what is not UTF-8, and NUL.
func kept(text string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(text, "\ufffd"), "\x00", "\ufffd")
}

// micros is how times are stored.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func fromMicros(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}

// notFound is what looking up a row that is not there, or not the caller's, comes to.
func notFound(what string, id any) error {
	return abaca.Errorf(abaca.NotFound, "%s %s could not be found.", what, id)
}

// one scans the single row of a query, or says that what is not found.
func one[T any](row scanner, scan func(scanner) (T, error), what string, id any) (T, error) {
	v, err := scan(row)
	if errors.Is(err, sql.ErrNoRows) {
		return v, notFound(what, id)
	}
	if err != nil {
		return v, fmt.Errorf("read %s: %w", what, err)
	}
	return v, nil
}

// A scanner is a row to be scanned.
type scanner interface{ Scan(dest ...any) error }

// all scans every row of a query.
func all[T any](ctx context.Context, q querier, scan func(scanner) (T, error), query string, args ...any) (list []T, err error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { err = classed(errors.Join(err, rows.Close())) }()
	list = []T{}
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, rows.Err()
}

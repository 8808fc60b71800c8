// Package db keeps abaca's rows: all SQL is here, written once with numbered parameters.
//
// Reads may be made on a DB or inside a transaction; writes only inside one, see Transact.
package db

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"time"

	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // the "sqlite" driver of database/sql

	"abaca"
)

//go:embed migrations/*.sql
var migrations embed.FS

// oldestSQLite is the first release in which resetting the write-ahead log cannot corrupt the database.
const oldestSQLite = "3.51.3"

// A DB is an open database. It is safe for concurrent use.
type DB struct {
	reader
	read, write *sql.DB

	// Watch, where a test sets it before anything is asked, is told of every statement before it is run.
	Watch func(query string)
}

// A querier is what a pool and a transaction have in common.
type querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// A reader has the questions that can be asked of the database, in or out of a transaction.
type reader struct{ q querier }

// A Tx is a transaction. What it writes is seen by others all at once, or not at all.
type Tx struct{ reader }

// OpenSQLite opens the database in the file at path, making it where it does not exist, and brings its
// tables up to date. One process at a time may do so; others can join it, see JoinSQLite.
func OpenSQLite(ctx context.Context, path string) (*DB, error) {
	return openSQLite(ctx, path, "rwc", func(p *goose.Provider) error {
		_, err := p.Up(ctx)
		return err
	})
}

// JoinSQLite opens the database in the file at path beside the process that may have it open. It makes nothing: a file that does
// not exist, or whose tables are not of this program's version, is an error.
func JoinSQLite(ctx context.Context, path string) (*DB, error) {
	return openSQLite(ctx, path, "rw", func(p *goose.Provider) error {
		has, needs, err := p.GetVersions(ctx)
		if err == nil && has != needs {
			err = fmt.Errorf("its tables are of version %d and this program needs %d; serving it brings older ones up to date", has, needs)
		}
		return err
	})
}

func openSQLite(ctx context.Context, path, mode string, migrate func(*goose.Provider) error) (*DB, error) {
	// synchronous(FULL): a commit that was acknowledged survives a power loss.
	const pragmas = "&_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=foreign_keys(1)"
	dsn := (&url.URL{Scheme: "file", OmitHost: true, Path: path}).String() + "?mode=" + mode + pragmas
	write, err := sql.Open("sqlite", dsn+"&_txlock=immediate")
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	// SQLite has one writer at a time; queueing for it here is fair, and busy errors cannot happen but beside another process
	// that writes for longer than the timeout.
	write.SetMaxOpenConns(1)
	if err := prepare(ctx, write, migrate); err != nil {
		return nil, errors.Join(fmt.Errorf("open database %s: %w", path, err), write.Close())
	}
	read, err := sql.Open("sqlite", dsn+"&_pragma=query_only(1)")
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open database %s: %w", path, err), write.Close())
	}
	read.SetMaxOpenConns(8)
	read.SetMaxIdleConns(8)
	db := &DB{read: read, write: write}
	db.reader = reader{watched{read, db}}
	return db, nil
}

func prepare(ctx context.Context, pool *sql.DB, migrate func(*goose.Provider) error) error {
	var version string
	if err := pool.QueryRowContext(ctx, "SELECT sqlite_version()").Scan(&version); err != nil {
		return err
	}
	if olderVersion(version, oldestSQLite) {
		return fmt.Errorf("SQLite %s can corrupt its write-ahead log; %s or later is needed", version, oldestSQLite)
	}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(goose.DialectSQLite3, pool, files)
	if err != nil {
		return err
	}
	return migrate(provider)
}

func olderVersion(a, b string) bool {
	var x, y [3]int
	fmt.Sscanf(a, "%d.%d.%d", &x[0], &x[1], &x[2]) //nolint:errcheck // an unreadable version counts as 0.0.0, which is too old
	fmt.Sscanf(b, "%d.%d.%d", &y[0], &y[1], &y[2]) //nolint:errcheck // a constant of ours
	for i := range x {
		if x[i] != y[i] {
			return x[i] < y[i]
		}
	}
	return false
}

// Close closes the database after the queries under way.
func (db *DB) Close() error { return errors.Join(db.read.Close(), db.write.Close()) }

// Ping reports whether the database answers.
func (db *DB) Ping(ctx context.Context) error { return db.read.PingContext(ctx) }

// Transact runs f in a transaction, which commits when f returns nil. f must not use the DB itself.
func (db *DB) Transact(ctx context.Context, f func(*Tx) error) error {
	tx, err := db.write.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin transaction: %w", err)
	}
	if err := f(&Tx{reader{watched{tx, db}}}); err != nil {
		if rerr := tx.Rollback(); rerr != nil && !errors.Is(rerr, sql.ErrTxDone) { // a cancelled context has rolled back already
			return errors.Join(err, rerr)
		}
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit transaction: %w", err)
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
func one[T any](row *sql.Row, scan func(scanner) (T, error), what string, id any) (T, error) {
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
	defer func() { err = errors.Join(err, rows.Close()) }()
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

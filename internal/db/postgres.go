package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"hash/fnv"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
)

// oldestPostgres is the first release with generated columns, as server_version_num has it.
const oldestPostgres = 120000

// workChannel is what is notified where there is work.
const workChannel = "abaca_work"

var postgresDialect = &dialect{
	name:      goose.DialectPostgres,
	version:   `SELECT current_setting('server_version_num') || ' ' || current_setting('server_encoding')`,
	migrated:  `SELECT to_regclass('goose_db_version') IS NOT NULL`,
	text:      `TEXT COLLATE "C"`,
	isolation: sql.LevelSerializable,
	unclaimed: ` FOR UPDATE SKIP LOCKED`,
	clock:     `SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)`,
	offer:     `SELECT pg_notify('` + workChannel + `', '')`,
}

// IsURL reports whether text names a database of PostgreSQL rather than a file.
func IsURL(text string) bool {
	return strings.HasPrefix(text, "postgres://") || strings.HasPrefix(text, "postgresql://")
}

// CheckURL reports what is wrong with the URL of a database, without the password that it may hold.
func CheckURL(text string) error {
	_, err := parse(text)
	return err
}

// Redacted returns where a database is with its passwords replaced, for logs and errors.
func Redacted(at string) string {
	if !IsURL(at) {
		return at
	}
	u, err := url.Parse(at)
	if err != nil {
		return "postgres://…"
	}
	query := u.Query()
	for _, key := range []string{"password", "sslpassword"} {
		if query.Has(key) {
			query.Set(key, "xxxxx") // as Redacted does
		}
	}
	u.RawQuery = query.Encode()
	return u.Redacted()
}

// parse reads a URL as libpq does: what it leaves out comes from PG* variables, the service file and the password file.
func parse(text string) (*pgx.ConnConfig, error) {
	if !IsURL(text) {
		return nil, errors.New("a database is named by postgres://user@host/name")
	}
	if _, err := url.Parse(text); err != nil {
		return nil, errors.New("it is not a URL; what is special in a user's name or a password is written as %XX")
	}
	config, err := pgx.ParseConfig(text)
	if err != nil {
		return nil, errors.New(strings.ReplaceAll(err.Error(), text, Redacted(text)))
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectTimeout
	}
	if config.RuntimeParams[idleKey] == "" {
		config.RuntimeParams[idleKey] = "10000"
	}
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "abaca"
	}
	return config, nil
}

// idleKey is how long, in milliseconds, a process may stall in the middle of a transaction before the database breaks it off: what it has
// changed is locked until then, and those who are to take its work over wait for it.
const idleKey = "idle_in_transaction_session_timeout"

const (
	// connectTimeout is how long a host may take to accept a connection where the URL says nothing else.
	connectTimeout = 5 * time.Second
	// mostConnections is how many a process has open at most, beside that of its seat. PostgreSQL itself has 100 by default.
	mostConnections = 16
)

func connectPostgres(at string) (*DB, error) {
	config, err := parse(at)
	if err != nil {
		return nil, err
	}
	pool := stdlib.OpenDB(*config)
	pool.SetMaxOpenConns(mostConnections)
	pool.SetMaxIdleConns(mostConnections)
	pool.SetConnMaxIdleTime(5 * time.Minute)
	return &DB{dialect: postgresDialect, read: pool, write: pool, seat: &seat{config: config}}, nil
}

// fitPostgres refuses releases and encodings in which the tables cannot be kept.
func fitPostgres(version string) error {
	var number int
	var encoding string
	if _, err := fmt.Sscan(version, &number, &encoding); err != nil {
		return fmt.Errorf("unreadable version %q: %w", version, err)
	}
	if number < oldestPostgres {
		return fmt.Errorf("PostgreSQL %d is too old; %d or later is needed", number/10000, oldestPostgres/10000)
	}
	if encoding != "UTF8" {
		return fmt.Errorf("its encoding is %s; names need a database that was created with UTF8", encoding)
	}
	return nil
}

// lockNumber is what PostgreSQL calls a lock that is abaca's and has this name.
func lockNumber(name string) int64 {
	h := fnv.New64a()
	h.Write([]byte("abaca " + name))
	return int64(h.Sum64()) //nolint:gosec // any 64 bits will do
}

// lockPostgres takes a lock that one process at a time has, waiting for it; unlock gives it up, as the end of the process does.
func lockPostgres(ctx context.Context, pool *sql.DB, name string) (unlock func() error, err error) {
	conn, err := pool.Conn(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := conn.ExecContext(ctx, `SELECT pg_advisory_lock($1)`, lockNumber(name)); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return func() error {
		_, err := conn.ExecContext(context.WithoutCancel(ctx), `SELECT pg_advisory_unlock($1)`, lockNumber(name))
		return errors.Join(err, conn.Close())
	}, nil
}

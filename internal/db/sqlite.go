package db

import (
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"time"

	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // the "sqlite" driver of database/sql
)

// oldestSQLite is the first release in which resetting the write-ahead log cannot corrupt the database.
const oldestSQLite = "3.51.3"

// sqliteDialect has no isolation of its own: there is one connection that writes, and so one transaction at a time.
var sqliteDialect = &dialect{
	name:     goose.DialectSQLite3,
	version:  `SELECT sqlite_version()`,
	migrated: `SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE name = 'goose_db_version')`,
	text:     "TEXT",
	survey:   `PRAGMA optimize = 0x10002`, // of all tables, by a sample of each, where it has become ten times what it was
}

// readerLife is how long a connection reads by what it knew of the tables when it was opened, as SQLite does.
const readerLife = 10 * time.Minute

// longestTurn is how long a transaction waits for those of this process that are before it, and again for another process's.
const longestTurn = 5 * time.Second

func connectSQLite(path, mode string) (*DB, error) {
	if mode == "rwc" {
		if err := makePrivate(path); err != nil {
			return nil, err
		}
	}
	// synchronous(FULL): a commit that was acknowledged survives a power loss.
	pragmas := fmt.Sprintf("&_pragma=busy_timeout(%d)", longestTurn.Milliseconds()) + "&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=foreign_keys(1)"
	dsn := (&url.URL{Scheme: "file", OmitHost: true, Path: path}).String() + "?mode=" + mode + pragmas
	write, err := sql.Open("sqlite", dsn+"&_txlock=immediate")
	if err != nil {
		return nil, err
	}
	// SQLite has one writer at a time; queueing for it here is fair, and busy errors cannot happen but beside another process
	// that writes for longer than the timeout.
	write.SetMaxOpenConns(1)
	read, err := sql.Open("sqlite", dsn+"&_pragma=query_only(1)")
	if err != nil {
		return nil, errors.Join(err, write.Close())
	}
	read.SetMaxOpenConns(8)
	read.SetMaxIdleConns(8)
	read.SetConnMaxLifetime(readerLife)
	return &DB{dialect: sqliteDialect, read: read, write: write}, nil
}

// makePrivate makes a database's file for its owner alone, since it tells of every project and its directory may be open to others;
// SQLite gives the logs beside it the same mode. A file that is there is not opened: closing it would give up SQLite's locks on it.
func makePrivate(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return f.Close()
}

// fitSQLite refuses releases that lose data.
func fitSQLite(version string) error {
	if olderVersion(version, oldestSQLite) {
		return fmt.Errorf("SQLite %s can corrupt its write-ahead log; %s or later is needed", version, oldestSQLite)
	}
	return nil
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

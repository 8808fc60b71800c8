package db

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"abaca/internal/test/postgres"
)

// atVersion makes a database whose tables are of a version.
func atVersion(t *testing.T, at string, version int64) {
	t.Helper()
	db, err := openAt(t.Context(), at, "rwc", func(s *schema) error {
		_, err := s.provider.UpTo(t.Context(), version)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestOlderTablesAreBroughtUpToDateByWhoMay(t *testing.T) {
	atEach(t, func(t *testing.T, at string) {
		atVersion(t, at, 1)
		_, newest, err := Versions(t.Context(), at)
		if err != nil {
			t.Fatal(err)
		}
		old := fmt.Sprintf(`version 1 and this program needs %d; "abaca migrate" brings them up to date`, newest)
		if _, err := Join(t.Context(), at); err == nil || !strings.Contains(err.Error(), old) {
			t.Errorf("joining: %v", err)
		}
		db, err := Open(t.Context(), at)
		if !IsURL(at) {
			if err != nil {
				t.Fatal(err)
			}
			if err := db.Close(); err != nil {
				t.Error(err)
			}
			if has, _, err := Versions(t.Context(), at); err != nil || has != newest {
				t.Errorf("opening leaves version %d, %v", has, err)
			}
			return
		}
		if err == nil || !strings.Contains(err.Error(), old) {
			t.Errorf("opening: %v", err)
		}
		if before, after, err := Migrate(t.Context(), at); err != nil || before != 1 || after != newest {
			t.Errorf("migrated from %d to %d, %v", before, after, err)
		}
		if before, after, err := Migrate(t.Context(), at); err != nil || before != newest || after != newest {
			t.Errorf("migrated again from %d to %d, %v", before, after, err)
		}
		open(t, at)
	})
}

func TestNewerTablesAreRefused(t *testing.T) {
	atEach(t, func(t *testing.T, at string) {
		db := open(t, at)
		if _, err := db.write.ExecContext(t.Context(), `INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, TRUE)`); err != nil {
			t.Fatal(err)
		}
		_, err := Open(t.Context(), at)
		_, joining := Join(t.Context(), at)
		_, _, migrating := Migrate(t.Context(), at)
		for what, err := range map[string]error{"open": err, "join": joining, "migrate": migrating} {
			if err == nil || !strings.Contains(err.Error(), "version 9999 and this program knows") || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: %v", what, err)
			}
		}
	})
}

func TestAnEmptyDatabaseGetsItsTablesOnceHoweverManyOpenIt(t *testing.T) {
	at := postgres.New(t)
	if _, err := Join(t.Context(), at); err == nil || !strings.Contains(err.Error(), "abaca migrate") {
		t.Errorf("joining an empty database: %v", err)
	}
	if has, _, err := Versions(t.Context(), at); err != nil || has != 0 {
		t.Errorf("an empty database is of version %d, %v", has, err)
	}
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			db, err := Open(context.Background(), at)
			if err != nil {
				t.Error(err)
				return
			}
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestReleasesThatLoseDataOrLackWhatIsNeededAreRefused(t *testing.T) {
	for _, test := range []struct {
		fit           func(string) error
		version, says string
	}{
		{fitSQLite, "3.51.2", "SQLite 3.51.2 can corrupt its write-ahead log; 3.51.3 or later is needed"},
		{fitSQLite, "3.9.99", "3.51.3 or later"},
		{fitSQLite, "2.99.99", "3.51.3 or later"},
		{fitSQLite, "none", "3.51.3 or later"},
		{fitSQLite, "3.51.3", ""},
		{fitSQLite, "3.51.10", ""},
		{fitSQLite, "3.100.0", ""},
		{fitSQLite, "4.0.0", ""},
		{fitPostgres, "110022 UTF8", "PostgreSQL 11 is too old; 12 or later is needed"},
		{fitPostgres, "120000 UTF8", ""},
		{fitPostgres, "190001 UTF8", ""},
		{fitPostgres, "twelve", "unreadable version"},
	} {
		err := test.fit(test.version)
		if test.says == "" && err != nil || test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says)) {
			t.Errorf("%s: %v", test.version, err)
		}
	}
}

func TestADatabaseOfAnotherEncodingIsRefused(t *testing.T) {
	at := postgres.New(t)
	create := `CREATE DATABASE narrow ENCODING 'SQL_ASCII' LOCALE_PROVIDER libc LOCALE 'C' TEMPLATE template0`
	if _, err := open(t, at).write.ExecContext(t.Context(), create); err != nil {
		t.Fatal(err)
	}
	slash, mark := strings.LastIndex(at, "@/"), strings.Index(at, "?")
	if _, err := Open(t.Context(), at[:slash+2]+"narrow"+at[mark:]); err == nil || !strings.Contains(err.Error(), "created with UTF8") {
		t.Error(err)
	}
}

func TestAURLIsCheckedAndShownWithoutItsPasswords(t *testing.T) {
	for _, test := range []struct{ url, shown, says string }{
		{"postgres://abaca@db/abaca", "postgres://abaca@db/abaca", ""},
		{"postgresql://abaca:geheim@db:5432,db2:5432/abaca?sslmode=require", "postgresql://abaca:xxxxx@db:5432,db2:5432/abaca?sslmode=require", ""},
		{"postgres://db/abaca?password=geheim&user=u", "postgres://db/abaca?password=xxxxx&user=u", ""},
		{"postgres://abaca:geheim@db/abaca?sslmode=perhaps", "postgres://abaca:xxxxx@db/abaca?sslmode=perhaps", "sslmode"},
		{"postgres://abaca:ge%heim@db/abaca", "postgres://…", "%XX"},
		{"postgres://abaca:ge heim@db:many/abaca", "postgres://…", "%XX"},
		{"mysql://abaca:geheim@db/abaca", "mysql://abaca:geheim@db/abaca", "postgres://user@host/name"},
	} {
		if got := Redacted(test.url); got != test.shown {
			t.Errorf("%s is shown as %s", test.url, got)
		}
		err := CheckURL(test.url)
		if test.says == "" && err != nil || test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says)) {
			t.Errorf("%s: %v", test.url, err)
		}
		if err != nil && (strings.Contains(err.Error(), "heim") || strings.Contains(err.Error(), "\n")) {
			t.Errorf("%s: %v", test.url, err)
		}
	}
}

func TestWhatAURLLeavesOutComesFromTheEnvironmentAndThePasswordFile(t *testing.T) {
	at := postgres.New(t)
	slash, mark := strings.LastIndex(at, "@/"), strings.Index(at, "?")
	passwords := t.TempDir() + "/passwords"
	if err := os.WriteFile(passwords, []byte("*:*:*:postgres:fromfile\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PGHOST", strings.TrimSuffix(strings.TrimPrefix(at[mark:], "?host="), "&sslmode=disable"))
	t.Setenv("PGUSER", "postgres")
	t.Setenv("PGPASSFILE", passwords)
	open(t, "postgres:///"+at[slash+2:mark])
	config, err := parse("postgres:///x")
	if err != nil || config.Password != "fromfile" {
		t.Errorf("the password is %q, %v", config.Password, err)
	}
}

func TestADatabaseIsItsOwnersAlone(t *testing.T) {
	at := databases["SQLite"](t)
	db := open(t, at)
	withShare(t, db, "s", "p")
	for _, file := range []string{at, at + "-wal", at + "-shm"} {
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", info.Mode(), err)
		}
	}
}

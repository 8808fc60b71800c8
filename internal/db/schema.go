package db

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/pressly/goose/v3"
)

//go:embed migrations/*.sql
var migrations embed.FS

// A schema is the tables of an open database beside those that this program needs, by the versions of the migrations.
type schema struct {
	db         *DB
	provider   *goose.Provider
	has, needs int64
}

// schema refuses a database that is too old for this program, or kept in another encoding, before it looks at the tables.
func (db *DB) schema(ctx context.Context) (*schema, error) {
	var version string
	if err := db.write.QueryRowContext(ctx, db.version).Scan(&version); err != nil {
		return nil, err
	}
	fit := fitSQLite
	if db.name == goose.DialectPostgres {
		fit = fitPostgres
	}
	if err := fit(version); err != nil {
		return nil, err
	}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	provider, err := goose.NewProvider(db.name, db.write, written{files, db.text})
	if err != nil {
		return nil, err
	}
	sources := provider.ListSources()
	s := &schema{db: db, provider: provider, needs: sources[len(sources)-1].Version}
	return s, s.look(ctx)
}

// look reads which version the tables are of; 0 is none.
func (s *schema) look(ctx context.Context) error {
	s.has = 0
	var migrated bool
	err := s.db.write.QueryRowContext(ctx, s.db.migrated).Scan(&migrated)
	if err == nil && migrated {
		err = s.db.write.QueryRowContext(ctx, `SELECT coalesce(max(version_id), 0) FROM goose_db_version WHERE is_applied`).Scan(&s.has)
	}
	if err != nil {
		return fmt.Errorf("look for tables: %w", err)
	}
	return nil
}

// mustFit refuses tables that are not of this program's version.
func (s *schema) mustFit(context.Context) error {
	switch {
	case s.has > s.needs:
		return s.tooNew()
	case s.has < s.needs:
		return fmt.Errorf("its tables are of version %d and this program needs %d; \"abaca migrate\" brings them up to date", s.has, s.needs)
	}
	return nil
}

func (s *schema) tooNew() error {
	return fmt.Errorf("its tables are of version %d and this program knows %d; a newer one has made them", s.has, s.needs)
}

// keepUp brings the tables up to date where that is no operator's decision, see Open.
func (s *schema) keepUp(ctx context.Context) error {
	return s.alone(ctx, func() error {
		if s.has == 0 || s.db.name == goose.DialectSQLite3 {
			if err := s.migrate(ctx); err != nil {
				return err
			}
			return s.db.Survey(ctx)
		}
		return s.mustFit(ctx)
	})
}

// migrate brings the tables up to date.
func (s *schema) migrate(ctx context.Context) error {
	if s.has > s.needs {
		return s.tooNew()
	}
	if _, err := s.provider.Up(ctx); err != nil {
		return err
	}
	return s.look(ctx)
}

// alone does something while no other process of PostgreSQL's migrates, with what is known of the tables looked up anew. A file
// has one server, which sees to that itself.
func (s *schema) alone(ctx context.Context, do func() error) (err error) {
	if s.db.name == goose.DialectPostgres {
		unlock, lerr := lockPostgres(ctx, s.db.write, "migrate")
		if lerr != nil {
			return lerr
		}
		defer func() { err = errors.Join(err, unlock()) }()
	}
	if err := s.look(ctx); err != nil {
		return err
	}
	return do()
}

// Migrate gives a database this program's tables, and returns of which version they were and are; 0 is none.
func Migrate(ctx context.Context, at string) (before, after int64, err error) {
	db, err := openAt(ctx, at, "rw", func(s *schema) error {
		return s.alone(ctx, func() error {
			before = s.has
			err := s.migrate(ctx)
			after = s.has
			return err
		})
	})
	if err != nil {
		return 0, 0, err
	}
	return before, after, db.Close()
}

// Versions returns of which version a database's tables are, 0 for none, and which this program needs.
func Versions(ctx context.Context, at string) (has, needs int64, err error) {
	db, err := openAt(ctx, at, "rw", func(s *schema) error {
		has, needs = s.has, s.needs
		return nil
	})
	if err != nil {
		return 0, 0, err
	}
	return has, needs, db.Close()
}

// written is the migrations as a database has to read them: with its own name for text that is compared byte by byte. It is all
// that differs, so that one set of files is enough.
type written struct {
	fs.FS
	text string
}

// Open opens a migration with the database's type of text in it.
func (w written) Open(name string) (fs.File, error) {
	f, err := w.FS.Open(name)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || info.IsDir() {
		return f, err
	}
	sql, err := io.ReadAll(f)
	return writtenFile{f, strings.NewReader(strings.ReplaceAll(string(sql), " TEXT", " "+w.text))}, err
}

type writtenFile struct {
	fs.File
	sql io.Reader
}

func (f writtenFile) Read(b []byte) (int, error) { return f.sql.Read(b) }

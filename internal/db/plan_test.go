package db

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"testing"

	"abaca"
)

// A spy notes the last query that was asked, and the last for a single row.
type spy struct {
	*sql.DB
	query, single    string
	args, singleArgs []any
}

func (s *spy) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	s.single, s.singleArgs = query, args
	return s.DB.QueryRowContext(ctx, query, args...)
}

func (s *spy) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	s.query, s.args = query, args
	return s.DB.QueryContext(ctx, query, args...)
}

// plan is how the database would answer the last query.
func (s *spy) plan(t *testing.T, d *dialect) string {
	t.Helper()
	explain, column := "EXPLAIN QUERY PLAN ", 3
	if d == postgresDialect {
		explain, column = "EXPLAIN ", 0
	}
	steps, err := all(t.Context(), querier{s.DB}, func(row scanner) (step string, err error) {
		columns := make([]any, column+1)
		for i := range columns {
			columns[i] = new(any)
		}
		columns[column] = &step
		return step, row.Scan(columns...)
	}, explain+s.query, s.args...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(steps, "; ")
}

// fill adds n backups of project p, fast. Their ids, names and times are in the same order.
func fill(t testing.TB, db *DB, n int) {
	t.Helper()
	_, err := db.write.ExecContext(t.Context(), `INSERT INTO share_backups (id, project_id, user_id, share_id, size, display_name, with_options, zone,
			status, created_at)
		WITH RECURSIVE number (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM number WHERE i + 1 < $1)
		SELECT 'id-' || (1000000 + i), 'p', 'u', CASE i % 100 WHEN 0 THEN 's' ELSE 'many' END, i % 7, 'Backup ' || (1000000 + i), FALSE, 'nova',
			CASE i % 1000 WHEN 0 THEN 'error' ELSE 'available' END, i FROM number`, n)
	if err == nil && db.dialect == postgresDialect {
		_, err = db.write.ExecContext(t.Context(), "ANALYZE") // as PostgreSQL does by itself after a while, and SQLite does not
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestAPageSeeksInAnIndexAndSortsNothing(t *testing.T) {
	onEach(t, func(t *testing.T, db *DB) {
		withShare(t, db, "s", "p")
		withShare(t, db, "many", "p")
		const rows = 20_000
		fill(t, db, rows)
		for _, test := range []struct {
			filter BackupFilter
			key    string
			column string
		}{
			{BackupFilter{Project: "p"}, "created_at", "created_at"},
			{BackupFilter{Project: "p"}, "name", "name_key"},
			{BackupFilter{Project: "p"}, "status", "status"},
			{BackupFilter{Project: "p"}, "size", "size"},
			{BackupFilter{Share: ptr[abaca.ShareID]("s")}, "created_at", "created_at"},
			{BackupFilter{Share: ptr[abaca.ShareID]("many")}, "created_at", "created_at"},
			{BackupFilter{}, "created_at", "created_at"},
			{BackupFilter{}, "name", "name_key"},
			{BackupFilter{}, "status", "status"},
			{BackupFilter{}, "id", "id"},
			{BackupFilter{Project: "p"}, "id", "id"},
			{BackupFilter{Project: "p"}, "share_id", "share_id"},
			{BackupFilter{Project: "p", Status: ptr(abaca.Available)}, "created_at", "created_at"},
			{BackupFilter{Project: "p", Status: ptr(abaca.Error)}, "created_at", "created_at"},
			{BackupFilter{Status: ptr(abaca.Error)}, "created_at", "created_at"},
			{BackupFilter{Project: "p", Status: ptr(abaca.Available)}, "status", "id"}, // in which all are alike
			{BackupFilter{Project: "p"}, "project_id", "id"},
		} {
			for place, marker := range map[string]int{"first": rows - 1, "middle": rows / 2, "last": 110} {
				t.Run(fmt.Sprintf("%+v by %s, the %s page", test.filter, test.key, place), func(t *testing.T) {
					s := &spy{DB: db.read}
					page := Page{SortKey: test.key, Limited: true, Limit: 10, Marker: fmt.Sprint("id-", 1_000_000+marker)}
					if _, err := (reader{querier{s}}).Backups(t.Context(), test.filter, page); err != nil {
						t.Fatal(err)
					}
					plan := s.plan(t, db.dialect)
					seek, sorting := "("+test.column+",id)<(?,?)", "TEMP B-TREE"
					switch {
					case test.column == "id" && db.dialect == postgresDialect:
						seek, sorting = "(id < '", "Sort"
					case test.column == "id":
						seek = "id<?"
					case db.dialect == postgresDialect:
						seek, sorting = "ROW("+test.column+", id) < ROW(", "Sort"
					}
					if !strings.Contains(plan, seek) || strings.Contains(plan, sorting) {
						t.Error(plan)
					}
				})
			}
		}
	})
}

func TestAnOffsetPassesOverRowsWithoutReadingThem(t *testing.T) {
	onEach(t, func(t *testing.T, db *DB) {
		withShare(t, db, "s", "p")
		withShare(t, db, "many", "p")
		fill(t, db, 20_000)
		if db.dialect == postgresDialect {
			if _, err := db.write.ExecContext(t.Context(), "VACUUM"); err != nil { // as it does by itself
				t.Fatal(err)
			}
		}
		for _, filter := range []BackupFilter{{}, {Project: "p"}, {Project: "p", Status: ptr(abaca.Available)}} {
			s := &spy{DB: db.read}
			got, err := (reader{querier{s}}).Backups(t.Context(), filter, Page{Limited: true, Limit: 10, Offset: 15_000})
			if err != nil || len(got) != 10 {
				t.Fatal(len(got), err)
			}
			if plan := s.plan(t, db.dialect); strings.Contains(plan, "Sort") || strings.Contains(plan, "TEMP B-TREE") {
				t.Errorf("%+v: the page: %s", filter, plan)
			}
			s.query, s.args = s.single, s.singleArgs
			if plan := s.plan(t, db.dialect); !strings.Contains(plan, "COVERING INDEX") && !strings.Contains(plan, "Index Only Scan") {
				t.Errorf("%+v: %s", filter, plan)
			}
		}
	})
}

// What of a name is few and of a status is many can only be known by looking, and SQLite does not look by itself.
func TestAFilterReadsByTheIndexThatLeavesTheLeast(t *testing.T) {
	onEach(t, func(t *testing.T, db *DB) {
		withShare(t, db, "s", "p")
		withShare(t, db, "many", "p")
		fill(t, db, 20_000)
		if err := db.Survey(t.Context()); err != nil {
			t.Fatal(err)
		}
		for index, filter := range map[string]BackupFilter{
			"by_name":   {Project: "p", TextFilter: TextFilter{Name: ptr("Backup 1000007")}},
			"of_share":  {Project: "p", Share: ptr[abaca.ShareID]("s")},
			"in_status": {Project: "p", Status: ptr(abaca.Error)},
			"_status":   {Status: ptr(abaca.Deleting)},
		} {
			s := &spy{DB: db.read}
			if _, err := (reader{querier{s}}).Backups(t.Context(), filter, Page{Limited: true, Limit: 10}); err != nil {
				t.Fatal(err)
			}
			if plan := s.plan(t, db.dialect); !strings.Contains(plan, index+" ") {
				t.Errorf("%s: %s", index, plan)
			}
		}
	})
}

// BenchmarkLists asks for ten of 100 000 backups, in the ways in which clients ask.
func BenchmarkLists(b *testing.B) {
	for name, at := range databases {
		db := open(b, at(b))
		withShare(b, db, "s", "p")
		withShare(b, db, "many", "p")
		const rows = 100_000
		fill(b, db, rows)
		project, marker := BackupFilter{Project: "p"}, func(row int) string { return fmt.Sprint("id-", 1_000_000+row) }
		by := func(change func(*BackupFilter)) BackupFilter {
			f := project
			change(&f)
			return f
		}
		for _, list := range []struct {
			what   string
			filter BackupFilter
			page   Page
		}{
			{"first page", project, Page{}},
			{"last page", project, Page{Marker: marker(10)}},
			{"first page by name", project, Page{SortKey: "name"}},
			{"last page by name", project, Page{SortKey: "name", Marker: marker(10)}},
			{"last page of all projects", BackupFilter{}, Page{Marker: marker(10)}},
			{"with a frequent status", by(func(f *BackupFilter) { f.Status = ptr(abaca.Available) }), Page{}},
			{"with a rare status", by(func(f *BackupFilter) { f.Status = ptr(abaca.Error) }), Page{}},
			{"with no one's status", by(func(f *BackupFilter) { f.Status = ptr(abaca.Deleting) }), Page{}},
			{"with the oldest name", by(func(f *BackupFilter) { f.Name = ptr("Backup 1000000") }), Page{}},
			{"with no one's name", by(func(f *BackupFilter) { f.Name = ptr("backup") }), Page{}},
			{"with a part of no one's name", by(func(f *BackupFilter) { f.NameLike = ptr("nobody") }), Page{}},
			{"of a share with few", by(func(f *BackupFilter) { f.Share = ptr[abaca.ShareID]("s") }), Page{}},
			{"last page of a share with many", by(func(f *BackupFilter) { f.Share = ptr[abaca.ShareID]("many") }), Page{Marker: marker(11)}},
		} {
			b.Run(name+"/"+list.what, func(b *testing.B) {
				list.page.Limited, list.page.Limit = true, 10
				for b.Loop() {
					if _, err := db.Backups(b.Context(), list.filter, list.page); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

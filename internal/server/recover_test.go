package server_test

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"abaca"
	"abaca/internal/manager"
	"abaca/internal/server"
	"abaca/internal/test/postgres"
	"abaca/internal/test/serve"
)

func recovered(t *testing.T, c server.Config, merge bool) manager.Recovery {
	t.Helper()
	done, err := server.Recover(context.Background(), c, slog.New(slog.DiscardHandler), merge)
	if err != nil {
		t.Fatal(err)
	}
	return done
}

// lists are all shares, backups and snapshots of a project, and its quotas, as its users see them but for what is documented not to
// come back.
func lists(t *testing.T, s *serve.Server, project string) map[string]any {
	t.Helper()
	s.Token = "admin:" + project
	all := map[string]any{}
	for path, key := range map[string]string{"/shares/detail": "shares", "/share-backups/detail": "share_backups", "/snapshots/detail": "snapshots"} {
		status, answer := s.Do("GET", path+"?sort_key=id", nil)
		if status != 200 {
			t.Fatalf("%s: %d %v", path, status, answer)
		}
		for _, o := range answer[key].([]any) {
			delete(o.(object), "updated_at")
			delete(o.(object), "links")      // to another port
			delete(o.(object), "share_type") // its id, which the name stands for
		}
		all[key] = answer[key]
	}
	_, answer := s.Do("GET", "/quota-sets/"+project+"/detail", nil)
	all["quotas"] = answer["quota_set"]
	return all
}

// withTwoProjects is a server that has much to forget.
func withTwoProjects(t *testing.T, c server.Config) (s *serve.Server, saved map[string][2]string) {
	t.Helper()
	s = serve.StartWith(t, c)
	saved = map[string][2]string{}
	for _, project := range []string{"one", "two"} {
		share, backup := savedOf(t, s, project)
		saved[project] = [2]string{share, backup}
		s.Must(200, "share_backup", "PUT", "/share-backups/"+backup, object{"share_backup": object{"name": "of " + project, "description": "renamed"}})
		s.Must(200, "share", "PUT", "/shares/"+share, object{"share": object{"display_name": "share of " + project, "is_public": project == "two"}})
		other := s.Must(202, "share_backup", "POST", "/share-backups",
			object{"share_backup": object{"share_id": share, "name": "second", "backup_options": object{"a": "b"}}})["id"].(string)
		s.AtRest("/share-backups/"+other, "share_backup", "available")
		shot := s.NewShare("shot")
		sn := s.Must(202, "snapshot", "POST", "/snapshots", object{"snapshot": object{"share_id": shot, "name": "snap"}})["id"].(string)
		s.AtRest("/snapshots/"+sn, "snapshot", "available")
	}
	return s, saved
}

func forget(t *testing.T, c server.Config) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(c.DataDir, "abaca.db*"))
	if err != nil || len(files) == 0 && c.Database == "" {
		t.Fatalf("%v, %v", files, err)
	}
	for _, f := range files {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
}

func TestALostCatalogueIsMadeAgain(t *testing.T) {
	for _, database := range []string{"SQLite", "SQLite and a bucket", "PostgreSQL"} {
		for _, filesToo := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, the shares' files lost too: %v", database, filesToo), func(t *testing.T) {
				c, err := serve.Config(t.TempDir())
				if err != nil {
					t.Fatal(err)
				}
				switch database {
				case "PostgreSQL":
					c.Database = server.DatabaseURL(postgres.New(t))
				case "SQLite and a bucket":
					c, _ = inBucket(t)
				}
				s, saved := withTwoProjects(t, c)
				s.Stop()
				s = serve.StartWith(t, c) // which notes, to begin with, what has changed
				noted(t, s)
				before := map[string]map[string]any{"one": lists(t, s, "one"), "two": lists(t, s, "two")}
				s.Stop()
				forget(t, c)
				if database == "PostgreSQL" {
					c.Database = server.DatabaseURL(postgres.New(t))
				}
				if filesToo {
					if err := os.RemoveAll(filepath.Join(c.DataDir, "shares")); err != nil {
						t.Fatal(err)
					}
					if err := os.Mkdir(filepath.Join(c.DataDir, "shares"), 0o755); err != nil {
						t.Fatal(err)
					}
				}
				done := recovered(t, c, false)
				if done.Projects != 2 || done.Shares != 4 || done.Backups != 4 || done.Snapshots != 2 || done.Known != 0 || len(done.Unrecorded) > 0 {
					t.Errorf("it did %+v", done)
				}
				if want := map[bool]int{false: 0, true: 4}[filesToo]; len(done.Unready) != want {
					t.Errorf("shares that are not available: %v", done.Unready)
				}
				if _, err := server.Recover(t.Context(), c, slog.New(slog.DiscardHandler), false); err == nil || !strings.Contains(err.Error(), "--merge") {
					t.Errorf("into a database that is not empty: %v", err)
				}
				if again := recovered(t, c, true); again.Known != 6 || again.Backups+again.Snapshots+again.Shares != 0 {
					t.Errorf("again it did %+v", again)
				}
				s = serve.StartWith(t, c)
				for project, was := range before {
					is := lists(t, s, project)
					if filesToo {
						for _, o := range is["shares"].([]any) {
							if o.(object)["status"] != "backup_restoring_error" {
								t.Errorf("a share without its files is %v", o.(object)["status"])
							}
							o.(object)["status"] = "available"
						}
					}
					differences(t, project, was, is)
					comesBack(t, s, project, saved[project][0], saved[project][1])
				}
			})
		}
	}
}

// noted waits until every record says what the rows do.
func noted(t *testing.T, s *serve.Server) {
	t.Helper()
	for t.Context().Err() == nil {
		backups, err := s.DB.Unnoted(t.Context(), abaca.KindBackup, "", 10)
		if err != nil {
			t.Fatal(err)
		}
		snapshots, err := s.DB.Unnoted(t.Context(), abaca.KindSnapshot, "", 10)
		if err != nil {
			t.Fatal(err)
		}
		if len(backups)+len(snapshots) == 0 {
			return
		}
		s.Do("GET", "/shares", nil) // the wait is for another goroutine, which tells nobody
	}
}

func differences(t *testing.T, what string, was, is any) {
	t.Helper()
	w, wok := was.(map[string]any)
	i, iok := is.(map[string]any)
	if wok && iok {
		for _, key := range slices.Sorted(maps.Keys(w)) {
			differences(t, what+"."+key, w[key], i[key])
		}
		return
	}
	wl, wok := was.([]any)
	il, iok := is.([]any)
	if wok && iok && len(wl) == len(il) {
		for n := range wl {
			differences(t, fmt.Sprintf("%s[%d]", what, n), wl[n], il[n])
		}
		return
	}
	if !reflect.DeepEqual(was, is) {
		t.Errorf("%s was %v and is %v", what, was, is)
	}
}

func TestWhatNothingIsNotedOfIsRecoveredWithWhatThereIs(t *testing.T) {
	s := serve.Start(t)
	share, backup := savedOf(t, s, "one")
	s.Stop()
	if err := os.RemoveAll(filepath.Join(s.Config.DataDir, "repository", "one", "records")); err != nil {
		t.Fatal(err)
	}
	forget(t, s.Config)
	if done := recovered(t, s.Config, false); done.Backups != 1 || len(done.Unrecorded) != 1 || len(done.Unready) > 0 {
		t.Errorf("it did %+v", done)
	}
	s = serve.StartWith(t, s.Config)
	comesBack(t, s, "one", share, backup)
	noted(t, s)
}

func TestMergingAddsOnlyWhatIsMissing(t *testing.T) {
	s := serve.Start(t)
	share1, one := savedOf(t, s, "one")
	share2, two := savedOf(t, s, "two")
	before := lists(t, s, "two")
	s.Stop()
	database(t, s.Config.DataDir, "", func(d *sql.DB) error {
		_, err := d.Exec(`DELETE FROM share_backups WHERE id = ?`, two)
		if err == nil {
			_, err = d.Exec(`UPDATE quota_usages SET in_use = in_use - 1 WHERE project_id = 'two' AND resource LIKE 'backup%'`)
		}
		return err
	})
	if done := recovered(t, s.Config, true); done.Backups != 1 || done.Known != 1 || done.Shares != 0 {
		t.Errorf("it did %+v", done)
	}
	s = serve.StartWith(t, s.Config)
	differences(t, "two", before, lists(t, s, "two"))
	comesBack(t, s, "one", share1, one)
	comesBack(t, s, "two", share2, two)
}

func TestAShreddedProjectIsGoneFromTheListsAndGoesOn(t *testing.T) {
	dir := t.TempDir()
	s := serve.StartIn(t, dir)
	share1, one := savedOf(t, s, "one")
	share2, two := savedOf(t, s, "two")
	shred := func(force bool) error {
		at, err := server.OpenBeside(t.Context(), s.Config, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		defer at.Close()
		return at.Shred(t.Context(), "one", force)
	}
	if err := shred(false); err == nil || !strings.Contains(err.Error(), "--force") {
		t.Errorf("with backups: %v", err)
	}
	comesBack(t, s, "one", share1, one)
	for range 2 {
		if err := shred(true); err != nil {
			t.Fatal(err)
		}
	}
	if audit := string(read(t, s.Config.Log.Audit)); strings.Count(audit, `"action":"shred_project","outcome":"done"`) != 2 ||
		strings.Count(audit, `"action":"shred_project","outcome":"failed"`) != 1 {
		t.Errorf("audited is %s", audit)
	}
	s.Token = "admin:one"
	s.AtRest("/share-backups/"+one, "share_backup", "gone")
	comesBack(t, s, "two", share2, two)
	s.Token = "admin:one"
	again := s.NewBackup(share1)
	comesBack(t, s, "one", share1, again)
	_, answer := s.Do("GET", "/quota-sets/one/detail", nil)
	if used := answer["quota_set"].(object)["backups"].(object)["in_use"]; used != 1.0 {
		t.Errorf("backups in use: %v", used)
	}
}

package server_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"abaca/internal/test/serve"
)

func TestWhereThereShouldBeARepositoryNoneIsMade(t *testing.T) {
	for _, restarted := range []bool{false, true} {
		name := "while the server runs"
		if restarted {
			name = "before the server starts"
		}
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			c, err := serve.Config(dir)
			if err != nil {
				t.Fatal(err)
			}
			at, away := filepath.Join(t.TempDir(), "mounted"), filepath.Join(t.TempDir(), "away")
			c.Repository = "file://" + at
			if err := os.Mkdir(at, 0o700); err != nil {
				t.Fatal(err)
			}
			s := serve.StartWith(t, c)
			share, other := s.NewShare("docs"), s.NewShare("more")
			write(t, filepath.Join(s.Share(share), "file"), []byte("content"))
			kept := s.NewBackup(share)
			if restarted {
				s.Stop()
			}
			if err := os.Rename(at, away); err != nil { // as a file system that is not mounted, which leaves an empty directory
				t.Fatal(err)
			}
			if err := os.Mkdir(at, 0o700); err != nil {
				t.Fatal(err)
			}
			if restarted {
				s = serve.StartWith(t, c)
			}
			for _, of := range []string{share, other} {
				id := s.Must(202, "share_backup", "POST", "/share-backups", object{"share_backup": object{"share_id": of}})["id"].(string)
				s.AtRest("/share-backups/"+id, "share_backup", "error")
				s.AtRest("/shares/"+of, "share", "available")
				want := "create share backup " + id + ": the storage of backups does not have what the project has saved"
				if told := messages(t, s, of); len(told) != 1 || told[0] != want {
					t.Errorf("the tenant is told %q", told)
				}
			}
			s.Must(202, "restore", "POST", "/share-backups/"+kept+"/action", object{"restore": other})
			s.AtRest("/shares/"+other, "share", "backup_restoring_error")
			s.AtRest("/share-backups/"+kept, "share_backup", "available")
			want := "restore share backup " + kept + ": the storage of backups does not have what the project has saved"
			if told := messages(t, s, other); !slices.Contains(told, want) {
				t.Errorf("the tenant is told %q", told)
			}
			s.Token = "ann:lab"
			s.NewBackup(s.NewShare("first")) // of a project that has nothing yet
			s.Token = "admin:admin"
			if err := os.RemoveAll(at); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(away, at); err != nil {
				t.Fatal(err)
			}
			s.Must(202, "restore", "POST", "/share-backups/"+kept+"/action", object{"restore": other})
			s.AtRest("/shares/"+other, "share", "available")
			s.NewBackup(other)
			write(t, filepath.Join(s.Share(share), "file"), []byte("changed"))
			s.Restore(kept)
			if got := read(t, filepath.Join(s.Share(share), "file")); string(got) != "content" {
				t.Errorf("%q was restored", got)
			}
		})
	}
}

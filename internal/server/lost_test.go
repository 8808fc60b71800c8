package server_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"abaca/internal/server"
	"abaca/internal/test/serve"
)

// losing are the ways in which a back end's files go: with its configuration, or with all that was at its path.
var losing = map[string]func(t *testing.T, c *server.Config){
	"its configuration is gone": func(_ *testing.T, c *server.Config) { c.Backends = c.Backends[1:] },
	"its path is gone": func(t *testing.T, c *server.Config) {
		t.Helper()
		if err := os.RemoveAll(c.Backends[0].Path); err != nil {
			t.Fatal(err)
		}
		c.Backends[0], c.Backends[1] = c.Backends[1], c.Backends[0]
	},
}

func TestBackupsOutliveTheirBackEnd(t *testing.T) {
	for name, lose := range losing {
		t.Run(name, func(t *testing.T) {
			c, err := serve.Config(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			lost, other := c.Backends[0], c.Backends[0]
			lost.Name, lost.Path = "lost", filepath.Join(c.DataDir, "lost")
			c.Backends = []server.BackendConfig{lost, other}
			s := serve.StartWith(t, c)
			s.Token = "ann:lab"
			share := s.NewShare("docs")
			write(t, filepath.Join(lost.Path, share, "file"), []byte("content"))
			one, two := s.NewBackup(share), s.NewBackup(share)
			s.Token = "root:admin"
			s.Must(200, "", "PUT", "/services/disable", object{"host": "abaca@lost", "binary": "manila-share"})
			s.Token = "ann:lab"
			waits := s.Must(202, "share_backup", "POST", "/share-backups", object{"share_backup": object{"share_id": share}})["id"].(string)
			s.Stop()
			lose(t, &c)
			s = serve.StartWith(t, c, server.WithSearch(0))
			s.Token = "root:admin"
			enable := object{"host": "abaca@lost", "binary": "manila-share"}
			if status, _ := s.Do("PUT", "/services/enable", enable); status != 200 && len(c.Backends) > 1 {
				t.Errorf("enabling the back end: %d", status)
			}
			for _, caller := range []string{"ann:lab", "root:admin"} {
				s.Token = caller
				if b := s.Must(200, "share_backup", "GET", "/share-backups/"+one, nil); b["status"] != "available" || b["share_id"] != share {
					t.Errorf("%s sees %v", caller, b)
				}
				_, answer := s.Do("GET", "/share-backups/detail?all_tenants=1", nil)
				if n := len(answer["share_backups"].([]any)); n != 3 {
					t.Errorf("%s sees %d backups", caller, n)
				}
				target := s.NewShare("for " + strings.ReplaceAll(caller, ":", " of "))
				s.Must(202, "restore", "POST", "/share-backups/"+one+"/action", object{"restore": target})
				s.AtRest("/shares/"+target, "share", "available")
				if got := read(t, filepath.Join(s.Share(target), "file")); string(got) != "content" {
					t.Errorf("%s restores %q", caller, got)
				}
			}
			s.Token = "ann:lab"
			s.AtRest("/share-backups/"+waits, "share_backup", "error")
			s.AtRest("/shares/"+share, "share", "available")
			restore := object{"restore": nil}
			if known := len(c.Backends) > 1; known {
				s.Must(202, "restore", "POST", "/share-backups/"+one+"/action", restore)
				s.AtRest("/shares/"+share, "share", "backup_restoring_error")
				s.AtRest("/share-backups/"+one, "share_backup", "available")
			} else if status, answer := s.Do("POST", "/share-backups/"+one+"/action", restore); status != 503 {
				t.Errorf("restoring into the share itself: %d %v", status, answer)
			}
			told := messages(t, s, share)
			if len(told) != len(c.Backends) || strings.Contains(strings.Join(told, "\n"), c.DataDir) {
				t.Errorf("the tenant is told %v", told)
			}
			// A share with backups is not deleted, by nobody.
			if status, _ := s.Do("DELETE", "/shares/"+share, nil); status != 403 && status != 409 {
				t.Errorf("deleting the share: %d", status)
			}
			s.Token = "root:admin"
			if status, _ := s.Do("POST", "/shares/"+share+"/action", object{"force_delete": nil}); status < 400 || status >= 500 {
				t.Errorf("deleting the share by force: %d", status)
			}
			for _, b := range []string{one, two, waits} {
				s.Must(202, "", "DELETE", "/share-backups/"+b, nil)
				s.AtRest("/share-backups/"+b, "share_backup", "gone")
			}
		})
	}
}

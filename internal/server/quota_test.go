package server_test

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"abaca/internal/server"
	"abaca/internal/test/serve"
)

// astray lists the resources of which a project is charged something else than the sum of its rows, as they were at one moment.
const astray = `SELECT s.resource || ': ' || s.n || ' are there, ' || coalesce(u.in_use, 0) || ' are charged' FROM (
		SELECT 'shares' AS resource, (SELECT count(*) FROM shares WHERE project_id = $1) AS n
		UNION ALL SELECT 'gigabytes', (SELECT coalesce(sum(size), 0) FROM shares WHERE project_id = $1)
		UNION ALL SELECT 'snapshots', (SELECT count(*) FROM share_snapshots WHERE project_id = $1)
		UNION ALL SELECT 'snapshot_gigabytes', (SELECT coalesce(sum(share_size), 0) FROM share_snapshots WHERE project_id = $1)
		UNION ALL SELECT 'backups', (SELECT count(*) FROM share_backups WHERE project_id = $1)
		UNION ALL SELECT 'backup_gigabytes', (SELECT coalesce(sum(size), 0) FROM share_backups WHERE project_id = $1)
	) s LEFT JOIN quota_usages u ON u.project_id = $1 AND u.resource = s.resource WHERE s.n <> coalesce(u.in_use, 0)`

// chargedAstray reads past the server, as only a test may, what is charged wrongly.
func chargedAstray(ctx context.Context, d *sql.DB, project string) (wrong []string, err error) {
	rows, err := d.QueryContext(ctx, astray, project)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var w string
		if err := rows.Scan(&w); err != nil {
			return nil, err
		}
		wrong = append(wrong, w)
	}
	return wrong, rows.Err()
}

func TestOfManyCreationsAtOnceExactlyAsManyPassAsMay(t *testing.T) {
	s := serve.Start(t)
	const many, may = 200, 10
	s.Must(200, "quota_set", "PUT", "/quota-sets/admin", object{"quota_set": object{"shares": many}})
	// Each of the shares can be backed up by itself, so that nothing but the quota stands in the way.
	made := atMost(t, s, many+20, "/shares", func(int) string { return `{"share": {"share_proto": "NFS", "size": 1}}` })
	if made != many {
		t.Fatalf("%d shares were made, and %d may be", made, many)
	}
	_, answer := s.Do("GET", "/shares", nil)
	var shares []string
	for _, o := range answer["shares"].([]any) {
		shares = append(shares, o.(object)["id"].(string))
	}
	for _, id := range shares {
		s.AtRest("/shares/"+id, "share", "available")
	}
	made = atMost(t, s, many, "/share-backups", func(i int) string { return `{"share_backup": {"share_id": "` + shares[i] + `"}}` })
	if made != may {
		t.Errorf("%d backups were made, and %d may be", made, may)
	}
	database(t, s.Config.DataDir, s.Config.Database, func(d *sql.DB) error {
		wrong, err := chargedAstray(t.Context(), d, "admin")
		if len(wrong) > 0 {
			t.Error(wrong)
		}
		return err
	})
}

// atMost makes n requests at once, of which each is accepted or refused for the quota, and returns how many were accepted.
func atMost(t *testing.T, s *serve.Server, n int, path string, body func(i int) string) int {
	t.Helper()
	begin, answers := make(chan struct{}), make(chan error, n)
	var accepted atomic.Int64
	for i := range n {
		go func() {
			<-begin
			answers <- func() error {
				r, err := http.NewRequestWithContext(t.Context(), "POST", s.URL+"/v2"+path, strings.NewReader(body(i)))
				if err != nil {
					return err
				}
				for k, v := range map[string]string{
					"X-Auth-Token": s.Token, "Content-Type": "application/json", "X-OpenStack-Manila-API-Version": "2.99",
					"X-OpenStack-Manila-API-Experimental": "true",
				} {
					r.Header.Set(k, v)
				}
				resp, err := http.DefaultClient.Do(r)
				if err != nil {
					return err
				}
				defer resp.Body.Close()
				b, err := io.ReadAll(resp.Body)
				full := strings.Contains(string(b), `"overLimit"`) && strings.Contains(string(b), `"retryAfter":"0"`) && strings.Contains(string(b), "exceed")
				switch {
				case err != nil:
					return err
				case resp.StatusCode < 300:
					accepted.Add(1)
				case resp.StatusCode != 413 || !full || resp.Header.Get("Retry-After") != "0":
					return fmt.Errorf("%d %v %s", resp.StatusCode, resp.Header, b)
				}
				return nil
			}()
		}()
	}
	close(begin)
	for range n {
		if err := <-answers; err != nil {
			t.Error(err)
		}
	}
	return int(accepted.Load())
}

func TestLimitsBelowWhatIsInUseStopCreationsAndNotDeletions(t *testing.T) {
	s := serve.Start(t)
	share := s.NewShare("docs")
	backup := s.NewBackup(share)
	create := object{"share_backup": object{"share_id": share}}
	s.Must(400, "badRequest", "PUT", "/quota-sets/admin", object{"quota_set": object{"backups": 0}})
	s.Must(200, "quota_set", "PUT", "/quota-sets/admin", object{"quota_set": object{"backups": 0, "backup_gigabytes": 0, "force": true}})
	full := s.Must(413, "overLimit", "POST", "/share-backups", create)
	if !strings.Contains(full["message"].(string), "backup_gigabytes") {
		t.Errorf("sizes are not told of first: %v", full)
	}
	s.Must(202, "", "DELETE", "/quota-sets/admin", nil)
	s.Must(200, "quota_class_set", "PUT", "/quota-class-sets/default", object{"quota_class_set": object{"backups": 1, "shares": -1}})
	for path, key := range map[string]string{"/quota-sets/admin": "quota_set", "/quota-sets/admin/defaults": "quota_set", "/quota-class-sets/default": "quota_class_set"} {
		if q := s.Must(200, key, "GET", path, nil); q["backups"] != 1.0 || q["shares"] != -1.0 || q["backup_gigabytes"] != 1000.0 {
			t.Errorf("%s: %v", path, q)
		}
	}
	absolute := s.Must(200, "limits", "GET", "/limits", nil)["absolute"].(object)
	if absolute["maxTotalShareBackups"] != 1.0 || absolute["totalShareBackupsUsed"] != 1.0 || absolute["maxTotalShares"] != -1.0 || absolute["totalBackupGigabytesUsed"] != 1.0 {
		t.Errorf("limits: %v", absolute)
	}
	s.Must(413, "overLimit", "POST", "/share-backups", create)
	s.Must(202, "", "DELETE", "/share-backups/"+backup, nil)
	s.AtRest("/share-backups/"+backup, "share_backup", "gone")
	s.Must(202, "share_backup", "POST", "/share-backups", create)
}

func TestQuotaRequestsThatMakeNoSense(t *testing.T) {
	s := serve.Start(t, server.WithAuthenticator(people{}))
	root, ann := by(s, "root:admins:admin"), by(s, "ann:demo:member")
	types, _ := ann.Must(200, "share_type", "GET", "/types/default", nil)["id"].(string)
	quotas := func(name string, value any) object { return object{"quota_set": object{name: value}} }
	for _, test := range []struct {
		by           *serve.Client
		method, path string
		body         any
		status       int
	}{
		{ann, "GET", "/quota-sets/demo?user_id=ann", nil, 200},
		{ann, "GET", "/quota-sets/demo?share_type=default", nil, 200},
		{ann, "GET", "/quota-sets/demo/detail?share_type=" + types, nil, 200},
		{ann, "GET", "/quota-sets/demo?share_type=unknown", nil, 404},
		{ann, "GET", "/quota-sets/demo?share_type=default&user_id=ann", nil, 400},
		{ann, "GET", "/quota-sets/other", nil, 403},
		{ann, "GET", "/quota-sets/other/detail", nil, 403},
		{ann, "GET", "/quota-sets/other/defaults", nil, 403},
		{ann, "PUT", "/quota-sets/demo", quotas("backups", 100), 403},
		{ann, "DELETE", "/quota-sets/demo", nil, 403},
		{ann, "GET", "/quota-class-sets/default", nil, 200},
		{ann, "GET", "/quota-class-sets/other", nil, 404},
		{ann, "PUT", "/quota-class-sets/default", object{"quota_class_set": object{"backups": 1}}, 403},
		{root, "PUT", "/quota-class-sets/other", object{"quota_class_set": object{"backups": 1}}, 404},
		{root, "PUT", "/quota-class-sets/default", object{"quota_class_set": object{"cakes": 1}}, 400},
		{root, "PUT", "/quota-class-sets/default", object{"quota_class_set": object{"backups": -2}}, 400},
		{root, "PUT", "/quota-class-sets/default", object{"quota_class_set": object{}}, 400},
		{root, "PUT", "/quota-class-sets/default", quotas("backups", 1), 400},
		{root, "PUT", "/quota-sets/demo?user_id=ann", quotas("backups", 100), 400},
		{root, "PUT", "/quota-sets/demo?share_type=default", quotas("backups", 100), 400},
		{root, "DELETE", "/quota-sets/demo?user_id=ann", nil, 400},
		{root, "PUT", "/quota-sets/demo", quotas("backups", -2), 400},
		{root, "PUT", "/quota-sets/demo", quotas("backups", "many"), 400},
		{root, "PUT", "/quota-sets/demo", quotas("backups", true), 400},
		{root, "PUT", "/quota-sets/demo", quotas("backups", 1.5), 400},
		{root, "PUT", "/quota-sets/demo", quotas("backups", 1e30), 400},
		{root, "PUT", "/quota-sets/demo", quotas("backups", nil), 400},
		{root, "PUT", "/quota-sets/demo", quotas("backups", []int{1}), 400},
		{root, "PUT", "/quota-sets/demo", quotas("cakes", 1), 400},
		{root, "PUT", "/quota-sets/demo", object{"quota_set": object{"backups": 1, "cakes": 1}}, 400},
		{root, "PUT", "/quota-sets/demo", object{"quota_set": object{"backups": 1, "force": "perhaps"}}, 400},
		{root, "PUT", "/quota-sets/demo", object{"quota_set": object{"force": true}}, 400},
		{root, "PUT", "/quota-sets/demo", object{"quotas": object{"backups": 1}}, 400},
		{root, "PUT", "/quota-sets/%00", quotas("backups", 1), 404},
		{root, "PUT", "/quota-sets/demo", object{"quota_set": object{"backups": "7", "force": "true", "tenant_id": "demo"}}, 200},
		{root, "DELETE", "/quota-sets/demo", nil, 202},
	} {
		if status, answer := test.by.Do(test.method, test.path, test.body); status != test.status {
			t.Errorf("%s %s %v by %s: %d, want %d: %v", test.method, test.path, test.body, test.by.Token, status, test.status, answer)
		}
	}
	r, err := http.NewRequestWithContext(t.Context(), "PUT", s.URL+"/v2/quota-sets/demo", strings.NewReader(`{"quota_set": {"backups": 1}}`))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range map[string]string{"X-Auth-Token": root.Token, "Content-Type": "application/json", "X-OpenStack-Manila-API-Version": "2.79"} {
		r.Header.Set(k, v)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 400 {
		t.Errorf("quotas of backups before there were backups: %d", resp.StatusCode)
	}
}

// A player makes random requests, some of which make no sense, in one project.
type player struct {
	*rapid.T
	*serve.Client
	dir     string // of the back end
	project string
	broken  *atomic.Int64 // how many of the next steps of work fail
}

func (p *player) request() {
	one := func(list, key string) string {
		_, answer := p.Do("GET", "/"+list, nil)
		var ids []string
		for _, o := range answer[key].([]any) {
			ids = append(ids, o.(object)["id"].(string))
		}
		if len(ids) == 0 {
			return "none"
		}
		return ids[rapid.IntRange(0, len(ids)-1).Draw(p.T, "which")]
	}
	status := func() string {
		return rapid.SampledFrom([]string{"available", "error", "creating", "deleting", "error_deleting"}).Draw(p.T, "status")
	}
	size := rapid.IntRange(1, 3).Draw(p.T, "size")
	method, path, body := "POST", "", object(nil)
	switch rapid.SampledFrom([]string{"share", "share", "backup", "backup", "backup", "snapshot", "restore", "delete share", "delete backup", "delete snapshot",
		"force delete", "manage", "unmanage", "reset share", "reset backup", "reset snapshot", "break", "limit", "unlimit"}).Draw(p.T, "request") {
	case "share":
		path, body = "/shares", object{"share": object{"share_proto": "NFS", "size": size}}
	case "backup":
		path, body = "/share-backups", object{"share_backup": object{"share_id": one("shares", "shares")}}
	case "snapshot":
		path, body = "/snapshots", object{"snapshot": object{"share_id": one("shares", "shares")}}
	case "restore":
		path, body = "/share-backups/"+one("share-backups", "share_backups")+"/action", object{"restore": one("shares", "shares")}
	case "delete share":
		method, path = "DELETE", "/shares/"+one("shares", "shares")
	case "delete backup":
		method, path = "DELETE", "/share-backups/"+one("share-backups", "share_backups")
	case "delete snapshot":
		method, path = "DELETE", "/snapshots/"+one("snapshots", "snapshots")
	case "force delete":
		path, body = "/shares/"+one("shares", "shares")+"/action", object{"force_delete": nil}
	case "manage":
		dir := filepath.Join(p.dir, fmt.Sprintf("%s-%d", p.project, size))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			p.Fatal(err)
		}
		path, body = "/shares/manage", object{"share": object{"service_host": "abaca@local#local", "export_path": dir, "protocol": "NFS"}}
	case "unmanage":
		path, body = "/shares/"+one("shares", "shares")+"/action", object{"unmanage": nil}
	case "reset share":
		path, body = "/shares/"+one("shares", "shares")+"/action", object{"reset_status": object{"status": status()}}
	case "reset backup":
		path, body = "/share-backups/"+one("share-backups", "share_backups")+"/action", object{"reset_status": object{"status": status()}}
	case "reset snapshot":
		path, body = "/snapshots/"+one("snapshots", "snapshots")+"/action", object{"reset_status": object{"status": status()}}
	case "break":
		p.broken.Store(int64(size))
		return
	case "limit":
		method, path, body = "PUT", "/quota-sets/"+p.project, object{"quota_set": object{"shares": size, "backups": size, "backup_gigabytes": 2 * size, "force": true}}
	case "unlimit":
		method, path = "DELETE", "/quota-sets/"+p.project
	}
	if code, answer := p.Do(method, path, body); code >= 500 {
		p.Errorf("%s %s %v: %d %v", method, path, body, code, answer)
	}
}

func TestWhateverIsAskedForWhatIsChargedIsTheSumOfTheRows(t *testing.T) {
	if checks := flag.Lookup("rapid.checks"); checks.Value.String() == checks.DefValue {
		if err := flag.Set("rapid.checks", "50"); err != nil { // each makes dozens of requests
			t.Fatal(err)
		}
	}
	var broken atomic.Int64
	s := serve.Start(t, server.WithStep(func(context.Context, string) error {
		if broken.Add(-1) >= 0 {
			return errors.New("broken by the test")
		}
		return nil
	}))
	database(t, s.Config.DataDir, s.Config.Database, func(d *sql.DB) error {
		n := 0
		rapid.Check(t, func(r *rapid.T) {
			n++
			p := &player{T: r, project: fmt.Sprint("project", n), dir: filepath.Join(s.Config.DataDir, "shares"), broken: &broken}
			p.Client = by(s, "ann:"+p.project)
			for range rapid.IntRange(5, 40).Draw(r, "requests") {
				p.request()
				// At any moment, also while work ends: each end is one transaction with what it gives back.
				wrong, err := chargedAstray(t.Context(), d, p.project)
				if err != nil {
					r.Fatal(err)
				}
				for _, w := range wrong {
					r.Error(w)
				}
			}
			broken.Store(0)
		})
		return nil
	})
}

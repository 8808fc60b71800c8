package server_test

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"abaca/internal/server"
	"abaca/internal/test/loop"
	"abaca/internal/test/serve"
	"abaca/internal/test/torture"
)

type object = map[string]any

// equal fails the test where two trees differ.
func equal(t *testing.T, want, got string) {
	t.Helper()
	differences, err := torture.Compare(want, got)
	if err != nil {
		t.Fatal(err)
	}
	if len(differences) > 10 {
		differences = append(differences[:10], fmt.Sprintf("… and %d more", len(differences)-10))
	}
	for _, d := range differences {
		t.Error(d)
	}
}

// copyTree copies a tree as faithfully as the system's own tool can.
func copyTree(t *testing.T, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func TestFilesSurviveBackupVandalismAndRestore(t *testing.T) {
	s := serve.Start(t)
	share := s.NewShare("docs")
	files := 5_000
	if testing.Short() {
		files = 500
	}
	if err := torture.Grow(s.Share(share), 1, files); err != nil {
		t.Fatal(err)
	}
	backup := s.NewBackup(share)
	kept := filepath.Join(t.TempDir(), "kept")
	copyTree(t, s.Share(share), kept)
	if n, err := torture.Vandalise(s.Share(share), 2, files/10); err != nil || n == 0 {
		t.Fatalf("%d changes, %v", n, err)
	}
	s.Restore(backup)
	equal(t, kept, s.Share(share))
	b := s.Must(200, "share_backup", "GET", "/share-backups/"+backup, nil)
	if b["progress"] != "100" || b["restore_progress"] != "100" {
		t.Errorf("progress %v, restore_progress %v", b["progress"], b["restore_progress"])
	}
	sh := s.Must(200, "share", "GET", "/shares/"+share, nil)
	if sh["source_backup_id"] != backup {
		t.Errorf("source_backup_id is %v", sh["source_backup_id"])
	}
}

func TestATreeThatIsHardToKeepIsKept(t *testing.T) {
	s := serve.Start(t)
	share := s.NewShare("docs")
	kept := t.TempDir()                           // planted anew, since no tool copies all of it
	if err := os.Chmod(kept, 0o777); err != nil { // as a share is made
		t.Fatal(err)
	}
	for _, root := range []string{s.Share(share), kept} {
		missing, err := torture.Plant(root)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range missing {
			t.Logf("the tree has no %s", m)
		}
	}
	backup := s.NewBackup(share)
	if _, err := torture.Vandalise(s.Share(share), 2, 100); err != nil {
		t.Fatal(err)
	}
	s.Restore(backup)
	equal(t, kept, s.Share(share))
}

func TestABackupOnBtrfsIsOnePointInTime(t *testing.T) {
	s := serve.StartIn(t, loop.Mount(t, "btrfs"))
	share, copied := s.NewShare("busy"), s.NewShare("copied")
	stop, err := torture.Count(s.Share(share))
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		backup := s.NewBackup(share)
		s.Must(202, "restore", "POST", "/share-backups/"+backup+"/action", object{"restore": copied})
		s.AtRest("/shares/"+copied, "share", "available")
		if err := torture.OneMoment(s.Share(copied)); err != nil {
			t.Error(err)
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(filepath.Join(s.Config.DataDir, "shares", ".abaca-snapshots")); err != nil || len(left) > 0 {
		t.Errorf("snapshots are left behind: %v, %v", left, err)
	}
}

func TestABackupOfWhatHasNotChangedStoresNextToNothing(t *testing.T) {
	s := serve.Start(t)
	share := s.NewShare("docs")
	if err := torture.Grow(s.Share(share), 3, 1000); err != nil {
		t.Fatal(err)
	}
	repository := filepath.Join(s.Config.DataDir, "repository")
	s.NewBackup(share)
	first := size(t, repository)
	s.NewBackup(share)
	if second := size(t, repository) - first; second > first/20 || second > 64<<10 {
		t.Errorf("the first backup takes %d bytes, the second %d", first, second)
	}
}

func size(t *testing.T, dir string) (bytes int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().IsRegular() {
			bytes += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return bytes
}

func TestARestoreIntoAnotherShareLeavesTheFirstAlone(t *testing.T) {
	s := serve.Start(t)
	from, to := s.NewShare("from"), s.NewShare("to")
	if err := torture.Grow(s.Share(from), 4, 200); err != nil {
		t.Fatal(err)
	}
	backup := s.NewBackup(from)
	if err := torture.Grow(s.Share(to), 5, 50); err != nil {
		t.Fatal(err)
	}
	answer := s.Must(202, "restore", "POST", "/share-backups/"+backup+"/action", object{"restore": to})
	if answer["share_id"] != to {
		t.Errorf("restores into %v", answer["share_id"])
	}
	s.AtRest("/shares/"+to, "share", "available")
	equal(t, s.Share(from), s.Share(to))
	if sh := s.Must(200, "share", "GET", "/shares/"+from, nil); sh["source_backup_id"] != nil {
		t.Errorf("the source has a source_backup_id: %v", sh["source_backup_id"])
	}
}

func TestAShareMadeFromASnapshotHasItsFiles(t *testing.T) {
	s := serve.Start(t)
	share := s.NewShare("docs")
	if err := torture.Grow(s.Share(share), 6, 100); err != nil {
		t.Fatal(err)
	}
	kept := filepath.Join(t.TempDir(), "kept")
	copyTree(t, s.Share(share), kept)
	snapshot := s.Must(202, "snapshot", "POST", "/snapshots", object{"snapshot": object{"share_id": share}})["id"].(string)
	s.AtRest("/snapshots/"+snapshot, "snapshot", "available")
	if _, err := torture.Vandalise(s.Share(share), 7, 50); err != nil {
		t.Fatal(err)
	}
	body := object{"share": object{"share_proto": "NFS", "size": 1, "snapshot_id": snapshot}}
	second := s.Must(200, "share", "POST", "/shares", body)["id"].(string)
	s.AtRest("/shares/"+second, "share", "available")
	equal(t, kept, s.Share(second))
	s.Must(403, "forbidden", "DELETE", "/shares/"+share, nil)
	s.Must(202, "", "DELETE", "/snapshots/"+snapshot, nil)
	s.AtRest("/snapshots/"+snapshot, "snapshot", "gone")
	s.Must(202, "", "DELETE", "/shares/"+share, nil)
	s.AtRest("/shares/"+share, "share", "gone")
	if _, err := os.Stat(s.Share(share)); !os.IsNotExist(err) {
		t.Errorf("the deleted share's directory is there: %v", err)
	}
}

func TestOneShareIsBackedUpOnceAtATimeAndSeveralSharesTogether(t *testing.T) {
	c, err := serve.Config(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	c.Workers.TreesPerProject = 0
	inside, release := make(chan string, 8), make(chan struct{})
	s := serve.StartWith(t, c, server.WithStep(func(ctx context.Context, name string) error {
		if name != "create_backup: opened" {
			return nil
		}
		inside <- name
		select {
		case <-release:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}))
	one, two := s.NewShare("one"), s.NewShare("two")
	create := func(share string) object { return object{"share_backup": object{"share_id": share}} }
	b1 := s.Must(202, "share_backup", "POST", "/share-backups", create(one))["id"].(string)
	s.Must(400, "badRequest", "POST", "/share-backups", create(one))
	b2 := s.Must(202, "share_backup", "POST", "/share-backups", create(two))["id"].(string)
	<-inside
	<-inside // both are inside at once, or this never comes
	for _, id := range []string{one, two} {
		if sh := s.Must(200, "share", "GET", "/shares/"+id, nil); sh["status"] != "backup_creating" {
			t.Errorf("share %s is %v", id, sh["status"])
		}
	}
	s.Must(403, "forbidden", "DELETE", "/shares/"+one, nil)
	close(release)
	for _, b := range []string{b1, b2} {
		s.AtRest("/share-backups/"+b, "share_backup", "available")
	}
}

func TestQuotasAreTheSumOfTheRowsAllAlong(t *testing.T) {
	s := serve.Start(t)
	used := func(wantShares, wantBackups float64) {
		t.Helper()
		q := s.Must(200, "quota_set", "GET", "/quota-sets/admin/detail", nil)
		for name, want := range map[string]float64{
			"shares": wantShares, "gigabytes": wantShares, "backups": wantBackups, "backup_gigabytes": wantBackups,
		} {
			if got := q[name].(object)["in_use"]; got != want {
				t.Errorf("%s: %v in use, want %v", name, got, want)
			}
		}
	}
	share := s.NewShare("docs")
	used(1, 0)
	backup := s.NewBackup(share)
	used(1, 1)
	s.Must(200, "quota_set", "PUT", "/quota-sets/admin", object{"quota_set": object{"backups": 1}})
	refused := s.Must(413, "overLimit", "POST", "/share-backups", object{"share_backup": object{"share_id": share}})
	if !strings.Contains(refused["message"].(string), "exceed") {
		t.Error(refused)
	}
	if sh := s.Must(200, "share", "GET", "/shares/"+share, nil); sh["status"] != "available" {
		t.Errorf("a refused backup leaves the share %v", sh["status"])
	}
	used(1, 1)
	s.Must(202, "", "DELETE", "/share-backups/"+backup, nil)
	s.AtRest("/share-backups/"+backup, "share_backup", "gone")
	used(1, 0)
	s.Must(202, "", "DELETE", "/shares/"+share, nil)
	s.AtRest("/shares/"+share, "share", "gone")
	used(0, 0)
}

func TestAFailureIsToldAndNothingStaysBusy(t *testing.T) {
	s := serve.Start(t)
	share := s.NewShare("docs")
	backup := s.NewBackup(share)
	if err := os.RemoveAll(s.Share(share)); err != nil {
		t.Fatal(err)
	}
	failed := s.Must(202, "share_backup", "POST", "/share-backups", object{"share_backup": object{"share_id": share}})["id"].(string)
	s.AtRest("/share-backups/"+failed, "share_backup", "error")
	s.AtRest("/shares/"+share, "share", "available")
	s.Must(202, "restore", "POST", "/share-backups/"+backup+"/action", object{"restore": nil})
	s.AtRest("/shares/"+share, "share", "backup_restoring_error")
	s.AtRest("/share-backups/"+backup, "share_backup", "available")

	_, answer := s.Do("GET", "/messages?resource_id="+share, nil)
	messages := answer["messages"].([]any)
	if len(messages) != 2 {
		t.Fatalf("the tenant is told %v", messages)
	}
	for _, m := range messages {
		text := m.(object)["user_message"].(string)
		if strings.Contains(text, s.Config.DataDir) || !strings.Contains(text, "directory cannot be opened") {
			t.Errorf("the tenant is told %q", text)
		}
	}
	if err := os.Mkdir(s.Share(share), 0o755); err != nil {
		t.Fatal(err)
	}
	s.Restore(backup) // the owner can try again without an administrator
}

func TestAStatusResetByHandStartsNothingAndStopsWhatRuns(t *testing.T) {
	inside := make(chan struct{}, 8)
	s := serve.Start(t, server.WithStep(func(ctx context.Context, name string) error {
		if name != "create_backup: opened" {
			return nil
		}
		inside <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}))
	share := s.NewShare("docs")
	backup := s.Must(202, "share_backup", "POST", "/share-backups", object{"share_backup": object{"share_id": share}})["id"].(string)
	<-inside
	reset := func(status string) {
		t.Helper()
		s.Must(202, "", "POST", "/share-backups/"+backup+"/action", object{"reset_status": object{"status": status}})
	}
	reset("error")
	s.AtRest("/shares/"+share, "share", "available")
	reset("creating")
	s.Must(400, "badRequest", "DELETE", "/share-backups/"+backup, nil)
	s.Must(400, "badRequest", "POST", "/share-backups/"+backup+"/action", object{"restore": nil})
	reset("available")
	s.Must(400, "badRequest", "POST", "/share-backups/"+backup+"/action", object{"restore": nil}) // it never got data
	s.Must(202, "", "DELETE", "/share-backups/"+backup, nil)
	s.AtRest("/share-backups/"+backup, "share_backup", "gone")
}

func TestOnlyADirectoryBelowABackEndIsAdopted(t *testing.T) {
	s := serve.Start(t)
	shares := filepath.Join(s.Config.DataDir, "shares")
	other := s.NewShare("other")
	for _, dir := range []string{"plain/inner", "plain2"} {
		if err := os.MkdirAll(filepath.Join(shares, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc", filepath.Join(shares, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(shares, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	adopt := func(status int, host, path string) object {
		t.Helper()
		key := map[int]string{200: "share", 400: "badRequest", 404: "itemNotFound", 409: "conflictingRequest"}[status]
		return s.Must(status, key, "POST", "/shares/manage",
			object{"share": object{"service_host": host, "export_path": path, "protocol": "nfs", "name": "adopted"}})
	}
	const here = "abaca@local#local"
	for _, path := range []string{
		"/etc", "127.0.0.1:/etc", shares, shares + "/", shares + "/link", shares + "/link/ssh", shares + "/file", shares + "/missing",
		shares + "/../../etc", shares + "/plain/../..", "plain", "", shares + "/plain\x00",
	} {
		if path == "" {
			s.Must(422, "computeFault", "POST", "/shares/manage", object{"share": object{"service_host": here, "export_path": "", "protocol": "nfs"}})
			continue
		}
		adopt(400, here, path)
	}
	adopt(400, "abaca@local", shares+"/plain")
	adopt(404, "abaca@nowhere#nowhere", shares+"/plain")
	adopt(409, here, s.Share(other))
	share := adopt(200, here, "127.0.0.1:"+shares+"/plain/inner")["id"].(string)
	sh := s.AtRest("/shares/"+share, "share", "available")
	if sh["size"] != 1.0 {
		t.Errorf("the adopted share has %v GiB", sh["size"])
	}
	adopt(409, here, shares+"/plain")
	adopt(409, here, shares+"/plain/inner")
	_, answer := s.Do("GET", "/shares/"+share+"/export_locations", nil)
	if got := answer["export_locations"].([]any)[0].(object)["path"]; got != "127.0.0.1:"+shares+"/plain/inner" {
		t.Errorf("it is exported at %v", got)
	}
	s.Must(202, "", "POST", "/shares/"+share+"/action", object{"unmanage": nil})
	s.Must(404, "itemNotFound", "GET", "/shares/"+share, nil)
	if _, err := os.Stat(filepath.Join(shares, "plain/inner")); err != nil {
		t.Errorf("unmanaging took the files: %v", err)
	}
}

func TestWorkGoesOnAfterAStop(t *testing.T) {
	dir := t.TempDir()
	inside := make(chan struct{}, 1)
	first := serve.StartIn(t, dir, server.WithStep(func(ctx context.Context, name string) error {
		if name != "create_backup: opened" {
			return nil
		}
		inside <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}))
	share := first.NewShare("docs")
	backup := first.Must(202, "share_backup", "POST", "/share-backups", object{"share_backup": object{"share_id": share}})["id"].(string)
	<-inside
	first.Stop()
	second := serve.StartIn(t, dir)
	second.AtRest("/share-backups/"+backup, "share_backup", "available")
	second.AtRest("/shares/"+share, "share", "available")
}

func TestADataDirectoryHasOneServer(t *testing.T) {
	s := serve.Start(t)
	c, err := serve.Config(s.Config.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := server.Open(t.Context(), c, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "another abaca") {
		t.Errorf("a second server: %v", err)
	}
}

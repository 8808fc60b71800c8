package server_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"abaca/internal/server"
)

func TestWorkGoesToWhoReachesTheFilesAndWaitsForThem(t *testing.T) {
	f := newFleet(t, nil)
	api := f.launch("api", "api")
	near := server.BackendConfig{Name: "near", Driver: "directory", Path: t.TempDir()}
	far := server.BackendConfig{Name: "far", Driver: "directory", Path: t.TempDir()}
	if status, _ := api.Do("POST", "/shares", object{"share": object{"share_proto": "NFS", "size": 1}}); status != 503 {
		t.Errorf("without any worker a share is answered with %d", status)
	}
	one, two := f.launch("one", "worker", near), f.launch("two", "worker", far)

	onNear, onFar := shareOn(t, api.Client, "near"), shareOn(t, api.Client, "far")
	for id, dir := range map[string]string{onNear: near.Path, onFar: far.Path} {
		api.AtRest("/shares/"+id, "share", "available")
		if err := os.WriteFile(filepath.Join(dir, id, "file"), []byte(id), 0o600); err != nil {
			t.Error(err)
		}
		_, answer := api.Do("GET", "/shares/"+id+"/export_locations", nil)
		path := answer["export_locations"].([]any)[0].(object)["path"].(string)
		if !strings.HasSuffix(path, ":"+filepath.Join(dir, id)) {
			t.Errorf("%s is exported at %s", id, path)
		}
	}
	nearBackup, farBackup := api.NewBackup(onNear), api.NewBackup(onFar)
	for id, host := range map[string]string{nearBackup: "one", farBackup: "two"} {
		if b := api.Must(200, "share_backup", "GET", "/share-backups/"+id, nil); b["host"] != host {
			t.Errorf("the backup was made by %v, want %s", b["host"], host)
		}
	}

	// Who is away is seen, and what it alone can do waits; the rest goes on.
	two.kill()
	body := func(share string) object { return object{"share_backup": object{"share_id": share}} }
	waiting := api.Must(202, "share_backup", "POST", "/share-backups", body(onFar))["id"].(string)
	api.says("work waits for a back end that no worker which is up reaches")
	if got := states(t, api.Client); got["two"] != "enabled down" || got["abaca@far"] != "enabled down" || got["one"] != "enabled up" || got["abaca@near"] != "enabled up" {
		t.Errorf("the services are %v", got)
	}
	api.NewBackup(onNear)
	if b := api.Must(200, "share_backup", "GET", "/share-backups/"+waiting, nil); b["status"] != "creating" {
		t.Errorf("what nobody can do is %v", b["status"])
	}
	api.Must(202, "", "DELETE", "/share-backups/"+farBackup, nil) // which needs no files
	api.AtRest("/share-backups/"+farBackup, "share_backup", "gone")
	f.launch("two", "worker", far)
	api.AtRest("/share-backups/"+waiting, "share_backup", "available")

	// Who is disabled ends nothing new, also after a restart.
	api.Do("PUT", "/services/disable", object{"host": "one", "binary": "manila-data"})
	one.stop()
	one = f.launch("one", "worker", near)
	held := api.Must(202, "share_backup", "POST", "/share-backups", body(onNear))["id"].(string)
	api.NewBackup(onFar)
	if got := states(t, api.Client); got["one"] != "disabled up" || one.said("began save") != 0 {
		t.Errorf("a disabled worker is %q and has begun %d saves", got["one"], one.said("began save"))
	}
	if b := api.Must(200, "share_backup", "GET", "/share-backups/"+held, nil); b["status"] != "creating" {
		t.Errorf("what a disabled worker would do is %v", b["status"])
	}
	api.Do("PUT", "/services/enable", object{"host": "one", "binary": "manila-data"})
	api.AtRest("/share-backups/"+held, "share_backup", "available")
	managedThroughAPI(t, api, near.Path)
	left, err := os.ReadDir(f.dirs["api"])
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range left {
		if e.Name() != "lock" && e.Name() != "audit.log" {
			t.Errorf("a process that only takes requests keeps %s", e.Name())
		}
	}
}

// managedThroughAPI adopts directories by a process that cannot see whether they are there.
func managedThroughAPI(t *testing.T, api *ship, root string) {
	t.Helper()
	if err := os.Mkdir(filepath.Join(root, "old"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"old": "available", "missing": "manage_error"} {
		id := api.Must(200, "share", "POST", "/shares/manage", object{"share": object{
			"service_host": "abaca@near#near", "export_path": filepath.Join(root, name), "protocol": "NFS",
		}})["id"].(string)
		api.Until("/shares/"+id, "share", want, func(o map[string]any) bool { return o["status"] == want })
	}
	status, _ := api.Do("POST", "/shares/manage", object{"share": object{"service_host": "abaca@near#near", "export_path": "/etc", "protocol": "NFS"}})
	if status != 400 {
		t.Errorf("a path elsewhere is answered with %d", status)
	}
}

func TestAWorkerTakesNoRequestsAndMakesNoKey(t *testing.T) {
	f := newFleet(t, nil)
	worker := f.launch("one", "worker")
	if worker.Client != nil {
		t.Errorf("it takes requests at %s", worker.URL)
	}
	if err := os.Remove(f.key); err != nil {
		t.Fatal(err)
	}
	c, err := server.Load("", nil, map[string]any{
		"role": "worker", "host": "two", "data_dir": t.TempDir(), "database": f.database, "master_key_file": f.key, "repository": "file://" + f.repository,
	})
	if err != nil {
		t.Fatal(err)
	}
	if s, err := server.Open(t.Context(), c, c.Logger()); err == nil || !strings.Contains(err.Error(), "master key") {
		t.Errorf("without its key it says %v", err)
		if err == nil {
			s.Close()
		}
	}
	if _, err := os.Stat(f.key); !os.IsNotExist(err) {
		t.Error("it has made a key of its own")
	}
}

func TestWhatTakesTheMasterKeyIsNotForAProcessWithoutOne(t *testing.T) {
	c, err := server.Load("", nil, map[string]any{"role": "api", "data_dir": t.TempDir(), "database": "postgres://abaca@127.0.0.1:1/abaca"})
	if err != nil {
		t.Fatal(err)
	}
	_, exporting := c.ExportKey()
	_, checking := c.CheckKey(t.Context(), "", c.Logger())
	_, rotating := c.RotateKey(t.Context(), c.Logger())
	for what, err := range map[string]error{"export": exporting, "check": checking, "rotate": rotating} {
		if err == nil || !strings.Contains(err.Error(), "master key: a process of role api has none") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

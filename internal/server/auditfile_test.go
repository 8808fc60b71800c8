package server

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"abaca"
)

func openAudit(t *testing.T, path string) (audit func(id string), file *auditFile, log *bytes.Buffer) {
	t.Helper()
	log = &bytes.Buffer{}
	file = &auditFile{path: path, log: slog.New(slog.NewTextHandler(log, nil))}
	if err := file.open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	write := auditor(file)
	return func(id string) { write(abaca.Audit{Event: abaca.AuditEnd, Action: "a", ID: id, Ended: time.Now()}) }, file, log
}

// lines decodes the lines of an audit log.
func lines(t *testing.T, path string) (list []map[string]any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		var o map[string]any
		if json.Unmarshal([]byte(line), &o) == nil {
			list = append(list, o)
		}
	}
	return list
}

func ids(list []map[string]any) string {
	var s []string
	for _, o := range list {
		s = append(s, o["resource_id"].(string))
	}
	return strings.Join(s, " ")
}

func TestTheAuditLogIsItsOwnersAloneAndGoesOnWhereItWas(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	audit, file, _ := openAudit(t, path)
	audit("1")
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	again, _, _ := openAudit(t, path)
	again("2")
	if got := ids(lines(t, path)); got != "1 2" {
		t.Errorf("lines %s", got)
	}
}

func TestAnAuditLogThatIsMovedAwayOrRemovedIsBegunAnew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	audit, _, _ := openAudit(t, path)
	audit("1")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	audit("2")
	audit("3")
	if moved, now := ids(lines(t, path+".1")), ids(lines(t, path)); moved != "1" || now != "2 3" {
		t.Errorf("moved away are %q, here %q", moved, now)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	audit("4")
	if now := ids(lines(t, path)); now != "4" {
		t.Errorf("after a removal %q", now)
	}
}

func TestALineTornByAPowerLossSpoilsNoOther(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	if err := os.WriteFile(path, []byte(`{"resource_id":"0"}`+"\n"+`{"resource_`), 0o600); err != nil {
		t.Fatal(err)
	}
	audit, _, _ := openAudit(t, path)
	audit("1")
	audit("2")
	if got := ids(lines(t, path)); got != "0 1 2" {
		t.Errorf("lines %s", got)
	}
}

func TestWhatCannotBeWrittenToTheAuditLogIsInTheLog(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dir")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "audit.log")
	audit, _, log := openAudit(t, path)
	audit("1")
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	audit("2")
	if got := log.String(); !strings.Contains(got, "writing the audit log") || !strings.Contains(got, `\"resource_id\":\"2\"`) {
		t.Errorf("the log is %q", got)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	audit("3")
	if got := ids(lines(t, path)); got != "3" {
		t.Errorf("once it could be written again: %s", got)
	}
	var c Config
	c.Log.Audit = dir
	if _, _, err := c.openAudit(slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a directory was taken for an audit log")
	}
}

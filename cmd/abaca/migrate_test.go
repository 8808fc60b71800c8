package main

import (
	"bytes"
	"regexp"
	"strings"
	"testing"

	"abaca/internal/test/postgres"
	"abaca/internal/test/serve"
)

// told runs a command that has to succeed and returns what it prints.
func told(t *testing.T, args ...string) string {
	t.Helper()
	out, err := attempt(t, args...)
	if err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return out
}

func attempt(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	root := newRootCommand()
	root.SetArgs(args)
	root.SetOut(&out)
	root.SetErr(&out)
	err := root.ExecuteContext(t.Context())
	return out.String(), err
}

func TestMigrateMakesTheTablesOfAnEmptyDatabaseOnce(t *testing.T) {
	t.Setenv("ABACA_DATABASE", postgres.New(t))
	status := func() []string {
		return regexp.MustCompile(`^the tables are of version (\d+); this program needs version (\d+)\n$`).FindStringSubmatch(told(t, "migrate", "--status"))
	}
	before := status()
	if before == nil || before[1] != "0" || before[2] == "0" {
		t.Fatalf("an empty database is of %q", before)
	}
	if got, want := told(t, "migrate"), "the tables were of version 0 and are of version "+before[2]+"\n"; got != want {
		t.Errorf("it prints %q, want %q", got, want)
	}
	if got, want := told(t, "migrate"), "the tables were of version "+before[2]+" and are of version "+before[2]+"\n"; got != want {
		t.Errorf("again it prints %q, want %q", got, want)
	}
	if after := status(); after == nil || after[1] != after[2] {
		t.Errorf("afterwards they are of %q", after)
	}
}

func TestMigrateLeavesAFileThatIsServedAlone(t *testing.T) {
	if serve.Database(t, t.TempDir()) != "" {
		t.Skip("the server has no file")
	}
	h := open(t)
	if _, err := attempt(t, "migrate", "--data-dir", h.Config.DataDir); err == nil || !strings.Contains(err.Error(), "is used by another abaca") {
		t.Errorf("beside its server: %v", err)
	}
	told(t, "migrate", "--status", "--data-dir", h.Config.DataDir)
	h.Stop()
	told(t, "migrate", "--data-dir", h.Config.DataDir)
}

func TestADatabaseThatCannotBeReachedIsOneLineWithoutItsPassword(t *testing.T) {
	t.Setenv("ABACA_DATABASE", "postgres://abaca:geheim@127.0.0.1:1,127.0.0.1:2/abaca")
	_, err := attempt(t, "migrate")
	if err == nil || exitCode(err) != 1 || strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "geheim") ||
		!strings.Contains(err.Error(), "postgres://abaca:xxxxx@127.0.0.1:1") {
		t.Errorf("migrating: %v", err)
	}
	if out := told(t, "config"); strings.Contains(out, "geheim") || !strings.Contains(out, "database: postgres://abaca:xxxxx@127.0.0.1:1") {
		t.Errorf("the configuration is printed as %s", out)
	}
	t.Setenv("ABACA_DATABASE", "postgres://abaca:geheim@db/abaca?sslmode=perhaps")
	if _, err := attempt(t, "config"); exitCode(err) != 2 || strings.Contains(err.Error(), "geheim") || !strings.Contains(err.Error(), "database: ") {
		t.Errorf("a wrong URL: %v", err)
	}
}

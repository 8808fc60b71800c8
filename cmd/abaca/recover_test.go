package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestALostDatabaseIsRecovered(t *testing.T) {
	h := withBackups(t)
	data := []string{"--data-dir", h.Config.DataDir}
	h.refused("used by another abaca", append([]string{"recover"}, data...)...)
	h.Stop()
	h.refused("--merge", append([]string{"recover"}, data...)...)
	files, err := filepath.Glob(filepath.Join(h.Config.DataDir, "abaca.db*"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
	if out := h.must(append([]string{"recover"}, data...)...); out != "recovered: projects 1, shares 2, backups 2, snapshots 0; there already: 0\n" {
		t.Errorf("it prints %q", out)
	}
	if _, _, err := h.verify(); err != nil {
		t.Error(err)
	}
}

func TestAProjectIsShreddedOnlyOnPurpose(t *testing.T) {
	h := withBackups(t)
	shred := func(args ...string) error {
		_, _, err := h.run(t.Context(), append([]string{"project", "shred", "--data-dir", h.Config.DataDir}, args...)...)
		return err
	}
	if err := shred("admin"); exitCode(err) != 2 || !strings.Contains(err.Error(), "--yes") {
		t.Errorf("without a word: %v", err)
	}
	if err := shred("admin", "--yes"); exitCode(err) != 1 || !strings.Contains(err.Error(), "2 backups") {
		t.Errorf("with backups: %v", err)
	}
	if err := shred("admin", "--yes", "--force"); err != nil {
		t.Error(err)
	}
	if left, err := filepath.Glob(filepath.Join(h.Config.DataDir, "repository", "admin", "*")); err != nil || len(left) > 2 {
		t.Errorf("there are %v, %v", left, err)
	}
}

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheMasterKeyIsExportedToAFileOfItsOwn(t *testing.T) {
	h := withBackups(t)
	data := []string{"--data-dir", h.Config.DataDir}
	safe := filepath.Join(t.TempDir(), "safe.key")
	key := func(args ...string) (string, string, error) {
		return h.run(t.Context(), append(append([]string{"key"}, args...), data...)...)
	}
	if out, _, err := key("export"); exitCode(err) != 2 || out != "" || !strings.Contains(err.Error(), "no terminal") {
		t.Errorf("to no terminal: %q, %v", out, err)
	}
	out, stderr, err := key("export", "--out", safe)
	if err != nil || out+stderr != "" {
		t.Fatalf("%q, %q, %v", out, stderr, err)
	}
	text, err := os.ReadFile(safe)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(safe); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if _, _, err := key("export", "--out", safe); exitCode(err) != 1 {
		t.Errorf("over an existing file: %v", err)
	}
	if out, _, err = key("check", safe); err != nil || !strings.Contains(out, "opens: 1") || !strings.Contains(string(text), strings.Fields(out)[1][:9]) {
		t.Errorf("the exported key: %q, %v\n%s", out, err, text)
	}
	wrong := filepath.Join(t.TempDir(), "wrong.key")
	last := strings.LastIndexAny(string(text), "0123456789abcdef")
	digit := "0"
	if text[last] == '0' {
		digit = "1"
	}
	if err := os.WriteFile(wrong, []byte(string(text[:last])+digit+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err = key("check", wrong); exitCode(err) != 1 || !strings.Contains(err.Error(), "admin") {
		t.Errorf("a key that was written down wrongly: %v", err)
	}
	// The new key takes over beside the server, and the exported one is of no use any more.
	if _, stderr, err = key("rotate"); err != nil || !strings.Contains(stderr, "with it: 1.") {
		t.Errorf("%q, %v", stderr, err)
	}
	h.must("backup", "restore", "monday", "--wait")
	if _, _, err = key("check", safe); exitCode(err) != 1 {
		t.Errorf("the previous key still opens: %v", err)
	}
	// The new one, in the place of a lost key file, is the key again.
	if _, _, err = key("export", "--out", safe+"2"); err != nil {
		t.Fatal(err)
	}
	h.Stop()
	if err := os.Rename(safe+"2", h.Config.MasterKeyFile); err != nil {
		t.Fatal(err)
	}
	if _, _, err := h.verify(); err != nil {
		t.Error(err)
	}
}

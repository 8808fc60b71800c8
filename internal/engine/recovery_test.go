package engine

import (
	"context"
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"golang.org/x/sys/unix"
)

// TestThePageOnRecoveryWorksToTheLetter runs the commands of docs/recovery.md with a stock kopia, on what the engine left on disk.
func TestThePageOnRecoveryWorksToTheLetter(t *testing.T) {
	t.Parallel()
	work := t.TempDir()
	bin := filepath.Join(work, "bin")
	need(t, "python3", "-c", "import cryptography.hazmat.primitives.ciphers.aead")
	tags := "nohtmlui"
	if quickKeys {
		tags += ",testing"
	}
	need(t, "go", "build", "-C", "../../bench/peers/kopia", "-tags", tags, "-o", filepath.Join(bin, "kopia"), "github.com/kopia/kopia")
	page, err := os.ReadFile("../../docs/recovery.md")
	must(t, err)
	must(t, os.WriteFile(filepath.Join(work, "unwrap.py"), block(t, page, "python"), 0o600))

	tree := plainTree(t)
	must(t, os.Chmod(filepath.Join(tree, "big"), 0o640))
	if err := os.Lchown(filepath.Join(tree, "big"), 1234, 5678); err != nil && !errors.Is(err, unix.EPERM) {
		t.Fatal(err)
	}
	e := newEngine(t, t.TempDir())
	mustSave(t, e, tree, "one", "")
	must(t, e.Close(context.Background()))
	key := filepath.Join(work, "master.key")
	must(t, os.WriteFile(key, []byte(hex.EncodeToString(testKey())+"\n"), 0o600))

	target := filepath.Join(work, "target")
	cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", string(block(t, page, "sh")))
	cmd.Dir = work
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "HOME="+work,
		"REPOSITORY="+e.config.Root, "MASTER_KEY="+key, "PROJECT="+dirName(testProject), "TARGET="+target)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	sameTree(t, tree, target)
	var want, got unix.Stat_t
	must(t, unix.Lstat(filepath.Join(tree, "big"), &want))
	must(t, unix.Lstat(filepath.Join(target, "big"), &got))
	if want.Uid != got.Uid || want.Gid != got.Gid || want.Mode != got.Mode {
		t.Errorf("owner %d:%d and mode %o, want %d:%d and %o", got.Uid, got.Gid, got.Mode, want.Uid, want.Gid, want.Mode)
	}
}

// need runs a command without which a test has nothing to test with: in CI that is a failure.
func need(t *testing.T, name string, args ...string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	switch {
	case err == nil:
	case os.Getenv("CI") != "":
		t.Fatalf("%s %q: %v: %s", name, args, err, out)
	default:
		t.Skipf("%s %q: %v: %s", name, args, err, out)
	}
}

// block returns the first block of code in a page of Markdown that is in the language.
func block(t *testing.T, page []byte, language string) []byte {
	t.Helper()
	found := regexp.MustCompile("(?s)```" + language + "\n(.*?)```").FindSubmatch(page)
	if found == nil {
		t.Fatalf("the page has no block of %s", language)
	}
	return found[1]
}

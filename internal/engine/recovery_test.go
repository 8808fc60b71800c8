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

	"abaca/internal/test/s3"
)

// TestThePageOnRecoveryWorksToTheLetter runs the commands of docs/recovery.md with a stock kopia, on what the engine left on disk.
func TestThePageOnRecoveryWorksToTheLetter(t *testing.T) {
	t.Parallel()
	work := recoveryWork(t)
	tree := plainTree(t)
	must(t, os.Chmod(filepath.Join(tree, "big"), 0o640))
	if err := os.Lchown(filepath.Join(tree, "big"), 1234, 5678); err != nil && !errors.Is(err, unix.EPERM) {
		t.Fatal(err)
	}
	e := newEngine(t, t.TempDir())
	mustSave(t, e, tree, "one", "")
	must(t, e.Close(context.Background()))
	target := recovered(t, work, "sh", "REPOSITORY="+e.config.Root)
	sameTree(t, tree, target)
	var want, got unix.Stat_t
	must(t, unix.Lstat(filepath.Join(tree, "big"), &want))
	must(t, unix.Lstat(filepath.Join(target, "big"), &got))
	if want.Uid != got.Uid || want.Gid != got.Gid || want.Mode != got.Mode {
		t.Errorf("owner %d:%d and mode %o, want %d:%d and %o", got.Uid, got.Gid, got.Mode, want.Uid, want.Gid, want.Mode)
	}
}

func TestThePageOnRecoveryWorksToTheLetterInABucket(t *testing.T) {
	t.Parallel()
	work := recoveryWork(t)
	need(t, "curl", "--version")
	server := s3.Start(t)
	tree := plainTree(t)
	e := newEngine(t, t.TempDir(), inBucket(server))
	mustSave(t, e, tree, "one", "")
	must(t, e.Close(context.Background()))
	sameTree(t, tree, recovered(t, work, "bash", "BUCKET="+s3.Name, "ENDPOINT=http://"+server.Endpoint,
		"AWS_ACCESS_KEY_ID="+server.AccessKey, "AWS_SECRET_ACCESS_KEY="+server.SecretKey, "AWS_SESSION_TOKEN="))
}

// recoveryWork makes a directory with what the page needs: Kopia, the script, the master key.
func recoveryWork(t *testing.T) string {
	t.Helper()
	work := t.TempDir()
	need(t, "python3", "-c", "import cryptography.hazmat.primitives.ciphers.aead")
	tags := "nohtmlui"
	if quickKeys {
		tags += ",testing"
	}
	need(t, "go", "build", "-C", "../../bench/peers/kopia", "-tags", tags, "-o", filepath.Join(work, "bin", "kopia"), "github.com/kopia/kopia")
	must(t, os.WriteFile(filepath.Join(work, "unwrap.py"), block(t, recoveryPage(t), "python"), 0o600))
	must(t, os.WriteFile(filepath.Join(work, "master.key"), []byte(hex.EncodeToString(testKey())+"\n"), 0o600))
	return work
}

func recoveryPage(t *testing.T) []byte {
	t.Helper()
	page, err := os.ReadFile("../../docs/recovery.md")
	must(t, err)
	return page
}

// recovered runs the page's block of a language, and returns where it has restored to.
func recovered(t *testing.T, work, language string, variables ...string) string {
	t.Helper()
	target := filepath.Join(work, "target")
	cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", string(block(t, recoveryPage(t), language)))
	cmd.Dir = work
	cmd.Env = append(os.Environ(), "PATH="+filepath.Join(work, "bin")+":"+os.Getenv("PATH"), "HOME="+work,
		"MASTER_KEY="+filepath.Join(work, "master.key"), "PROJECT="+dirName(testProject), "TARGET="+target)
	cmd.Env = append(cmd.Env, variables...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	return target
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

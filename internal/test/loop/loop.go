// Package loop gives tests file systems of their own, on loop devices.
package loop

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Mount makes a file system of this type ("btrfs", "ext4", "xfs") of 512 MiB and returns where it is mounted until the test ends.
// Where that takes rights or a tool that are missing, the test is skipped, or fails in CI (the environment variable CI is set).
func Mount(t testing.TB, fstype string) string {
	t.Helper()
	leaveOut := t.Skipf
	if os.Getenv("CI") != "" {
		leaveOut = t.Fatalf
	}
	if os.Geteuid() != 0 {
		t.Skipf("NOT TESTED: mounting %s takes root", fstype)
	}
	image, dir := filepath.Join(t.TempDir(), "image"), filepath.Join(t.TempDir(), "mounted")
	f, err := os.Create(image)
	if err == nil {
		err = f.Truncate(512 << 20)
	}
	if err == nil {
		err = f.Close()
	}
	if err == nil {
		err = os.Mkdir(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range [][]string{{"mkfs." + fstype, image}, {"mount", "-o", "loop", image, dir}} {
		if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			leaveOut("NOT TESTED: %v: %v: %s", command, err, out)
		}
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	return dir
}

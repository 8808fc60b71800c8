package server_test

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"abaca/internal/server"
	"abaca/internal/test/faultfs"
	"abaca/internal/test/torture"
)

// inodes lists every entry of a tree with its inode and change time, which nothing that touches it can leave as they are.
func inodes(t *testing.T, root string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		var st unix.Stat_t
		if err == nil {
			err = unix.Lstat(path, &st)
		}
		found[path] = fmt.Sprint(st.Ino, st.Ctim)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// waitFor looks again and again, and soon, until something is so.
func waitFor(t *testing.T, what string, so func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(5 * time.Minute); !so(); <-tick.C {
		if time.Now().After(end) { // bounds a test that fails, and decides nothing
			t.Fatalf("%s has not come true", what)
		}
	}
}

// entries counts what lies below a directory that others change meanwhile.
func entries(root string) (n int) {
	filepath.WalkDir(root, func(string, fs.DirEntry, error) error { n++; return nil })
	return n
}

func TestAWorkerThatStallsTouchesNothingThatIsAnothersByThen(t *testing.T) {
	f := newFleet(t, nil)
	api := f.launch("api", "api")
	one := f.launch("one", "worker")
	share := shareOn(t, api.Client, "files")
	api.AtRest("/shares/"+share, "share", "available")
	files, kept := filepath.Join(f.files, share), filepath.Join(t.TempDir(), "kept")
	if err := torture.Grow(files, 31, 4000); err != nil {
		t.Fatal(err)
	}
	copyTree(t, files, kept)
	backup := api.NewBackup(share)
	rounds := 2
	if testing.Short() {
		rounds = 1
	}
	for round := range rounds {
		empty(t, files)
		at := 1 + rand.N(entries(kept)*3/4)
		api.Must(202, "restore", "POST", "/share-backups/"+backup+"/action", object{"restore": nil})
		waitFor(t, "the restore's beginning", func() bool { return entries(files) > at })
		one.signal(syscall.SIGSTOP)
		stopped, had := time.Now(), entries(files)
		two := f.launch(fmt.Sprint("two-", round), "worker")
		api.AtRest("/shares/"+share, "share", "available")
		t.Logf("stopped with %d of %d entries, taken over and restored in %v", had, entries(kept), time.Since(stopped).Round(time.Millisecond))
		equal(t, kept, files)
		before := inodes(t, files)
		lost := one.said("the work is no longer ours")
		one.signal(syscall.SIGCONT)
		waitFor(t, "the end of the stalled work", func() bool { return one.said("the work is no longer ours") > lost })
		t.Logf("%v after the stop it had found out", time.Since(stopped).Round(time.Millisecond))
		after := inodes(t, files)
		for path, was := range before {
			if after[path] != was {
				t.Errorf("%s was touched by a worker that had lost it", path)
			}
			delete(after, path)
		}
		for path := range after {
			t.Errorf("%s was made by a worker that had lost the share", path)
		}
		equal(t, kept, files)
		if n := one.said("done restore " + backup); n != 0 {
			t.Errorf("the stalled worker has ended %d restores", n)
		}
		two.stop() // so that the next round is the first worker's again
	}
	if b := api.Must(200, "share_backup", "GET", "/share-backups/"+backup, nil); b["status"] != "available" {
		t.Errorf("the backup is %v", b["status"])
	}
	quotasAreTheRows(t, "", server.DatabaseURL(f.database))
}

// empty removes all that a share holds.
func empty(t *testing.T, files string) {
	t.Helper()
	list, err := os.ReadDir(files)
	for _, e := range list {
		err = errors.Join(err, os.RemoveAll(filepath.Join(files, e.Name())))
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestWorkOfAWorkerThatDiesGoesOnElsewhereFromItsCheckpoint(t *testing.T) {
	f := newFleet(t, map[string]any{"engine": map[string]any{"checkpoint": "300ms"}})
	fs := faultfs.Mount(t)
	f.files = fs.Dir
	api := f.launch("api", "api")
	one := f.launch("one", "worker")
	share := shareOn(t, api.Client, "files")
	api.AtRest("/shares/"+share, "share", "available")
	files := filepath.Join(f.files, share)
	const size, count = 4 << 20, 32
	for i := range count {
		data := make([]byte, size)
		rand.NewChaCha8([32]byte{byte(i)}).Read(data)
		dir := filepath.Join(files, fmt.Sprint("dir", i)) // what is done of a save is kept by directories
		if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(filepath.Join(dir, "big"), data, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	end := fs.HangUpInterruptibly(filepath.Join(files, "dir16"), "Read") // so that the save does not end before its worker does
	backup := api.Must(202, "share_backup", "POST", "/share-backups", object{"share_backup": object{"share_id": share}})["id"].(string)
	one.says("began save " + backup)
	api.Until("/share-backups/"+backup, "share_backup", "half done", func(o map[string]any) bool {
		percent, err := strconv.Atoi(o["progress"].(string))
		return err != nil || percent >= 50
	})
	// The next checkpoint, which ends with a blob of the index, has half of it but for what is being read. One may be under way that has less.
	published := blobs(t, f.repository, "x")
	waitFor(t, "the next checkpoint but one", func() bool { return blobs(t, f.repository, "x") >= published+2 })
	one.kill()
	end.End()
	died := time.Now()
	two := f.launch("two", "worker")
	api.AtRest("/share-backups/"+backup, "share_backup", "available")
	t.Logf("the work of a worker that died was done elsewhere %v later", time.Since(died).Round(time.Millisecond))
	var read int64
	if _, err := fmt.Sscan(two.says("read " + backup)[len("read "+backup):], &read); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d of %d bytes were read again", read, size*count)
	if read == 0 || read > size*count*7/10 {
		t.Errorf("the successor has read %d of %d bytes, of which a checkpoint had nearly half", read, size*count)
	}
	if two.said("done save "+backup) != 1 {
		t.Error("the successor has not saved it once")
	}
	kept := filepath.Join(t.TempDir(), "kept")
	copyTree(t, files, kept)
	empty(t, files)
	api.Restore(backup)
	equal(t, kept, files)
}

// blobs counts those of a repository whose names begin with a prefix of one letter.
func blobs(t *testing.T, repository, prefix string) int {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(repository, "*", "repository", prefix, "*", "*.f"))
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

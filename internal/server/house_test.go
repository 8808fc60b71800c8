package server_test

import (
	"crypto/rand"
	"io/fs"
	"path/filepath"
	"testing"
	"time"

	"abaca/internal/test/serve"
)

func TestTheServerFreesTheSpaceOfADeletedBackupInTime(t *testing.T) {
	t.Parallel()
	c, err := serve.Config(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	c.Engine.FreeWithin = 6 * time.Second // less than may be configured
	s := serve.StartWith(t, c)
	share := s.NewShare("docs")
	content := make([]byte, 8<<20)
	_, _ = rand.Read(content)
	write(t, filepath.Join(s.Share(share), "file"), content)
	backup := s.NewBackup(share)
	repository := filepath.Join(c.DataDir, "repository")
	if n := bytesBelow(t, repository); n < 8<<20 {
		t.Fatalf("only %d bytes are stored", n)
	}
	s.Must(202, "", "DELETE", "/share-backups/"+backup, nil)
	began := time.Now()
	for bytesBelow(t, repository) > 1<<20 {
		if time.Since(began) > time.Minute {
			t.Fatalf("%d bytes are left", bytesBelow(t, repository))
		}
		<-time.After(100 * time.Millisecond)
	}
}

// bytesBelow adds up the files below a directory, in which others write and delete.
func bytesBelow(t *testing.T, dir string) (n int64) {
	t.Helper()
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil {
				n += info.Size()
			}
		}
		return nil
	})
	return n
}

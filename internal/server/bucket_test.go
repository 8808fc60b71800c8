package server_test

import (
	"os"
	"path/filepath"
	"testing"

	"abaca/internal/server"
	"abaca/internal/test/s3"
	"abaca/internal/test/serve"
	"abaca/internal/test/torture"
)

// inBucket is the configuration of a server with its repositories in a bucket.
func inBucket(t *testing.T) (server.Config, *s3.Server) {
	t.Helper()
	bucket := s3.Start(t)
	c, err := server.Load("", []string{"AWS_ACCESS_KEY_ID=" + bucket.AccessKey, "AWS_SECRET_ACCESS_KEY=" + bucket.SecretKey}, map[string]any{
		"data_dir": t.TempDir(), "listen": "127.0.0.1:0", "log.level": "warn", "workers.backoff": "10ms",
		"repository": "s3://" + s3.Name + "/abaca", "s3.endpoint": "http://" + bucket.Endpoint,
	})
	if err != nil {
		t.Fatal(err)
	}
	return c, bucket
}

func TestAServerKeepsItsBackupsInABucket(t *testing.T) {
	c, bucket := inBucket(t)
	s := serve.StartWith(t, c)
	share := s.NewShare("docs")
	kept := t.TempDir()
	if err := os.Chmod(kept, 0o777); err != nil { // as a share is made
		t.Fatal(err)
	}
	for _, root := range []string{s.Share(share), kept} {
		if _, err := torture.Plant(root); err != nil {
			t.Fatal(err)
		}
	}
	backup := s.NewBackup(share)
	if _, err := torture.Vandalise(s.Share(share), 2, 100); err != nil {
		t.Fatal(err)
	}
	s.Restore(backup)
	equal(t, kept, s.Share(share))
	if _, err := os.Stat(filepath.Join(c.DataDir, "repository")); err == nil {
		t.Error("there is a repository in the data directory")
	}
	if _, err := os.Stat(filepath.Join(bucket.Dir, "abaca/admin/secret")); err != nil {
		t.Error(err)
	}
}

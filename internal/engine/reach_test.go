package engine

import (
	"context"
	"os"
	"testing"
	"time"

	"abaca/internal/test/s3"
)

func TestRepositoriesInADirectoryThatHasGoneAreNotReached(t *testing.T) {
	root := t.TempDir()
	e := newEngine(t, root)
	must(t, e.Reach(t.Context()))
	must(t, os.Rename(root, root+"-away"))
	if err := e.Reach(t.Context()); err == nil {
		t.Error("they are reached")
	}
	must(t, os.Rename(root+"-away", root))
	must(t, e.Reach(t.Context()))
}

func TestRepositoriesInABucketAreReachedWhileItsServerAnswers(t *testing.T) {
	server := s3.Start(t)
	e := newEngine(t, t.TempDir(), inBucket(server))
	must(t, e.Reach(t.Context()))
	server.Pause(t)
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := e.Reach(short); err == nil {
		t.Error("a server that hangs is reached")
	}
	server.Resume(t)
	must(t, e.Reach(t.Context()))
	other := newEngine(t, t.TempDir(), inBucket(server), func(c *Config) { c.Bucket.Name = "another" })
	if err := other.Reach(t.Context()); err == nil {
		t.Error("a bucket that does not exist is reached")
	}
}

func TestWhatIsStoredIsWhatTheBlobsTake(t *testing.T) {
	server := s3.Start(t)
	for name, change := range map[string]func(*Config){"directory": func(*Config) {}, "bucket": inBucket(server)} {
		t.Run(name, func(t *testing.T) {
			e := newEngine(t, t.TempDir(), change)
			none, err := e.Stored(t.Context(), testProject)
			must(t, err)
			_, saved, err := e.Save(t.Context(), request("one", ""), volumeOf(t, plainTree(t)), nil)
			must(t, err)
			some, err := e.Stored(t.Context(), testProject)
			must(t, err)
			if none != 0 || some < saved.Stored || some > saved.Stored+64<<10 {
				t.Errorf("first %d bytes, then %d of which a save has stored %d", none, some, saved.Stored)
			}
		})
	}
}

package engine

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/kopia/kopia/repo/blob"
	"golang.org/x/sync/errgroup"

	"abaca/internal/test/s3"
)

// inBucket has an engine keep its repositories in a server's bucket.
func inBucket(s *s3.Server) func(*Config) {
	return func(c *Config) {
		c.Bucket = &Bucket{
			Endpoint: s.Endpoint, Name: s3.Name, Prefix: "abaca/", PlainHTTP: s.CA == nil, RootCA: s.CA,
			AccessKeyID: s.AccessKey, SecretAccessKey: s.SecretKey,
		}
	}
}

func TestABackupInABucketComesBack(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(testing.TB) *s3.Server{"without TLS": s3.Start, "with TLS": s3.StartTLS} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := start(t)
			tree := plainTree(t)
			e := newEngine(t, t.TempDir(), inBucket(server))
			ref, _ := mustSave(t, e, tree, "one", "")
			must(t, e.Close(context.Background()))
			again := newEngine(t, t.TempDir(), inBucket(server)) // on a host that has nothing of it
			mustEqual(t, tree, restored(t, again, ref))
			must(t, again.Maintain(context.Background(), testProject))
			must(t, again.Delete(context.Background(), testProject, "one"))
			if n := countSnapshots(t, again); n != 0 {
				t.Errorf("%d snapshots are left", n)
			}
			for _, name := range []string{secretFile, "kopia.repository.copy", blobDir + "/kopia.repository"} {
				if _, err := os.Stat(filepath.Join(server.Dir, "abaca", string(testProject), name)); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestAServerWhoseCertificateCannotBeVerifiedIsNotUsed(t *testing.T) {
	t.Parallel()
	e := newEngine(t, t.TempDir(), inBucket(s3.StartTLS(t)), func(c *Config) { c.Bucket.RootCA = nil })
	_, _, err := e.Save(context.Background(), request("one", ""), volumeOf(t, t.TempDir()), nil)
	if err == nil {
		t.Fatal("it was used")
	}
	t.Log(err)
}

// annexes are both kinds of annex, empty.
func annexes(t *testing.T) map[string]annex {
	t.Helper()
	dir := t.TempDir()
	e := newEngine(t, t.TempDir(), inBucket(s3.Start(t)))
	return map[string]annex{"a directory": dirAnnex{filepath.Join(dir, "project")}, "a bucket": e.annexOf(testProject).annex}
}

func TestAnAnnexKeepsWhatItIsGiven(t *testing.T) {
	t.Parallel()
	for name, a := range annexes(t) {
		t.Run(name, func(t *testing.T) {
			ctx := context.Background()
			if _, err := a.read(ctx, "x"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("reading what is not there: %v", err)
			}
			must(t, a.remove(ctx, "x"))
			if names, err := a.list(ctx, "d"); len(names) != 0 || err != nil {
				t.Errorf("%q, %v", names, err)
			}
			must(t, a.create(ctx, "x", []byte("first")))
			if err := a.create(ctx, "x", []byte("second")); !errors.Is(err, fs.ErrExist) {
				t.Errorf("making what is there: %v", err)
			}
			must(t, a.put(ctx, "d/y", []byte("y")))
			must(t, a.put(ctx, "d/z%20", []byte("z")))
			must(t, a.put(ctx, "d/z%20", []byte("other")))
			names, err := a.list(ctx, "d")
			slices.Sort(names)
			if err != nil || !slices.Equal(names, []string{"y", "z%20"}) {
				t.Errorf("%q, %v", names, err)
			}
			for name, want := range map[string]string{"x": "first", "d/y": "y", "d/z%20": "other"} {
				if got, err := a.read(ctx, name); err != nil || string(got) != want {
					t.Errorf("%s: %q, %v", name, got, err)
				}
			}
			must(t, a.remove(ctx, "x"))
			if _, err := a.read(ctx, "x"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("reading what was removed: %v", err)
			}
		})
	}
}

func TestOneOfManyMakesWhatMustNotBeThereTwice(t *testing.T) {
	t.Parallel()
	for name, a := range annexes(t) {
		t.Run(name, func(t *testing.T) {
			ctx := context.Background()
			for range 20 {
				must(t, a.remove(ctx, "key"))
				made := make(chan string, 8)
				var group errgroup.Group
				for range cap(made) {
					group.Go(func() error {
						mine := rand.Text()
						err := a.create(ctx, "key", []byte(mine))
						if err == nil {
							made <- mine
						} else if !errors.Is(err, fs.ErrExist) {
							return err
						}
						return nil
					})
				}
				must(t, group.Wait())
				if len(made) != 1 {
					t.Fatalf("%d of %d have made it", len(made), cap(made))
				}
				if there, err := a.read(ctx, "key"); err != nil || string(there) != <-made {
					t.Fatalf("another's is there: %v", err)
				}
			}
		})
	}
}

func TestOneAtATimeIsAtWork(t *testing.T) {
	t.Parallel()
	for name, a := range annexes(t) {
		t.Run(name, func(t *testing.T) {
			ctx := context.Background()
			must(t, a.put(ctx, "x", []byte("x")))
			held, release, err := a.exclude(ctx, false)
			must(t, err)
			if _, _, err := a.exclude(ctx, false); !errors.Is(err, errExcluded) {
				t.Errorf("a second one: %v", err)
			}
			must(t, held.Err())
			release()
			_, release, err = a.exclude(ctx, true)
			must(t, err)
			release()
		})
	}
}

func TestDirectoriesInABucketAreReadInBlocks(t *testing.T) {
	t.Parallel()
	var gets atomic.Int64
	f := &faults{get: func(context.Context, blob.ID) error { gets.Add(1); return nil }}
	f.on.Store(true)
	e := newEngine(t, t.TempDir(), inBucket(s3.Start(t)), func(c *Config) { c.Wrap = f.storage })
	tree := t.TempDir()
	const dirs = 500
	for i := range dirs {
		must(t, os.MkdirAll(filepath.Join(tree, fmt.Sprint(i%20), fmt.Sprint(i)), 0o755))
		must(t, os.WriteFile(filepath.Join(tree, fmt.Sprint(i%20), fmt.Sprint(i), "f"), randomBytes(uint64(i), 500), 0o644))
	}
	ref, _ := mustSave(t, e, tree, "one", "")
	gets.Store(0)
	mustEqual(t, tree, restored(t, e, ref))
	if n := gets.Load(); n > dirs/10 {
		t.Errorf("%d directories were read in %d requests", dirs, n)
	} else {
		t.Logf("%d requests", n)
	}
}

func TestALeaseWhoseHolderDiedIsTakenOverAfterItsLife(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	a := newEngine(t, t.TempDir(), inBucket(s3.Start(t))).annexOf(testProject).annex.(bucketAnnex)
	must(t, a.put(ctx, leaseName, []byte("somebody who died")))
	if _, _, err := a.exclude(ctx, false); !errors.Is(err, errExcluded) {
		t.Fatalf("it was taken at once: %v", err)
	}
	a.leases.mu.Lock()
	seen := a.leases.seen[a.prefix]
	seen.since = seen.since.Add(-leaseLife)
	a.leases.seen[a.prefix] = seen
	a.leases.mu.Unlock()
	_, release, err := a.exclude(ctx, false)
	must(t, err)
	release()
}

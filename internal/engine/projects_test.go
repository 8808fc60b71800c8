package engine

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kopia/kopia/repo/blob"

	"abaca"
	"abaca/internal/test/s3"
)

// everywhere runs a test with repositories in a directory and in a bucket. Each call of the function it is given makes an engine for
// the same ones.
func everywhere(t *testing.T, do func(t *testing.T, open func(...func(*Config)) *Engine)) {
	t.Run("in a directory", func(t *testing.T) {
		t.Parallel()
		root := t.TempDir()
		do(t, func(change ...func(*Config)) *Engine { return newEngine(t, root, change...) })
	})
	t.Run("in a bucket", func(t *testing.T) {
		t.Parallel()
		bucket := inBucket(s3.Start(t))
		do(t, func(change ...func(*Config)) *Engine {
			return newEngine(t, t.TempDir(), append([]func(*Config){bucket}, change...)...)
		})
	})
}

func withKeys(first []byte, others ...[]byte) func(*Config) {
	return func(c *Config) {
		c.MasterKey = first
		c.HoldKeys = func() ([][]byte, func(), error) { return append([][]byte{first}, others...), func() {}, nil }
	}
}

func tinyTree(t testing.TB) string {
	t.Helper()
	tree := t.TempDir()
	must(t, os.WriteFile(filepath.Join(tree, "f"), []byte("content"), 0o600))
	return tree
}

func saveOf(t testing.TB, e *Engine, project abaca.ProjectID, id, tree string) abaca.Ref {
	t.Helper()
	ref, _, err := e.Save(context.Background(), abaca.SaveRequest{Project: project, Share: "share", ID: id}, volumeOf(t, tree), nil)
	must(t, err)
	return ref
}

func TestProjectsAreFoundByTheirPlaces(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, open func(...func(*Config)) *Engine) {
		e, tree := open(), tinyTree(t)
		want := []abaca.ProjectID{"a", "a/b", "ä%2f", abaca.ProjectID(strings.Repeat("long/", 100)), "~", ".."}
		for _, p := range want {
			saveOf(t, e, p, "one", tree)
		}
		slices.Sort(want)
		got, err := e.Projects(context.Background())
		must(t, err)
		if !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	})
}

func TestAnotherMasterKeyTakesOver(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, open func(...func(*Config)) *Engine) {
		ctx := context.Background()
		next, tree := bytes.Repeat([]byte{9}, masterKeyLength), tinyTree(t)
		before := open()
		ref := saveOf(t, before, testProject, "one", tree)
		e := open(withKeys(next, testKey()))
		mustEqual(t, tree, restored(t, e, ref))
		for i, want := range []bool{true, false} {
			if changed, err := e.Rewrap(ctx, testProject); err != nil || changed != want {
				t.Errorf("time %d: %v, %v", i, changed, err)
			}
		}
		after := open(withKeys(next))
		mustEqual(t, tree, restored(t, after, ref))
		must(t, after.Note(ctx, testProject, "one", []byte("record")))
		found, err := after.Found(ctx, testProject)
		must(t, err)
		if len(found) != 1 || string(found[0].Record) != "record" || found[0].Files != 1 || found[0].Share != "share" {
			t.Errorf("found is %+v", found)
		}
		if opens, err := open().Opens(ctx, testProject); err != nil || opens {
			t.Errorf("the old key opens it: %v, %v", opens, err)
		}
	})
}

func TestWhatAnEarlierVersionSealedWithTheMasterKeyNeedsItNoMore(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	root := unpackEarlier(t)
	next := bytes.Repeat([]byte{9}, masterKeyLength)
	must(t, os.MkdirAll(filepath.Join(root, dirName(testProject), copiesDir), 0o700))
	e := newEngine(t, root)
	copied := filepath.Join(root, dirName(testProject), filepath.FromSlash(manifestCopy("two")))
	sealed, err := os.ReadFile(copied)
	must(t, err)
	if sealed[0] != wrapVersion {
		t.Fatalf("the copy is of version %d", sealed[0])
	}
	_, err = newEngine(t, root, withKeys(next, testKey())).Rewrap(ctx, testProject)
	must(t, err)
	if _, err := e.Found(ctx, testProject); !errors.Is(err, errWrongKey) {
		t.Fatalf("the old key opens it: %v", err)
	}
	after := newEngine(t, root, withKeys(next))
	r, release, err := after.acquire(ctx, testProject, mustExist)
	must(t, err)
	defer release()
	if m, err := after.readCopy(ctx, r, "two"); err != nil || m.Tags[tagID] != "two" {
		t.Errorf("the copy: %v, %v", m, err)
	}
}

func TestAShreddedProjectIsGoneAndBeginsAnew(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, open func(...func(*Config)) *Engine) {
		ctx := context.Background()
		e, other, tree := open(), open(), tinyTree(t)
		ref := saveOf(t, e, testProject, "one", tree)
		saveOf(t, e, "neighbour", "one", tree)
		must(t, other.Note(ctx, testProject, "one", []byte("secret")))
		r, release, err := e.acquire(ctx, testProject, mustExist)
		must(t, err)
		before := r.password
		release()
		for range 2 {
			must(t, other.Shred(ctx, testProject))
		}
		projects, err := e.Projects(ctx)
		must(t, err)
		if !slices.Equal(projects, []abaca.ProjectID{"neighbour"}) {
			t.Errorf("there are %v", projects)
		}
		// One that has it open still, in another process perhaps, neither reads nor writes with the key of before.
		if found, err := e.Found(ctx, testProject); err != nil || len(found) > 0 {
			t.Errorf("found is %v, %v", found, err)
		}
		if _, err := e.Restore(ctx, testProject, ref, volumeOf(t, t.TempDir()), nil); err == nil {
			t.Error("it is restored")
		}
		two := saveOf(t, e, testProject, "two", tree)
		fresh := open()
		mustEqual(t, tree, restored(t, fresh, two))
		r, release, err = fresh.acquire(ctx, testProject, mustExist)
		must(t, err)
		defer release()
		if r.password == before {
			t.Error("the key is the one of before")
		}
	})
}

func TestNothingIsSavedWithAKeyThatIsDestroyedMeanwhile(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, open func(...func(*Config)) *Engine) {
		ctx, tree := context.Background(), tinyTree(t)
		other := open()
		for _, prefix := range []string{"p", "q", "x"} { // of what it writes last before the shredding
			met := false
			f := &faults{put: func(ctx context.Context, st blob.Storage, id blob.ID, data blob.Bytes, opts blob.PutOptions) error {
				if !met && strings.HasPrefix(string(id), prefix) {
					met = true
					must(t, other.Shred(ctx, testProject))
				}
				return st.PutBlob(ctx, id, data, opts)
			}}
			e := open(func(c *Config) { c.Wrap = f.storage })
			saveOf(t, e, testProject, "before", tree)
			f.on.Store(true)
			must(t, os.WriteFile(filepath.Join(tree, "new"), []byte(prefix), 0o600))
			_, _, err := e.Save(ctx, request("during", ""), volumeOf(t, tree), nil)
			if !met || err == nil {
				t.Fatalf("shredded: %v; the save: %v", met, err)
			}
			if errors.Is(err, abaca.ErrPermanent) {
				t.Errorf("it is not tried again: %v", err)
			}
			f.on.Store(false)
			after := saveOf(t, e, testProject, "during", tree)
			fresh := open()
			mustEqual(t, tree, restored(t, fresh, after))
			found, err := fresh.Found(ctx, testProject)
			must(t, err)
			if len(found) != 1 {
				t.Errorf("found is %+v", found)
			}
			must(t, other.Shred(ctx, testProject))
		}
	})
}

func TestALostKeyIsNoShreddedOne(t *testing.T) {
	t.Parallel()
	ctx, root, tree := context.Background(), t.TempDir(), tinyTree(t)
	ref := saveOf(t, newEngine(t, root), testProject, "one", tree)
	secret := filepath.Join(root, dirName(testProject), secretFile)
	key, err := os.ReadFile(secret)
	must(t, err)
	must(t, os.Remove(secret))
	if _, _, err := newEngine(t, root).Save(ctx, request("two", ""), volumeOf(t, tree), nil); !errors.Is(err, abaca.ErrPermanent) {
		t.Errorf("%v", err)
	}
	must(t, os.WriteFile(secret, key, 0o600))
	mustEqual(t, tree, restored(t, newEngine(t, root), ref))
}

package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kopia/kopia/repo/blob"
	"golang.org/x/sys/unix"

	"abaca"
	"abaca/internal/test/s3"
)

// A faultyStorage is a storage in which tests replace single operations.
type faultyStorage struct {
	blob.Storage
	faults *faults
}

// faults are the replacements; nil leaves an operation as it is. They count how often they were met.
type faults struct {
	put  func(ctx context.Context, st blob.Storage, id blob.ID, data blob.Bytes, opts blob.PutOptions) error
	get  func(ctx context.Context, id blob.ID) error
	list func(m blob.Metadata) (leaveOut bool)
	any  func(operation string) error

	on  atomic.Bool
	met atomic.Int64

	mu      sync.Mutex
	deleted []blob.ID
}

func (f *faults) storage(st blob.Storage) blob.Storage { return faultyStorage{st, f} }

// engine makes an engine whose storage has the faults.
func (f *faults) engine(t testing.TB, root string, change ...func(*Config)) *Engine {
	t.Helper()
	return newEngine(t, root, append([]func(*Config){func(c *Config) { c.Wrap = f.storage }}, change...)...)
}

func (f *faults) meet(operation string) error {
	if !f.on.Load() || f.any == nil {
		return nil
	}
	err := f.any(operation)
	if err != nil {
		f.met.Add(1)
	}
	return err
}

func (s faultyStorage) PutBlob(ctx context.Context, id blob.ID, data blob.Bytes, opts blob.PutOptions) error {
	if err := s.faults.meet(fmt.Sprint("put ", id)); err != nil {
		return err
	}
	if s.faults.on.Load() && s.faults.put != nil {
		s.faults.met.Add(1)
		return s.faults.put(ctx, s.Storage, id, data, opts)
	}
	return s.Storage.PutBlob(ctx, id, data, opts)
}

func (s faultyStorage) GetBlob(ctx context.Context, id blob.ID, offset, length int64, out blob.OutputBuffer) error {
	if err := s.faults.meet(fmt.Sprint("get ", id, offset)); err != nil {
		return err
	}
	if s.faults.on.Load() && s.faults.get != nil {
		s.faults.met.Add(1)
		if err := s.faults.get(ctx, id); err != nil {
			return err
		}
	}
	return s.Storage.GetBlob(ctx, id, offset, length, out)
}

func (s faultyStorage) GetMetadata(ctx context.Context, id blob.ID) (blob.Metadata, error) {
	if err := s.faults.meet(fmt.Sprint("stat ", id)); err != nil {
		return blob.Metadata{}, err
	}
	return s.Storage.GetMetadata(ctx, id)
}

func (s faultyStorage) ListBlobs(ctx context.Context, prefix blob.ID, each func(blob.Metadata) error) error {
	if err := s.faults.meet(fmt.Sprint("list ", prefix)); err != nil {
		return err
	}
	return s.Storage.ListBlobs(ctx, prefix, func(m blob.Metadata) error {
		if s.faults.on.Load() && s.faults.list != nil && s.faults.list(m) {
			s.faults.met.Add(1)
			return nil
		}
		return each(m)
	})
}

func (s faultyStorage) DeleteBlob(ctx context.Context, id blob.ID) error {
	s.faults.mu.Lock()
	s.faults.deleted = append(s.faults.deleted, id)
	s.faults.mu.Unlock()
	if err := s.faults.meet(fmt.Sprint("delete ", id)); err != nil {
		return err
	}
	return s.Storage.DeleteBlob(ctx, id)
}

// half is the first half of a blob.
func half(data blob.Bytes) plainBytes {
	whole, err := io.ReadAll(data.Reader())
	if err != nil {
		panic(err)
	}
	return plainBytes(whole[:len(whole)/2])
}

func TestASaveThatTheStorageFailsIsAFailureInWordsAndLaterSucceeds(t *testing.T) {
	t.Parallel()
	tree := smallTree(t)
	for name, c := range map[string]struct {
		faults *faults
		words  string
	}{
		"the storage is full":               {&faults{any: onPut(unix.ENOSPC)}, "the storage of backups is full"},
		"a quota is used up":                {&faults{any: onPut(unix.EDQUOT)}, "the storage of backups is full"},
		"the storage can only be read":      {&faults{any: onPut(unix.EROFS)}, "the storage of backups refuses access"},
		"a permission is lost":              {&faults{any: onPut(unix.EACCES)}, "the storage of backups refuses access"},
		"credentials are wrong":             {&faults{any: onPut(blob.ErrInvalidCredentials)}, "the storage of backups refuses access"},
		"every operation fails":             {&faults{any: func(string) error { return errors.New("503 Slow Down") }}, "the storage of backups fails"},
		"every listing fails":               {&faults{any: on("list", errors.New("timeout"))}, "the storage of backups fails"},
		"every blob is torn":                {&faults{put: tear}, "the storage of backups fails"},
		"nothing that is stored is stored":  {&faults{put: lie}, "the storage of backups fails"},
		"packs vanish after they were seen": {&faults{put: vanishing()}, "the storage of backups lost what it was given"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := newRoot(t, testProject)
			e := c.faults.engine(t, root)
			first, _ := mustSave(t, e, tree, "before", "")
			changed := smallTree(t)
			must(t, writeDurably(changed+"/new", randomBytes(77, 1<<20)))
			c.faults.on.Store(true)
			_, _, err := e.Save(context.Background(), request("one", first), volumeOf(t, changed), nil)
			reason, ok := errors.AsType[*abaca.Reason](err)
			if !ok || reason.Text != c.words {
				t.Fatalf("the save ended with %v", err)
			}
			if c.faults.met.Load() == 0 {
				t.Fatal("no fault was met")
			}
			c.faults.on.Store(false)
			for _, e := range []*Engine{e, newEngine(t, root)} {
				ref, _ := mustSave(t, e, changed, "one", first)
				mustEqual(t, changed, restored(t, e, ref))
				if v := mustVerify(t, e, everything, ref)[ref]; v.Damaged != 0 {
					t.Errorf("verifying found %+v", v)
				}
			}
		})
	}
}

func on(operation string, err error) func(string) error {
	return func(o string) error {
		if strings.HasPrefix(o, operation) {
			return err
		}
		return nil
	}
}

func onPut(err error) func(string) error { return on("put", err) }

func tear(ctx context.Context, st blob.Storage, id blob.ID, data blob.Bytes, opts blob.PutOptions) error {
	return st.PutBlob(ctx, id, half(data), opts)
}

func lie(context.Context, blob.Storage, blob.ID, blob.Bytes, blob.PutOptions) error { return nil }

// vanishing removes the packs that were put when an index blob is put, which comes after them.
func vanishing() func(context.Context, blob.Storage, blob.ID, blob.Bytes, blob.PutOptions) error {
	var mu sync.Mutex
	var packs []blob.ID
	return func(ctx context.Context, st blob.Storage, id blob.ID, data blob.Bytes, opts blob.PutOptions) error {
		mu.Lock()
		defer mu.Unlock()
		err := st.PutBlob(ctx, id, data, opts)
		if strings.HasPrefix(string(id), "p") {
			packs = append(packs, id)
		}
		for inIndex(id) && err == nil && len(packs) > 0 {
			err, packs = st.DeleteBlob(ctx, packs[0]), packs[1:]
		}
		return err
	}
}

func TestWhatFailsOrIsTornOnceIsTriedAgain(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	seen := map[string]bool{}
	first := func(operation string) bool {
		mu.Lock()
		defer mu.Unlock()
		was := seen[operation]
		seen[operation] = true
		return !was
	}
	for name, f := range map[string]*faults{
		"every operation fails once": {any: func(operation string) error {
			if first(operation) {
				return errors.New("503 Slow Down")
			}
			return nil
		}},
		"every blob is torn once": {put: func(ctx context.Context, st blob.Storage, id blob.ID, data blob.Bytes, opts blob.PutOptions) error {
			if first("tear " + string(id)) {
				return tear(ctx, st, id, data, opts)
			}
			return st.PutBlob(ctx, id, data, opts)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := context.Background()
			f.on.Store(true)
			e := f.engine(t, t.TempDir())
			tree := smallTree(t)
			ref, _ := mustSave(t, e, tree, "one", "")
			mustSave(t, e, tree, "two", ref)
			must(t, e.Delete(ctx, testProject, "two"))
			must(t, e.Maintain(ctx, testProject))
			mustEqual(t, tree, restored(t, e, ref))
			if v := mustVerify(t, e, everything, ref)[ref]; v.Damaged != 0 {
				t.Errorf("verifying found %+v", v)
			}
			if f.met.Load() == 0 {
				t.Error("no fault was met")
			}
		})
	}
}

// hang blocks until the test ends, whatever becomes of the context.
func hang(t testing.TB) func(string) error {
	let := make(chan struct{})
	t.Cleanup(func() { close(let) })
	return func(string) error { <-let; return errors.New("too late") }
}

func TestAStorageThatHangsHoldsUpNobody(t *testing.T) {
	t.Parallel()
	tree := smallTree(t)
	const soon = 20 * time.Second // the operation's last breath of a second included, on a busy machine
	within := func(t *testing.T, what string, f func() error) error {
		t.Helper()
		began := time.Now()
		err := f()
		if took := time.Since(began); took > soon {
			t.Errorf("%s took %v", what, took)
		}
		return err
	}
	t.Run("a save ends with its context", func(t *testing.T) {
		t.Parallel()
		f := &faults{any: hang(t)}
		e := f.engine(t, newRoot(t, testProject))
		mustSave(t, e, tree, "before", "")
		f.on.Store(true)
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		err := within(t, "the save", func() error {
			_, _, err := e.Save(ctx, request("one", ""), volumeOf(t, tree), nil)
			return err
		})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("it ended with %v", err)
		}
	})
	t.Run("opening a repository ends with its context", func(t *testing.T) {
		t.Parallel()
		f := &faults{any: hang(t)}
		f.on.Store(true)
		e := f.engine(t, newRoot(t, testProject))
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		err := within(t, "the save", func() error {
			_, _, err := e.Save(ctx, request("one", ""), volumeOf(t, tree), nil)
			return err
		})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("it ended with %v", err)
		}
	})
	t.Run("a save fails once patience is at its end", func(t *testing.T) {
		t.Parallel()
		f := &faults{any: hang(t)}
		e := f.engine(t, newRoot(t, testProject), func(c *Config) { c.Patience = 300 * time.Millisecond })
		mustSave(t, e, tree, "before", "")
		f.on.Store(true)
		err := within(t, "the save", func() error {
			_, _, err := e.Save(context.Background(), request("one", ""), volumeOf(t, tree), nil)
			return err
		})
		if reason, ok := errors.AsType[*abaca.Reason](err); !ok || reason.Text != "the storage of backups does not answer" {
			t.Errorf("it ended with %v", err)
		}
	})
	t.Run("closing the engine ends with its context, and ends the saves", func(t *testing.T) {
		t.Parallel()
		met := make(chan struct{}, 1000)
		stuck := hang(t)
		f := &faults{any: func(o string) error { met <- struct{}{}; return stuck(o) }}
		e, err := New(Config{Root: newRoot(t, testProject), MasterKey: testKey(), Log: quiet(), Wrap: f.storage})
		must(t, err)
		mustSave(t, e, tree, "before", "")
		f.on.Store(true)
		saved := make(chan error, 1)
		go func() {
			_, _, err := e.Save(context.Background(), request("one", ""), volumeOf(t, tree), nil)
			saved <- err
		}()
		<-met
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		err = within(t, "closing", func() error { return e.Close(ctx) })
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("closing ended with %v", err)
		}
		if err := within(t, "the save", func() error { return <-saved }); !errors.Is(err, errClosing) {
			t.Errorf("the save ended with %v", err)
		}
	})
	t.Run("an S3 server that is stopped", func(t *testing.T) {
		t.Parallel()
		server := s3.Start(t)
		e := newEngine(t, t.TempDir(), inBucket(server))
		mustSave(t, e, tree, "before", "")
		server.Pause(t)
		ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
		defer cancel()
		err := within(t, "the save", func() error {
			_, _, err := e.Save(ctx, request("one", ""), volumeOf(t, tree), nil)
			return err
		})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("it ended with %v", err)
		}
		server.Resume(t)
		ref, _ := mustSave(t, e, tree, "one", "")
		mustEqual(t, tree, restored(t, e, ref))
	})
}

// smallTree makes a tree of a few packs' contents.
func smallTree(t testing.TB) string {
	t.Helper()
	root := t.TempDir()
	for i := range 20 {
		dir := filepath.Join(root, fmt.Sprint(i%5))
		must(t, os.MkdirAll(dir, 0o750))
		must(t, os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), randomBytes(uint64(i), 1000*i), 0o640))
	}
	must(t, os.WriteFile(filepath.Join(root, "big"), randomBytes(1, 2<<20), 0o600))
	return root
}

package engine

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/blob/filesystem"
	"github.com/kopia/kopia/repo/blob/sharded"
)

// A fileStorage is Kopia's storage in a directory, with the one thing that it lacks: after PutBlob has returned, the
// blob's name is as durable as its content, and so are the directories above it. Save may therefore say "saved" as
// soon as Kopia has flushed: packs were put before the index that names them, and the index before the manifest's.
type fileStorage struct {
	blob.Storage
	paths pather
	root  string
	now   func() time.Time // the file system's own clock
	stamp func() time.Time // the clock that blobs have their times from
	packs *openPacks

	mu      sync.Mutex
	durable map[string]bool // directories whose own names have been made durable
}

// A pather is what Kopia's file system storage can do besides being a blob.Storage.
type pather interface {
	GetShardedPathAndFilePath(ctx context.Context, id blob.ID) (dir, file string, err error)
}

func openFileStorage(ctx context.Context, root string, now, stamp func() time.Time) (*fileStorage, error) {
	shards := []int{1, 3}
	if err := checkSharding(root, shards); err != nil {
		return nil, err
	}
	st, err := filesystem.New(context.WithoutCancel(ctx), &filesystem.Options{
		Path:    root,
		Options: sharded.Options{DirectoryShards: shards},
	}, true)
	if err != nil {
		return nil, err
	}
	paths, ok := st.(pather)
	if !ok {
		return nil, errors.New("the storage does not tell where its blobs are")
	}
	return &fileStorage{Storage: st, paths: paths, root: root, now: now, stamp: stamp, packs: newOpenPacks(), durable: map[string]bool{root: true}}, nil
}

// checkSharding puts right the file that tells Kopia in which directories blobs are, which is always the same here: damaged it
// would make all of them disappear.
func checkSharding(root string, shards []int) error {
	path := filepath.Join(root, sharded.ParametersFile)
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // Kopia writes it
	}
	if err != nil {
		return err
	}
	var want bytes.Buffer
	if err := sharded.DefaultParameters(shards).Save(&want); err != nil || bytes.Equal(raw, want.Bytes()) {
		return err
	}
	return writeDurably(path, want.Bytes())
}

// PutBlob writes a blob and makes its name durable.
func (s *fileStorage) PutBlob(ctx context.Context, id blob.ID, data blob.Bytes, opts blob.PutOptions) error {
	if opts.SetModTime.IsZero() {
		opts.SetModTime = s.stamp() // maintenance compares the ages of blobs with the engine's clock
	}
	if err := s.Storage.PutBlob(ctx, id, data, opts); err != nil {
		return err
	}
	dir, _, err := s.paths.GetShardedPathAndFilePath(ctx, id)
	if err != nil {
		return err
	}
	return s.sync(dir)
}

// sync makes a directory's entries durable and, the first time, its own name in the directory above.
func (s *fileStorage) sync(dir string) error {
	if err := syncDir(dir); err != nil {
		return err
	}
	for ; !s.isDurable(dir); dir = filepath.Dir(dir) {
		if err := syncDir(filepath.Dir(dir)); err != nil {
			return err
		}
		s.mu.Lock()
		s.durable[dir] = true
		s.mu.Unlock()
	}
	return nil
}

func (s *fileStorage) isDurable(dir string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.durable[dir]
}

// leftoverAge is how old an unfinished blob must be before it is taken for what a crash has left.
const leftoverAge = 24 * time.Hour

// removeLeftovers removes the temporary files of writes that never ended.
func (s *fileStorage) removeLeftovers(ctx context.Context) error {
	return filepath.WalkDir(s.root, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if temporary, _ := filepath.Match("*"+sharded.CompleteBlobSuffix+".tmp.*", d.Name()); !temporary {
			return nil
		}
		info, err := d.Info()
		if err != nil || s.now().Sub(info.ModTime()) < leftoverAge {
			return nil // it has just become a blob, or may still do so
		}
		return os.Remove(path) //nolint:gosec // G122: nobody else may write into the repository
	})
}

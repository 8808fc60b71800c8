package engine

import (
	"context"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/fstest"

	"abaca"
)

// quickKeys says that opening a repository costs next to nothing.
const quickKeys = keyDerivation == "testing-only-insecure"

// An emptyRepository is the blobs of one in which nothing was saved yet.
type emptyRepository struct {
	password string
	blobs    fs.FS
}

// makeEmpty makes the repository that tests start from, once: without the tag "testing" deriving its key takes seconds under the race detector.
var makeEmpty = sync.OnceValues(func() (emptyRepository, error) {
	root, err := os.MkdirTemp("", "")
	if err != nil {
		return emptyRepository{}, err
	}
	defer os.RemoveAll(root)
	e, err := New(Config{Root: root, MasterKey: testKey(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return emptyRepository{}, err
	}
	r := &repository{project: testProject, dir: filepath.Join(root, dirName(testProject)), annex: e.annexOf(testProject), now: e.config.Now}
	password, err := e.prepare(context.Background(), r, create)
	if err != nil {
		return emptyRepository{}, err
	}
	blobs := fstest.MapFS{}
	dir := os.DirFS(filepath.Join(r.dir, blobDir))
	err = fs.WalkDir(dir, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := fs.ReadFile(dir, path)
		blobs[path] = &fstest.MapFile{Data: content, Mode: 0o600}
		return err
	})
	return emptyRepository{password, blobs}, err
})

// newRoot returns a directory of repositories where the given projects have empty ones.
func newRoot(t testing.TB, projects ...abaca.ProjectID) string {
	t.Helper()
	root := t.TempDir()
	empty, err := makeEmpty()
	must(t, err)
	keys, err := newKeyring(testKey())
	must(t, err)
	for _, project := range projects {
		dir := filepath.Join(root, dirName(project))
		must(t, os.CopyFS(filepath.Join(dir, blobDir), empty.blobs))
		must(t, writeDurably(filepath.Join(dir, secretFile), keys.wrap(project, empty.password)))
	}
	return root
}

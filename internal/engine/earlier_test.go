package engine

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"abaca"
)

// testdata/earlier.tar.gz is a directory of repositories as it was before there were buckets, with the snapshots "one" and "two" of one
// tree, made by the engine of commit 1ff25c3.
func unpackEarlier(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	f, err := os.Open("testdata/earlier.tar.gz")
	must(t, err)
	defer f.Close()
	plain, err := gzip.NewReader(f)
	must(t, err)
	files := tar.NewReader(plain)
	for {
		h, err := files.Next()
		if errors.Is(err, io.EOF) {
			return root
		}
		must(t, err)
		path := filepath.Join(root, h.Name)
		if h.FileInfo().IsDir() {
			must(t, os.MkdirAll(path, 0o700))
			continue
		}
		content, err := io.ReadAll(files)
		must(t, err)
		must(t, os.WriteFile(path, content, 0o600))
	}
}

func TestARepositoryOfAnEarlierVersionIsUsedAsItIs(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	root := unpackEarlier(t)
	e := newEngine(t, root)
	tree := restored(t, e, "two")
	if got, err := os.ReadFile(filepath.Join(tree, "d/f")); err != nil || string(got) != "kept by an earlier abaca\n" {
		t.Fatalf("%q, %v", got, err)
	}
	must(t, os.WriteFile(filepath.Join(tree, "new"), []byte("new"), 0o600))
	three, _ := mustSave(t, e, tree, "three", "two")
	must(t, e.Delete(ctx, testProject, "one"))
	must(t, e.Maintain(ctx, testProject))
	for ref, v := range mustVerify(t, newEngine(t, root), everything, "two", three) {
		if v.Damaged != 0 {
			t.Errorf("%s: %+v", ref, v)
		}
	}
	mustEqual(t, tree, restored(t, e, three))
	if _, _, err := e.Save(ctx, abaca.SaveRequest{Project: testProject, Share: "share", ID: "two"}, volumeOf(t, tree), nil); err != nil {
		t.Errorf("a save that had ended: %v", err)
	}
	stockVerify(t, stockRepository(t, e, testProject))
}

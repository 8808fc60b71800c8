package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kopia/kopia/repo/blob"
)

func TestMaintenanceOfARepositoryWithoutItsIndexTakesNothingAway(t *testing.T) {
	t.Parallel()
	s := newSpecimen(t)
	root := s.copied(t)
	for id := range blobPaths(t, root) {
		if strings.HasPrefix(string(id), "xn") {
			spoil(t, root, id, nil)
		}
	}
	e, pass := timedEngine(t, root)
	for range 4 {
		pass(25 * time.Hour)
		must(t, e.Maintain(context.Background(), testProject))
	}
	s.check(t, root, nil)
}

func TestAnIndexLostUnderAnOpenRepositoryIsMended(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func([]byte) []byte{"missing": nil, "damaged": flip(50)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSpecimen(t)
			e := newEngine(t, s.root)
			s.mustBeSound(t, e)
			spoiled := 0
			for id := range blobPaths(t, s.root) {
				if strings.HasPrefix(string(id), "xn") {
					spoil(t, s.root, id, change)
					spoiled++
				}
			}
			s.mustBeSound(t, e)
			kept, err := os.ReadDir(filepath.Join(s.root, dirName(testProject), quarantineDir))
			if change != nil && (err != nil || len(kept) != spoiled) {
				t.Errorf("%d of %d damaged blobs are in quarantine: %v", len(kept), spoiled, err)
			}
			s.check(t, s.root, nil)
			for _, ref := range s.refs {
				mustEqual(t, s.sources[ref], restored(t, e, ref))
			}
			stockVerify(t, stockRepository(t, e, testProject))
		})
	}
}

func TestADamagedManifestWithoutACopyCostsItsSnapshotOnly(t *testing.T) {
	t.Parallel()
	s := newSpecimen(t)
	lost := 0
	for id, i := range s.contents {
		if s.roles[id] != "manifests" {
			continue
		}
		root := s.copied(t)
		must(t, os.RemoveAll(filepath.Join(root, dirName(testProject), copiesDir)))
		spoil(t, root, i.PackBlobID, flip(int64(i.PackOffset)+20))
		e, pass := timedEngine(t, root)
		found := mustVerify(t, e, everything, s.refs...)
		for _, ref := range s.refs {
			if found[ref] == nothingSaved {
				lost++
				continue
			}
			if v := found[ref]; v.Damaged != 0 || v.Files != s.lengths[ref] {
				t.Errorf("the damage cost %s %+v", ref, v)
			}
			mustEqual(t, s.sources[ref], restored(t, e, ref))
		}
		mustSave(t, e, s.sources["one"], "three", "")
		pass(25 * time.Hour)
		if err := e.Maintain(context.Background(), testProject); err == nil {
			t.Error("maintenance collects what lost manifests may refer to")
		}
	}
	if lost != len(s.refs) {
		t.Errorf("damaging each manifest in turn cost %d of %d snapshots", lost, len(s.refs))
	}
}

func TestDamagedShardingParametersAreWrittenAnew(t *testing.T) {
	t.Parallel()
	s := newSpecimen(t)
	for name, raw := range map[string]string{"other": `{"default":[1,2],"maxNonShardedLength":20}`, "none": "", "no JSON": "{"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := s.copied(t)
			must(t, os.WriteFile(filepath.Join(root, dirName(testProject), blobDir, ".shards"), []byte(raw), 0o600))
			s.check(t, root, nil)
		})
	}
}

func TestMendingThatDiesAnywhereIsCompletedByTheNext(t *testing.T) {
	t.Parallel()
	s := newSpecimen(t)
	damaged := s.copied(t)
	for id := range s.contents {
		if i := s.contents[id]; s.roles[id] == "manifests" {
			spoil(t, damaged, i.PackBlobID, flip(int64(i.PackOffset)+20))
		}
	}
	for id := range blobPaths(t, damaged) {
		if strings.HasPrefix(string(id), "xn") {
			spoil(t, damaged, id, flip(60))
		}
	}
	formatless := s.copied(t)
	for _, id := range formatBlobs {
		spoil(t, formatless, id, nil)
	}
	attempt := func(t *testing.T, damaged string, writes int64) (made int64) {
		root := t.TempDir()
		must(t, os.CopyFS(root, os.DirFS(damaged)))
		var left atomic.Int64
		left.Store(writes)
		dying := newEngine(t, root, func(c *Config) {
			c.Wrap = func(st blob.Storage) blob.Storage { return dyingStorage{st, &left} }
		})
		_, err := dying.Verify(context.Background(), testProject, s.refs, everything, nil)
		if died := left.Load() < 0; died != errors.Is(err, errKilled) {
			t.Fatalf("after %d writes: %v", writes, err)
		}
		made = writes - left.Load()
		e := newEngine(t, root)
		s.mustBeSound(t, e)
		mustEqual(t, s.sources["two"], restored(t, e, "two"))
		return made
	}
	for name, damaged := range map[string]string{"the index and manifests": damaged, "the format": formatless} {
		all := attempt(t, damaged, math.MaxInt64)
		if all < int64(len(formatBlobs)) {
			t.Fatalf("mending %s made only %d writes", name, all)
		}
		for writes := range all {
			t.Run(fmt.Sprintf("%s, after %d writes", name, writes), func(t *testing.T) {
				t.Parallel()
				attempt(t, damaged, writes)
			})
		}
	}
}

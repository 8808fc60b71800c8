package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/content"
	"github.com/kopia/kopia/repo/content/index"
	"github.com/kopia/kopia/repo/object"

	"abaca"
	"abaca/internal/test/torture"
)

// A specimen is a repository of two snapshots of which it is known what each content is for.
type specimen struct {
	root     string
	refs     []abaca.Ref
	sources  map[abaca.Ref]string // trees equal to what was saved
	contents map[content.ID]content.Info
	roles    map[content.ID]string
	users    map[content.ID]map[abaca.Ref][]string // what cannot be restored without it
	lengths  map[abaca.Ref]int64                   // entries
}

// newSpecimen saves a tree twice, with changes between, and leaves behind the mark of a writer that died, a schedule of
// maintenance and a log.
func newSpecimen(t *testing.T) *specimen {
	t.Helper()
	ctx := context.Background()
	s := &specimen{
		root: newRoot(t, testProject), sources: map[abaca.Ref]string{}, contents: map[content.ID]content.Info{},
		roles: map[content.ID]string{}, users: map[content.ID]map[abaca.Ref][]string{}, lengths: map[abaca.Ref]int64{},
	}
	tree := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(tree, "a/b"), 0o750))
	must(t, os.WriteFile(filepath.Join(tree, "large"), randomBytes(1, 5<<20), 0o600))
	for i := range 6 {
		must(t, os.WriteFile(filepath.Join(tree, "a", fmt.Sprint(i)), randomBytes(uint64(10+i), 3000+i), 0o600))
		must(t, os.WriteFile(filepath.Join(tree, "a/b", fmt.Sprint(i)), []byte(strings.Repeat(fmt.Sprint("text", i), 500)), 0o600))
	}
	must(t, os.WriteFile(filepath.Join(tree, "empty"), nil, 0o600))
	must(t, os.Symlink("a/0", filepath.Join(tree, "link")))
	must(t, os.Link(filepath.Join(tree, "a/1"), filepath.Join(tree, "twin")))
	sparse, err := os.Create(filepath.Join(tree, "sparse"))
	must(t, err)
	_, err = sparse.WriteAt(randomBytes(2, 5000), 1<<20)
	must(t, errors.Join(err, sparse.Truncate(3<<20), sparse.Close()))
	e := newEngine(t, s.root)
	e.kernelNow = func() time.Time { return time.Now().Add(time.Minute) }
	first, report := mustSave(t, e, tree, "one", "")
	s.lengths[first], s.sources[first] = report.Files, restored(t, e, first)
	must(t, os.WriteFile(filepath.Join(tree, "a/3"), randomBytes(30, 4000), 0o600))
	must(t, os.WriteFile(filepath.Join(tree, "new"), randomBytes(31, 2000), 0o600))
	second, report := mustSave(t, e, tree, "two", first)
	s.lengths[second], s.sources[second] = report.Files, restored(t, e, second)
	s.refs = []abaca.Ref{first, second}
	must(t, e.Maintain(ctx, testProject))
	r, release, err := e.pool.acquire(ctx, testProject, mustExist)
	must(t, err)
	w, err := r.newWriter(ctx)
	must(t, err)
	_, err = w.put(ctx, "", []byte("never flushed"))
	must(t, err)
	must(t, r.storage.PutBlob(ctx, "_log_of_nobody", plainBytes("a log"), blob.PutOptions{}))
	s.study(t, e, r)
	release()
	must(t, e.Close(ctx))
	return s
}

// study finds out what every content is for.
func (s *specimen) study(t *testing.T, e *Engine, r *repository) {
	t.Helper()
	ctx := context.Background()
	must(t, r.kopia.ContentReader().IterateContents(ctx, content.IterateOptions{Range: index.AllIDs}, func(i content.Info) error {
		s.contents[i.ContentID], s.roles[i.ContentID] = i, "what no file needs"
		if i.ContentID.Prefix() == "m" {
			s.roles[i.ContentID] = "manifests"
		}
		return nil
	}))
	use := func(role string, ref abaca.Ref, path string, ids ...content.ID) {
		for _, id := range ids {
			s.roles[id] = role
			if s.users[id] == nil {
				s.users[id] = map[abaca.Ref][]string{}
			}
			if !slices.Contains(s.users[id][ref], path) {
				s.users[id][ref] = append(s.users[id][ref], path)
			}
		}
	}
	backing := func(id object.ID) []content.ID {
		ids, err := r.kopia.VerifyObject(ctx, id)
		must(t, err)
		return ids
	}
	for _, ref := range s.refs {
		for path, entry := range savedEntries(t, e, ref) {
			switch {
			case entry.kind == kindDir && path == "":
				use("the root directory", ref, ".", backing(entry.object)...)
			case entry.kind == kindDir:
				use("a directory", ref, path, backing(entry.object)...)
			case entry.kind == kindFile && entry.size > 0:
				role := "a small file"
				if list, ok := entry.object.IndexObjectID(); ok {
					role = "a chunk"
					use("a list of chunks", ref, path, backing(list)...)
				}
				must(t, chunksOf(ctx, r.kopia, &entry, func(c chunk) error {
					if !c.hole {
						use(role, ref, path, c.id)
					}
					return nil
				}))
			}
		}
	}
}

// hit returns what a range of a pack takes with it.
func (s *specimen) hit(pack blob.ID, from, to int64) map[abaca.Ref][]string {
	all := map[abaca.Ref][]string{}
	for id, i := range s.contents {
		if i.PackBlobID == pack && int64(i.PackOffset) < to && from < int64(i.PackOffset)+int64(i.PackedLength) {
			for ref, paths := range s.users[id] {
				all[ref] = append(all[ref], paths...)
			}
		}
	}
	for ref := range all {
		slices.Sort(all[ref])
		all[ref] = uppermost(slices.Compact(all[ref]))
	}
	return all
}

// uppermost leaves out what lies below another of the paths, since nobody gets there.
func uppermost(paths []string) []string {
	return slices.DeleteFunc(slices.Clone(paths), func(p string) bool {
		return slices.ContainsFunc(paths, func(dir string) bool { return p != dir && (dir == "." || strings.HasPrefix(p, dir+"/")) })
	})
}

// copied copies the repository.
func (s *specimen) copied(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	must(t, os.CopyFS(root, os.DirFS(s.root)))
	return root
}

// blobPaths finds the files of a repository's blobs by their ids.
func blobPaths(t *testing.T, root string) map[blob.ID]string {
	t.Helper()
	found := map[blob.ID]string{}
	dir := filepath.Join(root, dirName(testProject), blobDir)
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if id, ok := strings.CutSuffix(strings.ReplaceAll(strings.TrimPrefix(path, dir), "/", ""), ".f"); ok && err == nil && !d.IsDir() {
			found[blob.ID(id)] = path
		}
		return err
	}))
	return found
}

// quotedPaths returns the paths at the beginnings of lines.
func quotedPaths(t *testing.T, detail string) (paths []string) {
	t.Helper()
	for line := range strings.Lines(detail) {
		if quoted, err := strconv.QuotedPrefix(line); err == nil {
			path, err := strconv.Unquote(quoted)
			must(t, err)
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	return paths
}

// check verifies and restores everything with a fresh engine, and wants exactly the named entries to be damaged.
func (s *specimen) check(t *testing.T, root string, want map[abaca.Ref][]string) {
	t.Helper()
	ctx := context.Background()
	e := newEngine(t, root)
	found := mustVerify(t, e, everything, s.refs...)
	for _, ref := range s.refs {
		v := found[ref]
		if got := quotedPaths(t, v.Detail); !slices.Equal(got, want[ref]) {
			t.Errorf("of %s verifying names %q; hit are %q", ref, got, want[ref])
		}
		if v.Files+v.Damaged != s.lengths[ref]+int64(strings.Count("\n"+v.Detail, "\n\".\":")) {
			t.Errorf("of %d entries in %s %d are sound and %d damaged", s.lengths[ref], ref, v.Files, v.Damaged)
		}
		target := t.TempDir()
		_, err := e.Restore(ctx, testProject, ref, volumeOf(t, target), nil)
		var got []string
		if reason, ok := errors.AsType[*abaca.Reason](err); ok {
			got = quotedPaths(t, reason.Text)
		} else {
			must(t, err)
		}
		if !slices.Equal(got, want[ref]) {
			t.Errorf("of %s restoring names %q; hit are %q: %v", ref, got, want[ref], err)
		}
		differences, err := torture.Compare(s.sources[ref], target)
		must(t, err)
		for _, d := range differences {
			path := quotedPaths(t, d)[0]
			if path == "twin" && strings.Contains(d, "link") && slices.Contains(want[ref], "a") {
				continue // its other name is in there
			}
			if !slices.Contains(want[ref], ".") && len(uppermost(append([]string{path}, want[ref]...))) > len(want[ref]) && !slices.Contains(want[ref], path) {
				t.Errorf("of %s: %s", ref, d)
			}
		}
	}
}

// mustBeSound verifies everything, and wants nothing to be damaged.
func (s *specimen) mustBeSound(t *testing.T, e *Engine) {
	t.Helper()
	for ref, v := range mustVerify(t, e, everything, s.refs...) {
		if v.Damaged != 0 || v.Files != s.lengths[ref] {
			t.Errorf("of %d entries in %s: %+v", s.lengths[ref], ref, v)
		}
	}
}

func flip(at int64) func([]byte) []byte {
	return func(b []byte) []byte { b[at] ^= 0x04; return b }
}

// spoil changes a blob; nil removes it.
func spoil(t *testing.T, root string, id blob.ID, change func([]byte) []byte) {
	t.Helper()
	path := blobPaths(t, root)[id]
	if change == nil {
		must(t, os.Remove(path))
		return
	}
	raw, err := os.ReadFile(path)
	must(t, err)
	must(t, os.WriteFile(path, change(raw), 0o600))
}

// A region is a byte of a pack.
type region struct {
	pack blob.ID
	at   int64
}

// regions picks one of each kind.
func (s *specimen) regions(t *testing.T) map[string]region {
	t.Helper()
	found := map[string]region{}
	for _, id := range slices.SortedFunc(maps.Keys(s.contents), func(a, b content.ID) int { return strings.Compare(a.String(), b.String()) }) {
		i, role := s.contents[id], s.roles[id]
		off := int64(i.PackOffset)
		found[role] = region{i.PackBlobID, off + 12} // ciphertext, or the tag of what is empty
		if role == "a small file" || role == "a directory" {
			found[role+": nonce"] = region{i.PackBlobID, off}
			found[role+": tag"] = region{i.PackBlobID, off + int64(i.PackedLength) - 1}
		}
		size := int64(len(mustRead(t, blobPaths(t, s.root)[i.PackBlobID])))
		for name, at := range map[string]int64{": preamble": 0, ": padding or own index": size - 400, ": end": size - 3} {
			found[string(i.PackBlobID[:1])+name] = region{i.PackBlobID, at}
		}
	}
	return found
}

func TestDamageAnywhereInAPackIsNamedAndCostsOnlyWhatItHits(t *testing.T) {
	t.Parallel()
	s := newSpecimen(t)
	regions := s.regions(t)
	for _, role := range []string{"a small file", "a chunk", "a list of chunks", "a directory", "the root directory", "manifests", "what no file needs"} {
		if regions[role].pack == "" {
			t.Errorf("no content is %s", role)
		}
	}
	for name, g := range regions {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := s.copied(t)
			spoil(t, root, g.pack, flip(g.at))
			s.check(t, root, s.hit(g.pack, g.at, g.at+1))
		})
	}
}

func mustRead(t testing.TB, path string) []byte {
	t.Helper()
	raw, err := os.ReadFile(path)
	must(t, err)
	return raw
}

func TestDamageToAnyBlobIsNamedOrMended(t *testing.T) {
	t.Parallel()
	s := newSpecimen(t)
	classes := map[string]blob.ID{}
	for id := range blobPaths(t, s.root) {
		class := strings.TrimRight(string(id[:1]), "0123456789")
		if strings.HasPrefix(string(id), "kopia.") || class == "x" {
			class = strings.SplitN(string(id), "_", 2)[0]
		}
		if id > classes[class] {
			classes[class] = id
		}
	}
	for _, class := range []string{"p", "q", "xn0", "s", "_", "kopia.repository", "kopia.blobcfg", "kopia.maintenance"} {
		id, ok := classes[class]
		if !ok {
			t.Errorf("there is no blob of class %s: %v", class, slices.Collect(maps.Keys(classes)))
			continue
		}
		for name, change := range map[string]func([]byte) []byte{
			"a bit":       func(b []byte) []byte { return flip(int64(len(b) / 2))(b) },
			"cut to half": func(b []byte) []byte { return b[:len(b)/2] },
			"emptied":     func([]byte) []byte { return nil },
			"missing":     nil,
		} {
			if class == "p" || class == "q" {
				if name == "a bit" {
					continue // has a test of its own
				}
			}
			t.Run(class+" "+name, func(t *testing.T) {
				t.Parallel()
				root := s.copied(t)
				want := map[abaca.Ref][]string{}
				if class == "p" || class == "q" {
					from := int64(0)
					if name == "cut to half" {
						from = int64(len(mustRead(t, blobPaths(t, root)[id])) / 2)
					}
					want = s.hit(id, from, 1<<40)
				}
				spoil(t, root, id, change)
				if class != "s" && class != "_" && class != "kopia.maintenance" {
					s.check(t, root, want)
				}
				if len(want) == 0 {
					e, pass := timedEngine(t, root)
					pass(25 * time.Hour)
					must(t, e.Maintain(context.Background(), testProject))
					s.mustBeSound(t, e)
				}
			})
		}
	}
}

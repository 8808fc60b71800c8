package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/content"
	"github.com/kopia/kopia/repo/object"
	"golang.org/x/sys/unix"
)

// A checkedSource reads objects as Kopia does, and compares every content with its hash besides: decryption proves who
// has written a content, the hash that it is what was meant.
type checkedSource struct {
	repo.DirectRepository
	verifier *verifier    // hears of what cannot be read
	hash     *contentHash // nil where contents are not named by a hash known here
}

func (s checkedSource) OpenObject(ctx context.Context, id object.ID) (object.Reader, error) {
	return object.Open(ctx, s, id)
}

// GetContent is what object.Open reads by.
func (s checkedSource) GetContent(ctx context.Context, id content.ID) ([]byte, error) {
	data, err := s.ContentReader().GetContent(ctx, id)
	err = s.hash.verify(id, data, err)
	if err == nil && s.verifier.strict {
		err = s.verifier.kept(ctx, id)
	}
	if err != nil && ending(ctx, err) == nil {
		s.verifier.lose(id)
	}
	return data, err
}

// A place is a directory in a tree that is being verified; nil is the root.
type place struct {
	up   *place
	name string
}

func (p *place) path() string {
	var names []string
	for ; p != nil; p = p.up {
		names = append(names, p.name)
	}
	for i, j := 0, len(names)-1; i < j; i, j = i+1, j-1 {
		names[i], names[j] = names[j], names[i]
	}
	return strings.Join(names, "/")
}

// entry is how many entries the directory itself is.
func (p *place) entry() int64 {
	if p == nil {
		return 0
	}
	return 1
}

// A treeWalk goes through one tree.
type treeWalk struct {
	*verifier
	tree *verifiedTree
	name bool // name what is damaged; else only suspect the tree, and have contents read
}

// walk goes through a tree. Only errors that end the whole verification are returned.
func (v *verifier) walk(ctx context.Context, t *verifiedTree, name bool) error {
	_, err := (&treeWalk{verifier: v, tree: t, name: name}).dir(ctx, nil, &t.root)
	return err
}

// dir verifies a directory with all that is beneath it, and reports whether all of it is sound. Directories that were
// found sound before are not read again.
func (w *treeWalk) dir(ctx context.Context, at *place, e *entry) (sound bool, err error) {
	if known, ok := w.sound[e.object]; ok && known == e.totals {
		w.count(known.entries() + at.entry())
		return true, nil
	}
	var reached, sum totals
	sound, err = w.entries(ctx, at, e.object, &reached, &sum)
	if err == nil && sum != e.totals {
		err = fmt.Errorf("%w: directory %v holds %+v instead of %+v", errDamaged, e.object, sum, e.totals)
	}
	if err != nil {
		if end := ending(ctx, err); end != nil {
			return false, end
		}
		reached.dirs++ // the directory itself, which entries() does not count
		w.blame(ctx, at.path(), err, 1+max(0, e.totals.entries()-reached.entries()))
		return false, nil
	}
	w.count(at.entry())
	if sound {
		w.sound[e.object] = sum
	}
	return sound, nil
}

// entries verifies what a directory object lists. It adds up what is listed, and what of that has been looked at.
func (w *treeWalk) entries(ctx context.Context, at *place, id object.ID, reached, sum *totals) (sound bool, err error) {
	reader, err := w.source.OpenObject(ctx, id)
	if err != nil {
		return false, fmt.Errorf("%w: open directory %v: %w", errDamaged, id, err)
	}
	defer reader.Close()
	decoder, err := newDirDecoder(reader)
	if err != nil {
		return false, fmt.Errorf("%w: directory %v: %w", errDamaged, id, err)
	}
	*sum = totals{dirs: 1}
	sound = true
	var said totals // by the object itself
	var subdirs []entry
	for last := false; !last; {
		subdirs = subdirs[:0]
		var good bool
		if last, good, err = w.batch(ctx, at, decoder, reached, sum, &subdirs); err != nil {
			return false, err
		}
		sound = sound && good
		if last {
			said = decoder.totals
			reader.Close() // trees may be deep, so no buffers are kept on the way down; closing twice does no harm
			decoder = nil
		}
		for i := range subdirs {
			e := &subdirs[i]
			good, err := w.dir(ctx, &place{at, e.name}, e)
			if err != nil {
				return false, err
			}
			sound = sound && good
			reached.count(e)
		}
	}
	if *sum != said {
		return false, fmt.Errorf("%w: directory %v sums up to %+v instead of %+v", errDamaged, id, *sum, said)
	}
	return sound, nil
}

// batch verifies entries up to the end of the directory (last) or until there are maxSubdirs subdirectories to visit.
func (w *treeWalk) batch(ctx context.Context, at *place, decoder *dirDecoder, reached, sum *totals, subdirs *[]entry) (last, sound bool, err error) {
	sound = true
	for len(*subdirs) < maxSubdirs {
		if err := ctx.Err(); err != nil {
			return false, false, err
		}
		var e entry
		err := decoder.next(&e)
		if err == io.EOF {
			return true, sound, nil
		}
		if err != nil {
			return false, false, fmt.Errorf("%w: %w", errDamaged, err)
		}
		sum.count(&e)
		if e.kind == kindDir && e.mark != markUnreadable {
			e.xattrs = nil
			*subdirs = append(*subdirs, e)
			continue
		}
		reached.count(&e)
		if err := w.content(ctx, &e); err == nil {
			w.count(1)
		} else if end := ending(ctx, err); end != nil {
			return false, false, end
		} else {
			w.blame(ctx, (&place{at, e.name}).path(), err, 1)
			sound = false
		}
	}
	return false, sound, nil
}

// kept fails if a content is not in the index, or called deleted there.
func (v *verifier) kept(ctx context.Context, id content.ID) error {
	at, err := v.repository.kopia.ContentInfo(ctx, id)
	if err == nil && at.Deleted {
		err = errors.New("it is being collected")
	}
	if err != nil {
		return fmt.Errorf("%w: look up %v: %w", errDamaged, id, err)
	}
	return nil
}

// content verifies what a file consists of, and loses all that is damaged of it, so that the next save stores all of that anew. What
// else an entry refers to is there for stock Kopia only, and for its collection, which fails where it is missing.
func (w *treeWalk) content(ctx context.Context, e *entry) error {
	if id, _, ok := e.object.ContentID(); ok && w.strict {
		if err := w.kept(ctx, id); err != nil {
			if ending(ctx, err) == nil {
				w.lose(id)
			}
			return err
		}
	}
	if e.kind != kindFile || e.mark == markUnreadable {
		return nil
	}
	var damage error
	err := chunksOf(ctx, w.source, e, func(c chunk) error {
		if c.hole {
			return nil
		}
		at, err := w.locate(ctx, c)
		if err == nil && w.name {
			err = w.verdict(c)
		}
		if err != nil && ending(ctx, err) == nil {
			w.lose(c.id)
			damage = cmp.Or(damage, err)
			return nil
		}
		if err != nil || w.name {
			return err
		}
		return w.plan(ctx, w.tree, piece{length: c.length, at: at})
	})
	return cmp.Or(err, damage)
}

func (w *treeWalk) count(entries int64) {
	w.tree.files += entries
	if !w.name {
		w.meter.do(entries, 0)
	}
}

// blame notes damage that takes so many entries with it.
func (w *treeWalk) blame(ctx context.Context, path string, err error, entries int64) {
	w.tree.suspect = true
	if !w.name {
		return
	}
	if w.tree.damaged.add(path, entries) && !w.strict { // else it is mended at once
		w.repository.log.ErrorContext(ctx, "a backup is damaged", "id", w.tree.ref, "path", path, "entries", entries, "error", err)
	}
}

// ending tells the errors that end a verification from damage, which it is there to find: those of the caller, and those
// of a process that lacks something itself. It returns nil for damage.
func ending(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	for _, lack := range []error{unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.EACCES, unix.EPERM, errStorage} {
		if errors.Is(err, lack) {
			return err
		}
	}
	return nil
}

// maxDamageLines is how many damaged entries of a tree are named.
const maxDamageLines = 100

// A damageList counts the damaged entries of a tree, and names the first of them.
type damageList struct {
	count int64
	lines []string
}

// add counts entries: a path, quoted, since its bytes are a tenant's, and what is below it. It reports whether the path is named.
func (l *damageList) add(path string, entries int64) bool {
	l.count += entries
	if len(l.lines) >= maxDamageLines {
		return false
	}
	if path == "" {
		path = "."
	}
	text := errDamaged.Error() // where exactly in the repository is in the log
	if entries > 1 {
		text = fmt.Sprintf("%s, and %d entries below it cannot be reached", text, entries-1)
	}
	l.lines = append(l.lines, fmt.Sprintf("%q: %s", path, text))
	return true
}

func (l *damageList) detail() string { return strings.Join(l.lines, "\n") }

package engine

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/content"
	"github.com/kopia/kopia/repo/manifest"
	"github.com/kopia/kopia/repo/object"
	"github.com/kopia/kopia/snapshot"

	"abaca"
)

// Stats measures a project's repository. It reads directories and the index, no file contents, and may run beside everything; what is
// written or removed meanwhile may be counted or not. Memory grows by about 100 bytes for each content. No repository is all zeros.
func (e *Engine) Stats(ctx context.Context, project abaca.ProjectID) (s abaca.RepositoryStats, err error) {
	ctx, settle := bounded(ctx)
	defer settle(&err)
	s.Project = project
	r, release, err := e.acquire(ctx, project, mustExist)
	if errors.Is(err, errNoRepository) {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	defer release()
	if err := e.refresh(ctx, r); err != nil {
		return s, err
	}
	done, err := snapshots(ctx, r)
	if err != nil {
		return s, err
	}
	s.Trees = len(done)
	u := newUses(r.kopia)
	for _, m := range done {
		s.Logical += reportOf(m).Bytes
	}
	if err := u.walkAll(ctx, r); err != nil {
		return s, fmt.Errorf("walking the backups of project %s: %w", project, err)
	}
	packs := map[blob.ID]int64{}
	err = r.storage.ListBlobs(ctx, "", func(m blob.Metadata) error {
		s.Stored += m.Length
		if isPack(m.BlobID) {
			s.Packs++
			packs[m.BlobID] = m.Length
		}
		return nil
	})
	if err != nil {
		return s, err
	}
	return s, u.addUp(ctx, &s, packs)
}

// uses are the contents that finished snapshots and checkpoints consist of.
type uses struct {
	kopia    *quietRepository
	source   source
	contents map[content.ID]struct{}
	dirs     map[object.ID]struct{} // that were walked
}

func newUses(r *quietRepository) *uses {
	u := &uses{kopia: r, contents: map[content.ID]struct{}{}, dirs: map[object.ID]struct{}{}}
	u.source = usedSource{r, newSource(r), u}
	return u
}

func (u *uses) use(id content.ID) { u.contents[id] = struct{}{} }

// A usedSource notes what contents the objects that are opened consist of.
type usedSource struct {
	repo.DirectRepository
	from source
	uses *uses
}

// OpenObject opens an object.
func (s usedSource) OpenObject(ctx context.Context, id object.ID) (object.Reader, error) {
	return object.Open(ctx, s, id)
}

// GetContent is what object.Open reads by.
func (s usedSource) GetContent(ctx context.Context, id content.ID) ([]byte, error) {
	s.uses.use(id)
	if reader, ok := s.from.(interface {
		GetContent(ctx context.Context, id content.ID) ([]byte, error)
	}); ok {
		return reader.GetContent(ctx, id)
	}
	return s.ContentReader().GetContent(ctx, id)
}

func (u *uses) walkAll(ctx context.Context, r *repository) error {
	found, err := r.kopia.FindManifests(ctx, map[string]string{manifest.TypeLabelKey: snapshot.ManifestType})
	if err != nil {
		return err
	}
	for _, f := range found {
		m, err := snapshot.LoadSnapshot(ctx, r.kopia, f.ID)
		if errors.Is(err, snapshot.ErrSnapshotNotFound) {
			continue // deleted since
		}
		if err == nil {
			err = rootless(m)
		}
		if err == nil {
			err = u.dir(ctx, m.RootEntry.ObjectID)
		}
		if err != nil && ctx.Err() == nil && r.kopia.Refresh(ctx) == nil {
			if _, gone := snapshot.LoadSnapshot(ctx, r.kopia, f.ID); errors.Is(gone, snapshot.ErrSnapshotNotFound) {
				continue // deleted meanwhile, and collected
			}
		}
		if err != nil {
			return fmt.Errorf("%s: %w", f.Labels[tagID], err)
		}
	}
	return nil
}

// dir notes what a directory consists of with all that is beneath it, unless that is known.
func (u *uses) dir(ctx context.Context, id object.ID) error {
	if _, walked := u.dirs[id]; walked {
		return nil
	}
	u.dirs[id] = struct{}{}
	subdirs, err := u.entries(ctx, id)
	for _, sub := range subdirs {
		if err == nil {
			err = u.dir(ctx, sub)
		}
	}
	return err
}

func (u *uses) entries(ctx context.Context, id object.ID) (subdirs []object.ID, err error) {
	reader, err := u.source.OpenObject(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("open directory %v: %w", id, err)
	}
	defer reader.Close()
	decoder, err := newDirDecoder(reader)
	for err == nil {
		if err = ctx.Err(); err != nil {
			break
		}
		var e entry
		if err = decoder.next(&e); err != nil {
			break
		}
		if c, _, ok := e.object.ContentID(); ok {
			u.use(c)
		}
		switch {
		case e.kind == kindDir && e.mark != markUnreadable:
			subdirs = append(subdirs, e.object)
		case e.kind == kindFile && e.mark != markUnreadable:
			err = chunksOf(ctx, u.source, &e, func(c chunk) error {
				if !c.hole {
					u.use(c.id)
				}
				return nil
			})
		}
	}
	if !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("directory %v: %w", id, err)
	}
	return subdirs, nil
}

// addUp counts what of the packs is used; the rest of them can be given back, but for some that tells what is in the pack.
func (u *uses) addUp(ctx context.Context, s *abaca.RepositoryStats, packs map[blob.ID]int64) error {
	err := u.kopia.ContentReader().IterateContents(ctx, content.IterateOptions{IncludeDeleted: true}, func(i content.Info) error {
		_, used := u.contents[i.ContentID]
		if used || i.ContentID.Prefix() == manifest.ContentPrefix && !i.Deleted {
			s.Contents++
			s.Unique += int64(i.OriginalLength)
			packs[i.PackBlobID] -= int64(i.PackedLength)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("reading the index: %w", err)
	}
	for _, rest := range packs {
		s.Reclaimable += max(0, rest) // a pack may be younger than the list of packs
	}
	return nil
}

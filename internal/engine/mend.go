package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/format"
	"github.com/kopia/kopia/repo/manifest"
	"github.com/kopia/kopia/snapshot"
)

// What keeps a whole repository from being read is mended when it is met: the two blobs that say how it is encrypted, from
// copies beside the repository; the index, from the packs. What was damaged is kept in <project>/quarantine. Damage to a
// pack cannot be mended: it costs what lies there, which Verify names.
const (
	quarantineDir = "quarantine"
	copySuffix    = ".copy"
)

// formatBlobs are what Kopia needs before anything else, in the order in which they are put back: the repository exists
// once the last is there.
var formatBlobs = []blob.ID{format.KopiaBlobCfgBlobID, format.KopiaRepositoryBlobID}

// quarantine moves a damaged blob out of the repository; it is kept for whoever wants to look at it.
func (r *repository) quarantine(ctx context.Context, id blob.ID) error {
	if err := r.keepDamaged(ctx, id); err != nil {
		return err
	}
	if err := r.storage.DeleteBlob(ctx, id); err != nil {
		return fmt.Errorf("removing the damaged %v: %w", id, err)
	}
	r.log.WarnContext(ctx, "a damaged blob was moved into quarantine", "blob", id)
	return nil
}

func (r *repository) keepDamaged(ctx context.Context, id blob.ID) error {
	raw, err := readBlob(ctx, r.storage, id)
	if errors.Is(err, blob.ErrBlobNotFound) {
		return nil
	}
	if err == nil {
		err = r.annex.put(ctx, fmt.Sprintf("%s/%v.%d", quarantineDir, id, r.now().UnixNano()), raw)
	}
	return wrap(fmt.Sprintf("keeping the damaged %v", id), err)
}

func readBlob(ctx context.Context, from blob.Reader, id blob.ID) ([]byte, error) {
	m, err := from.GetMetadata(ctx, id)
	if err != nil {
		return nil, err
	}
	if m.Length == 0 {
		return nil, nil
	}
	buf := exactBuffer(m.Length)
	err = buf.fetch(ctx, from, id, 0, m.Length)
	return buf.b, err
}

func copyOf(id blob.ID) string { return string(id) + copySuffix }

// copyFormat keeps copies of the format blobs of a repository that was opened by them.
func (r *repository) copyFormat(ctx context.Context) error {
	for _, id := range formatBlobs {
		raw, err := readBlob(ctx, r.storage, id)
		if errors.Is(err, blob.ErrBlobNotFound) {
			continue // Kopia does without the first
		}
		if err != nil {
			return fmt.Errorf("reading %v to copy it: %w", id, err)
		}
		old, err := r.annex.read(ctx, copyOf(id))
		if err == nil && bytes.Equal(old, raw) {
			continue
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("reading the copy of %v: %w", id, err)
		}
		if err := r.annex.put(ctx, copyOf(id), raw); err != nil {
			return fmt.Errorf("copying %v: %w", id, err)
		}
	}
	return nil
}

// A copiedFormat is a storage with the format blobs of the copies.
type copiedFormat struct {
	blob.Storage
	copies map[blob.ID][]byte
}

// GetBlob reads a copy.
func (c copiedFormat) GetBlob(_ context.Context, id blob.ID, _, _ int64, out blob.OutputBuffer) error {
	raw, ok := c.copies[id]
	if !ok {
		return blob.ErrBlobNotFound
	}
	out.Reset()
	_, err := out.Write(raw)
	return err
}

// Plain bytes are what a storage is given to put.
type plainBytes []byte

// WriteTo, Length and Reader are what storages read a blob with.
func (b plainBytes) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(b)
	return int64(n), err
}
func (b plainBytes) Length() int               { return len(b) }
func (b plainBytes) Reader() io.ReadSeekCloser { return plainReader{bytes.NewReader(b)} }

type plainReader struct{ io.ReadSeeker }

func (plainReader) Close() error { return nil }

// errNoCopy says that a repository has none of what it lost.
var errNoCopy = errors.New("there is no copy")

// mendFormat puts the copies of the format blobs in the place of damaged or missing ones, if the copies are right and the
// blobs are not. It returns the format, whatever it was read from.
func (e *Engine) mendFormat(ctx context.Context, r *repository, password string) (f *format.Manager, mended bool, err error) {
	read := func(st blob.Storage) (*format.Manager, error) {
		return format.NewManager(ctx, st, "", 0, password, e.config.Now)
	}
	if f, err = read(r.storage); err == nil || ctx.Err() != nil {
		return f, false, err
	}
	why := fmt.Errorf("reading the format: %w", err)
	copied := copiedFormat{r.storage, map[blob.ID][]byte{}}
	for _, id := range formatBlobs {
		raw, err := r.annex.read(ctx, copyOf(id))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, false, fmt.Errorf("%w, and %w", why, errNoCopy)
		}
		if err != nil {
			return nil, false, errors.Join(why, err)
		}
		copied.copies[id] = raw
	}
	if f, err = read(copied); err != nil {
		return nil, false, why
	}
	for _, id := range formatBlobs {
		if err := r.keepDamaged(ctx, id); err != nil {
			return nil, false, err
		}
		if err := r.storage.PutBlob(ctx, id, plainBytes(copied.copies[id]), blob.PutOptions{}); err != nil {
			return nil, false, fmt.Errorf("putting back %v: %w", id, err)
		}
	}
	r.log.WarnContext(ctx, "the repository's format was damaged or missing and was put back from its copy", "error", why)
	return f, true, nil
}

// mend repairs what keeps a repository from being opened. It returns whether it found anything.
func (e *Engine) mend(ctx context.Context, r *repository, password string) (mended bool, err error) {
	f, mended, err := e.mendFormat(ctx, r, password)
	if err != nil {
		return false, err
	}
	indexed, err := e.mendIndex(ctx, r, password, f)
	return mended || indexed, err
}

// mendOpen repairs the index of a repository that is open, in which something was missing.
func (e *Engine) mendOpen(ctx context.Context, r *repository) (mended bool, err error) {
	password, err := e.password(ctx, r)
	if err != nil {
		return false, err
	}
	if mended, err = e.mendIndex(ctx, r, password, r.kopia.FormatManager()); err != nil {
		return false, err
	}
	if err := r.kopia.Refresh(ctx); err != nil {
		return false, fmt.Errorf("refresh the repository: %w", err)
	}
	return mended, nil
}

// maintenanceBlob is Kopia's schedule of maintenance, and sessionPrefix that of the marks of writers (repo/maintenance, repo/content).
const (
	maintenanceBlob = "kopia.maintenance"
	sessionPrefix   = "s"
)

// guard keeps maintenance from taking for rubbish what is needed, only because an index or a manifest that named it is lost or was left out of
// a listing; and from being kept off for good by a damaged schedule or mark of a writer, which nothing else needs: it starts anew
// without. Where maintenance is due, it returns what the packs can be read with.
func (e *Engine) guard(ctx context.Context, r *repository, deleted bool) (*indexReader, error) {
	what, err := e.due(ctx, r, deleted)
	if err != nil && ending(ctx, err) == nil {
		if err = r.quarantine(ctx, maintenanceBlob); err == nil {
			what, err = e.due(ctx, r, deleted)
		}
	}
	if err != nil || what == nothingDue {
		return nil, wrap("reading the schedule of maintenance", err)
	}
	secret, err := packSecret(r.kopia.FormatManager())
	if err != nil {
		return nil, nil //nolint:nilerr // packs that only Kopia reads are left to Kopia
	}
	x := &indexReader{blobs: r.kopia.BlobReader(), cipher: newPackCipher(secret)}
	marks, err := x.damaged(ctx, sessionPrefix)
	if err != nil {
		return nil, err
	}
	for _, m := range marks {
		if err := r.quarantine(ctx, m.BlobID); err != nil {
			return nil, err
		}
	}
	damaged, err := x.damaged(ctx, indexPrefixes...)
	if err != nil {
		return nil, err
	}
	if len(damaged) > 0 {
		if _, err := e.mendOpen(ctx, r); err != nil {
			return nil, err
		}
	}
	return x, e.guardManifests(ctx, r)
}

// guardManifests fails where a copy says that there is a manifest which cannot be found, and recovering the index does not help.
func (e *Engine) guardManifests(ctx context.Context, r *repository) error {
	lost, err := r.lostManifests(ctx)
	if err != nil || len(lost) == 0 {
		return err
	}
	r.log.ErrorContext(ctx, "manifests are missing of which there are copies; their index may be lost", "copies", lost)
	if _, err := e.mendOpen(ctx, r); err != nil {
		return err
	}
	if lost, err = r.lostManifests(ctx); err == nil && len(lost) > 0 {
		err = fmt.Errorf("nothing is collected, since the manifests of %d snapshots cannot be found, of which there are copies", len(lost))
	}
	return err
}

// listIndex lists the index twice, since what one listing leaves out, another has: it is not forgotten then (storage_steady.go).
func (r *repository) listIndex(ctx context.Context) error {
	for range 2 {
		for _, prefix := range []blob.ID{"x", "n"} {
			if _, err := listBlobs(ctx, r.storage, prefix); err != nil {
				return fmt.Errorf("listing the index: %w", err)
			}
		}
	}
	return nil
}

// lostManifests returns the names of copies whose manifests are not in the repository.
func (r *repository) lostManifests(ctx context.Context) (lost []string, err error) {
	if err := r.listIndex(ctx); err != nil {
		return nil, err
	}
	copies, err := r.annex.list(ctx, copiesDir) // before the manifests, which are written before their copies
	if err != nil {
		return nil, fmt.Errorf("listing the copies of manifests: %w", err)
	}
	if err := r.kopia.Refresh(ctx); err != nil {
		return nil, fmt.Errorf("refreshing the repository: %w", err)
	}
	found, err := r.kopia.FindManifests(ctx, map[string]string{manifest.TypeLabelKey: snapshot.ManifestType})
	if err != nil {
		return nil, fmt.Errorf("listing the snapshots: %w", err)
	}
	there := map[string]bool{}
	for _, f := range found {
		m, err := snapshot.LoadSnapshot(ctx, r.kopia, f.ID)
		if errors.Is(err, snapshot.ErrSnapshotNotFound) {
			continue // deleted since
		}
		// A checkpoint is there again where the index blob is lost that had it deleted, and had the finished snapshot beside.
		if err != nil || m.IncompleteReason == "" { // what cannot be read stops maintenance itself, see examineManifests
			there[manifestCopy(f.Labels[tagID])] = true
		}
	}
	for _, name := range copies {
		if there[copiesDir+"/"+name] {
			continue
		}
		still, err := r.annex.has(ctx, copiesDir+"/"+name) // or it was deleted meanwhile, copy first
		if err != nil {
			return nil, fmt.Errorf("looking for the copy of a manifest: %w", err)
		}
		if still {
			lost = append(lost, name)
		}
	}
	return lost, nil
}

// guardPacks adds to the index what packs hold that it does not name at all.
func (r *repository) guardPacks(ctx context.Context, x *indexReader) error {
	entries, err := recoverIndex(ctx, r.kopia, x, false)
	if err == nil && entries > 0 {
		r.log.WarnContext(ctx, "packs that the index did not name were added to it", "entries", entries)
		_, err = recoverIndex(ctx, r.kopia, x, true)
	}
	return err
}

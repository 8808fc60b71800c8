package engine

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/content"
	"github.com/kopia/kopia/repo/content/index"
	"github.com/kopia/kopia/repo/manifest"
	"github.com/kopia/kopia/repo/object"
)

// Kopia's manifests are entries in contents that are only ever added; a deletion is an entry too, and of several entries of one
// manifest the youngest counts. Who reads 16 such contents, be it only to look something up, puts what is left of their entries into
// one and deletes them (repo/manifest). That loses deletions: when two do it at one time, and one of them has seen a deletion
// that the other has not, the other's content still has the manifest, and nothing says any more that it was deleted.
//
// So here nobody compacts but Maintain, one at a time; and a compaction keeps deletions as entries for longer than any other that
// has not seen them could last, so that not even one that was stopped for days and goes on brings anything back.

// A quietRepository is a repository that does not compact manifests on its own.
type quietRepository struct {
	repo.DirectRepository
	manifests *manifest.Manager
	end       context.CancelFunc // of the context that it was opened with
}

// Close closes the repository.
func (r *quietRepository) Close(ctx context.Context) error {
	defer r.end()
	return r.DirectRepository.Close(ctx)
}

// A quietWriter is a write session that does not compact manifests on its own.
type quietWriter struct {
	repo.DirectRepositoryWriter
	manifests *manifest.Manager
	clock     *entryClock
}

// neverCompact is a number of contents that is not reached.
const neverCompact = math.MaxInt

// An entryClock tells when entries are written. It never tells less than what came before, so that a deletion is younger than what it deletes,
// whatever the clocks of two hosts say.
type entryClock struct {
	now   func() time.Time
	floor time.Time
}

func (c *entryClock) tell() time.Time {
	if now := c.now(); now.After(c.floor) {
		return now
	}
	return c.floor
}

// quietly takes the compaction out of an open repository.
func quietly(ctx context.Context, r repo.DirectRepository) (*quietRepository, error) {
	inner, ok := r.(interface {
		ContentManager() *content.WriteManager
	})
	if !ok {
		return nil, errors.New("Kopia's repository does not give its contents away")
	}
	m, err := manifest.NewManager(ctx, inner.ContentManager(), manifest.ManagerOptions{AutoCompactionThreshold: neverCompact}, nil)
	if err != nil {
		return nil, fmt.Errorf("managing manifests: %w", err)
	}
	return &quietRepository{DirectRepository: r, manifests: m}, nil
}

// GetManifest reads a manifest.
func (r *quietRepository) GetManifest(ctx context.Context, id manifest.ID, data any) (*manifest.EntryMetadata, error) {
	return r.manifests.Get(ctx, id, data)
}

// FindManifests lists the manifests with these labels.
func (r *quietRepository) FindManifests(ctx context.Context, labels map[string]string) ([]*manifest.EntryMetadata, error) {
	return r.manifests.Find(ctx, labels)
}

// NewWriter begins a write session.
func (r *quietRepository) NewWriter(ctx context.Context, o repo.WriteSessionOptions) (context.Context, repo.RepositoryWriter, error) {
	return r.NewDirectWriter(ctx, o)
}

// NewDirectWriter begins a write session.
func (r *quietRepository) NewDirectWriter(ctx context.Context, o repo.WriteSessionOptions) (context.Context, repo.DirectRepositoryWriter, error) {
	ctx, w, err := r.DirectRepository.NewDirectWriter(ctx, o)
	if err != nil {
		return nil, nil, err
	}
	clock := &entryClock{now: r.Time}
	options := manifest.ManagerOptions{AutoCompactionThreshold: neverCompact, TimeNow: clock.tell}
	m, err := manifest.NewManager(ctx, w.ContentManager(), options, nil)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("managing manifests: %w", err), w.Close(ctx))
	}
	return ctx, &quietWriter{w, m, clock}, nil
}

// GetManifest reads a manifest.
func (w *quietWriter) GetManifest(ctx context.Context, id manifest.ID, data any) (*manifest.EntryMetadata, error) {
	return w.manifests.Get(ctx, id, data)
}

// FindManifests lists the manifests with these labels.
func (w *quietWriter) FindManifests(ctx context.Context, labels map[string]string) ([]*manifest.EntryMetadata, error) {
	return w.manifests.Find(ctx, labels)
}

// PutManifest adds a manifest, which others see after the next flush.
func (w *quietWriter) PutManifest(ctx context.Context, labels map[string]string, payload any) (manifest.ID, error) {
	return w.manifests.Put(ctx, labels, payload)
}

// ReplaceManifests puts a manifest in the place of all that have these labels.
func (w *quietWriter) ReplaceManifests(ctx context.Context, labels map[string]string, payload any) (manifest.ID, error) {
	old, err := w.FindManifests(ctx, labels)
	if err != nil {
		return "", err
	}
	for _, m := range old {
		if err := w.DeleteManifest(ctx, m.ID); err != nil {
			return "", err
		}
	}
	return w.PutManifest(ctx, labels, payload)
}

// DeleteManifest removes a manifest, with the next flush.
func (w *quietWriter) DeleteManifest(ctx context.Context, id manifest.ID) error {
	m, err := w.manifests.GetMetadata(ctx, id)
	if errors.Is(err, manifest.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if after := m.ModTime.Add(1); after.After(w.clock.floor) {
		w.clock.floor = after
	}
	return w.manifests.Delete(ctx, id)
}

// Flush makes what was written durable and visible, manifests last.
func (w *quietWriter) Flush(ctx context.Context) error {
	if err := w.manifests.Flush(ctx); err != nil {
		return fmt.Errorf("flushing manifests: %w", err)
	}
	return w.DirectRepositoryWriter.Flush(ctx)
}

// A manifestEntry is an entry as Kopia writes it (repo/manifest), with the content as it is.
type manifestEntry struct {
	ID      manifest.ID       `json:"id"`
	Labels  map[string]string `json:"labels"`
	ModTime time.Time         `json:"modified"`
	Deleted bool              `json:"deleted,omitempty"`
	Content json.RawMessage   `json:"data"`
}

type manifestContent struct {
	Entries []*manifestEntry `json:"entries"`
}

// What a compaction goes by.
const (
	compactFrom   = 16                  // contents; fewer cost little
	deletionLife  = 14 * 24 * time.Hour // of an entry that says what was deleted
	entriesAtOnce = 4 << 20             // bytes of entries in one content; Kopia reads a content whole
)

// compactManifests puts the entries of many contents into few. Who does it must be the only one to.
func compactManifests(ctx context.Context, r repo.DirectRepository) error {
	var old []content.ID
	youngest := map[manifest.ID]*manifestEntry{}
	all := content.IterateOptions{Range: index.PrefixRange(manifest.ContentPrefix)}
	err := r.ContentReader().IterateContents(ctx, all, func(i content.Info) error { old = append(old, i.ContentID); return nil })
	if err != nil || len(old) < compactFrom {
		return wrap("listing the manifests", err)
	}
	for _, id := range old {
		entries, err := readEntries(ctx, r.ContentReader(), id)
		if err != nil {
			return fmt.Errorf("reading the manifests in %v: %w", id, err)
		}
		for _, e := range entries {
			if y := youngest[e.ID]; y == nil || e.ModTime.After(y.ModTime) {
				youngest[e.ID] = e
			}
		}
	}
	var kept []*manifestEntry
	for _, e := range youngest {
		if !e.Deleted || r.Time().Sub(e.ModTime) < deletionLife {
			kept = append(kept, e)
		}
	}
	slices.SortFunc(kept, func(a, b *manifestEntry) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return repo.DirectWriteSession(ctx, r, repo.WriteSessionOptions{Purpose: "compact manifests"}, func(ctx context.Context, w repo.DirectRepositoryWriter) error {
		contents := w.ContentManager()
		contents.DisableIndexFlush(ctx) // all of it becomes visible at once
		defer contents.EnableIndexFlush(ctx)
		written, err := writeEntries(ctx, w, kept)
		if err != nil {
			return err
		}
		for _, id := range old {
			if slices.Contains(written, id) {
				continue
			}
			if err := contents.DeleteContent(ctx, id); err != nil {
				return fmt.Errorf("deleting compacted manifests: %w", err)
			}
		}
		return nil
	})
}

func readEntries(ctx context.Context, from content.Reader, id content.ID) ([]*manifestEntry, error) {
	packed, err := from.GetContent(ctx, id)
	if err != nil {
		return nil, err
	}
	plain, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	var m manifestContent
	err = json.NewDecoder(plain).Decode(&m)
	return m.Entries, err
}

// writeEntries writes entries as Kopia does, and returns the contents.
func writeEntries(ctx context.Context, w repo.RepositoryWriter, entries []*manifestEntry) (written []content.ID, err error) {
	for len(entries) > 0 {
		n, size := 0, 0
		for n < len(entries) && (n == 0 || size < entriesAtOnce) {
			size += len(entries[n].Content) + 512
			n++
		}
		var packed bytes.Buffer
		out := gzip.NewWriter(&packed)
		if err := errors.Join(json.NewEncoder(out).Encode(manifestContent{entries[:n]}), out.Close()); err != nil {
			return nil, fmt.Errorf("packing manifests: %w", err)
		}
		id, err := writeWhole(ctx, w, manifest.ContentPrefix, packed.Bytes())
		if err != nil {
			return nil, fmt.Errorf("writing manifests: %w", err)
		}
		written, entries = append(written, id), entries[n:]
	}
	return written, nil
}

// writeWhole writes one content.
func writeWhole(ctx context.Context, w repo.RepositoryWriter, prefix content.IDPrefix, data []byte) (content.ID, error) {
	out := w.NewObjectWriter(ctx, object.WriterOptions{Splitter: wholeChunks, Prefix: prefix})
	defer out.Close()
	if _, err := out.Write(data); err != nil {
		return content.EmptyID, err
	}
	id, err := out.Result()
	if err != nil {
		return content.EmptyID, err
	}
	c, _, ok := id.ContentID()
	if !ok {
		return content.EmptyID, fmt.Errorf("%d bytes do not fit in one content", len(data))
	}
	return c, nil
}

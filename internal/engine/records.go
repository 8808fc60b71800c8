package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"github.com/kopia/kopia/repo/manifest"
	"github.com/kopia/kopia/snapshot"
	"golang.org/x/sync/errgroup"

	"abaca"
)

// Beside each snapshot lies a record of what the catalogue says of it, sealed with the project's own key, so that the catalogue can
// be made again from the repositories alone:
//
//	<project>/records/<id>
//
// What is in a record is its writer's affair.
const recordsDir = "records"

func recordName(id string) string { return recordsDir + "/" + dirName(abaca.ProjectID(id)) }

// recordSealing is what a record is bound to besides the key: its project and its id.
func recordSealing(project abaca.ProjectID, id string) []byte {
	return []byte("abaca record\x00" + string(project) + "\x00" + id)
}

// Note keeps a record beside what was saved under an id, in the place of an earlier one. It survives a power loss once this has
// returned. Delete removes it.
func (e *Engine) Note(ctx context.Context, project abaca.ProjectID, id string, record []byte) (err error) {
	defer func() { err = storageReason(err) }()
	ctx, settle := bounded(ctx)
	defer settle(&err)
	r, release, err := e.acquire(ctx, project, mustExist)
	if err != nil {
		return err
	}
	defer release()
	err = r.annex.put(ctx, recordName(id), seal(r.seal, sealVersion, record, recordSealing(project, id)))
	if err != nil {
		return markStorage(fmt.Errorf("writing the record of %s: %w", id, err))
	}
	return nil
}

// Unnote removes the record of what was deleted; none is no error.
func (e *Engine) Unnote(ctx context.Context, project abaca.ProjectID, id string) error {
	err := e.annexOf(project).remove(ctx, recordName(id))
	return wrap(fmt.Sprintf("removing the record of %s", id), ignoreMissing(err))
}

// Found lists what a project has saved, oldest first, each with its record. One whose record is missing or damaged has none.
// Manifests that are damaged are put back from their copies first. No repository is an empty list.
func (e *Engine) Found(ctx context.Context, project abaca.ProjectID) (found []abaca.Found, err error) {
	ctx, settle := bounded(ctx)
	defer settle(&err)
	r, release, err := e.acquire(ctx, project, mustExist)
	if errors.Is(err, errNoRepository) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer release()
	if err := e.refresh(ctx, r); err != nil {
		return nil, err
	}
	all, err := snapshots(ctx, r)
	if err != nil {
		return nil, err
	}
	for _, m := range all {
		report := reportOf(m)
		found = append(found, abaca.Found{
			ID: m.Tags[tagID], Ref: abaca.Ref(m.Tags[tagID]), Project: project, Share: abaca.ShareID(m.Tags[tagShare]),
			Began: m.StartTime.ToTime(), Ended: m.EndTime.ToTime(), Files: report.Files, Bytes: report.Bytes,
		})
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(workers)
	for i := range found {
		group.Go(func() (err error) {
			found[i].Record, err = r.record(ctx, found[i].ID)
			return err
		})
	}
	return found, group.Wait()
}

// record reads a record; nil for none that is of use.
func (r *repository) record(ctx context.Context, id string) ([]byte, error) {
	sealed, err := r.annex.read(ctx, recordName(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, markStorage(fmt.Errorf("reading the record of %s: %w", id, err))
	}
	record, err := unseal(r.seal, sealVersion, sealed, recordSealing(r.project, id))
	if err != nil {
		r.log.Error("the record of what was saved cannot be read", "id", id, "error", err)
		return nil, nil
	}
	return record, nil
}

// snapshots returns the manifest of each finished snapshot, oldest first.
func snapshots(ctx context.Context, r *repository) (all []*snapshot.Manifest, err error) {
	found, err := r.kopia.FindManifests(ctx, map[string]string{manifest.TypeLabelKey: snapshot.ManifestType})
	if err != nil {
		return nil, fmt.Errorf("listing the snapshots: %w", err)
	}
	var mu sync.Mutex
	first := map[string]*snapshot.Manifest{} // of several under one id, as finished() has it
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(workers)
	for _, f := range found {
		group.Go(func() error {
			m, err := snapshot.LoadSnapshot(ctx, r.kopia, f.ID)
			if errors.Is(err, snapshot.ErrSnapshotNotFound) {
				return nil // deleted since
			}
			if err != nil || m.RootEntry == nil {
				return fmt.Errorf("reading the snapshot %s (%s): %w", f.Labels[tagID], f.ID, errors.Join(err, rootless(m)))
			}
			if m.IncompleteReason != "" {
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			if old := first[m.Tags[tagID]]; old == nil || compareManifests(m, old) < 0 {
				first[m.Tags[tagID]] = m
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	for _, m := range first {
		all = append(all, m)
	}
	slices.SortFunc(all, compareManifests)
	return all, nil
}

func rootless(m *snapshot.Manifest) error {
	if m != nil && m.RootEntry == nil {
		return malformed("it has no root")
	}
	return nil
}

// compareManifests says which of two was finished first.
func compareManifests(a, b *snapshot.Manifest) int {
	if a.EndTime != b.EndTime {
		return int(max(-1, min(1, int64(a.EndTime-b.EndTime))))
	}
	return strings.Compare(string(a.ID), string(b.ID))
}

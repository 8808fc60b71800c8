package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/kopia/kopia/fs"
	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/manifest"
	"github.com/kopia/kopia/snapshot"

	"abaca"
)

// Every saved tree is a Kopia snapshot, known by two labels that stock commands keep: the id it was saved under and
// its share. An unfinished one is a checkpoint; Kopia knows that by its reason for being incomplete.
const (
	kopiaHost = "abaca"
	kopiaUser = "abaca"

	tagID    = "tag:abaca-id"
	tagShare = "tag:abaca-share"

	// tagMarked says how many files of a finished snapshot kept changing and how many could not be read, as
	// "changed/unreadable"; the manifest's description has the report's detail. Without marks there is neither.
	tagMarked = "tag:abaca-marked"

	reasonCheckpoint = "checkpoint"
)

func snapshotLabels(id string) map[string]string {
	return map[string]string{manifest.TypeLabelKey: snapshot.ManifestType, tagID: id}
}

// newManifest describes a tree; root is its directory object as the entry of nothing.
func newManifest(req abaca.SaveRequest, root *entry, started, ended time.Time) *snapshot.Manifest {
	dir := snapshot.DirEntry{
		Name: string(req.Share), Type: snapshot.EntryTypeDirectory,
		Permissions: snapshot.Permissions(goMode(root.mode)),
		ModTime:     stockTime(root.mtime),
		UserID:      root.uid, GroupID: root.gid, ObjectID: root.object,
		DirSummary: &fs.DirectorySummary{
			TotalFileSize: root.totals.bytes, TotalFileCount: root.totals.files,
			TotalSymlinkCount: root.totals.symlinks, TotalDirCount: root.totals.dirs,
			MaxModTime: stockTime(root.mtime), IgnoredErrorCount: int(min(root.totals.marked, 1<<31-1)),
		},
	}
	return &snapshot.Manifest{
		Source:    snapshot.SourceInfo{Host: kopiaHost, UserName: kopiaUser, Path: "/" + string(req.Share)},
		StartTime: fs.UTCTimestampFromTime(started), EndTime: fs.UTCTimestampFromTime(ended),
		Stats: snapshot.Stats{
			TotalFileSize: root.totals.bytes, TotalFileCount: clamp32(root.totals.files),
			TotalDirectoryCount: clamp32(root.totals.dirs), IgnoredErrorCount: clamp32(root.totals.marked),
		},
		RootEntry: &dir,
		Tags:      map[string]string{tagID: req.ID, tagShare: string(req.Share)},
	}
}

// noteReport keeps in a manifest what it has no other place for, so that a save that is repeated can say it again.
func noteReport(m *snapshot.Manifest, r abaca.Report) {
	if r.Changed == 0 && r.Unreadable == 0 {
		return
	}
	m.Tags[tagMarked] = fmt.Sprintf("%d/%d", r.Changed, r.Unreadable)
	m.Description = r.Detail
}

// reportOf says again what a finished save has said, but that it stores nothing now. Where a manifest does not tell the
// marks apart, all of them count as unreadable.
func reportOf(m *snapshot.Manifest) abaca.Report {
	s := m.RootEntry.DirSummary
	if s == nil {
		return abaca.Report{}
	}
	t := totals{files: s.TotalFileCount, symlinks: s.TotalSymlinkCount, dirs: s.TotalDirCount}
	r := abaca.Report{Files: t.entries(), Bytes: s.TotalFileSize, Detail: m.Description}
	if _, err := fmt.Sscanf(m.Tags[tagMarked], "%d/%d", &r.Changed, &r.Unreadable); err != nil {
		r.Changed, r.Unreadable = 0, int64(s.IgnoredErrorCount)
	}
	return r
}

func clamp32(n int64) int32 { return int32(min(n, 1<<31-1)) }

// finished returns the manifest of the finished snapshot that was saved under id, and those of its checkpoints.
// More than one may be finished if two processes saved at once; then all see the same one, the first.
func finished(ctx context.Context, r repo.Repository, id string) (done *snapshot.Manifest, checkpoints []*snapshot.Manifest, err error) {
	all, err := manifests(ctx, r, id)
	if err != nil {
		return nil, nil, err
	}
	for _, m := range all {
		switch {
		case m.IncompleteReason != "":
			checkpoints = append(checkpoints, m)
		case done == nil:
			done = m
		}
	}
	return done, checkpoints, nil
}

// manifests returns all that was saved under id, oldest first.
func manifests(ctx context.Context, r repo.Repository, id string) ([]*snapshot.Manifest, error) {
	found, err := r.FindManifests(ctx, snapshotLabels(id))
	if err != nil {
		return nil, fmt.Errorf("looking for the snapshot %s: %w", id, err)
	}
	var all []*snapshot.Manifest
	for _, f := range found {
		m, err := snapshot.LoadSnapshot(ctx, r, f.ID)
		if errors.Is(err, snapshot.ErrSnapshotNotFound) {
			continue // deleted since
		}
		if err != nil {
			return nil, fmt.Errorf("reading the snapshot %s: %w", id, err)
		}
		if m.RootEntry == nil {
			return nil, fmt.Errorf("reading the snapshot %s: %w", id, malformed("it has no root"))
		}
		all = append(all, m)
	}
	slices.SortFunc(all, compareManifests)
	return all, nil
}

// deleteSnapshots removes the manifests of all that was saved under id; maintenance then finds what nothing refers to.
func (r *repository) deleteSnapshots(ctx context.Context, id string) error {
	found, err := r.kopia.FindManifests(ctx, snapshotLabels(id))
	if err != nil {
		return fmt.Errorf("looking for the snapshot %s: %w", id, err)
	}
	if len(found) == 0 {
		return nil
	}
	err = repo.WriteSession(ctx, r.kopia, repo.WriteSessionOptions{Purpose: "delete"}, func(ctx context.Context, w repo.RepositoryWriter) error {
		for _, f := range found {
			if err := w.DeleteManifest(ctx, f.ID); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("deleting the snapshot %s: %w", id, err)
	}
	return nil
}

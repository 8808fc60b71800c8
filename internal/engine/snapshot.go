package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
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
	slices.SortFunc(all, func(a, b *snapshot.Manifest) int {
		if a.EndTime != b.EndTime {
			return int(max(-1, min(1, int64(a.EndTime-b.EndTime))))
		}
		return strings.Compare(string(a.ID), string(b.ID))
	})
	return all, nil
}

// deleteSnapshots removes the manifests of all that was saved under id; maintenance then finds what nothing refers to.
func (r *repository) deleteSnapshots(ctx context.Context, id string) error {
	if err := r.kopia.Refresh(ctx); err != nil {
		return fmt.Errorf("looking for the snapshot %s: %w", id, err)
	}
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

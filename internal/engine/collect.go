package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/content"
	"github.com/kopia/kopia/repo/content/indexblob"
	"github.com/kopia/kopia/repo/maintenance"
	"github.com/kopia/kopia/repo/maintenancestats"
	"github.com/kopia/kopia/repo/manifest"
	"github.com/kopia/kopia/snapshot"
	"github.com/kopia/kopia/snapshot/snapshotgc"
)

// A round of collection gives back what no snapshot refers to. What one round finds unused it marks as deleted in the index, which costs
// nobody anything; what was marked longer than a margin ago, and is still unused, the index forgets, and packs go of which it names
// nothing. Packs that are left partly empty are written anew, and go a margin later. So a deleted snapshot's space is free after three
// rounds, which come a margin apart for as long as there is anything to do.
//
// Margins make it unlikely that a save meets a collection; they keep nothing safe, since clocks and processes may stand still. That a save
// has not lost what it took for stored is seen at its end (collections.go).
type round struct {
	r      *repository
	w      repo.DirectRepositoryWriter
	run    maintenance.RunParameters
	margin time.Duration
	full   bool // so is Kopia's own maintenance, which is part of it
}

const (
	marginsWithin = 6        // margins that FreeWithin has: three pass in the worst case, and Maintain may be late, and slow
	wasteShare    = 5        // a pack is written anew when a fifth of it is of no use,
	wasteLeast    = 64 << 10 // and as many bytes; small packs are filled up at random, and gathered by Kopia's own maintenance
	entrySize     = 128      // bytes at most that a pack takes to name one content
)

// do goes one round, and reports whether there is something left to do for another.
func (c *round) do(ctx context.Context) (rest bool, err error) {
	began := c.w.Time()
	cutoff := began.Add(-c.margin)
	forget, err := c.hasMarks(ctx, cutoff)
	if err != nil {
		return false, err
	}
	forget = forget || c.full // Kopia's own maintenance may forget too
	if forget {
		if err := c.r.beginCollection(ctx, began); err != nil {
			return false, err
		}
		if err := c.w.Refresh(ctx); err != nil { // whoever saw no collection yet has written what this shows
			return false, fmt.Errorf("refreshing the repository: %w", err)
		}
	}
	if err := c.mark(ctx); err != nil {
		return false, err
	}
	if forget {
		if err := c.forget(ctx, cutoff); err != nil {
			return false, err
		}
	}
	if err := c.deletePacks(ctx); err != nil {
		return false, err
	}
	if err := maintenance.Run(ctx, c.run, maintenance.SafetyFull); err != nil {
		return false, err
	}
	rewritten, err := c.rewrite(ctx)
	if err != nil {
		return false, err
	}
	if forget {
		if err := c.r.endCollection(ctx, began); err != nil {
			return false, err
		}
	}
	rest, err = c.hasMarks(ctx, time.Unix(1<<40, 0)) // ever
	if err != nil || rest || rewritten {
		return true, err
	}
	return c.hasRecent(ctx)
}

// hasMarks reports whether the index still knows of contents that were marked as deleted before a time.
func (c *round) hasMarks(ctx context.Context, before time.Time) (found bool, err error) {
	errFound := errors.New("found")
	err = c.w.ContentReader().IterateContents(ctx, content.IterateOptions{IncludeDeleted: true}, func(i content.Info) error {
		if i.Deleted && i.ContentID.Prefix() != manifest.ContentPrefix && i.Timestamp().Before(before) {
			return errFound
		}
		return ctx.Err()
	})
	if errors.Is(err, errFound) {
		return true, nil
	}
	return false, wrap("reading the index", err)
}

// mark marks what is unused, and takes the mark from what has come into use. A checkpoint that lacks something would keep all else from being
// collected: it goes, since the save that it belongs to does without.
func (c *round) mark(ctx context.Context) error {
	safety := maintenance.SafetyParameters{MinContentAgeSubjectToGC: c.margin}
	err := snapshotgc.Run(ctx, c.w, true, safety, c.run.MaintenanceStartTime)
	if err == nil || ctx.Err() != nil || ending(ctx, err) != nil {
		return err
	}
	dropped, derr := c.dropCheckpoints(ctx)
	if derr != nil || dropped == 0 {
		return errors.Join(err, derr)
	}
	return snapshotgc.Run(ctx, c.w, true, safety, c.run.MaintenanceStartTime)
}

// dropCheckpoints removes checkpoints of which something is missing.
func (c *round) dropCheckpoints(ctx context.Context) (dropped int, err error) {
	found, err := c.w.FindManifests(ctx, map[string]string{manifest.TypeLabelKey: snapshot.ManifestType})
	if err != nil {
		return 0, fmt.Errorf("listing the snapshots: %w", err)
	}
	for _, f := range found {
		m, err := snapshot.LoadSnapshot(ctx, c.w, f.ID)
		if err != nil || m.IncompleteReason == "" {
			continue
		}
		switch lack := c.lack(ctx, m); {
		case lack == nil:
			continue
		case ending(ctx, lack) != nil:
			return dropped, lack
		default:
			c.r.log.WarnContext(ctx, "a checkpoint lacks something and is given up", "id", f.Labels[tagID], "error", lack)
		}
		if err := c.w.DeleteManifest(ctx, f.ID); err != nil {
			return dropped, fmt.Errorf("deleting a checkpoint: %w", err)
		}
		dropped++
	}
	return dropped, wrap("deleting checkpoints", c.w.Flush(ctx))
}

// lack tells what a snapshot refers to that is not there.
func (c *round) lack(ctx context.Context, m *snapshot.Manifest) error {
	u := newUses(c.r.kopia)
	if err := u.dir(ctx, m.RootEntry.ObjectID); err != nil {
		return err
	}
	for id := range u.contents {
		if _, err := c.w.ContentInfo(ctx, id); err != nil {
			return fmt.Errorf("looking up %v: %w", id, err)
		}
	}
	return nil
}

// forget has the index forget what was marked before a time and is so still.
func (c *round) forget(ctx context.Context, cutoff time.Time) error {
	return maintenance.ReportRun(ctx, c.w, maintenance.TaskDropDeletedContentsFull, nil, func() (maintenancestats.Kind, error) {
		return c.w.ContentManager().CompactIndexes(ctx, indexblob.CompactOptions{AllIndexes: true, DropDeletedBefore: cutoff})
	})
}

// deletePacks deletes the packs of which the index names nothing. A pack is put after the mark of the session that writes it, and the index
// before that mark goes: so looking at packs, marks and index in this order shows for every pack that it is named, or still written.
func (c *round) deletePacks(ctx context.Context) error {
	var packs []blob.Metadata
	for _, prefix := range content.PackBlobIDPrefixes {
		found, err := listBlobs(ctx, c.w.BlobReader(), prefix)
		if err != nil {
			return fmt.Errorf("listing the packs: %w", err)
		}
		packs = append(packs, found...)
	}
	writing, err := c.w.ContentManager().ListActiveSessions(ctx)
	if err != nil {
		return fmt.Errorf("listing the marks of writers: %w", err)
	}
	if err := c.r.listIndex(ctx); err != nil {
		return err
	}
	if err := c.w.Refresh(ctx); err != nil {
		return fmt.Errorf("refreshing the repository: %w", err)
	}
	named := map[blob.ID]bool{}
	each := content.IteratePackOptions{IncludePacksWithOnlyDeletedContent: true}
	err = c.w.ContentReader().IteratePacks(ctx, each, func(p content.PackInfo) error { named[p.PackID] = true; return ctx.Err() })
	if err != nil {
		return fmt.Errorf("reading the index: %w", err)
	}
	for _, p := range packs {
		if named[p.BlobID] || c.run.MaintenanceStartTime.Sub(p.Timestamp) < c.margin {
			continue
		}
		session, found := writing[content.SessionIDFromBlobID(p.BlobID)]
		if found && c.run.MaintenanceStartTime.Sub(session.CheckpointTime) < c.sessionLife(p.BlobID) {
			continue
		}
		if err := c.w.BlobStorage().DeleteBlob(ctx, p.BlobID); err != nil {
			return fmt.Errorf("deleting the pack %v: %w", p.BlobID, err)
		}
	}
	return nil
}

// sessionLife is how old the mark of a session without an end is before its packs are taken for what a crash has left. A save that was stopped
// for so long looks for its packs in the end, and stores them anew; those of manifests are small, and nobody looks for them.
func (c *round) sessionLife(pack blob.ID) time.Duration {
	if strings.HasPrefix(string(pack), string(content.PackBlobIDPrefixSpecial)) {
		return maintenance.SafetyFull.SessionExpirationAge
	}
	return max(time.Hour, marginsWithin*c.margin)
}

// rewrite writes anew what is used of packs that are partly empty. What cannot be read stays where it is.
func (c *round) rewrite(ctx context.Context) (any bool, err error) {
	contents, err := c.wasteful(ctx)
	if err != nil || len(contents) == 0 {
		return false, err
	}
	_, err = maintenance.RewriteContents(ctx, c.w, &maintenance.RewriteContentsOptions{ContentIDs: contents}, maintenance.SafetyParameters{})
	if err != nil && ending(ctx, err) == nil {
		c.r.log.ErrorContext(ctx, "packs that are partly empty could not be written anew; verify tells whether something is damaged", "error", err)
		return false, c.w.Flush(ctx)
	}
	return err == nil, err
}

// wasteful returns the contents of packs of which too much is of no use. Those with marks wait until these are forgotten.
func (c *round) wasteful(ctx context.Context) (contents []content.ID, err error) {
	length := map[blob.ID]int64{}
	for _, prefix := range content.PackBlobIDPrefixes {
		packs, err := listBlobs(ctx, c.w.BlobReader(), prefix)
		if err != nil {
			return nil, fmt.Errorf("listing the packs: %w", err)
		}
		for _, p := range packs {
			length[p.BlobID] = p.Length
		}
	}
	each := content.IteratePackOptions{IncludePacksWithOnlyDeletedContent: true, IncludeContentInfos: true}
	err = c.w.ContentReader().IteratePacks(ctx, each, func(p content.PackInfo) error {
		waste := length[p.PackID] - p.TotalSize - entrySize*int64(p.ContentCount)
		if waste < max(wasteLeast, length[p.PackID]/wasteShare) {
			return ctx.Err()
		}
		for _, i := range p.ContentInfos {
			if i.Deleted {
				return ctx.Err()
			}
		}
		for _, i := range p.ContentInfos {
			contents = append(contents, i.ContentID)
		}
		return ctx.Err()
	})
	return contents, wrap("reading the index", err)
}

// hasRecent reports whether the latest marking met unused contents that were too young to be marked.
func (c *round) hasRecent(ctx context.Context) (bool, error) {
	s, err := maintenance.GetSchedule(ctx, c.w)
	if err != nil {
		return false, fmt.Errorf("reading the schedule of maintenance: %w", err)
	}
	runs := s.Runs[maintenance.TaskSnapshotGarbageCollection]
	if len(runs) == 0 || len(runs[0].Extra) == 0 {
		return false, nil
	}
	var stats maintenancestats.SnapshotGCStats
	if err := json.Unmarshal(runs[0].Extra[0].Data, &stats); err != nil {
		return false, fmt.Errorf("reading what was collected: %w", err)
	}
	return stats.UnreferencedRecentContentCount > 0, nil
}

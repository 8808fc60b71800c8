package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/maintenance"
	"github.com/kopia/kopia/repo/manifest"
	"github.com/kopia/kopia/snapshot"
	"github.com/kopia/kopia/snapshot/snapshotmaintenance"

	"abaca"
)

// Maintain gives back the space of what was deleted and compacts the index. It is Kopia's own maintenance, on Kopia's
// schedule: an hourly quick cycle and a daily full one, and next to nothing in between, so that it may be called often.
// A deleted backup's space is free two to three days after its deletion.
//
// It may run beside saves, in this process or others: Kopia collects nothing younger than a day, forgets nothing before
// two collections hours apart agree, and a save makes its work known with a checkpoint long before that. One process at a time
// maintains a repository; the others leave it to that one.
func (e *Engine) Maintain(ctx context.Context, project abaca.ProjectID) (err error) {
	ctx, settle := bounded(ctx)
	defer settle(&err)
	r, release, err := e.acquire(ctx, project, mustExist)
	if errors.Is(err, errNoRepository) {
		return nil
	}
	if err != nil {
		return err
	}
	defer release()
	if err := e.refresh(ctx, r); err != nil {
		return err
	}
	if lost, err := r.annex.has(ctx, lostManifests); err != nil {
		return fmt.Errorf("looking for lost manifests of project %s: %w", project, err)
	} else if lost {
		return fmt.Errorf("nothing is collected for project %s, since manifests were lost; see %s beside its repository", project, lostManifests)
	}
	packs, err := e.guard(ctx, r)
	if err != nil {
		return fmt.Errorf("looking after the index of project %s: %w", project, err)
	}
	ctx, done, err := r.annex.exclude(ctx, false)
	if errors.Is(err, errExcluded) {
		return nil // another process sees to it
	}
	if err != nil {
		return fmt.Errorf("locking out other maintenance of project %s: %w", project, err)
	}
	defer done()
	if packs != nil {
		if err := r.guardPacks(ctx, packs); err != nil {
			return fmt.Errorf("looking after the packs of project %s: %w", project, err)
		}
	}
	if err := r.maintain(ctx); err != nil {
		return fmt.Errorf("maintaining the repository of project %s: %w", project, err)
	}
	return nil
}

func (r *repository) maintain(ctx context.Context) error {
	outlived, err := examineManifests(ctx, r.kopia)
	if err != nil {
		return err
	}
	if err := r.sweep(ctx); err != nil {
		return fmt.Errorf("removing unfinished blobs: %w", err)
	}
	if err := compactManifests(ctx, r.kopia); err != nil {
		return fmt.Errorf("compacting manifests: %w", err)
	}
	return repo.DirectWriteSession(ctx, r.kopia, repo.WriteSessionOptions{Purpose: "maintain"}, func(ctx context.Context, w repo.DirectRepositoryWriter) error {
		if err := ownMaintenance(ctx, w); err != nil {
			return err
		}
		for _, id := range outlived {
			if err := w.DeleteManifest(ctx, id); err != nil {
				return fmt.Errorf("deleting a checkpoint: %w", err)
			}
		}
		return snapshotmaintenance.Run(ctx, w, maintenance.ModeAuto, false, maintenance.SafetyFull)
	})
}

// examineManifests fails if a snapshot's manifest cannot be read: Kopia would pass it over, and collect what it refers to.
// It returns the checkpoints of snapshots that are finished. A save removes those that it sees, but two processes may have saved at once.
func examineManifests(ctx context.Context, r repo.Repository) (outlived []manifest.ID, err error) {
	found, err := r.FindManifests(ctx, map[string]string{manifest.TypeLabelKey: snapshot.ManifestType})
	if err != nil {
		return nil, fmt.Errorf("listing the snapshots: %w", err)
	}
	done, checkpoints := map[string]bool{}, map[manifest.ID]string{}
	for _, f := range found {
		m, err := snapshot.LoadSnapshot(ctx, r, f.ID)
		if errors.Is(err, snapshot.ErrSnapshotNotFound) {
			continue // deleted since
		}
		if err == nil && m.RootEntry == nil {
			err = malformed("it has no root")
		}
		if err != nil {
			return nil, fmt.Errorf("nothing is collected, since the snapshot %s (%s) cannot be read: %w", f.Labels[tagID], f.ID, err)
		}
		if m.IncompleteReason == "" {
			done[m.Tags[tagID]] = true
		} else {
			checkpoints[f.ID] = m.Tags[tagID]
		}
	}
	for manifest, id := range checkpoints {
		if done[id] {
			outlived = append(outlived, manifest)
		}
	}
	return outlived, nil
}

// ownMaintenance makes this engine the one whose maintenance Kopia lets run.
func ownMaintenance(ctx context.Context, w repo.RepositoryWriter) error {
	params, err := maintenance.GetParams(ctx, w)
	if err != nil {
		return fmt.Errorf("reading the schedule of maintenance: %w", err)
	}
	owner := w.ClientOptions().UsernameAtHost()
	if params.Owner == owner {
		return nil
	}
	params.Owner = owner
	if err := maintenance.SetParams(ctx, w, params); err != nil {
		return fmt.Errorf("writing the schedule of maintenance: %w", err)
	}
	return w.Flush(ctx)
}

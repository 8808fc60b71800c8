package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/maintenance"
	"github.com/kopia/kopia/repo/manifest"
	"github.com/kopia/kopia/snapshot"

	"abaca"
)

// Maintain gives back the space of what was deleted, within Config.FreeWithin if it is called about twenty times meanwhile, and compacts the
// index. The former goes in rounds (collect.go); the rest is Kopia's own maintenance, on Kopia's schedule: an hourly quick cycle and a daily
// full one. In between it does next to nothing.
//
// It may run beside saves, in this process or others (collections.go). One process at a time maintains a repository; the others leave it to
// that one.
func (e *Engine) Maintain(ctx context.Context, project abaca.ProjectID) (err error) {
	ctx, settle := bounded(ctx)
	defer settle(&err)
	notes, err := e.annexOf(project).list(ctx, deletedDir) // before the manifests are looked at, which went before a note was written
	if err != nil {
		return fmt.Errorf("looking for what was deleted of project %s: %w", project, err)
	}
	if len(notes) == 0 && !e.visits.due(project, e.config.Now()) {
		return nil
	}
	r, release, err := e.acquire(ctx, project, mustExist)
	if errors.Is(err, errNoRepository) {
		return nil
	}
	if err != nil {
		return err
	}
	defer release()
	if _, err := r.collections(ctx); err != nil { // for the clock
		return err
	}
	if err := e.refresh(ctx, r); err != nil {
		return err
	}
	if lost, err := r.annex.has(ctx, lostManifests); err != nil {
		return fmt.Errorf("looking for lost manifests of project %s: %w", project, err)
	} else if lost {
		return fmt.Errorf("nothing is collected for project %s, since manifests were lost; see %s beside its repository", project, lostManifests)
	}
	packs, err := e.guard(ctx, r, len(notes) > 0)
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
	if err := e.maintain(ctx, r, notes); err != nil {
		return fmt.Errorf("maintaining the repository of project %s: %w", project, err)
	}
	e.visits.paid(project, e.config.Now())
	return nil
}

// visits remember when Maintain was through with the repositories, so that those where nothing was deleted are left alone in between, and
// how many rounds the notes of deletions have seen.
type visits struct {
	mu     sync.Mutex
	latest map[abaca.ProjectID]time.Time
	rounds map[abaca.ProjectID]map[string]int
}

const (
	visitEvery = 10 * time.Minute // how often a repository is looked after in which nothing was deleted
	maxRounds  = 6                // that it takes to free what was deleted, and one more
)

// settled returns the notes of deletions whose space is free after a round: all of them if nothing is left to do, and else, since others may
// delete all the time, those that have seen enough rounds.
func (v *visits) settled(project abaca.ProjectID, notes []string, all bool) (settled []string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	left := map[string]int{}
	for _, note := range notes {
		if n := v.rounds[project][note] + 1; all || n >= maxRounds {
			settled = append(settled, note)
		} else {
			left[note] = n
		}
	}
	v.rounds[project] = left
	return settled
}

func newVisits() visits {
	return visits{latest: map[abaca.ProjectID]time.Time{}, rounds: map[abaca.ProjectID]map[string]int{}}
}

func (v *visits) due(project abaca.ProjectID, now time.Time) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	ago := now.Sub(v.latest[project])
	return ago < 0 || ago > visitEvery-visitEvery/20 // who calls every ten minutes is a little early now and then
}

func (v *visits) paid(project abaca.ProjectID, now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.latest[project] = now
}

// A due is the maintenance that is due.
type due int

const (
	nothingDue due = iota
	quickDue       // Kopia's quick cycle
	roundDue       // a round of collection, which has the former in it
	fullDue        // Kopia's full cycle, which has all of that in it
)

// due says what is due, with or without something deleted.
func (e *Engine) due(ctx context.Context, r *repository, deleted bool) (due, error) {
	s, err := maintenance.GetSchedule(ctx, r.kopia)
	if err != nil {
		return nothingDue, err
	}
	now := r.kopia.Time()
	var latest time.Time // end of a round
	for _, run := range s.Runs[maintenance.TaskSnapshotGarbageCollection] {
		if run.End.After(latest) && !run.End.After(now) {
			latest = run.End
		}
	}
	switch {
	case !now.Before(s.NextFullMaintenanceTime):
		return fullDue, nil
	case deleted && now.Sub(latest) > e.margin():
		return roundDue, nil
	case !now.Before(s.NextQuickMaintenanceTime):
		return quickDue, nil
	}
	return nothingDue, nil
}

// margin is what lies between two rounds of collection.
func (e *Engine) margin() time.Duration { return e.config.FreeWithin / marginsWithin }

// maintain does what is due, which may be less than when it was asked for. The notes are of deletions that it can see.
func (e *Engine) maintain(ctx context.Context, r *repository, notes []string) error {
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
		what, err := e.due(ctx, r, len(notes) > 0)
		if err != nil || what == nothingDue {
			return wrap("reading the schedule of maintenance", err)
		}
		if err := w.Flush(ctx); err != nil {
			return fmt.Errorf("flushing: %w", err)
		}
		w.LogManager().Enable()
		mode := maintenance.ModeQuick
		if what == fullDue {
			mode = maintenance.ModeFull
		}
		return maintenance.RunExclusive(ctx, w, mode, false, func(ctx context.Context, run maintenance.RunParameters) error {
			if what == quickDue {
				return maintenance.Run(ctx, run, maintenance.SafetyFull)
			}
			c := round{r: r, w: w, run: run, margin: e.margin(), full: what == fullDue}
			rest, err := c.do(ctx)
			if err != nil {
				return err
			}
			settled := e.visits.settled(r.project, notes, !rest)
			return r.settleDeletions(ctx, settled)
		})
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

package manager

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"math"
	"slices"

	"abaca"
	"abaca/internal/db"
)

// A Recovery tells what Recover has added to the catalogue.
type Recovery struct {
	Projects, Shares, Backups, Snapshots int
	Known                                int               // backups and snapshots that were there already
	Unrecorded                           []string          // ids of those of which nothing was noted but the data
	Unready                              map[string]string // shares that are not available, by id, and why
}

// gib is the unit of sizes.
const gib = 1 << 30

// Recover makes the catalogue again from the repositories: the shares that have anything saved, with what is saved of them, and the
// quotas' usage. It adds all of it or, where it fails, nothing. Rows that are there are left as they are, and are only allowed with merge.
//
// What was never noted beside a repository does not come back: shares and share types with nothing saved, limits of a project's own,
// messages, and when what was verified. Nobody else may write into the database or the repositories meanwhile.
func (m *Manager) Recover(ctx context.Context, merge bool) (done Recovery, err error) {
	projects, err := m.Engine.Projects(ctx)
	if err != nil {
		return done, err
	}
	r := recovery{Manager: m, shares: map[abaca.ShareID]record{}, done: Recovery{Unready: map[string]string{}}}
	for _, p := range projects {
		found, err := m.Engine.Found(ctx, p)
		if err != nil {
			return done, err
		}
		for _, f := range found {
			r.add(f)
		}
	}
	r.settleShares(ctx)
	before := r.done
	err = m.DB.Transact(ctx, func(tx *db.Tx) error {
		r.done = before // it may be run again
		r.done.Unready = map[string]string{}
		if has, err := tx.HasRows(ctx); err != nil || has && !merge {
			return errors.Join(err, errCatalogue(has && !merge))
		}
		return r.write(ctx, tx)
	})
	return r.done, err
}

func errCatalogue(full bool) error {
	if !full {
		return nil
	}
	return abaca.Errorf(abaca.Conflict, "There are shares in the database already; --merge adds what is missing.")
}

// A recovery is the catalogue that is being made again.
type recovery struct {
	*Manager
	records []record
	shares  map[abaca.ShareID]record // the latest that tells of each
	done    Recovery
}

// add takes up what was found; where nothing was noted of it, what its data tells has to do.
func (r *recovery) add(f abaca.Found) {
	var rec record
	if f.Record == nil || json.Unmarshal(f.Record, &rec) != nil || !rec.tells(f) {
		rec = r.unrecorded(f)
		r.done.Unrecorded = append(r.done.Unrecorded, f.ID)
	}
	rec.Share.Project = f.Project
	if b := rec.Backup; b != nil {
		b.Ref, b.Project, b.Status, b.Reason, b.Progress = f.Ref, f.Project, abaca.Available, "", 100
	} else {
		s := rec.Snapshot
		s.Ref, s.Project, s.Status, s.Reason = f.Ref, f.Project, abaca.Available, ""
	}
	r.records = append(r.records, rec)
	known, ok := r.shares[rec.Share.ID]
	if !ok || known.Type.Name == "" || rec.Type.Name != "" && !rec.Share.UpdatedAt.Before(known.Share.UpdatedAt) {
		r.shares[rec.Share.ID] = rec
	}
}

// tells reports whether a record is about what was found.
func (rec record) tells(f abaca.Found) bool {
	if rec.Share.ID != f.Share || rec.Type.Name == "" {
		return false
	}
	if rec.Backup != nil {
		return string(rec.Backup.ID) == f.ID && rec.Backup.Share == f.Share
	}
	return rec.Snapshot != nil && string(rec.Snapshot.ID) == f.ID && rec.Snapshot.Share == f.Share
}

// unrecorded is a backup as its data tells of it; what is not known is as it would be of one made without any wishes.
func (r *recovery) unrecorded(f abaca.Found) record {
	size := max(1, int(math.Ceil(float64(f.Bytes)/gib)))
	return record{
		Backup: &abaca.Backup{ID: abaca.BackupID(f.ID), Share: f.Share, Size: size, Zone: r.Zone, CreatedAt: f.Began},
		Share: abaca.Share{
			ID: f.Share, Project: f.Project, Size: size, Proto: r.Protocols[0], Zone: r.Zone, Backend: r.DefaultBackend, Path: string(f.Share),
			CreatedAt: f.Began,
		},
	}
}

// settleShares finds out which shares' files are there. Where a back end has none, an empty directory is made, for a backup to be restored
// into: until then the share is in the status of one whose restore has failed, in which nothing else can be done with it.
func (r *recovery) settleShares(ctx context.Context) {
	for id, rec := range r.shares {
		s := rec.Share
		s.Status, s.Reason = abaca.Available, ""
		b, ok := r.Backends[s.Backend]
		if !ok {
			s.Status, s.Reason = abaca.Error, "its back end "+s.Backend+" is not configured"
		} else if vol, err := b.Mount(ctx, s.Path); err == nil {
			if err := vol.Close(); err != nil {
				r.Log.Warn("closing a share", "share_id", id, "error", err)
			}
		} else if !errors.Is(err, fs.ErrNotExist) {
			s.Status, s.Reason = abaca.Error, err.Error()
		} else if err := b.Create(ctx, s.Path); err != nil {
			s.Status, s.Reason = abaca.Error, err.Error()
		} else {
			s.Status, s.Reason = abaca.RestoreBackup.Share.Failed, "its files are lost; a backup can be restored into it"
		}
		rec.Share = s
		r.shares[id] = rec
	}
}

// write adds what is missing.
func (r *recovery) write(ctx context.Context, tx *db.Tx) error {
	projects := map[abaca.ProjectID]bool{}
	for _, rec := range r.records {
		if err := r.writeShare(ctx, tx, r.shares[rec.Share.ID]); err != nil {
			return err
		}
		added, project, err := r.writeSaved(ctx, tx, rec)
		if err != nil {
			return err
		}
		if !added {
			r.done.Known++
			continue
		}
		projects[project] = true
		if err := tx.OpenRound(ctx, project, r.now().Add(restVerified)); err != nil {
			return err
		}
	}
	r.done.Projects = len(projects)
	return nil
}

func (r *recovery) writeShare(ctx context.Context, tx *db.Tx, rec record) error {
	s := rec.Share
	if _, err := tx.Share(ctx, s.ID, ""); abaca.FaultOf(err) != abaca.NotFound || err == nil {
		return err
	}
	var err error
	if s.Type, err = r.writeType(ctx, tx, rec.Type); err != nil {
		return err
	}
	paths, err := tx.SharePaths(ctx, s.Backend)
	if err != nil {
		return err
	}
	if slices.Contains(paths, s.Path) {
		s.Status, s.Reason, s.Path = abaca.Error, "another share has its directory "+s.Path, ".lost/"+string(s.ID)
	}
	if s.Status != abaca.Available {
		r.done.Unready[string(s.ID)] = s.Reason
	}
	r.done.Shares++
	if err := tx.RecoverShare(ctx, s); err != nil {
		return err
	}
	return tx.ChargeAnyway(ctx, s.Project, abaca.ShareCost(s.Size))
}

// writeType returns the share type of the name, making it where there is none.
func (r *recovery) writeType(ctx context.Context, tx *db.Tx, t abaca.ShareType) (abaca.ShareTypeID, error) {
	if t.Name == "" {
		t = r.defaultType()
	}
	there, err := tx.ShareTypeNamed(ctx, t.Name, false)
	if abaca.FaultOf(err) != abaca.NotFound || err == nil {
		return there.ID, err
	}
	return t.ID, tx.InsertShareType(ctx, t)
}

func (r *recovery) writeSaved(ctx context.Context, tx *db.Tx, rec record) (added bool, project abaca.ProjectID, err error) {
	if b := rec.Backup; b != nil {
		if _, err := tx.Backup(ctx, b.ID, ""); abaca.FaultOf(err) != abaca.NotFound || err == nil {
			return false, "", err
		}
		r.done.Backups++
		return true, b.Project, errors.Join(tx.RecoverBackup(ctx, *b), tx.ChargeAnyway(ctx, b.Project, abaca.BackupCost(b.Size)))
	}
	s := rec.Snapshot
	if _, err := tx.Snapshot(ctx, s.ID, ""); abaca.FaultOf(err) != abaca.NotFound || err == nil {
		return false, "", err
	}
	r.done.Snapshots++
	return true, s.Project, errors.Join(tx.RecoverSnapshot(ctx, *s), tx.ChargeAnyway(ctx, s.Project, abaca.SnapshotCost(s.ShareSize)))
}

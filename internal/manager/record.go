package manager

import (
	"context"
	"encoding/json"
	"fmt"

	"abaca"
	"abaca/internal/db"
)

// A record is what the catalogue says of something saved. The engine keeps it, sealed, beside the data, so that Recover can make the
// catalogue again. It is written before the backup or snapshot is available, and anew, by keepHouse, after a change of its row or of
// its share's: what a lost database takes along of such changes are those of the last ten minutes.
//
// Its JSON is read by later versions too: testdata/record.json is one that has to stay readable.
type record struct {
	Backup   *abaca.Backup   `json:",omitempty"` // or Snapshot
	Snapshot *abaca.Snapshot `json:",omitempty"`
	Share    abaca.Share
	Type     abaca.ShareType
}

// note writes the record of a backup or snapshot; none is left of one that is gone by then.
func (m *Manager) note(ctx context.Context, u db.Unnoted) error {
	u, there, err := m.DB.Changes(ctx, u) // before the row, so that what changes after it is noted once more
	if err != nil || !there {
		return err
	}
	project, rec, err := m.recordOf(ctx, u)
	if err != nil {
		if abaca.FaultOf(err) == abaca.NotFound {
			return nil
		}
		return err
	}
	text, err := json.Marshal(rec)
	if err != nil {
		return fmt.Errorf("encode record: %w", err)
	}
	if err := m.Engine.Note(ctx, project, u.ID, text); err != nil {
		return err
	}
	if _, there, err := m.DB.Changes(ctx, u); err != nil || !there {
		if err == nil {
			err = m.Engine.Unnote(ctx, project, u.ID)
		}
		return err
	}
	return m.DB.Transact(ctx, func(tx *db.Tx) error { return tx.SetNoted(ctx, u) })
}

func (m *Manager) recordOf(ctx context.Context, u db.Unnoted) (project abaca.ProjectID, rec record, err error) {
	var share abaca.ShareID
	if u.Kind == abaca.KindBackup {
		b, err := m.DB.Backup(ctx, abaca.BackupID(u.ID), "")
		if err != nil {
			return "", rec, err
		}
		rec.Backup, share, project = &b, b.Share, b.Project
	} else {
		s, err := m.DB.Snapshot(ctx, abaca.SnapshotID(u.ID), "")
		if err != nil {
			return "", rec, err
		}
		rec.Snapshot, share, project = &s, s.Share, s.Project
	}
	if rec.Share, err = m.DB.Share(ctx, share, ""); err != nil {
		return "", rec, err
	}
	rec.Type, err = m.DB.ShareType(ctx, rec.Share.Type)
	return project, rec, err
}

// notedAtOnce is how many rows are looked up at a time.
const notedAtOnce = 100

// noteAll writes the records that are missing or old. What fails is tried again the next time.
func (m *Manager) noteAll(ctx context.Context) error {
	for _, kind := range []abaca.Kind{abaca.KindBackup, abaca.KindSnapshot} {
		after := ""
		for {
			some, err := m.DB.Unnoted(ctx, kind, after, notedAtOnce)
			if err != nil {
				return err
			}
			for _, u := range some {
				if err := m.note(ctx, u); err != nil && ctx.Err() == nil {
					m.Log.Error("noting what was saved", string(kind)+"_id", u.ID, "error", err)
				}
				after = u.ID
			}
			if len(some) < notedAtOnce || ctx.Err() != nil {
				break
			}
		}
	}
	return ctx.Err()
}

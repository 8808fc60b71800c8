package db

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"abaca"
)

// withSaved adds a backup whose data is saved.
func withSaved(t *testing.T, db *DB, id abaca.BackupID, project abaca.ProjectID) abaca.Saved {
	t.Helper()
	insert(t, db, abaca.Backup{ID: id, Project: project, Share: "s"})
	db.must(t, func(tx *Tx) error {
		if err := tx.SetBackupRef(t.Context(), id, abaca.Ref(id)); err != nil {
			return err
		}
		return tx.Reset(t.Context(), abaca.KindBackup, string(id), abaca.Available, now)
	})
	return abaca.Saved{Kind: abaca.KindBackup, ID: string(id), Project: project, Share: "s", Ref: abaca.Ref(id)}
}

// verified records a verification that ended so many days after now.
func (db *DB) verified(t *testing.T, s abaca.Saved, days int, slice abaca.Slice, damaged int64, detail string) {
	t.Helper()
	at := now.AddDate(0, 0, days)
	db.must(t, func(tx *Tx) error {
		return tx.InsertVerification(t.Context(), fmt.Sprintf("%s %d", s.ID, days), abaca.Verified{
			Saved: s, Slice: slice, Began: at.Add(-time.Second), Ended: at,
			Verification: abaca.Verification{Files: 3, Bytes: int64(days), Damaged: damaged, Detail: detail},
		})
	})
}

var (
	everything = abaca.Slice{From: 0, To: 1}
	lower      = abaca.Slice{From: 0, To: 0.5}
	upper      = abaca.Slice{From: 0.5, To: 1}
)

func TestDamageStandsUntilTheSamePartIsFoundWhole(t *testing.T) {
	onEach(t, func(t *testing.T, db *DB) {
		withShare(t, db, "s", "p")
		b := withSaved(t, db, "b", "p")
		for _, step := range []struct {
			says     string
			slice    abaca.Slice
			damaged  int64
			detail   string
			stands   int64
			findings int
		}{
			{"a sound part", lower, 0, "", 0, 0},
			{"damage in the other part", upper, 2, "a\nb", 2, 1},
			{"a sound part does not speak for the other", lower, 0, "", 2, 1},
			{"damage in both", lower, 1, "c", 1, 2},
			{"one of them mended", upper, 0, "", 1, 1},
			{"a sound whole speaks for all its parts", everything, 0, "", 0, 0},
			{"damage again", upper, 4, "d", 4, 1},
		} {
			t.Run(step.says, func(t *testing.T) {
				days := len(records(t, db)) + 1
				db.verified(t, b, days, step.slice, step.damaged, step.detail)
				list, err := db.LastVerified(t.Context(), "p")
				if err != nil || len(list) != 1 {
					t.Fatalf("%+v, %v", list, err)
				}
				got := list[0]
				if got.Damaged != step.stands || got.Slice != step.slice || got.Bytes != int64(days) || !got.Ended.Equal(now.AddDate(0, 0, days)) {
					t.Errorf("the latest is %+v, want %d damaged", got, step.stands)
				}
				db.must(t, func(tx *Tx) error {
					findings, err := tx.Findings(t.Context(), b)
					if len(findings) != step.findings {
						t.Errorf("the findings are %+v, want %d", findings, step.findings)
					}
					return err
				})
			})
		}
	})
}

// records returns the ids of all verifications.
func records(t *testing.T, db *DB) []string {
	t.Helper()
	ids, err := all(t.Context(), db.q, func(s scanner) (id string, err error) { return id, s.Scan(&id) }, `SELECT id FROM verifications ORDER BY ended_at`)
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

func TestOldRecordsGoButTheLatestAndStandingDamage(t *testing.T) {
	onEach(t, func(t *testing.T, db *DB) {
		withShare(t, db, "s", "p")
		b, c := withSaved(t, db, "b", "p"), withSaved(t, db, "c", "p")
		db.verified(t, b, 1, upper, 1, "mended on day 3")
		db.verified(t, b, 2, lower, 1, "found again on day 5")
		db.verified(t, b, 3, upper, 0, "")
		db.verified(t, b, 4, lower, 1, "stands")
		db.verified(t, b, 5, lower, 1, "found again on day 5")
		db.verified(t, b, 6, upper, 0, "")
		db.verified(t, b, 8, upper, 0, "")
		db.verified(t, c, 1, everything, 0, "")
		expire := func(day int, want ...string) {
			t.Helper()
			db.must(t, func(tx *Tx) error { return tx.ExpireVerifications(t.Context(), now.AddDate(0, 0, day)) })
			if got := records(t, db); strings.Join(got, ",") != strings.Join(want, ",") {
				t.Errorf("before day %d there are left %q, want %q", day, got, want)
			}
		}
		expire(1, "b 1", "c 1", "b 2", "b 3", "b 4", "b 5", "b 6", "b 8")
		expire(2, "c 1", "b 2", "b 3", "b 4", "b 5", "b 6", "b 8")
		expire(7, "c 1", "b 4", "b 5", "b 8")
		expire(100, "c 1", "b 4", "b 5", "b 8")
	})
}

func TestRecordsGoWithWhatTheyAreOf(t *testing.T) {
	onEach(t, func(t *testing.T, db *DB) {
		ctx := t.Context()
		withShare(t, db, "s", "p")
		b, c := withSaved(t, db, "b", "p"), withSaved(t, db, "c", "p")
		db.verified(t, b, 1, everything, 1, "x")
		db.verified(t, c, 2, everything, 1, "x")
		still := func(want bool) {
			t.Helper()
			db.must(t, func(tx *Tx) error {
				if got, err := tx.StillSaved(ctx, b); err != nil || got != want {
					t.Errorf("still saved: %v, %v", got, err)
				}
				return nil
			})
			if list, err := db.Saved(ctx, ""); err != nil || len(list) != 1 && !want || len(list) != 2 && want {
				t.Errorf("saved are %+v, %v", list, err)
			}
		}
		still(true)
		db.must(t, func(tx *Tx) error {
			_, err := tx.Begin(ctx, abaca.DeleteBackup, "b", "", abaca.Caller{}, now)
			return err
		})
		still(false)
		job, ok, err := db.Claim(ctx, abaca.Operations, Worker{Name: "w"}, now, now.Add(time.Minute))
		if err != nil || !ok {
			t.Fatal(job, ok, err)
		}
		db.must(t, func(tx *Tx) error { return tx.Settle(ctx, job, abaca.None, "", now) })
		still(false)
		if got := records(t, db); len(got) != 1 || got[0] != "c 2" {
			t.Errorf("left are %q", got)
		}
	})
}

func TestARoundIsReadByOneWorkerAtATimeAndGoesOnAfterItsDeath(t *testing.T) {
	onEach(t, func(t *testing.T, db *DB) {
		ctx := t.Context()
		for range 2 { // the second changes nothing
			db.must(t, func(tx *Tx) error { return tx.OpenRound(ctx, "p", now) })
		}
		claim := func(owner string, at time.Time) (Round, bool) {
			t.Helper()
			r, ok, err := db.ClaimRound(ctx, owner, at, at.Add(time.Minute))
			if err != nil {
				t.Fatal(err)
			}
			return r, ok
		}
		if r, ok := claim("one", now.Add(-time.Microsecond)); ok {
			t.Fatalf("claimed before it was due: %+v", r)
		}
		first, ok := claim("one", now)
		if !ok || first.Project != "p" || first.Reached != 0 || first.Tries != 1 {
			t.Fatalf("claimed %+v, %v", first, ok)
		}
		db.must(t, func(tx *Tx) error { return tx.BeatRound(ctx, first, now.Add(2*time.Minute)) })
		if r, ok := claim("two", now.Add(2*time.Minute-time.Microsecond)); ok {
			t.Fatalf("claimed while it was read: %+v", r)
		}
		second, ok := claim("two", now.Add(2*time.Minute))
		if !ok || second.Reached != 0 || second.Tries != 2 {
			t.Fatalf("claimed %+v, %v", second, ok)
		}
		for name, write := range map[string]func(*Tx) error{
			"beat":    func(tx *Tx) error { return tx.BeatRound(ctx, first, now.Add(time.Hour)) },
			"advance": func(tx *Tx) error { return tx.AdvanceRound(ctx, first, 0.5, now) },
			"yield":   func(tx *Tx) error { return tx.YieldRound(ctx, first, 0, now) },
		} {
			if err := db.Transact(ctx, write); err != ErrLeaseLost {
				t.Errorf("%s of who lost the lease: %v", name, err)
			}
		}
		db.must(t, func(tx *Tx) error { return tx.AdvanceRound(ctx, second, 0.04, now.Add(time.Hour)) })
		if err := db.Transact(ctx, func(tx *Tx) error { return tx.AdvanceRound(ctx, second, 0.08, now) }); err != ErrLeaseLost {
			t.Errorf("advancing twice: %v", err)
		}
		third, ok := claim("one", now.Add(time.Hour))
		if !ok || third.Reached != 0.04 || third.Tries != 1 {
			t.Fatalf("claimed %+v, %v", third, ok)
		}
		if _, err := db.Adopt(ctx, "one", now.Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		fourth, ok := claim("two", now.Add(time.Hour))
		if !ok || fourth.Reached != 0.04 || fourth.Tries != 2 {
			t.Fatalf("what a worker that is gone has read was claimed as %+v, %v", fourth, ok)
		}
		db.must(t, func(tx *Tx) error { return tx.YieldRound(ctx, fourth, 0, now.Add(2*time.Hour)) })
		if fifth, ok := claim("one", now.Add(2*time.Hour)); !ok || fifth.Reached != 0.04 || fifth.Tries != 1 {
			t.Fatalf("what was given up was claimed as %+v, %v", fifth, ok)
		}
	})
}

func TestWorkersClaimEachRoundOnceHoweverManyThereAre(t *testing.T) {
	onEach(t, func(t *testing.T, db *DB) {
		for i := range 40 {
			db.must(t, func(tx *Tx) error { return tx.OpenRound(t.Context(), abaca.ProjectID(fmt.Sprint(i)), now) })
		}
		var mu sync.Mutex
		claimed := map[abaca.ProjectID]int{}
		var wg sync.WaitGroup
		for w := range 8 {
			wg.Go(func() {
				for {
					r, ok, err := db.ClaimRound(context.Background(), fmt.Sprint(w), now, now.Add(time.Minute))
					if err != nil {
						t.Error(err)
					}
					if !ok {
						return
					}
					mu.Lock()
					claimed[r.Project]++
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		for i := range 40 {
			if n := claimed[abaca.ProjectID(fmt.Sprint(i))]; n != 1 {
				t.Errorf("round %d was claimed %d times", i, n)
			}
		}
	})
}

// before are rows as the first program wrote them.
const before = `
	INSERT INTO share_types (id, name, is_public, specs, created_at) VALUES ('t', 't', TRUE, '{}', 1);
	INSERT INTO shares (id, project_id, user_id, share_type_id, size, proto, is_public, metadata, zone, backend, path, snapshot_id,
		source_backup_id, status, created_at) VALUES ('s', 'p', 'u', 't', 1, 'NFS', FALSE, '{}', 'z', 'b', 's', '', '', 'available', 1);
	INSERT INTO share_backups (id, project_id, user_id, share_id, size, with_options, zone, status, created_at, lease_until, ref) VALUES
		('b', 'p', 'u', 's', 1, FALSE, 'z', 'available', 1, NULL, 'b'), ('c', 'p', 'u', 's', 1, FALSE, 'z', 'available', 1, NULL, 'c'),
		('d', 'without data', 'u', 's', 1, FALSE, 'z', 'creating', 1, 1, '');`

// A database of before verifications, and of before work knew who had asked for it, is made by the first migration alone.
func TestWhatWasSavedBeforeIsVerifiedToo(t *testing.T) {
	atEach(t, func(t *testing.T, at string) {
		old, err := openAt(t.Context(), at, "rwc", func(s *schema) error {
			_, err := s.provider.UpTo(t.Context(), 1)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := old.write.ExecContext(t.Context(), before); err != nil {
			t.Fatal(err)
		}
		if err := old.Close(); err != nil {
			t.Fatal(err)
		}
		if before, after, err := Migrate(t.Context(), at); err != nil || before != 1 || after < 2 {
			t.Fatalf("migrated from %d to %d, %v", before, after, err)
		}
		db := open(t, at)
		if r, ok, err := db.ClaimRound(t.Context(), "w", now, now.Add(time.Minute)); err != nil || !ok || r.Project != "p" {
			t.Errorf("claimed %+v, %v, %v", r, ok, err)
		}
		if r, ok, err := db.ClaimRound(t.Context(), "w", now, now.Add(time.Minute)); err != nil || ok {
			t.Errorf("claimed %+v besides, %v", r, err)
		}
		if job, ok, err := db.Claim(t.Context(), abaca.Operations, Worker{Name: "w"}, now, now.Add(time.Minute)); err != nil || ok {
			t.Errorf("claimed without reaching the back end: %+v, %v", job, err)
		}
		job, ok, err := db.Claim(t.Context(), abaca.Operations, Worker{Name: "w", Backends: []string{"b"}}, now, now.Add(time.Minute))
		if err != nil || !ok || job.ID != "d" || job.Asked.Request != "" || job.Asked.User != "" {
			t.Errorf("of the work that nobody is known to have asked for: %+v, %v, %v", job, ok, err)
		}
	})
}

func TestADatabaseIsJoinedButNotMade(t *testing.T) {
	dir := t.TempDir()
	if db, err := Join(t.Context(), filepath.Join(dir, "abaca.db")); err == nil {
		t.Errorf("a missing database was joined; closed with %v", db.Close())
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("joining has left %v, %v", left, err)
	}
	atEach(t, func(t *testing.T, at string) {
		db := open(t, at)
		joined, err := Join(t.Context(), at)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for i, d := range []*DB{db, joined} {
			wg.Go(func() {
				for n := range 50 {
					err := d.Transact(context.Background(), func(tx *Tx) error {
						return tx.OpenRound(context.Background(), abaca.ProjectID(fmt.Sprint(i, " ", n)), now)
					})
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		var n int
		if err := db.q.QueryRowContext(t.Context(), `SELECT count(*) FROM verification_rounds`).Scan(&n); err != nil || n != 100 {
			t.Errorf("%d of 100 rows, %v", n, err)
		}
		if err := joined.Close(); err != nil {
			t.Error(err)
		}
	})
}

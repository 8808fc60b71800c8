package db

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"abaca"
	"abaca/internal/test/postgres"
)

// now is when everything in these tests happens.
var now = time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC)

func TestMain(m *testing.M) { os.Exit(postgres.Main(m)) }

// databases are where a test may have a new one.
var databases = map[string]func(testing.TB) string{
	"SQLite":     func(t testing.TB) string { return filepath.Join(t.TempDir(), "odd name?#%", "..", "test.db") },
	"PostgreSQL": postgres.New,
}

// onEach runs a test on an empty database of each kind.
func onEach(t *testing.T, test func(t *testing.T, db *DB)) {
	t.Helper()
	atEach(t, func(t *testing.T, at string) { test(t, open(t, at)) })
}

// atEach runs a test that opens the databases itself.
func atEach(t *testing.T, test func(t *testing.T, at string)) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(databases)) {
		t.Run(name, func(t *testing.T) { test(t, databases[name](t)) })
	}
}

// open opens a database until the test ends.
func open(t testing.TB, at string) *DB {
	t.Helper()
	db, err := Open(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func (db *DB) must(t testing.TB, f func(*Tx) error) {
	t.Helper()
	if err := db.Transact(t.Context(), f); err != nil {
		t.Fatal(err)
	}
}

func ptr[T any](v T) *T { return &v }

// withShare adds a share that is at rest.
func withShare(t testing.TB, db *DB, id abaca.ShareID, project abaca.ProjectID) {
	t.Helper()
	ctx := t.Context()
	db.must(t, func(tx *Tx) error {
		err := tx.InsertShareType(ctx, abaca.ShareType{ID: "t-" + abaca.ShareTypeID(id), Name: "type of " + string(id), CreatedAt: now})
		if err != nil {
			return err
		}
		err = tx.InsertShare(ctx, abaca.Share{
			ID: id, Project: project, Type: "t-" + abaca.ShareTypeID(id), Size: 1, Proto: "NFS", Path: string(id),
			Metadata: map[string]string{"k": `a"b`, "x": "y"}, Status: abaca.Creating, CreatedAt: now,
		}, abaca.Caller{})
		if err != nil {
			return err
		}
		return tx.Reset(ctx, abaca.KindShare, string(id), abaca.Available, now)
	})
}

func insert(t *testing.T, db *DB, backups ...abaca.Backup) {
	t.Helper()
	db.must(t, func(tx *Tx) error {
		for _, b := range backups {
			if b.Status == "" {
				b.Status = abaca.Creating
			}
			if b.CreatedAt.IsZero() {
				b.CreatedAt = now
			}
			if err := tx.InsertBackup(t.Context(), b, abaca.Caller{}); err != nil {
				return err
			}
		}
		return nil
	})
}

func TestWorkIsClaimedOnceAndLostWhenTheLeaseHasPassed(t *testing.T) {
	onEach(t, func(t *testing.T, db *DB) {
		ctx := t.Context()
		withShare(t, db, "s", "p")
		insert(t, db, abaca.Backup{ID: "b", Project: "p", Share: "s"})
		claim := func(owner string, at time.Time) (Job, bool) {
			t.Helper()
			job, ok, err := db.Claim(ctx, []abaca.Operation{abaca.DeleteBackup, abaca.CreateBackup}, Worker{Name: owner}, at, at.Add(time.Minute))
			if err != nil {
				t.Fatal(err)
			}
			return job, ok
		}
		first, ok := claim("one", now)
		if !ok || first.ID != "b" || first.Operation.Name != abaca.CreateBackup.Name || first.Tries != 1 {
			t.Fatalf("claimed %+v, %v", first, ok)
		}
		if job, ok := claim("two", now.Add(59*time.Second)); ok {
			t.Fatalf("leased work was claimed: %+v", job)
		}
		db.must(t, func(tx *Tx) error { return tx.Beat(ctx, first, now.Add(2*time.Minute)) })
		if job, ok := claim("two", now.Add(61*time.Second)); ok {
			t.Fatalf("work with an extended lease was claimed: %+v", job)
		}
		second, ok := claim("two", now.Add(2*time.Minute))
		if !ok || second.Attempt != first.Attempt+1 || second.Tries != 2 {
			t.Fatalf("claimed %+v, %v after %+v", second, ok, first)
		}
		for name, write := range map[string]func(*Tx) error{
			"beat":     func(tx *Tx) error { return tx.Beat(ctx, first, now.Add(time.Hour)) },
			"progress": func(tx *Tx) error { return tx.SetProgress(ctx, first, 50, now) },
			"settle":   func(tx *Tx) error { return tx.Settle(ctx, first, abaca.Available, "", now) },
			"release":  func(tx *Tx) error { return tx.Release(ctx, first, now, false, "") },
		} {
			if err := db.Transact(ctx, write); err != ErrLeaseLost {
				t.Errorf("%s of who lost the lease: %v", name, err)
			}
		}
		db.must(t, func(tx *Tx) error { return tx.Release(ctx, second, now.Add(3*time.Minute), true, "") })
		if job, ok := claim("one", now.Add(3*time.Minute-time.Microsecond)); ok {
			t.Fatalf("work was claimed before its time: %+v", job)
		}
		third, ok := claim("one", now.Add(3*time.Minute))
		if !ok || third.Tries != second.Tries {
			t.Fatalf("an interruption counts as a try: %+v, %v", third, ok)
		}
		if n, err := db.Adopt(ctx, "one", now.Add(3*time.Minute)); err != nil || n != 1 {
			t.Fatalf("adopted %d, %v", n, err)
		}
		if _, ok := claim("one", now.Add(3*time.Minute)); !ok {
			t.Fatal("work of a worker that is gone was not claimed")
		}
	})
}

func TestWhatIsSaidOfOddNamesIsKept(t *testing.T) {
	const said, want = "open \xff\xfe/a\x00b: it failed", "open \ufffd/a\ufffdb: it failed"
	onEach(t, func(t *testing.T, db *DB) {
		ctx := t.Context()
		withShare(t, db, "s", "p")
		insert(t, db, abaca.Backup{ID: "b", Project: "p", Share: "s"})
		saved := withSaved(t, db, "c", "p")
		claim := func() Job {
			job, ok, err := db.Claim(ctx, abaca.Operations, Worker{Name: "w"}, now, now.Add(time.Minute))
			if err != nil || !ok {
				t.Fatalf("claimed %v, %v", ok, err)
			}
			return job
		}
		job := claim()
		db.must(t, func(tx *Tx) error { return tx.Release(ctx, job, now, false, said) })
		job = claim()
		db.must(t, func(tx *Tx) error {
			if err := tx.InsertMessage(ctx, abaca.Message{ID: "m", Project: "p", Text: said, CreatedAt: now}); err != nil {
				return err
			}
			return tx.Settle(ctx, job, abaca.Error, said, now)
		})
		db.verified(t, saved, 1, everything, 1, said)
		b, err := db.Backup(ctx, "b", "")
		m, merr := db.Message(ctx, "m", "")
		v, verr := db.LastVerified(ctx, "p")
		if err := errors.Join(err, merr, verr); err != nil {
			t.Fatal(err)
		}
		if b.Reason != want || m.Text != want || len(v) != 1 || v[0].Detail != want {
			t.Errorf("kept are %q, %q and %+v", b.Reason, m.Text, v)
		}
	})
}

func TestAStatusSetByHandIsNobodysWork(t *testing.T) {
	onEach(t, func(t *testing.T, db *DB) {
		ctx := t.Context()
		withShare(t, db, "s", "p")
		insert(t, db, abaca.Backup{ID: "b", Project: "p", Share: "s"})
		for _, to := range abaca.ResetStatuses {
			db.must(t, func(tx *Tx) error { return tx.Reset(ctx, abaca.KindBackup, "b", to, now) })
			if job, ok, err := db.Claim(ctx, abaca.Operations, Worker{Name: "w"}, now.Add(time.Hour), now.Add(2*time.Hour)); ok || err != nil {
				t.Errorf("%s was claimed: %+v, %v", to, job, err)
			}
		}
	})
}

func TestWorkersClaimEachJobOnceHoweverManyThereAre(t *testing.T) {
	onEach(t, func(t *testing.T, db *DB) {
		withShare(t, db, "s", "p")
		for i := range 40 {
			insert(t, db, abaca.Backup{ID: abaca.BackupID(fmt.Sprint(i)), Project: "p", Share: "s"})
		}
		var mu sync.Mutex
		claimed := map[string]int{}
		var wg sync.WaitGroup
		for w := range 8 {
			wg.Go(func() {
				for {
					job, ok, err := db.Claim(context.Background(), abaca.Operations, Worker{Name: fmt.Sprint(w)}, now, now.Add(time.Minute))
					if err != nil {
						t.Error(err)
					}
					if !ok {
						return
					}
					mu.Lock()
					claimed[job.ID]++
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if len(claimed) != 40 {
			t.Errorf("%d of 40 jobs were claimed", len(claimed))
		}
		for id, n := range claimed {
			if n != 1 {
				t.Errorf("job %s was claimed %d times", id, n)
			}
		}
	})
}

func TestQuotasHoldUnderConcurrentCharges(t *testing.T) {
	onEach(t, func(t *testing.T, db *DB) {
		var wg sync.WaitGroup
		for range 30 {
			wg.Go(func() {
				err := db.Transact(context.Background(), func(tx *Tx) error {
					return tx.Charge(context.Background(), "p", abaca.BackupCost(3), abaca.DefaultLimits)
				})
				if err != nil && abaca.FaultOf(err) != abaca.OverLimit {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		usages, err := db.Usages(t.Context(), "p", abaca.DefaultLimits)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := usages[abaca.Backups], (Usage{Limit: 10, InUse: 10}); got != want {
			t.Errorf("backups: %+v, want %+v", got, want)
		}
		if got := usages[abaca.BackupGigabytes].InUse; got != 30 {
			t.Errorf("%d gigabytes are in use, want those of the ten backups", got)
		}
	})
}

func TestAFullQuotaOfSizeIsReportedBeforeOneOfCount(t *testing.T) {
	onEach(t, func(t *testing.T, db *DB) {
		db.must(t, func(tx *Tx) error {
			return tx.SetLimits(t.Context(), "p", map[abaca.Resource]int{abaca.Backups: 0, abaca.BackupGigabytes: 0})
		})
		err := db.Transact(t.Context(), func(tx *Tx) error {
			return tx.Charge(t.Context(), "p", abaca.BackupCost(1), abaca.DefaultLimits)
		})
		if err == nil || !strings.Contains(err.Error(), "exceed") || !strings.Contains(err.Error(), "backup_gigabytes") {
			t.Error(err)
		}
	})
}

func TestATransactionThatFailsLeavesNothing(t *testing.T) {
	onEach(t, func(t *testing.T, db *DB) {
		boom := fmt.Errorf("boom")
		err := db.Transact(t.Context(), func(tx *Tx) error {
			if err := tx.InsertShareType(t.Context(), abaca.ShareType{ID: "t", Name: "t"}); err != nil {
				return err
			}
			return boom
		})
		if err == nil || err.Error() != "boom" {
			t.Errorf("the transaction gave %v", err)
		}
		if _, err := db.ShareType(t.Context(), "t"); abaca.FaultOf(err) != abaca.NotFound {
			t.Errorf("the row is there: %v", err)
		}
	})
}

func TestADatabaseOpensAgainWithItsRows(t *testing.T) {
	atEach(t, func(t *testing.T, at string) {
		for i := range 3 {
			db, err := Open(t.Context(), at)
			if err != nil {
				t.Fatal(err)
			}
			types, err := db.ShareTypes(t.Context(), nil)
			if err != nil || len(types) != i {
				t.Fatalf("opening %d finds %d types, %v", i, len(types), err)
			}
			db.must(t, func(tx *Tx) error {
				return tx.InsertShareType(t.Context(), abaca.ShareType{ID: abaca.ShareTypeID(fmt.Sprint(i)), Name: fmt.Sprint(i), CreatedAt: now})
			})
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

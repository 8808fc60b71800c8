package db

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"abaca"
)

// now is when everything in these tests happens.
var now = time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC)

func open(t *testing.T) *DB {
	t.Helper()
	db, err := OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "odd name?#%", "..", "test.db"))
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

func (db *DB) must(t *testing.T, f func(*Tx) error) {
	t.Helper()
	if err := db.Transact(t.Context(), f); err != nil {
		t.Fatal(err)
	}
}

func ptr[T any](v T) *T { return &v }

// withShare adds a share that is at rest.
func withShare(t *testing.T, db *DB, id abaca.ShareID, project abaca.ProjectID) {
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

func TestPagesByMarkerAreTheWholeListInOrderForEverySortKey(t *testing.T) {
	db := open(t)
	withShare(t, db, "s", "p")
	var all []abaca.Backup
	for i := range 57 {
		b := abaca.Backup{
			ID: abaca.BackupID(fmt.Sprintf("id-%02d", i*31%57)), Project: "p", Share: "s", Size: i % 4,
			CreatedAt: now.Add(time.Duration(i%9) * time.Microsecond),
		}
		if i%3 > 0 {
			b.Name, b.Type = ptr(fmt.Sprintf("N%d", i%5)), ptr("type")
		}
		all = append(all, b)
	}
	insert(t, db, all...)
	for key := range backups.sort {
		for _, ascending := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s ascending %v", key, ascending), func(t *testing.T) {
				page := Page{SortKey: key, Ascending: ascending}
				whole, err := db.Backups(t.Context(), BackupFilter{Project: "p"}, page)
				if err != nil {
					t.Fatal(err)
				}
				if len(whole) != len(all) {
					t.Fatalf("the whole list has %d of %d backups", len(whole), len(all))
				}
				page.Limited, page.Limit = true, 10
				var paged []abaca.Backup
				for {
					part, err := db.Backups(t.Context(), BackupFilter{Project: "p"}, page)
					if err != nil {
						t.Fatal(err)
					}
					if len(part) == 0 {
						break
					}
					paged = append(paged, part...)
					page.Marker = string(part[len(part)-1].ID)
				}
				if got, want := ids(paged), ids(whole); !slices.Equal(got, want) {
					t.Errorf("pages give %v, the whole list is %v", got, want)
				}
				reversed, err := db.Backups(t.Context(), BackupFilter{Project: "p"}, Page{SortKey: key, Ascending: !ascending})
				if err != nil {
					t.Fatal(err)
				}
				slices.Reverse(reversed)
				if !slices.Equal(ids(reversed), ids(whole)) {
					t.Error("the other direction is not the reverse")
				}
			})
		}
	}
}

func ids(list []abaca.Backup) []string {
	var s []string
	for _, b := range list {
		s = append(s, string(b.ID))
	}
	return s
}

func TestAPageSeeksInAnIndexAndSortsNothing(t *testing.T) {
	db := open(t)
	withShare(t, db, "s", "p")
	insert(t, db, abaca.Backup{ID: "m", Project: "p", Share: "s"})
	for _, test := range []struct{ where, order string }{
		{"project_id = 'p'", "created_at"},
		{"project_id = 'p'", "name_key"},
		{"project_id = 'p'", "status"},
		{"project_id = 'p'", "size"},
		{"share_id = 's'", "created_at"},
		{"1", "created_at"},
		{"1", "name_key"},
	} {
		t.Run(test.where+" by "+test.order, func(t *testing.T) {
			plan, err := all(t.Context(), db.read, func(s scanner) (detail string, err error) {
				var a, b, c any
				return detail, s.Scan(&a, &b, &c, &detail)
			}, "EXPLAIN QUERY PLAN SELECT "+backups.columns+" FROM share_backups WHERE "+test.where+" AND ("+test.order+", id) < ($1, $2) ORDER BY "+
				test.order+" DESC, id DESC LIMIT 10", 5, "m")
			if err != nil {
				t.Fatal(err)
			}
			steps := strings.Join(plan, "; ")
			if !strings.Contains(steps, "("+test.order+",id)<(?,?)") || strings.Contains(steps, "TEMP B-TREE") {
				t.Error(steps)
			}
		})
	}
}

func TestAMarkerOrSortKeyThatDoesNotExistIsAnInvalidRequest(t *testing.T) {
	db := open(t)
	withShare(t, db, "s", "other")
	insert(t, db, abaca.Backup{ID: "others", Project: "other", Share: "s"})
	for _, p := range []Page{{Marker: "nowhere"}, {Marker: "others"}, {SortKey: "metadata"}, {SortKey: "id; DROP TABLE shares"}} {
		if _, err := db.Backups(t.Context(), BackupFilter{Project: "p"}, p); abaca.FaultOf(err) != abaca.Invalid {
			t.Errorf("%+v: %v", p, err)
		}
	}
}

func TestFilters(t *testing.T) {
	db := open(t)
	withShare(t, db, "s", "p")
	insert(t, db,
		abaca.Backup{ID: "1", Project: "p", Share: "s", Name: ptr("100%"), Description: ptr("One")},
		abaca.Backup{ID: "2", Project: "p", Share: "s", Name: ptr("1000"), Description: ptr("")},
		abaca.Backup{ID: "3", Project: "p", Share: "s", Name: ptr("a_b")},
		abaca.Backup{ID: "4", Project: "p", Share: "s", Name: ptr("aXb")},
		abaca.Backup{ID: "5", Project: "other", Share: "s", Name: ptr("a_b")},
		abaca.Backup{ID: "6", Project: "p", Share: "s", Name: ptr("back\\slash")},
		abaca.Backup{ID: "7", Project: "p", Share: "s", Name: ptr("nul\x00byte")},
	)
	for _, test := range []struct {
		says   string
		filter BackupFilter
		want   []string
	}{
		{"a percent sign is an ordinary character", BackupFilter{Project: "p", TextFilter: TextFilter{NameLike: ptr("0%")}}, []string{"1"}},
		{"an underscore is an ordinary character", BackupFilter{Project: "p", TextFilter: TextFilter{NameLike: ptr("a_")}}, []string{"3"}},
		{"a backslash is an ordinary character", BackupFilter{Project: "p", TextFilter: TextFilter{NameLike: ptr(`\`)}}, []string{"6"}},
		{"parts match without regard to case", BackupFilter{Project: "p", TextFilter: TextFilter{NameLike: ptr("AxB")}}, []string{"4"}},
		{"whole names match exactly", BackupFilter{Project: "p", TextFilter: TextFilter{Name: ptr("AXB")}}, nil},
		{"an empty name is the empty name and not the missing one", BackupFilter{Project: "p", TextFilter: TextFilter{Description: ptr("")}}, []string{"2"}},
		{"no project is every project", BackupFilter{TextFilter: TextFilter{Name: ptr("a_b")}}, []string{"3", "5"}},
		{"filters are all applied", BackupFilter{Project: "p", TextFilter: TextFilter{NameLike: ptr("1"), DescriptionLike: ptr("one")}}, []string{"1"}},
		{"quotes do no harm", BackupFilter{TextFilter: TextFilter{Name: ptr(`a'; DROP TABLE shares; --`)}}, nil},
		{"a name is kept with its NUL", BackupFilter{TextFilter: TextFilter{Name: ptr("nul\x00byte")}}, []string{"7"}},
	} {
		t.Run(test.says, func(t *testing.T) {
			got, err := db.Backups(t.Context(), test.filter, Page{SortKey: "id", Ascending: true})
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(ids(got), test.want) {
				t.Errorf("got %v, want %v", ids(got), test.want)
			}
		})
	}
}

func TestSharesAreFoundByMetadata(t *testing.T) {
	db := open(t)
	withShare(t, db, "s", "p")
	for _, test := range []struct {
		metadata map[string]string
		found    int
	}{
		{map[string]string{"k": `a"b`}, 1},
		{map[string]string{"x": "y"}, 1},
		{map[string]string{"x": "y", "k": `a"b`}, 1},
		{map[string]string{"x": "Y"}, 0},
		{map[string]string{"k": "a"}, 0},
		{map[string]string{"y": "x"}, 0},
		{map[string]string{"": ""}, 0},
	} {
		n, err := db.CountShares(t.Context(), ShareFilter{Metadata: test.metadata})
		if err != nil {
			t.Fatal(err)
		}
		if n != test.found {
			t.Errorf("%v finds %d shares, want %d", test.metadata, n, test.found)
		}
	}
}

func TestWorkIsClaimedOnceAndLostWhenTheLeaseHasPassed(t *testing.T) {
	db := open(t)
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
}

func TestAStatusSetByHandIsNobodysWork(t *testing.T) {
	db := open(t)
	ctx := t.Context()
	withShare(t, db, "s", "p")
	insert(t, db, abaca.Backup{ID: "b", Project: "p", Share: "s"})
	for _, to := range abaca.ResetStatuses {
		db.must(t, func(tx *Tx) error { return tx.Reset(ctx, abaca.KindBackup, "b", to, now) })
		if job, ok, err := db.Claim(ctx, abaca.Operations, Worker{Name: "w"}, now.Add(time.Hour), now.Add(2*time.Hour)); ok || err != nil {
			t.Errorf("%s was claimed: %+v, %v", to, job, err)
		}
	}
}

func TestWorkersClaimEachJobOnceHoweverManyThereAre(t *testing.T) {
	db := open(t)
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
}

func TestQuotasHoldUnderConcurrentCharges(t *testing.T) {
	db := open(t)
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
}

func TestAFullQuotaOfSizeIsReportedBeforeOneOfCount(t *testing.T) {
	db := open(t)
	db.must(t, func(tx *Tx) error {
		return tx.SetLimits(t.Context(), "p", map[abaca.Resource]int{abaca.Backups: 0, abaca.BackupGigabytes: 0})
	})
	err := db.Transact(t.Context(), func(tx *Tx) error {
		return tx.Charge(t.Context(), "p", abaca.BackupCost(1), abaca.DefaultLimits)
	})
	if err == nil || !strings.Contains(err.Error(), "exceed") || !strings.Contains(err.Error(), "backup_gigabytes") {
		t.Error(err)
	}
}

func TestATransactionThatFailsLeavesNothing(t *testing.T) {
	db := open(t)
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
}

func TestADatabaseOpensAgainWithItsRows(t *testing.T) {
	path := filepath.Join(t.TempDir(), "abaca.db")
	for i := range 3 {
		db, err := OpenSQLite(t.Context(), path)
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
}

package db

import (
	"strings"
	"testing"
	"time"

	"abaca"
)

func TestAQueueIsTheWorkThatNoLivingWorkerHas(t *testing.T) {
	onEach(t, func(t *testing.T, db *DB) {
		withShare(t, db, "s", "p")
		queues := func(at time.Time) Queue {
			t.Helper()
			list, err := db.Queues(t.Context(), at)
			if err != nil {
				t.Fatal(err)
			}
			var found Queue
			for _, q := range list {
				if q.Operation.Name == abaca.CreateBackup.Name {
					found = q
				} else if q.Waiting != 0 || !q.Since.IsZero() {
					t.Errorf("%d wait for %s since %v", q.Waiting, q.Operation.Name, q.Since)
				}
			}
			if len(list) != len(abaca.Operations) {
				t.Errorf("%d queues", len(list))
			}
			return found
		}
		if q := queues(now); q.Waiting != 0 || !q.Since.IsZero() {
			t.Errorf("nothing waits as %+v", q)
		}
		insert(t, db, abaca.Backup{ID: "b1", Project: "p", Share: "s"}, abaca.Backup{ID: "b2", Project: "p", Share: "s", CreatedAt: now.Add(time.Second)})
		insert(t, db, abaca.Backup{ID: "rests", Project: "p", Share: "s", CreatedAt: now.Add(-time.Hour)})
		db.must(t, func(tx *Tx) error { return tx.Reset(t.Context(), abaca.KindBackup, "rests", abaca.Creating, now) })
		if q := queues(now.Add(time.Minute)); q.Waiting != 2 || !q.Since.Equal(now) {
			t.Errorf("two wait as %+v", q)
		}
		job, ok, err := db.Claim(t.Context(), []abaca.Operation{abaca.CreateBackup}, Worker{Name: "w"}, now.Add(time.Minute), now.Add(2*time.Minute))
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		if q := queues(now.Add(time.Minute)); q.Waiting != 1 || !q.Since.Equal(now.Add(time.Second)) {
			t.Errorf("one is worked on, the other waits as %+v", q)
		}
		if q := queues(now.Add(3 * time.Minute)); q.Waiting != 2 {
			t.Errorf("the worker has died, and there wait %+v", q)
		}
		db.must(t, func(tx *Tx) error { return tx.Release(t.Context(), job, now.Add(time.Hour), false, "again") })
		if q := queues(now.Add(time.Minute)); q.Waiting != 2 {
			t.Errorf("one is to be tried again later, and there wait %+v", q)
		}
	})
}

func TestMeasuringQueuesReadsUnfinishedWorkAlone(t *testing.T) {
	db := open(t, databases["SQLite"](t))
	for _, table := range tableOf {
		plan, err := all(t.Context(), db.q, func(s scanner) (detail string, err error) {
			var a, b, c any
			return detail, s.Scan(&a, &b, &c, &detail)
		}, "EXPLAIN QUERY PLAN "+queueQuery(table), abaca.Creating, 1)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(plan, "\n"); !strings.HasPrefix(got, "SEARCH "+table+" USING INDEX "+table+"_waiting (status=?") {
			t.Error(got)
		}
	}
}

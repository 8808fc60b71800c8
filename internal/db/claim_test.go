package db

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"abaca"
)

var heavy = []abaca.Operation{abaca.RestoreBackup, abaca.CreateBackup, abaca.CreateSnapshot}

// queue adds backups that wait to be made, of one project, each a microsecond later than the one before.
func queue(t *testing.T, db *DB, project abaca.ProjectID, n int, from time.Time) {
	t.Helper()
	var list []abaca.Backup
	for i := range n {
		id := abaca.BackupID(fmt.Sprintf("%s-%05d", project, i))
		list = append(list, abaca.Backup{ID: id, Project: project, Share: "s", CreatedAt: from.Add(time.Duration(i) * time.Microsecond)})
	}
	insert(t, db, list...)
}

// A claimer claims with one worker and, as each claim is a microsecond later than the one before, in a known order.
type claimer struct {
	t  *testing.T
	db *DB
	Worker
	at time.Time
}

func (c *claimer) next() (Job, bool) {
	c.t.Helper()
	c.at = c.at.Add(time.Microsecond)
	job, ok, err := c.db.Claim(c.t.Context(), heavy, c.Worker, c.at, c.at.Add(time.Hour))
	if err != nil {
		c.t.Fatal(err)
	}
	return job, ok
}

func (c *claimer) end(job Job) {
	c.t.Helper()
	c.db.must(c.t, func(tx *Tx) error { return tx.Settle(c.t.Context(), job, abaca.Available, "", c.at) })
}

func TestProjectsTakeTurnsHoweverMuchOneAsksFor(t *testing.T) {
	onEach(t, func(t *testing.T, db *DB) {
		withShare(t, db, "s", "a")
		queue(t, db, "a", 5, now)
		queue(t, db, "b", 2, now.Add(time.Second))
		queue(t, db, "c", 1, now.Add(2*time.Second))
		c := &claimer{t: t, db: db, Worker: Worker{Name: "w"}, at: now.Add(time.Minute)}
		var order []string
		for {
			job, ok := c.next() // one at a time, so that none is under way when the next is chosen
			if !ok {
				break
			}
			order = append(order, job.ID)
			c.end(job)
		}
		if got, want := strings.Join(order, " "), "a-00000 b-00000 c-00000 a-00001 b-00001 a-00002 a-00003 a-00004"; got != want {
			t.Errorf("the order is %s, want %s", got, want)
		}
	})
}

func TestAProjectWithLessUnderWayComesFirst(t *testing.T) {
	onEach(t, func(t *testing.T, db *DB) {
		withShare(t, db, "s", "a")
		queue(t, db, "a", 9, now)
		c := &claimer{t: t, db: db, Worker: Worker{Name: "w"}, at: now.Add(time.Minute)}
		c.next()
		c.next()
		queue(t, db, "b", 3, now.Add(time.Hour/2))
		c.at = now.Add(31 * time.Minute)
		var projects []abaca.ProjectID
		for range 4 {
			job, _ := c.next()
			projects = append(projects, job.Project)
		}
		if want := []abaca.ProjectID{"b", "b", "a", "b"}; !slices.Equal(projects, want) {
			t.Errorf("with two of a's under way come %v, want %v", projects, want)
		}
	})
}

func TestAWorkerDoesOnlySoMuchForOneProjectAtATime(t *testing.T) {
	onEach(t, func(t *testing.T, db *DB) {
		withShare(t, db, "s", "a")
		queue(t, db, "a", 5, now)
		one := &claimer{t: t, db: db, Worker: Worker{Name: "one", PerProject: 2}, at: now.Add(time.Minute)}
		first, ok := one.next()
		if _, second := one.next(); !ok || !second {
			t.Fatal("the first two were not claimed")
		}
		if job, ok := one.next(); ok {
			t.Errorf("a third one was claimed: %+v", job)
		}
		two := &claimer{t: t, db: db, Worker: Worker{Name: "two", PerProject: 2}, at: one.at}
		if _, ok := two.next(); !ok {
			t.Error("another worker was kept from it")
		}
		one.end(first)
		if _, ok := one.next(); !ok {
			t.Error("when one had ended none was claimed in its place")
		}
	})
}

func TestAJobKnowsWhoAskedForIt(t *testing.T) {
	onEach(t, func(t *testing.T, db *DB) {
		ctx := t.Context()
		withShare(t, db, "s", "p")
		insert(t, db, abaca.Backup{ID: "b", Project: "p", Share: "s"})
		db.must(t, func(tx *Tx) error { return tx.Reset(ctx, abaca.KindBackup, "b", abaca.Available, now) })
		if _, ok, err := db.Underway(ctx, abaca.KindBackup, "b"); ok || err != nil {
			t.Errorf("nobody's work is under way: %v, %v", ok, err)
		}
		asked := abaca.Caller{User: "root", Project: "admins", Request: "req-1"}
		db.must(t, func(tx *Tx) error {
			ok, err := tx.Begin(ctx, abaca.DeleteBackup, "b", "", asked, now)
			if err == nil && !ok {
				t.Error("the deletion did not begin")
			}
			return err
		})
		waiting, ok, err := db.Underway(ctx, abaca.KindBackup, "b")
		if err != nil || !ok || waiting.Operation.Name != abaca.DeleteBackup.Name {
			t.Errorf("waiting: %+v, %v, %v", waiting, ok, err)
		}
		job, ok, err := db.Claim(ctx, abaca.Operations, Worker{Name: "w"}, now, now.Add(time.Minute))
		if err != nil || !ok || job.Project != "p" || job.Asked.User != asked.User || job.Asked.Project != asked.Project || job.Asked.Request != asked.Request {
			t.Errorf("claimed %+v, %v, %v", job, ok, err)
		}
	})
}

func TestLookingForWorkReadsNoMoreWhereMuchWaits(t *testing.T) {
	db := open(t, databases["SQLite"](t))
	withShare(t, db, "s", "a")
	for p := range 3 {
		queue(t, db, abaca.ProjectID(fmt.Sprint("p", p)), 100, now)
	}
	query, args := nextQuery(heavy, Worker{Name: "w", PerProject: 1}, now.Add(time.Hour))
	plan, err := all(t.Context(), db.q, func(s scanner) (detail string, err error) {
		var a, b, c any
		return detail, s.Scan(&a, &b, &c, &detail)
	}, "EXPLAIN QUERY PLAN "+query, args...)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range plan {
		// What is scanned are the projects that have work, one row each; tables of resources are sought in.
		if strings.HasPrefix(step, "SCAN share") || strings.HasPrefix(step, "SCAN j") {
			t.Errorf("%s in\n%s", step, strings.Join(plan, "\n"))
		}
	}
	steps := strings.Join(plan, "\n")
	for _, seek := range []string{
		"SEARCH share_backups USING COVERING INDEX share_backups_waiting (status=? AND project_id=? AND needs=? AND lease_until>? AND lease_until<?)",
		"SEARCH share_backups USING INDEX share_backups_running (lease_owner>?)",
	} {
		if !strings.Contains(steps, seek) {
			t.Errorf("no %s in\n%s", seek, steps)
		}
	}
}

func TestDefaultLimitsThatWereSetHoldForProjectsWithoutTheirOwn(t *testing.T) {
	onEach(t, func(t *testing.T, db *DB) {
		ctx := t.Context()
		configured := map[abaca.Resource]int{abaca.Backups: 10, abaca.BackupGigabytes: 1000}
		charge := func(project abaca.ProjectID) error {
			return db.Transact(ctx, func(tx *Tx) error { return tx.Charge(ctx, project, abaca.BackupCost(1), configured) })
		}
		db.must(t, func(tx *Tx) error {
			if err := tx.SetLimits(ctx, "own", map[abaca.Resource]int{abaca.Backups: 2}); err != nil {
				return err
			}
			return tx.SetDefaults(ctx, map[abaca.Resource]int{abaca.Backups: 1})
		})
		for _, test := range []struct {
			project abaca.ProjectID
			limit   int
		}{{"own", 2}, {"other", 1}} {
			for i := range 4 {
				if err := charge(test.project); (err == nil) != (i < test.limit) {
					t.Errorf("charge %d of %s: %v", i+1, test.project, err)
				}
			}
			u, err := db.Usages(ctx, test.project, configured)
			if err != nil || u[abaca.Backups] != (Usage{test.limit, test.limit}) || u[abaca.BackupGigabytes].Limit != 1000 {
				t.Errorf("%s has %+v, %v", test.project, u, err)
			}
		}
		db.must(t, func(tx *Tx) error { return tx.SetDefaults(ctx, map[abaca.Resource]int{abaca.Backups: abaca.Unlimited}) })
		if err := charge("other"); err != nil {
			t.Errorf("without a limit: %v", err)
		}
	})
}

func TestOfMessagesOfOneDetailTheNewestAreKept(t *testing.T) {
	onEach(t, func(t *testing.T, db *DB) {
		ctx := t.Context()
		tell := func(i int, project abaca.ProjectID, detail string) abaca.Message {
			m := abaca.Message{
				ID: fmt.Sprint(project, detail, i), Project: project, ResourceID: "s", Action: "028", Detail: detail, Text: fmt.Sprint(i),
				CreatedAt: now.Add(time.Duration(i) * time.Minute), ExpiresAt: now.Add(time.Hour),
			}
			db.must(t, func(tx *Tx) error {
				if err := tx.InsertMessage(ctx, m); err != nil {
					return err
				}
				return tx.KeepMessages(ctx, "p", "032", 3)
			})
			return m
		}
		tell(0, "p", "001")
		tell(0, "other", "032")
		var last abaca.Message
		for i := range 6 {
			last = tell(i, "p", "032")
		}
		left, err := db.Messages(ctx, MessageFilter{}, Page{SortKey: "id", Ascending: true})
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, m := range left {
			ids = append(ids, m.ID)
		}
		if want := []string{"other0320", "p0010", "p0323", "p0324", "p0325"}; !slices.Equal(ids, want) {
			t.Errorf("left are %v, want %v", ids, want)
		}
		for since, want := range map[time.Time]bool{last.CreatedAt: true, last.CreatedAt.Add(time.Microsecond): false} {
			if told, err := db.Told(ctx, last, since); err != nil || told != want {
				t.Errorf("told since %v: %v, %v", since, told, err)
			}
		}
	})
}

func TestAWorkersDeathCountsWhereTheWorkGotNoFurther(t *testing.T) {
	onEach(t, func(t *testing.T, db *DB) {
		ctx := t.Context()
		withShare(t, db, "s", "a")
		queue(t, db, "a", 1, now)
		c := &claimer{t: t, db: db, Worker: Worker{Name: "w"}, at: now.Add(time.Minute)}
		progress := func(percent int) func(*Tx, Job) error {
			return func(tx *Tx, job Job) error { return tx.SetProgress(ctx, job, percent, c.at) }
		}
		release := func(interrupted bool) func(*Tx, Job) error {
			return func(tx *Tx, job Job) error { return tx.Release(ctx, job, c.at, interrupted, "") }
		}
		for i, claim := range []struct {
			tries int
			ends  []func(*Tx, Job) error // and then, where it is not released, in its worker's death
		}{
			{1, nil},
			{2, []func(*Tx, Job) error{progress(10)}},
			{2, []func(*Tx, Job) error{progress(10), progress(20)}},
			{2, []func(*Tx, Job) error{progress(5), progress(20)}},
			{3, []func(*Tx, Job) error{progress(30), release(true)}},
			{3, []func(*Tx, Job) error{progress(40), release(false)}},
			{4, []func(*Tx, Job) error{release(true)}},
			{4, nil},
			{5, nil},
		} {
			job, ok := c.next()
			if !ok || job.Tries != claim.tries {
				t.Fatalf("claim %d: %v, it is try %d instead of %d", i, ok, job.Tries, claim.tries)
			}
			for _, end := range claim.ends {
				db.must(t, func(tx *Tx) error { return end(tx, job) })
			}
			c.at = c.at.Add(2 * time.Hour) // the lease passes
		}
	})
}

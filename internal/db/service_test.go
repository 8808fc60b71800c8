package db

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"abaca"
)

// register has a worker report which back ends it reaches, each under a path of the worker's.
func (db *DB) register(t *testing.T, worker, instance string, at time.Time, backends ...string) (again bool) {
	t.Helper()
	r := Report{Worker: worker, Role: "worker", Version: "v1", Instance: instance}
	for _, b := range backends {
		r.Backends = append(r.Backends, Reached{b, "/" + worker + "/" + b})
	}
	db.must(t, func(tx *Tx) (err error) {
		again, err = tx.Register(t.Context(), r, at, at.Add(time.Minute))
		return err
	})
	return again
}

func (db *DB) serviceNames(t *testing.T) (names []string) {
	t.Helper()
	list, err := db.Services(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list {
		names = append(names, fmt.Sprint(s.ID, " ", s.Kind, " ", s.Name))
	}
	return names
}

func TestServicesKeepTheirIDsAndWhetherTheyAreDisabled(t *testing.T) {
	onEach(t, func(t *testing.T, db *DB) {
		ctx := t.Context()
		if db.register(t, "one", "i1", now, "files", "more") {
			t.Error("a worker that is new was there before")
		}
		db.register(t, "two", "i2", now.Add(time.Second), "files")
		want := []string{"1 worker one", "2 backend files", "3 backend more", "4 worker two"}
		if got := db.serviceNames(t); !slices.Equal(got, want) {
			t.Errorf("there are %v, want %v", got, want)
		}
		why := "moving house"
		db.must(t, func(tx *Tx) error {
			ok, err := tx.SwitchService(ctx, ServiceWorker, "one", true, &why, now)
			if !ok {
				t.Error("a service that is there was not found")
			}
			return err
		})
		db.must(t, func(tx *Tx) error {
			ok, err := tx.SwitchService(ctx, ServiceBackend, "one", true, nil, now)
			if ok {
				t.Error("a worker was found among the back ends")
			}
			return err
		})
		if !db.register(t, "one", "i1", now.Add(time.Hour), "more") {
			t.Error("the same instance was not known again")
		}
		if db.register(t, "one", "another", now.Add(time.Hour), "more") {
			t.Error("another instance was taken for the same")
		}
		list, err := db.Services(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if one := list[0]; one.ID != 1 || !one.Disabled || one.Reason == nil || *one.Reason != why || !one.UpUntil.Equal(now.Add(time.Hour+time.Minute)) {
			t.Errorf("after a restart it is %+v", one)
		}
		if files := list[1]; files.Name != "files" || !files.BeatenAt.Equal(now.Add(time.Second)) || !files.UpUntil.Equal(now.Add(time.Minute+time.Second)) {
			t.Errorf("a back end is as alive as the worker that still reaches it: %+v", files)
		}
		db.must(t, func(tx *Tx) error { return tx.ForgetServices(ctx, now.Add(2*time.Minute)) })
		if got, want := db.serviceNames(t), []string{"1 worker one", "3 backend more"}; !slices.Equal(got, want) {
			t.Errorf("left are %v, want %v", got, want)
		}
		db.must(t, func(tx *Tx) error {
			if known, _, err := tx.BeatService(ctx, "two", now, now); known || err != nil {
				t.Errorf("a worker that was forgotten is known: %v, %v", known, err)
			}
			known, disabled, err := tx.BeatService(ctx, "one", now, now.Add(5*time.Hour))
			if !known || !disabled {
				t.Errorf("a worker that is there and disabled is known: %v, disabled: %v", known, disabled)
			}
			return err
		})
	})
}

func TestBackEndsAreReachedWhereAWorkerIsUpThatHasThem(t *testing.T) {
	onEach(t, func(t *testing.T, db *DB) {
		db.register(t, "a", "", now, "old", "files")
		db.register(t, "b", "", now.Add(time.Minute), "files", "new")
		got, err := db.Reachable(t.Context(), now.Add(90*time.Second))
		if want := []Reached{{"files", "/b/files"}, {"new", "/b/new"}, {"old", "/a/old"}}; err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("reachable are %v, %v, want %v", got, err, want)
		}
	})
}

func TestWorkGoesToWorkersThatReachWhatItNeeds(t *testing.T) {
	onEach(t, func(t *testing.T, db *DB) {
		ctx := t.Context()
		withShare(t, db, "s", "p")
		db.must(t, func(tx *Tx) error {
			return tx.InsertShare(ctx, abaca.Share{ID: "far", Project: "p", Type: "t-s", Backend: "far", Path: "far", Status: abaca.Creating, CreatedAt: now}, abaca.Caller{})
		})
		insert(t, db, abaca.Backup{ID: "b", Project: "p", Share: "far"})
		db.must(t, func(tx *Tx) error {
			return tx.InsertSnapshot(ctx, abaca.Snapshot{ID: "n", Project: "p", Share: "far", Status: abaca.Creating, CreatedAt: now}, abaca.Caller{})
		})
		claim := func(w Worker) string {
			t.Helper()
			job, _, err := db.Claim(ctx, abaca.Operations, w, now.Add(time.Second), now.Add(time.Minute))
			if err != nil {
				t.Fatal(err)
			}
			return job.ID
		}
		stranded := func(want ...Stranded) {
			t.Helper()
			got, err := db.Stranded(ctx, now.Add(time.Second))
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("stranded is %v, %v, want %v", got, err, want)
			}
		}
		stranded(Stranded{"far", 3, true})
		db.register(t, "near", "", now, "near")
		if id := claim(Worker{Name: "near", Backends: []string{"near"}}); id != "" {
			t.Errorf("%s was claimed by a worker that does not reach it", id)
		}
		stranded(Stranded{"far", 3, true})
		db.register(t, "down", "", now.Add(-time.Hour), "far")
		stranded(Stranded{"far", 3, false})
		db.register(t, "w", "", now, "near", "far")
		stranded()
		w := Worker{Name: "w", Backends: []string{"near", "far"}}
		if id := claim(w); id != "far" {
			t.Errorf("claimed %q, want the share", id)
		}
		for _, service := range []struct {
			kind ServiceKind
			name string
		}{{ServiceBackend, "far"}, {ServiceWorker, "w"}} {
			turn := func(off bool) {
				db.must(t, func(tx *Tx) error {
					_, err := tx.SwitchService(ctx, service.kind, service.name, off, nil, now)
					return err
				})
			}
			turn(true)
			if id := claim(w); id != "" {
				t.Errorf("%s was claimed with the %s disabled", id, service.kind)
			}
			stranded()
			turn(false)
		}
		if a, b := claim(w), claim(w); a+b != "bn" {
			t.Errorf("claimed %q and %q", a, b)
		}
		db.must(t, func(tx *Tx) error { return tx.Reset(ctx, abaca.KindBackup, "b", abaca.Available, now) })
		db.must(t, func(tx *Tx) error {
			_, err := tx.Begin(ctx, abaca.DeleteBackup, "b", "", abaca.Caller{}, now)
			return err
		})
		if id := claim(Worker{Name: "near"}); id != "b" {
			t.Errorf("claimed %q, want the deletion, for which no files are needed", id)
		}
	})
}

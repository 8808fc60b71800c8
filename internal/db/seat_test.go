package db

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"abaca"
	"abaca/internal/test/postgres"
)

// attend keeps a seat until the test ends; its channels carry each call of woken and of away, and the end.
func attend(t *testing.T, db *DB, host string) (woken, away chan struct{}, ended chan error, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	woken, away, ended = make(chan struct{}, 100), make(chan struct{}, 100), make(chan error, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		ended <- db.Attend(ctx, host, time.Second, func() { woken <- struct{}{} }, func(error) { away <- struct{}{} })
	}()
	stop = func() {
		cancel()
		<-done
	}
	t.Cleanup(stop)
	<-woken // at once, since anything may have happened before
	return woken, away, ended, stop
}

func TestOfferedWorkWakesOtherProcesses(t *testing.T) {
	at := postgres.New(t)
	here, there := open(t, at), open(t, at)
	ctx := t.Context()
	withShare(t, here, "s", "p")
	woken, _, _, _ := attend(t, there, "there")
	var job Job
	for _, offer := range []struct {
		what string
		f    func(*Tx) error
	}{
		{"a backup", func(tx *Tx) error {
			return tx.InsertBackup(ctx, abaca.Backup{ID: "b", Project: "p", Share: "s", Status: abaca.Creating, CreatedAt: now}, abaca.Caller{})
		}},
		{"a share", func(tx *Tx) error {
			return tx.InsertShare(ctx, abaca.Share{ID: "new", Project: "p", Type: "t-s", Status: abaca.Creating, CreatedAt: now}, abaca.Caller{})
		}},
		{"a snapshot", func(tx *Tx) error {
			return tx.InsertSnapshot(ctx, abaca.Snapshot{ID: "n", Project: "p", Share: "s", Status: abaca.Creating, CreatedAt: now}, abaca.Caller{})
		}},
		{"a deletion", func(tx *Tx) error {
			ok, err := tx.Begin(ctx, abaca.DeleteShare, "s", "", abaca.Caller{}, now)
			if !ok {
				t.Error("the deletion has not begun")
			}
			return err
		}},
		{"what another was interrupted in", func(tx *Tx) error { return tx.Release(ctx, job, now, true, "") }},
	} {
		here.must(t, offer.f)
		select {
		case <-woken:
		case <-time.After(time.Minute): // bounds a test that fails, and decides nothing
			t.Fatalf("%s wakes nobody", offer.what)
		}
		var ok bool
		var err error
		if job, ok, err = there.Claim(ctx, abaca.Operations, Worker{Name: "there"}, now, now.Add(time.Minute)); !ok || err != nil {
			t.Fatalf("%s: claimed %v, %v", offer.what, ok, err)
		}
	}
}

func TestAHostHasOneProcess(t *testing.T) {
	at := postgres.New(t)
	first, second := open(t, at), open(t, at)
	if err := first.TakeSeat(t.Context(), "host", time.Second); err != nil {
		t.Fatal(err)
	}
	if err := second.TakeSeat(t.Context(), "another", time.Second); err != nil {
		t.Errorf("under another name: %v", err)
	}
	second.seat.leave()
	err := second.TakeSeat(t.Context(), "host", 10*time.Millisecond)
	if !errors.Is(err, ErrSeatTaken) || !strings.Contains(err.Error(), "host host: another process") {
		t.Errorf("under the same name: %v", err)
	}
	waited := make(chan error)
	go func() { waited <- second.TakeSeat(context.Background(), "host", time.Minute) }()
	first.seat.leave()
	if err := <-waited; err != nil {
		t.Errorf("after the first has gone: %v", err)
	}
}

func TestASeatIsTakenBackAfterAnOutageAndWorkIsLookedFor(t *testing.T) {
	cluster := postgres.Start(t)
	at := cluster.Database(t, "abaca")
	db, other := open(t, at), open(t, at)
	woken, away, _, _ := attend(t, db, "host")
	for range 2 {
		cluster.Stop()
		<-away
		cluster.Restart(t)
		<-woken
		if err := other.TakeSeat(t.Context(), "host", time.Millisecond); !errors.Is(err, ErrSeatTaken) {
			t.Errorf("after the outage another process takes the seat: %v", err)
		}
	}
}

func TestWhoLosesTheSeatToAnotherStops(t *testing.T) {
	at := postgres.New(t)
	db, other := open(t, at), open(t, at)
	_, _, ended, _ := attend(t, db, "host")
	waited := make(chan error)
	go func() { waited <- other.TakeSeat(context.Background(), "host", time.Minute) }()
	end := `SELECT count(pg_terminate_backend(l.pid)) FROM pg_locks l JOIN pg_locks w ON w.objid = l.objid AND w.classid = l.classid
		WHERE l.locktype = 'advisory' AND l.granted AND NOT w.granted`
	for n := 0; n == 0; { // once the other waits
		if err := other.write.QueryRowContext(t.Context(), end).Scan(&n); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-waited; err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, ErrSeatTaken) {
		t.Errorf("it ended with %v", err)
	}
}

func TestAFileHasNoSeats(t *testing.T) {
	db := open(t, databases["SQLite"](t))
	if err := db.TakeSeat(t.Context(), "host", 0); err != nil {
		t.Error(err)
	}
	if err := db.Attend(t.Context(), "host", 0, nil, nil); err != nil {
		t.Error(err)
	}
}

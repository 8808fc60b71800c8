package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"abaca"
	"abaca/internal/test/postgres"
)

// count returns how many rows of a table satisfy a condition.
func (tx *Tx) count(ctx context.Context, rows string) (n int, err error) {
	return n, tx.q.QueryRowContext(ctx, "SELECT count(*) FROM "+rows).Scan(&n)
}

func TestWhatATransactionHasReadIsStillSoWhenItCommits(t *testing.T) {
	onEach(t, func(t *testing.T, db *DB) {
		const most = 5
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				err := db.Transact(context.Background(), func(tx *Tx) error {
					n, err := tx.count(context.Background(), "verification_rounds")
					if err != nil || n >= most {
						return err
					}
					return tx.OpenRound(context.Background(), abaca.ProjectID(fmt.Sprint(i)), now)
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		db.must(t, func(tx *Tx) error {
			n, err := tx.count(t.Context(), "verification_rounds")
			if n != most {
				t.Errorf("each added a row unless there were %d, and there are %d", most, n)
			}
			return err
		})
	})
}

// TestTransactionsInEachOthersWayAreRunAgain has two transactions meet in the middle of their first runs. SQLite lets none in there.
func TestTransactionsInEachOthersWayAreRunAgain(t *testing.T) {
	share := func(id string) string { return "UPDATE shares SET size = size + 1 WHERE id = '" + id + "'" }
	for _, test := range []struct {
		says         string
		first, other [2]string // the statements of each transaction, before and after they meet
		failure      error     // of one of them in the end
		rows         string    // which there is one of in the end
	}{
		{"who waits for each other", [2]string{share("a"), share("b")}, [2]string{share("b"), share("a")}, nil,
			"shares WHERE id = 'a' AND size = 3"},
		{"who writes what the other has read", [2]string{"SELECT * FROM shares WHERE id = 'a'", share("b")},
			[2]string{"SELECT * FROM shares WHERE id = 'b'", share("a")}, nil, "shares WHERE id = 'a' AND size = 2"},
		{"who needs what the other removes", [2]string{"SELECT 1 FROM shares WHERE share_type_id = 'new'", "DELETE FROM share_types WHERE id = 'new'"},
			[2]string{"SELECT 1 FROM share_types WHERE id = 'new'", "UPDATE shares SET share_type_id = 'new' WHERE id = 'a'"}, sql.ErrConnDone,
			"(SELECT 1 WHERE EXISTS (SELECT 1 FROM shares WHERE share_type_id = 'new') = EXISTS (SELECT 1 FROM share_types WHERE id = 'new')) AS x"},
	} {
		t.Run(test.says, func(t *testing.T) {
			db := open(t, postgres.New(t))
			ctx := t.Context()
			withShare(t, db, "a", "p")
			withShare(t, db, "b", "p")
			db.must(t, func(tx *Tx) error {
				return tx.InsertShareType(ctx, abaca.ShareType{ID: "new", Name: "new", CreatedAt: now})
			})
			var met sync.WaitGroup
			met.Add(2)
			var runs atomic.Int64
			errs := make(chan error)
			for _, statements := range [][2]string{test.first, test.other} {
				go func() {
					first := true
					errs <- db.Transact(context.Background(), func(tx *Tx) error {
						runs.Add(1)
						if _, err := tx.exec(ctx, statements[0]); err != nil {
							return err
						}
						if first {
							first = false
							met.Done()
							met.Wait()
						}
						_, err := tx.exec(ctx, statements[1])
						return err
					})
				}()
			}
			var failed []error
			for range 2 {
				if err := <-errs; err != nil {
					failed = append(failed, err)
				}
			}
			if len(failed) > 0 && test.failure == nil || len(failed) > 1 {
				t.Errorf("they failed: %v", failed)
			}
			if runs.Load() < 3 {
				t.Errorf("they were run %d times", runs.Load())
			}
			db.must(t, func(tx *Tx) error {
				n, err := tx.count(ctx, test.rows)
				if n != 1 {
					t.Errorf("there are %d %s", n, test.rows)
				}
				return err
			})
		})
	}
}

func TestAnOutageIsUnavailabilityAndEnds(t *testing.T) {
	cluster := postgres.Start(t)
	db := open(t, cluster.Database(t, "abaca"))
	withShare(t, db, "s", "p")
	ask := map[string]func() error{
		"read": func() error { _, err := db.Share(t.Context(), "s", ""); return err },
		"list": func() error { _, err := db.Shares(t.Context(), ShareFilter{}, Page{}); return err },
		"write": func() error {
			return db.Transact(t.Context(), func(tx *Tx) error { return tx.SetShareSize(t.Context(), "s", 2) })
		},
		"claim": func() error {
			_, _, err := db.Claim(t.Context(), abaca.Operations, Worker{Name: "w"}, now, now.Add(time.Minute))
			return err
		},
	}
	for range 2 {
		inside := make(chan struct{})
		broken := make(chan error)
		go func() {
			broken <- db.Transact(context.Background(), func(tx *Tx) error {
				inside <- struct{}{}
				<-inside
				return tx.SetShareSize(context.Background(), "s", 2)
			})
		}()
		<-inside
		cluster.Stop()
		inside <- struct{}{}
		if err := <-broken; abaca.FaultOf(err) != abaca.Unavailable {
			t.Errorf("under way: %v", err)
		}
		for what, f := range ask {
			for range 20 { // of connections that are dead and connections that cannot be made
				if err := f(); abaca.FaultOf(err) != abaca.Unavailable || strings.Contains(err.Error(), "secret") {
					t.Errorf("%s: %v", what, err)
				}
			}
		}
		cluster.Restart(t)
		for what, f := range ask {
			if err := f(); err != nil {
				t.Errorf("%s after the restart: %v", what, err)
			}
		}
	}
}

// lockFile keeps an SQLite file locked, as another process that writes, until the transaction ends.
func lockFile(t *testing.T, at string) *sql.Tx {
	t.Helper()
	other, err := sql.Open("sqlite", "file:"+strings.NewReplacer("?", "%3f", "#", "%23", "%", "%25").Replace(at)+"?_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { other.Close() })
	tx, err := other.Begin()
	if err != nil {
		t.Fatal(err)
	}
	return tx
}

func TestAFileThatAnotherProcessKeepsLockedIsUnavailable(t *testing.T) {
	at := databases["SQLite"](t)
	db := open(t, at)
	tx := lockFile(t, at)
	if _, err := db.write.ExecContext(t.Context(), "PRAGMA busy_timeout = 1"); err != nil {
		t.Fatal(err)
	}
	write := func() error {
		return db.Transact(t.Context(), func(tx *Tx) error { return tx.OpenRound(t.Context(), "p", now) })
	}
	if err := write(); abaca.FaultOf(err) != abaca.Unavailable {
		t.Errorf("while it is locked: %v", err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := write(); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestNobodyWaitsForALockedFileBehindAllTheOthers(t *testing.T) {
	at := databases["SQLite"](t)
	db := open(t, at)
	tx := lockFile(t, at)
	began := time.Now()
	var waiting sync.WaitGroup
	for range 12 {
		waiting.Go(func() {
			err := db.Transact(context.Background(), func(tx *Tx) error { return tx.OpenRound(context.Background(), "p", now) })
			if abaca.FaultOf(err) != abaca.Unavailable {
				t.Errorf("while it is locked: %v", err)
			}
			if took := time.Since(began); took > 4*longestTurn {
				t.Errorf("one was told after %v", took)
			}
		})
	}
	waiting.Wait()
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := db.Transact(t.Context(), func(tx *Tx) error { return tx.OpenRound(t.Context(), "p", now) }); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestWhoGoesAwayIsNoOutage(t *testing.T) {
	onEach(t, func(t *testing.T, db *DB) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := db.Shares(ctx, ShareFilter{}, Page{})
		if !errors.Is(err, context.Canceled) || abaca.FaultOf(err) == abaca.Unavailable {
			t.Error(err)
		}
	})
}

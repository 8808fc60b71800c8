package db

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A seat is a worker's place at a database that several processes share: a connection of its own, on which it holds the lock of
// its host's name and hears of work. PostgreSQL clears the seat when the connection ends, however that comes about. It is of one
// goroutine at a time.
type seat struct {
	config *pgx.ConnConfig
	conn   *pgx.Conn // nil where the seat is not taken
}

// ErrSeatTaken says that another process works under a host's name.
var ErrSeatTaken = errors.New("another process works under the same name on this database; each needs a host of its own")

const (
	// listenFor is how long silence is trusted before the database is asked whether it is there, and answerIn how long it has
	// to answer. What has vanished without a word, TCP alone would notice after minutes.
	listenFor = 10 * time.Second
	answerIn  = 5 * time.Second
	// The database notices in 12 seconds that who has a seat has vanished without a word.
	seatSettings = `SET tcp_keepalives_idle = 3; SET tcp_keepalives_interval = 3; SET tcp_keepalives_count = 3`
	// The pauses between attempts to get a seat back double from the first to the last.
	firstPause = 100 * time.Millisecond
	lastPause  = 5 * time.Second
)

// TakeSeat makes this process the only one that works under a host's name, so that what the host has leased is its own. It waits
// so long for a process that has died to vanish from the database; then the error is ErrSeatTaken. A file has one
// server and needs no seats.
func (db *DB) TakeSeat(ctx context.Context, host string, patience time.Duration) error {
	if db.seat == nil {
		return nil
	}
	if err := db.seat.take(ctx, host, patience); err != nil {
		return fmt.Errorf("work as host %s: %w", host, folded{err})
	}
	return nil
}

// Attend keeps the seat, taking it first where TakeSeat has not, until ctx ends. It calls woken when another process may have offered
// work: after each notification and, since some may have been missed, whenever it has got the seat back; and away when the
// connection breaks. The error is ErrSeatTaken where another process has taken the seat meanwhile: this one must stop working.
func (db *DB) Attend(ctx context.Context, host string, patience time.Duration, woken func(), away func(error)) error {
	if db.seat == nil {
		return nil
	}
	pause := time.Duration(0)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		if db.seat.conn == nil {
			err := db.TakeSeat(ctx, host, patience)
			if errors.Is(err, ErrSeatTaken) {
				return err
			}
			if err != nil {
				pause = min(max(2*pause, firstPause), lastPause)
				continue
			}
		}
		pause = firstPause
		err := db.seat.listen(ctx, woken)
		db.seat.leave()
		if ctx.Err() == nil {
			away(err)
		}
	}
}

func (s *seat) take(ctx context.Context, host string, patience time.Duration) (err error) {
	conn, err := pgx.ConnectConfig(ctx, s.config.Copy())
	if err != nil {
		return err
	}
	s.conn = conn
	defer func() {
		if err != nil {
			s.leave()
		}
	}()
	if _, err := conn.Exec(ctx, fmt.Sprintf(`%s; SET lock_timeout = %d`, seatSettings, max(1, patience.Milliseconds()))); err != nil {
		return err
	}
	_, err = conn.Exec(ctx, `SELECT pg_advisory_lock($1)`, lockNumber("host "+host))
	if e, ok := errors.AsType[*pgconn.PgError](err); ok && e.Code == "55P03" { // lock not available, in time
		return ErrSeatTaken
	}
	if err == nil {
		_, err = conn.Exec(ctx, `SET lock_timeout = 0; LISTEN `+workChannel)
	}
	return err
}

// listen calls woken at once and after each notification, until the connection breaks or ctx ends.
func (s *seat) listen(ctx context.Context, woken func()) error {
	woken()
	for {
		silence, cancel := context.WithTimeout(ctx, listenFor)
		_, err := s.conn.WaitForNotification(silence)
		cancel()
		switch {
		case err == nil:
			woken()
			continue
		case ctx.Err() != nil || !pgconn.Timeout(err):
			return err
		}
		answer, cancel := context.WithTimeout(ctx, answerIn)
		err = s.conn.Ping(answer)
		cancel()
		if err != nil {
			return err
		}
	}
}

// leave gives the seat up, if it was taken.
func (s *seat) leave() {
	if s.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	s.conn.Close(ctx) //nolint:errcheck // it is closed, whether or not the database has heard of it
	s.conn = nil
}

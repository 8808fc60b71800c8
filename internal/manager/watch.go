package manager

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"abaca"
)

// A Watcher is told that a worker takes work up, one of abaca.WorkNames. It returns the context to do it in, and what is to be called
// with how it ended, one of abaca.WorkOutcomes.
type Watcher func(ctx context.Context, name string) (context.Context, func(outcome string))

func (m *Manager) watch(ctx context.Context, name string) (context.Context, func(outcome string)) {
	if m.Watch == nil {
		return ctx, func(string) {}
	}
	return m.Watch(ctx, name)
}

// A pulse is what is known of a lane from outside, and how it is woken.
type pulse struct {
	wake   chan struct{} // holds a token where it is to look at once
	looked atomic.Int64  // when it has last been told of work or that there is none, in nanoseconds of the system's clock; 0 for never
	full   atomic.Bool   // whether all its places are taken, so that it does not look
}

func (p *pulse) look() { p.looked.Store(time.Now().UnixNano()) }

// absent is how long a lane may not have looked before it counts as standing still.
const absent = 10 * look

// Working returns an error where work that is asked for would be left lying, because a lane has not got an answer from the database for
// ten seconds although it has places free, or never yet.
func (m *Manager) Working() error {
	for i := range m.pulses {
		p := &m.pulses[i]
		if p.looked.Load() == 0 {
			return errors.New("nobody has looked for work yet")
		}
		if since := time.Since(time.Unix(0, p.looked.Load())); since > absent && !p.full.Load() {
			return errors.New("nobody has looked for work for " + since.Round(time.Second).String())
		}
	}
	return nil
}

// measure finds out what the repositories of these projects take in their storage.
func (m *Manager) measure(ctx context.Context, projects []abaca.ProjectID) error {
	var s stored
	for _, p := range projects {
		n, err := m.Engine.Stored(ctx, p)
		if err != nil {
			return err
		}
		if n > 0 {
			s.repositories, s.bytes = s.repositories+1, s.bytes+n
		}
	}
	m.stored.Store(&s)
	return nil
}

type stored struct {
	repositories int
	bytes        int64
}

// Repositories returns how many repositories there are and the bytes they take, as of the latest round of maintenance; ok is false
// before the first.
func (m *Manager) Repositories() (n int, bytes int64, ok bool) {
	s := m.stored.Load()
	if s == nil {
		return 0, 0, false
	}
	return s.repositories, s.bytes, true
}

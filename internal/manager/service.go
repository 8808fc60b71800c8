package manager

import (
	"context"
	"time"

	"abaca"
	"abaca/internal/db"
)

// The binaries that services go by, as Manila's are called: one that moves the data of backups, and one for each back end.
const (
	BinaryData  = "manila-data"
	BinaryShare = "manila-share"
)

// serviceLife is how long a worker that has gone is still listed, as down.
const serviceLife = 7 * 24 * time.Hour

// beats is how many signs of life a worker gives in the time after which it counts as down.
const beats = 3

// Register makes this worker known, with the back ends that it reaches, before any request can mean one of them. What its predecessor of
// the same name was doing it may take up at once when it runs, where that is sure to be dead.
func (m *Manager) Register(ctx context.Context) error {
	again := false
	now := m.now()
	err := m.DB.Transact(ctx, func(tx *db.Tx) (err error) {
		again, err = tx.Register(ctx, m.report(), now, now.Add(m.Lease))
		return err
	})
	m.heir = again || !m.DB.Shared()
	return err
}

func (m *Manager) report() db.Report {
	r := db.Report{Worker: m.Host, Role: m.Role, Version: m.Version, Instance: m.Instance}
	for _, name := range m.BackendNames() {
		b := db.Reached{Backend: name, Path: m.Backends[name].Absolute("")}
		if name == m.DefaultBackend {
			r.Backends = append([]db.Reached{b}, r.Backends...)
		} else {
			r.Backends = append(r.Backends, b)
		}
	}
	return r
}

// keepService gives the worker's signs of life until ctx ends, and looks for what only operators can mend.
func (m *Manager) keepService(ctx context.Context) {
	tick := time.NewTicker(m.Lease / beats)
	defer tick.Stop()
	seen := strandings{}
	for {
		if err := m.beatService(ctx); err != nil && ctx.Err() == nil {
			m.Log.ErrorContext(ctx, "giving a sign of life", "error", err)
		}
		m.tellStranded(ctx, seen)
		lost := seen.lost(m.Uptime() - m.Search)
		m.lost.Store(&lost)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (m *Manager) beatService(ctx context.Context) error {
	if err := m.compareClocks(ctx); err != nil {
		return err
	}
	var known, disabled bool
	now := m.now()
	err := m.DB.Transact(ctx, func(tx *db.Tx) (err error) {
		known, disabled, err = tx.BeatService(ctx, m.Host, now, now.Add(m.Lease))
		return err
	})
	if err != nil {
		return err
	}
	if was := m.disabled.Swap(disabled); was != disabled {
		m.Log.InfoContext(ctx, "an operator has switched this worker", "disabled", disabled)
	}
	if !known { // it was down for so long that it was forgotten
		return m.Register(ctx)
	}
	return nil
}

// compareClocks keeps a worker from taking work where its clock is too far from the database's, by which it would seem to others to have
// lost its leases early, or to hold them for ever.
func (m *Manager) compareClocks(ctx context.Context) error {
	began := time.Now()
	at, err := m.DB.Clock(ctx)
	if err != nil {
		return err
	}
	took := time.Since(began)
	apart := at.Sub(began.Add(took/2)).Abs() - took/2
	far := apart > m.Lease/margin/2
	if was := m.astray.Swap(far); far && !was {
		m.Log.ErrorContext(ctx, "this machine's clock is too far from the database's; no work is taken until they agree", "apart", apart)
	} else if was && !far {
		m.Log.InfoContext(ctx, "this machine's clock and the database's agree again")
	}
	return nil
}

// leave has the worker count as down at once. What it was doing, others may do.
func (m *Manager) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
	defer cancel()
	now := m.now()
	err := m.DB.Transact(ctx, func(tx *db.Tx) error {
		_, _, err := tx.BeatService(ctx, m.Host, now, now)
		return err
	})
	if err != nil {
		m.Log.WarnContext(ctx, "others will notice only later that this worker has stopped", "error", err)
	}
}

// farewell is how long a worker that stops tries to say so.
const farewell = 2 * time.Second

// Mind does what there is to do for a process that takes requests and does no work, until ctx ends.
func (m *Manager) Mind(ctx context.Context) error {
	tick := time.NewTicker(m.Lease / beats)
	defer tick.Stop()
	seen := strandings{}
	for {
		m.tellStranded(ctx, seen)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// strandings are the back ends that work is known to wait for in vain, empty for any worker.
type strandings map[string]stranding

// A stranding says whether and since when its back end has been configured nowhere, on the clock of Uptime.
type stranding struct {
	lost  bool
	since time.Duration
}

// lost lists what has been lost since a time at least.
func (s strandings) lost(since time.Duration) (backends []string) {
	for b, v := range s {
		if v.lost && v.since <= since {
			backends = append(backends, b)
		}
	}
	return backends
}

// tellStranded says once of each back end that work waits for it which nobody can do, and once more when somebody can.
func (m *Manager) tellStranded(ctx context.Context, seen strandings) {
	list, err := m.DB.Stranded(ctx, m.now())
	if err != nil {
		if ctx.Err() == nil {
			m.Log.WarnContext(ctx, "looking for work that nobody can do", "error", err)
		}
		return
	}
	now := map[string]bool{}
	for _, s := range list {
		now[s.Backend] = true
		was, known := seen[s.Backend]
		if !known || was.lost != s.Lost {
			seen[s.Backend] = stranding{s.Lost, m.Uptime()}
		}
		switch {
		case known:
		case s.Backend == "":
			m.Log.WarnContext(ctx, "work waits, and no worker is up", "waiting", s.Waiting)
		default:
			m.Log.WarnContext(ctx, "work waits for a back end that no worker which is up reaches", "backend", s.Backend, "waiting", s.Waiting)
		}
	}
	for b := range seen {
		if !now[b] {
			m.Log.InfoContext(ctx, "no work waits any more that nobody can do", "backend", b)
			delete(seen, b)
		}
	}
}

// SwitchService has a worker (of the binary manila-data) take nothing new, or what needs a back end (manila-share) wait, until it is
// switched back. What is under way ends.
func (m *Manager) SwitchService(ctx context.Context, binary, host string, disabled bool, reason *string) error {
	unknown := abaca.Errorf(abaca.NotFound, "Service %s on host %s could not be found.", binary, host)
	kind, name := db.ServiceWorker, host
	if binary == BinaryShare {
		services, err := m.DB.Services(ctx)
		if err != nil {
			return err
		}
		kind, name = db.ServiceBackend, ""
		for _, s := range services {
			if s.Kind == kind && HostOf(s.Name) == host {
				name = s.Name
			}
		}
	} else if binary != BinaryData {
		return unknown
	}
	err := m.DB.Transact(ctx, func(tx *db.Tx) error {
		ok, err := tx.SwitchService(ctx, kind, name, disabled, reason, m.now())
		if err == nil && !ok {
			err = unknown
		}
		return err
	})
	if err == nil {
		m.wake()
	}
	return err
}

package manager

import (
	"context"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"abaca"
	"abaca/internal/db"
)

// HostOf is a back end's host as services have it, in Manila's form host@back end. Several workers may reach a back end, so the host
// part names the service rather than a machine.
func HostOf(backend string) string { return "abaca@" + backend }

// ServiceHost is the host of a back end's shares: with the pool, of which each back end has one.
func ServiceHost(backend string) string { return HostOf(backend) + "#" + backend }

// BackendNames lists the back ends that this process itself reaches in alphabetical order.
func (m *Manager) BackendNames() []string { return slices.Sorted(maps.Keys(m.Backends)) }

// A reach is what workers have reported of the back ends that they reach, or did before they went down. The first is that which they name
// first.
type reach struct {
	list []db.Reached
	at   time.Duration // on the clock of Uptime
}

// root returns the path that a back end's workers have it under.
func (r reach) root(backend string) (path string, ok bool) {
	for _, b := range r.list {
		if b.Backend == backend {
			return b.Path, true
		}
	}
	return "", false
}

// reached asks what is known of back ends.
func (m *Manager) reached(ctx context.Context) (reach, error) {
	now := m.Uptime()
	list, err := m.DB.Reachable(ctx, m.now())
	if err != nil {
		return reach{}, err
	}
	r := reach{list, now}
	m.known.Store(&r)
	return r, nil
}

// exportsFresh is how long export locations go by what was last heard of back ends.
const exportsFresh = time.Second

// ExportPath returns where the share's files are on the export host, empty where no worker has said so.
func (m *Manager) ExportPath(ctx context.Context, s abaca.Share) string {
	var r reach
	if known := m.known.Load(); known != nil {
		r = *known
	}
	root, ok := r.root(s.Backend)
	if !ok || m.Uptime()-r.at > exportsFresh {
		if r, err := m.reached(ctx); err == nil {
			root, ok = r.root(s.Backend)
		}
	}
	if !ok {
		return ""
	}
	return filepath.Join(root, s.Path)
}

// BackendOf finds the back end whose shares have this host.
func (m *Manager) BackendOf(ctx context.Context, host string) (name string, ok bool, err error) {
	r, err := m.reached(ctx)
	for _, b := range r.list {
		if ServiceHost(b.Backend) == host {
			return b.Backend, true, nil
		}
	}
	return "", false, err
}

// ShareAt splits an absolute path into a back end and a path below it; both are nil where it lies in none.
func (m *Manager) ShareAt(ctx context.Context, absolute string) (path, backend *string, err error) {
	r, err := m.reached(ctx)
	for _, b := range r.list {
		if rest, ok := below(absolute, b.Path); ok {
			return &rest, &b.Backend, nil
		}
	}
	return nil, nil, err
}

func below(absolute, root string) (rest string, ok bool) {
	return strings.CutPrefix(filepath.Clean(absolute), root+"/")
}

// backendOf returns the back end that keeps a share's files. Work comes to workers that reach what it needs, so that one which does not
// has been given a share that was moved meanwhile.
func (m *Manager) backendOf(s abaca.Share) (Backend, error) {
	if b, ok := m.Backends[s.Backend]; ok {
		return b, nil
	}
	return nil, &abaca.Reason{Text: "the share's back end is not configured", Err: abaca.ErrPermanent}
}

// mustReach refuses what needs the files of a share that no worker reaches, not even one that is down.
func mustReach(ctx context.Context, tx *db.Tx, s abaca.Share) error {
	is, err := tx.Reached(ctx, s.Backend)
	if err == nil && !is {
		err = abaca.Errorf(abaca.Unavailable, "The files of share %s cannot be reached: its back end is not configured.", s.ID)
	}
	return err
}

// open mounts the share's files, as they are now or, where a snapshot is asked for and the back end has them, as they were at
// this moment.
func (m *Manager) open(ctx context.Context, s abaca.Share, snapshot string) (*abaca.Volume, error) {
	b, err := m.backendOf(s)
	if err != nil {
		return nil, err
	}
	if still, ok := b.(Snapshotter); ok && snapshot != "" {
		return still.Snapshot(ctx, s.Path, snapshot)
	}
	return b.Mount(ctx, s.Path)
}

// answering lists the back ends that this worker reaches and that answer. The work of others waits, or is another worker's, but for that
// which would wait for ever: it is taken up to fail.
func (m *Manager) answering() (names []string) {
	for _, name := range m.BackendNames() {
		if p, ok := m.Backends[name].(Prober); !ok || p.Answers() {
			names = append(names, name)
		}
	}
	if lost := m.lost.Load(); lost != nil {
		names = append(names, *lost...)
	}
	return names
}

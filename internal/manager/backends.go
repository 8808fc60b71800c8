package manager

import (
	"context"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"abaca"
)

// HostOf is a back end's host as services have it, in Manila's form host@back end. Every worker reaches every back end, so
// the host part names the service rather than a machine.
func HostOf(backend string) string { return "abaca@" + backend }

// ServiceHost is the host of a back end's shares: with the pool, of which each back end has one.
func ServiceHost(backend string) string { return HostOf(backend) + "#" + backend }

// BackendNames lists the back ends in alphabetical order.
func (m *Manager) BackendNames() []string { return slices.Sorted(maps.Keys(m.Backends)) }

// BackendOf finds the back end whose shares have this host.
func (m *Manager) BackendOf(host string) (name string, ok bool) {
	for name := range m.Backends {
		if ServiceHost(name) == host {
			return name, true
		}
	}
	return "", false
}

// ExportPath returns where the share's files are on the export host, empty where its back end is not configured.
func (m *Manager) ExportPath(s abaca.Share) string {
	if b, ok := m.Backends[s.Backend]; ok {
		return b.Absolute(s.Path)
	}
	return ""
}

// ShareAt splits an absolute path into a back end and a path below it; both are nil where it lies in none.
func (m *Manager) ShareAt(absolute string) (path, backend *string) {
	for name, b := range m.Backends {
		root := b.Absolute("")
		if rest, ok := strings.CutPrefix(filepath.Clean(absolute), root+"/"); ok {
			return &rest, &name
		}
	}
	return nil, nil
}

// backendOf returns the back end that keeps a share's files.
func (m *Manager) backendOf(s abaca.Share) (Backend, error) {
	if b, ok := m.Backends[s.Backend]; ok {
		return b, nil
	}
	return nil, &abaca.Reason{Text: "the share's back end is not configured", Err: abaca.ErrPermanent}
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

// silentBackends names the back ends that do not answer, whose work waits.
func (m *Manager) silentBackends() (names []string) {
	for name, b := range m.Backends {
		if p, ok := b.(Prober); ok && !p.Answers() {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

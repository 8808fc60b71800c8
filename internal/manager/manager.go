// Package manager changes things: each operation stands in one file, its request half (one transaction, made while
// the client waits) above its work half (the bytes, moved later by a worker). See abaca.Operations for the statuses.
package manager

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"abaca"
	"abaca/internal/db"
)

// An Engine keeps the bytes of backups. Every method may be called again after a crash.
//
// report is called about once a second, from one goroutine at a time. An error that wraps abaca.ErrPermanent is not
// worth another try; one that is an abaca.Reason carries words for the tenant.
type Engine interface {
	// Save keeps the tree below the volume's root. Saving again under the same id resumes, or finds what was saved.
	Save(ctx context.Context, req abaca.SaveRequest, vol *abaca.Volume, report func(abaca.Progress)) (abaca.Ref, abaca.Report, error)
	// Restore makes the tree below the volume's root equal to the saved one.
	Restore(ctx context.Context, project abaca.ProjectID, ref abaca.Ref, vol *abaca.Volume, report func(abaca.Progress)) (abaca.Report, error)
	// Delete lets go of everything saved under an id; nothing saved is no error.
	Delete(ctx context.Context, project abaca.ProjectID, id string) error
	// Verify reads the trees of refs back: all directories and chunk lists, and the contents whose hash lies in the slice. Damage
	// is in the verifications, of which there is one for each ref but those deleted meanwhile; an error is what ended the whole.
	Verify(ctx context.Context, project abaca.ProjectID, refs []abaca.Ref, slice abaca.Slice, report func(abaca.Progress)) (map[abaca.Ref]abaca.Verification, error)
	// Note keeps a record beside what was saved under an id, durably, in the place of an earlier one; Delete removes it.
	Note(ctx context.Context, project abaca.ProjectID, id string, record []byte) error
	// Unnote removes the record of what was deleted; none is no error.
	Unnote(ctx context.Context, project abaca.ProjectID, id string) error
	// Projects lists the projects that have anything saved, whatever the catalogue says.
	Projects(ctx context.Context) ([]abaca.ProjectID, error)
	// Found lists what a project has saved, oldest first, with the records.
	Found(ctx context.Context, project abaca.ProjectID) ([]abaca.Found, error)
	// Stats measures a project's repository, without reading file contents.
	Stats(ctx context.Context, project abaca.ProjectID) (abaca.RepositoryStats, error)
	// Shred destroys a project's key and everything that it has saved.
	Shred(ctx context.Context, project abaca.ProjectID) error
	// Maintain compacts a project's repository and frees the space of what was deleted; it does little when that is not due.
	Maintain(ctx context.Context, project abaca.ProjectID) error
	// Stored returns the bytes that a project's repository takes in its storage; 0 where there is none.
	Stored(ctx context.Context, project abaca.ProjectID) (int64, error)
}

// A Backend reaches the files of shares. Paths are relative to the back end's own and name a share's root directory.
// Every method may be called again after a crash.
type Backend interface {
	// Create makes the root directory of a new share.
	Create(ctx context.Context, path string) error
	// Remove deletes a share's files and its root directory.
	Remove(ctx context.Context, path string) error
	// Mount opens a share's files.
	Mount(ctx context.Context, path string) (*abaca.Volume, error)
	// Locate turns an absolute path into one relative to the back end's own. What does not exist, is no directory,
	// lies elsewhere or is reached through a symbolic link is an Invalid request.
	Locate(ctx context.Context, absolute string) (string, error)
	// Absolute returns where a share's root directory is, for its export location.
	Absolute(path string) string
	// Usage returns the bytes that a share's files take up.
	Usage(ctx context.Context, path string) (int64, error)
}

// A Snapshotter is a Backend that can hold a share still while it is read.
type Snapshotter interface {
	// Snapshot opens the share as it is at this moment. A snapshot of the same name that a crash left behind is replaced.
	Snapshot(ctx context.Context, path, name string) (*abaca.Volume, error)
	// Sweep removes snapshots that a crash left behind and that are not in use.
	Sweep(ctx context.Context, inUse func(name string) (bool, error)) error
}

// A Prober is a Backend on a file server that may stop answering.
type Prober interface {
	// Answers reports at once whether the back end answers, as far as is known.
	Answers() bool
}

// A Config is what a Manager is made of. All of it is needed but Step, Settle, House, VerifyShare, HeavyPerProject, Audit and Watch. One that does
// no work, as Mind does none, needs no Engine and no Backends.
type Config struct {
	DB             *db.DB
	Engine         Engine
	Backends       map[string]Backend
	DefaultBackend string                 // where shares go whose type names no share_backend_name; empty: to the first that workers name
	DefaultType    string                 // the share type of shares that name none
	Protocols      []string               // in which shares may be made, upper case
	DataProtocols  []string               // of which shares may be backed up without backup_options, upper case
	Zone           string                 // the one availability zone
	Limits         map[abaca.Resource]int // default quotas

	Host            string        // this worker's name, unlike any other's
	Instance        string        // of its data directory, unlike that of any other; see Register
	Role, Version   string        // what it says of itself besides
	Heavy           int           // how many backups, restores and snapshots run at a time
	HeavyPerProject int           // how many of those are one project's; 0 for any number
	Light           int           // how many other operations run at a time
	Lease           time.Duration // how long a silent worker keeps its work
	Tries           int           // how often work is tried before it fails
	Backoff         time.Duration // the pause before the second try; it doubles from then on
	Patience        time.Duration // how long another process under the same name may take to vanish from the database, see db.DB.TakeSeat
	Silence         time.Duration // how long work may show no progress before its slot is lent to other work
	Grace           time.Duration // how long work has to stop before it is left behind
	Search          time.Duration // how long work waits for a back end that is configured nowhere before it fails
	Settle          time.Duration // how long a share stays busy with a backup at least, so that clients see it

	House time.Duration // how often it is looked for space to be freed; 0, or more than ten minutes: every ten minutes

	VerifyShare float64 // of each project's saved data, how much is read back a day, as a fraction of 1; 0 for none

	Log   *slog.Logger
	Audit func(abaca.Audit) // called at the end of each operation; nil for no audit
	Watch Watcher           // nil for none
	Now   func() time.Time
	// Uptime is a clock that nobody sets, and that runs while the machine sleeps. Leases are kept by it.
	Uptime func() time.Duration
	Step   func(ctx context.Context, name string) error // called between the steps of work; nil but in tests of crashes
}

// A Manager carries out operations. It is safe for concurrent use.
type Manager struct {
	Config
	Started time.Time
	lanes   [2]*lane
	stored  atomic.Pointer[stored] // nil until it was measured

	heir     bool                     // may take up at once what was leased under its name; see Register
	disabled atomic.Bool              // by an operator
	astray   atomic.Bool              // its clock is, see compareClocks
	known    atomic.Pointer[reach]    // of back ends; nil until it was looked up
	lost     atomic.Pointer[[]string] // back ends that work has waited for which nobody will do; nil where there are none
}

// New makes a Manager; Run makes it work.
func New(c Config) *Manager {
	m := &Manager{Config: c, Started: c.Now()}
	var heavy, light []abaca.Operation
	for _, op := range abaca.Operations {
		if op.Heavy {
			heavy = append(heavy, op)
		} else {
			light = append(light, op)
		}
	}
	m.lanes = [2]*lane{m.newLane(heavy, c.Heavy, c.HeavyPerProject), m.newLane(light, c.Light, 0)}
	return m
}

// now is the time to the microsecond, which is what the database keeps.
func (m *Manager) now() time.Time { return m.Now().UTC().Truncate(time.Microsecond) }

func newID() string { return uuid.NewString() }

// step marks a point between two steps of work, where a crash test may stop it.
func (m *Manager) step(ctx context.Context, name string) error {
	if m.Step == nil {
		return nil
	}
	return m.Step(ctx, name)
}

// wake tells the workers of this process to look for work now rather than within the second.
func (m *Manager) wake() {
	for _, l := range m.lanes {
		select {
		case l.wake <- struct{}{}:
		default: // it is awake already
		}
	}
}

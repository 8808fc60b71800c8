package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/kopia/kopia/repo/blob"
	"github.com/minio/minio-go/v7"

	"abaca"
	"abaca/internal/posix"
)

// Config says where and how an Engine keeps its repositories. Root, MasterKey and Log are needed; zero stands for the
// default of everything else.
type Config struct {
	Root      string  // the directory of all repositories or, with a Bucket, of what this host needs besides; made if missing
	Bucket    *Bucket // where all repositories are instead; nil: in Root
	MasterKey []byte  // 32 bytes that wrap every project's password; without them nothing can be read
	Log       *slog.Logger

	// HoldKeys reads the master keys again, of which the first wraps and all unwrap, and keeps them from being changed until they are
	// released. It is called before anything is wrapped and where MasterKey does not unwrap; nil: MasterKey never changes.
	HoldKeys func() (keys [][]byte, release func(), err error)

	Now func() time.Time // time.Now; ages and schedules follow it, file systems' own times do not

	Dense      bool          // compress with zstd instead of s2: a smaller repository for about twice the processor time
	Open       int           // how many repositories stay open, which costs memory but saves 0.2 s each time; default 16
	Idle       time.Duration // when an unused repository is closed; default 10 minutes
	Checkpoint time.Duration // how often a running Save makes what it has done survive a crash; default 5 minutes, and a fifteenth of FreeWithin at most
	FreeWithin time.Duration // how long after Delete at most space is free that nothing else needs, if Maintain is called 20 times meanwhile; default a day

	Patience time.Duration // how long one operation of the storage may take; default 5 minutes
	Retry    time.Duration // how long is waited before an operation of the storage is tried a second time; default 200 ms

	// Wrap is put around every repository's storage, so that tests can make it fail; nil in production.
	Wrap func(blob.Storage) blob.Storage
}

// An Engine saves trees and restores them. Its methods may be called concurrently, also for one project, and by several
// processes that share a Root.
type Engine struct {
	config Config
	keys   *keyring
	pool   *pool
	client *minio.Client // of the bucket
	leases leases        // of others, in the bucket
	visits visits        // of Maintain

	patience patience
	end      context.CancelCauseFunc // of whatever still waits for the storage

	kernelNow func() time.Time // time.Now: what change times of files are compared with
}

// masterKeyLength is that of an AES-256 key.
const masterKeyLength = 32

// New makes an Engine. It fails if the master key has the wrong length or Root cannot be made.
func New(config Config) (*Engine, error) {
	config.Open = defaultTo(config.Open, 16)
	config.Idle = defaultTo(config.Idle, 10*time.Minute)
	config.FreeWithin = defaultTo(config.FreeWithin, 24*time.Hour)
	config.Checkpoint = min(defaultTo(config.Checkpoint, 5*time.Minute), config.FreeWithin/15)
	if config.Now == nil {
		config.Now = time.Now
	}
	if err := posix.MakeDirs(config.Root, 0o700); err != nil {
		return nil, fmt.Errorf("making the directory of repositories: %w", err)
	}
	keys, err := newKeyring(config.MasterKey)
	if err != nil {
		return nil, err
	}
	keys.hold = config.HoldKeys
	registerWithKopia()
	e := &Engine{config: config, keys: keys, kernelNow: time.Now, leases: leases{seen: map[string]seenLease{}}, visits: newVisits()}
	if config.Bucket != nil {
		if e.client, err = config.Bucket.client(); err != nil {
			return nil, err
		}
	}
	e.patience = patience{limit: defaultTo(config.Patience, 5*time.Minute), first: defaultTo(config.Retry, 200*time.Millisecond)}
	e.patience.life, e.end = context.WithCancelCause(context.Background())
	e.pool = newPool(config.Open, config.Idle, e.openProject, config.Log)
	return e, nil
}

func defaultTo[T int | time.Duration](v, otherwise T) T {
	if v <= 0 {
		return otherwise
	}
	return v
}

// Close waits until nobody uses a repository any more, or ctx ends, and closes them all. The Engine is of no use then: what still waits
// for a storage that hangs is told that it is closing.
func (e *Engine) Close(ctx context.Context) error {
	defer e.end(errClosing)
	defer context.AfterFunc(ctx, func() { e.end(errClosing) })()
	return e.pool.close(ctx)
}

// Delete removes all that was saved under this id, finished or not; nothing saved is no error. Space comes back
// through Maintain, within Config.FreeWithin.
func (e *Engine) Delete(ctx context.Context, project abaca.ProjectID, id string) (err error) {
	defer func() { err = storageReason(err) }()
	ctx, settle := bounded(ctx)
	defer settle(&err)
	r, release, err := e.acquire(ctx, project, mustExist)
	if errors.Is(err, errNoRepository) {
		return nil
	}
	if err != nil {
		return err
	}
	defer release()
	turn, err := r.takeTurn(ctx, id) // a Save that is still ending would bring it back
	if err != nil {
		return err
	}
	defer turn.end()
	if err := e.refresh(ctx, r); err != nil {
		return err
	}
	if err := r.dropCopy(ctx, id); err != nil {
		return err
	}
	if err := r.deleteSnapshots(ctx, id); err != nil {
		return err
	}
	if err := r.dropCopy(ctx, id); err != nil { // who seals copies anew may have brought it back
		return err
	}
	if err := r.annex.remove(ctx, recordName(id)); err != nil {
		return fmt.Errorf("removing the record: %w", err)
	}
	return r.noteDeletion(ctx, id)
}

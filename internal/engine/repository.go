package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/format"
	"golang.org/x/sys/unix"

	"abaca"
)

// Below Root every project has a directory of its own:
//
//	<project>/secret           the repository's password, wrapped with the master key
//	<project>/connection.json  what Kopia calls its configuration file; holds nothing secret and can be lost
//	<project>/lock             locked while the repository is made
//	<project>/repository/      Kopia's blobs, in the layout of its "filesystem" storage
//	<project>/kopia.*.copy     copies of the two blobs without which nothing else can be read
//	<project>/quarantine/      damaged blobs in whose place others were put, if there ever were any
//
// The order of writes is: directory, secret, connection, Kopia's blobcfg blob, Kopia's format blob. The repository
// exists once the last is there; until then nothing has been saved, and the next call goes on where a crash stopped it.
const (
	secretFile     = "secret"
	connectionFile = "connection.json"
	lockFile       = "lock"
	blobDir        = "repository"
)

// errNoRepository says that nothing was ever saved for a project.
var errNoRepository = errors.New("the project has no repository")

// A demand says what acquiring a repository that does not exist means.
type demand bool

const (
	mustExist demand = false
	create    demand = true
)

// A repository is one project's, open.
type repository struct {
	project abaca.ProjectID
	dir     string
	kopia   repo.DirectRepository
	files   *fileStorage
	codec   string // Kopia's name of the compression for file content
	log     *slog.Logger
	now     func() time.Time
	damage  damageNotes
	saving  sync.Map // id → chan struct{}, closed when nobody saves under that id any more
}

// plain are the bytes of a project id that may stand in a directory's name as they are.
const plain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// dirName turns a project id, which comes from outside, into the name of one directory, differently for different ids.
func dirName(project abaca.ProjectID) string {
	var b strings.Builder
	for _, c := range []byte(project) {
		if strings.IndexByte(plain, c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02x", c)
		}
	}
	if b.Len() > 128 {
		sum := sha256.Sum256([]byte(project))
		return "~" + hex.EncodeToString(sum[:])
	}
	return b.String()
}

// openProject opens a project's repository, and makes it where that is asked for. It is called by the pool alone.
func (e *Engine) openProject(ctx context.Context, project abaca.ProjectID, d demand) (*repository, error) {
	if project == "" {
		return nil, fmt.Errorf("a repository without a project: %w", abaca.ErrPermanent)
	}
	r := &repository{
		project: project, dir: filepath.Join(e.config.Root, dirName(project)),
		codec: codecFast, log: e.config.Log.With("project_id", project), now: e.config.Now,
	}
	if e.config.Dense {
		r.codec = codecDense
	}
	if _, err := os.Stat(filepath.Join(r.dir, secretFile)); errors.Is(err, fs.ErrNotExist) && d == mustExist {
		return nil, errNoRepository
	}
	password, err := e.prepare(ctx, r, d)
	if err != nil {
		return nil, err
	}
	if err := e.connect(ctx, r, password); err != nil {
		return nil, fmt.Errorf("opening the repository of project %s: %w", project, err)
	}
	return r, nil
}

// prepare returns the password of a repository whose blobs are ready to be opened.
func (e *Engine) prepare(ctx context.Context, r *repository, d demand) (password string, err error) {
	if d == create {
		if err := makeDir(r.dir); err != nil {
			return "", fmt.Errorf("making the directory of project %s: %w", r.project, err)
		}
	}
	lock, err := lockExclusively(ctx, filepath.Join(r.dir, lockFile))
	if err != nil {
		return "", fmt.Errorf("locking the repository of project %s: %w", r.project, err)
	}
	defer lock.Close()
	password, err = e.password(r, d)
	if err != nil {
		return "", err
	}
	if err := makeDir(filepath.Join(r.dir, blobDir)); err != nil {
		return "", fmt.Errorf("making the repository of project %s: %w", r.project, err)
	}
	r.damage.path = filepath.Join(r.dir, damageFile)
	r.files, err = openFileStorage(ctx, filepath.Join(r.dir, blobDir), e.config.Now)
	if err != nil {
		return "", fmt.Errorf("opening the storage of project %s: %w", r.project, err)
	}
	if err := e.initialize(ctx, r, password, d); err != nil {
		return "", err
	}
	return password, nil
}

// password reads a project's password or, for a project without anything saved, makes one.
func (e *Engine) password(r *repository, d demand) (string, error) {
	path := filepath.Join(r.dir, secretFile)
	wrapped, err := os.ReadFile(path)
	if err == nil {
		password, err := e.keys.unwrap(r.project, wrapped)
		if err != nil {
			return "", fmt.Errorf("reading %s of project %s: %w (%w)", secretFile, r.project, err, abaca.ErrPermanent)
		}
		return password, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("reading the key of project %s: %w", r.project, err)
	}
	if d == mustExist {
		return "", errNoRepository
	}
	blobs, err := os.ReadDir(filepath.Join(r.dir, blobDir))
	if err == nil && len(blobs) > 0 {
		return "", fmt.Errorf("project %s has a repository, but its key is gone: %w", r.project, abaca.ErrPermanent)
	}
	password := newPassword()
	if err := writeDurably(path, e.keys.wrap(r.project, password)); err != nil {
		return "", fmt.Errorf("writing the key of project %s: %w", r.project, err)
	}
	return password, nil
}

// initialize writes Kopia's format blob where it is missing, unless other blobs say that there was one.
func (e *Engine) initialize(ctx context.Context, r *repository, password string, d demand) error {
	st := e.wrap(r.files)
	_, err := st.GetMetadata(ctx, format.KopiaRepositoryBlobID)
	if err == nil {
		return nil
	}
	if !errors.Is(err, blob.ErrBlobNotFound) {
		return fmt.Errorf("looking for the repository of project %s: %w", r.project, err)
	}
	if _, _, err := e.mendFormat(ctx, r, st, password); !errors.Is(err, errNoCopy) {
		return err
	}
	if d == mustExist {
		return errNoRepository
	}
	err = st.ListBlobs(ctx, "", func(m blob.Metadata) error {
		if m.BlobID != format.KopiaBlobCfgBlobID {
			return fmt.Errorf("the repository of project %s lost its format blob: %w", r.project, abaca.ErrPermanent)
		}
		return nil
	})
	if err != nil {
		return err
	}
	// A crash after the first of Kopia's two blobs left this one, and Kopia would take it for damage.
	if err := st.DeleteBlob(ctx, format.KopiaBlobCfgBlobID); err != nil {
		return fmt.Errorf("removing what is left of an unfinished repository: %w", err)
	}
	options := &repo.NewRepositoryOptions{
		FormatBlockKeyDerivationAlgorithm: keyDerivation,
		BlockFormat:                       format.ContentFormat{Hash: "BLAKE3-256-128", Encryption: "AES256-GCM-HMAC-SHA256"},
		ObjectFormat:                      format.ObjectFormat{Splitter: wholeChunks},
	}
	if err := repo.Initialize(ctx, st, options, password); err != nil {
		return fmt.Errorf("making the repository of project %s: %w", r.project, err)
	}
	return nil
}

func (e *Engine) wrap(st blob.Storage) blob.Storage {
	if e.config.Wrap == nil {
		return st
	}
	return e.config.Wrap(st)
}

// connect opens the repository, and mends what keeps it from being opened if that can be done. Kopia reads its connection
// from a file, so one is written; the caches stay off, because the content cache costs several times what it saves on
// local storage.
func (e *Engine) connect(ctx context.Context, r *repository, password string) error {
	st := e.wrap(r.files)
	info := st.ConnectionInfo()
	raw, err := json.Marshal(repo.LocalConfig{
		Storage: &info,
		ClientOptions: repo.ClientOptions{
			Hostname: kopiaHost, Username: kopiaUser, Description: "abaca",
		},
	})
	if err != nil {
		return err
	}
	if err := writeDurably(filepath.Join(r.dir, connectionFile), raw); err != nil {
		return err
	}
	r.kopia, err = e.open(ctx, r, st, password)
	if err != nil && ctx.Err() == nil {
		mended, merr := e.mend(ctx, r, password)
		if mended && merr == nil {
			r.kopia, err = e.open(ctx, r, st, password)
		} else {
			err = errors.Join(err, merr)
		}
	}
	if errors.Is(err, repo.ErrInvalidPassword) {
		return fmt.Errorf("%w (%w)", err, abaca.ErrPermanent)
	}
	if err != nil {
		return err
	}
	if err := r.copyFormat(ctx, st); err != nil {
		r.log.ErrorContext(ctx, "the repository's format has no copy", "error", err)
	}
	return nil
}

// open opens the repository that is in a storage.
func (e *Engine) open(ctx context.Context, r *repository, st blob.Storage, password string) (repo.DirectRepository, error) {
	// What Kopia keeps from this context must outlive the operation that happens to open the repository first.
	ctx = withStorage(context.WithoutCancel(ctx), st)
	opened, err := repo.Open(ctx, filepath.Join(r.dir, connectionFile), password, &repo.Options{
		TimeNowFunc:          e.config.Now,
		DisableRepositoryLog: true,
		DoNotWaitForUpgrade:  true,
		OnFatalError: func(err error) { // whoever uses it then
			r.log.ErrorContext(context.Background(), "repository failed", "error", err)
		},
	})
	if err != nil {
		return nil, err
	}
	direct, ok := opened.(repo.DirectRepository)
	if !ok {
		return nil, errors.Join(errors.New("not a direct repository"), opened.Close(ctx))
	}
	return direct, nil
}

func (r *repository) close(ctx context.Context) error { return r.kopia.Close(ctx) }

// lockExclusively waits for the lock on a file, which ends when the file is closed or the process dies.
func lockExclusively(ctx context.Context, path string) (*os.File, error) {
	for {
		f, err := tryLock(path)
		if f != nil || err != nil {
			return f, err
		}
		// flock cannot be interrupted by a context, and making a repository takes well under a second.
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// tryLock takes the lock on a file; nil means that another has it.
func tryLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return f, nil
	}
	f.Close()
	if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, unix.EINTR) {
		return nil, nil
	}
	return nil, err
}

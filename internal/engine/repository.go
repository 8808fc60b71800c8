package engine

import (
	"context"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/format"

	"abaca"
)

// Every project has a place of its own, a directory below Root or what begins with its name in a bucket:
//
//	<project>/secret           the repository's password, wrapped with the master key
//	<project>/project          the project's id, where the directory's name does not tell it
//	<project>/repository/      Kopia's blobs; in a directory in the layout of its "filesystem" storage
//	<project>/kopia.*.copy     copies of the two blobs without which nothing else can be read
//	<project>/records/         what the catalogue says of each snapshot
//	<project>/deleted/         ids of what was deleted, while its space is not free yet
//	<project>/collected        which collection was the latest
//	<project>/quarantine/      damaged blobs in whose place others were put, if there ever were any
//
// and below Root, wherever its repository is:
//
//	<project>/connection.json  what Kopia calls its configuration file; holds nothing secret and can be lost
//
// The order of writes is: secret, Kopia's blobcfg blob, Kopia's format blob. The repository exists once the last is there; until
// then nothing has been saved, and the next call goes on where a crash stopped it. Several processes may make it at one time: one
// of them makes the secret, and from that all derive the same repository.
const (
	secretFile     = "secret"
	projectFile    = "project"
	connectionFile = "connection.json"
	blobDir        = "repository"
)

// errNoRepository says that nothing was ever saved for a project.
var errNoRepository = errors.New("the project has no repository")

// missingRepository puts into words that there is no repository of a project that has saved something: perhaps a file system is not mounted.
func missingRepository(err error) error {
	if errors.Is(err, errNoRepository) {
		return &abaca.Reason{Text: "the storage of backups does not have what the project has saved", Err: err}
	}
	return err
}

// A demand says what acquiring a repository that does not exist means.
type demand bool

const (
	mustExist demand = false
	create    demand = true
)

// A repository is one project's, open.
type repository struct {
	project  abaca.ProjectID
	dir      string // on this host
	annex    steadyAnnex
	password string
	seal     cipher.AEAD // of what lies beside the blobs and tells of the tenant's files
	storage  *steadyStorage
	sweep    func(context.Context) error // removes what unfinished writes have left, where that can be seen
	kopia    *quietRepository
	codec    string // Kopia's name of the compression for file content
	log      *slog.Logger
	now      func() time.Time
	damage   damageNotes
	saving   sync.Map     // id → *turn
	ahead    atomic.Int64 // nanoseconds; see tell
}

// tell is the clock that the index, its blobs and collections go by. It is ahead of the host's where a collection's was: what is written after it
// is younger than the marks that it forgot, and counts instead of them, whatever the clocks of two hosts say, or that of one is set to.
func (r *repository) tell() time.Time { return r.now().Add(time.Duration(r.ahead.Load())) }

// catchUp makes the clock tell nothing before a time.
func (r *repository) catchUp(with time.Time) {
	for {
		ahead := r.ahead.Load()
		behind := with.Sub(r.now().Add(time.Duration(ahead)))
		if behind <= 0 || r.ahead.CompareAndSwap(ahead, ahead+int64(behind)) {
			return
		}
	}
}

// hashedName begins the name of a directory which does not tell the project's id, because that is too long.
const hashedName = "~"

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
		return hashedName + hex.EncodeToString(sum[:])
	}
	return b.String()
}

// openProject opens a project's repository, and makes it where that is asked for. It is called by the pool alone.
func (e *Engine) openProject(ctx context.Context, project abaca.ProjectID, d demand) (*repository, error) {
	if project == "" {
		return nil, fmt.Errorf("a repository without a project: %w", abaca.ErrPermanent)
	}
	r := &repository{
		project: project, dir: filepath.Join(e.config.Root, dirName(project)), annex: e.annexOf(project),
		codec: codecFast, log: e.config.Log.With("project_id", project), now: e.config.Now,
	}
	if e.config.Dense {
		r.codec = codecDense
	}
	r.damage.annex = r.annex
	password, err := e.prepare(ctx, r, d)
	if err != nil {
		return nil, err
	}
	r.password = password
	if r.seal, err = notesCipher(password); err != nil {
		return nil, fmt.Errorf("deriving the keys of project %s: %w", project, err)
	}
	if err := e.connect(ctx, r, password); err != nil {
		return nil, fmt.Errorf("opening the repository of project %s: %w", project, err)
	}
	return r, nil
}

// prepare returns the password of a repository whose blobs are ready to be opened.
func (e *Engine) prepare(ctx context.Context, r *repository, d demand) (password string, err error) {
	if d == mustExist {
		if password, err = e.password(ctx, r); err != nil {
			return "", err
		}
	}
	if d == create {
		if err := e.clearShredded(ctx, r.project); err != nil {
			return "", err
		}
	}
	if err := e.openStorage(ctx, r); err != nil {
		return "", markStorage(fmt.Errorf("opening the storage of project %s: %w", r.project, err))
	}
	if d == create {
		if password, err = e.makePassword(ctx, r); err != nil {
			return "", err
		}
	}
	return password, e.initialize(ctx, r, password, d)
}

// annexOf returns what lies beside a project's repository.
func (e *Engine) annexOf(project abaca.ProjectID) steadyAnnex { return e.annexAt(dirName(project)) }

// annexAt returns the annex of the place with a name.
func (e *Engine) annexAt(name string) steadyAnnex {
	if e.config.Bucket == nil {
		return steadyAnnex{dirAnnex{filepath.Join(e.config.Root, name)}, e.patience}
	}
	return steadyAnnex{bucketAnnex{e.client, e.config.Bucket.Name, e.config.Bucket.Prefix + name + "/", &e.leases}, e.patience}
}

// openStorage opens the storage of a repository's blobs.
func (e *Engine) openStorage(ctx context.Context, r *repository) error {
	st, err := result(ctx, e.patience, func(ctx context.Context) (blob.Storage, error) {
		if err := makeDir(r.dir); err != nil {
			return nil, err
		}
		if e.config.Bucket != nil {
			return e.config.Bucket.open(ctx, dirName(r.project)+"/"+blobDir+"/")
		}
		if err := makeDir(filepath.Join(r.dir, blobDir)); err != nil {
			return nil, err
		}
		return openFileStorage(ctx, filepath.Join(r.dir, blobDir), e.config.Now, r.tell)
	})
	if err != nil {
		return err
	}
	r.sweep = func(context.Context) error { return nil }
	if files, ok := st.(*fileStorage); ok {
		r.sweep = files.removeLeftovers
	}
	if e.config.Wrap != nil {
		st = e.config.Wrap(st)
	}
	if e.config.Bucket != nil {
		st = newBlockStorage(st)
	}
	r.storage = newSteadyStorage(st, e.patience)
	return nil
}

// password reads a project's password; without one there is no repository.
func (e *Engine) password(ctx context.Context, r *repository) (string, error) {
	wrapped, err := r.annex.read(ctx, secretFile)
	if errors.Is(err, fs.ErrNotExist) {
		return "", errNoRepository
	}
	if err != nil {
		return "", markStorage(fmt.Errorf("reading the key of project %s: %w", r.project, err))
	}
	password, err := e.keys.unwrap(r.project, wrapped)
	if err != nil {
		return "", fmt.Errorf("reading %s of project %s: %w (%w)", secretFile, r.project, err, abaca.ErrPermanent)
	}
	return password, nil
}

// makePassword reads a project's password or, for a project without anything saved, makes one.
func (e *Engine) makePassword(ctx context.Context, r *repository) (string, error) {
	password, err := e.password(ctx, r)
	if !errors.Is(err, errNoRepository) {
		return password, err
	}
	blobs, err := listBlobs(ctx, r.storage, "")
	if err != nil {
		return "", fmt.Errorf("looking for the repository of project %s: %w", r.project, err)
	}
	if len(blobs) > 0 { // which others may have written meanwhile, after the key
		password, err := e.password(ctx, r)
		if errors.Is(err, errNoRepository) {
			err = fmt.Errorf("project %s has a repository, but its key is gone: %w", r.project, abaca.ErrPermanent)
		}
		return password, err
	}
	if strings.HasPrefix(dirName(r.project), hashedName) {
		if err := r.annex.put(ctx, projectFile, []byte(r.project)); err != nil {
			return "", markStorage(fmt.Errorf("writing the name of project %s: %w", r.project, err))
		}
	}
	release, err := e.keys.renew()
	if err != nil {
		return "", err
	}
	defer release()
	err = r.annex.create(ctx, secretFile, e.keys.wrap(r.project, newPassword()))
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return "", markStorage(fmt.Errorf("writing the key of project %s: %w", r.project, err))
	}
	return e.awaitPassword(ctx, r) // whoever has made it
}

// keyWait is how long another process may take to make the key that this one was not let make.
const keyWait = 5 * time.Second

// awaitPassword reads a password that another process may just be making: some servers refuse a write already while another one is under way.
func (e *Engine) awaitPassword(ctx context.Context, r *repository) (string, error) {
	tick := time.NewTicker(keyWait / 100)
	defer tick.Stop()
	for began := time.Now(); ; {
		password, err := e.password(ctx, r)
		if !errors.Is(err, errNoRepository) || time.Since(began) > keyWait {
			return password, err
		}
		select {
		case <-ctx.Done():
			return "", context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// initialize writes Kopia's format blob where it is missing, unless other blobs say that there was one.
func (e *Engine) initialize(ctx context.Context, r *repository, password string, d demand) error {
	there, err := r.hasFormat(ctx)
	if there || err != nil {
		return err
	}
	if _, _, err := e.mendFormat(ctx, r, password); !errors.Is(err, errNoCopy) {
		return err
	}
	if d == mustExist {
		return errNoRepository
	}
	others := false
	err = r.storage.ListBlobs(ctx, "", func(m blob.Metadata) error {
		others = others || m.BlobID != format.KopiaBlobCfgBlobID
		return nil
	})
	if err != nil {
		return err
	}
	if others {
		if there, err = r.hasFormat(ctx); !there && err == nil { // by now
			err = fmt.Errorf("the repository of project %s lost its format blob: %w", r.project, abaca.ErrPermanent)
		}
		return err
	}
	options := &repo.NewRepositoryOptions{
		FormatBlockKeyDerivationAlgorithm: keyDerivation,
		BlockFormat:                       format.ContentFormat{Hash: "BLAKE3-256-128", Encryption: "AES256-GCM-HMAC-SHA256"},
		ObjectFormat:                      format.ObjectFormat{Splitter: wholeChunks},
	}
	for purpose, value := range map[string]*[]byte{
		"id": &options.UniqueID, "names": &options.BlockFormat.HMACSecret, "contents": &options.BlockFormat.MasterKey,
	} {
		if *value, err = derive(password, purpose); err != nil {
			return fmt.Errorf("deriving the keys of a repository: %w", err)
		}
	}
	if err := repo.Initialize(ctx, blankStorage{r.storage}, options, password); err != nil && !errors.Is(err, repo.ErrAlreadyInitialized) {
		return fmt.Errorf("making the repository of project %s: %w", r.project, err)
	}
	return nil
}

// hasFormat reports whether the blob is there with which a repository exists.
func (r *repository) hasFormat(ctx context.Context) (bool, error) {
	_, err := r.storage.GetMetadata(ctx, format.KopiaRepositoryBlobID)
	if errors.Is(err, blob.ErrBlobNotFound) {
		return false, nil
	}
	return err == nil, wrap("looking for the repository's format", err)
}

// A blankStorage hides what a crash, or another process, has left after the first of Kopia's two blobs, since Kopia would take it for damage.
type blankStorage struct{ blob.Storage }

// GetBlob reads any other blob.
func (s blankStorage) GetBlob(ctx context.Context, id blob.ID, offset, length int64, out blob.OutputBuffer) error {
	if id == format.KopiaBlobCfgBlobID {
		return blob.ErrBlobNotFound
	}
	return s.Storage.GetBlob(ctx, id, offset, length, out)
}

// connect opens the repository, and mends what keeps it from being opened if that can be done. Kopia reads its connection
// from a file, so one is written; the caches stay off, because the content cache costs several times what it saves on
// local storage.
func (e *Engine) connect(ctx context.Context, r *repository, password string) error {
	info := r.storage.ConnectionInfo()
	raw, err := json.Marshal(repo.LocalConfig{
		Storage: &info,
		ClientOptions: repo.ClientOptions{
			Hostname: kopiaHost, Username: kopiaUser, Description: "abaca",
		},
	})
	if err != nil {
		return err
	}
	err = e.patience.run(ctx, func(context.Context) error { return writeDurably(filepath.Join(r.dir, connectionFile), raw) })
	if err != nil {
		return err
	}
	r.kopia, err = e.open(ctx, r, r.storage, password)
	if err != nil && ctx.Err() == nil && !errors.Is(err, errStorage) {
		mended, merr := e.mend(ctx, r, password)
		if mended && merr == nil {
			r.kopia, err = e.open(ctx, r, r.storage, password)
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
	if err := r.copyFormat(ctx); err != nil {
		r.log.ErrorContext(ctx, "the repository's format has no copy", "error", err)
	}
	return nil
}

// open opens the repository that is in a storage.
func (e *Engine) open(ctx context.Context, r *repository, st blob.Storage, password string) (*quietRepository, error) {
	// What Kopia keeps from this context must outlive the operation that happens to open the repository first, but not its opening; and
	// the right of that operation is not that of those which come later.
	kept, end := context.WithCancel(withStorage(abaca.WithGuard(context.WithoutCancel(ctx), nil), st))
	opening := context.AfterFunc(ctx, end)
	opened, err := repo.Open(kept, filepath.Join(r.dir, connectionFile), password, &repo.Options{
		TimeNowFunc:          r.tell,
		DisableRepositoryLog: true,
		DoNotWaitForUpgrade:  true,
		OnFatalError: func(err error) { // whoever uses it then
			r.log.ErrorContext(context.Background(), "repository failed", "error", err)
		},
	})
	if err != nil {
		end()
		return nil, err
	}
	var quiet *quietRepository
	direct, ok := opened.(repo.DirectRepository)
	switch {
	case !ok:
		err = errors.New("not a direct repository")
	case !opening():
		err = context.Cause(ctx)
	default:
		quiet, err = quietly(kept, direct)
	}
	if err != nil {
		end()
		return nil, errors.Join(err, opened.Close(context.WithoutCancel(ctx)))
	}
	quiet.end = end
	return quiet, nil
}

func (r *repository) close(ctx context.Context) error { return r.kopia.Close(ctx) }

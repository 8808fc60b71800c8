package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"time"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/blob"
	"github.com/minio/minio-go/v7"
	"golang.org/x/sys/unix"

	"abaca"
)

// A patience says how long is waited for a storage, and how often it is asked again.
type patience struct {
	life  context.Context // of the engine; nothing is waited for when it ends
	limit time.Duration   // of one attempt
	first time.Duration   // the wait after the first attempt, which grows fourfold each time
}

// tries is how often an operation of a storage is attempted, beyond what Kopia does below: ten times in a bucket, and for most errors of a
// file system.
const tries = 4

// lastBreath is how long an operation whose context has ended may take to end by itself, before it is left behind.
const lastBreath = time.Second

// errHanging says that a storage did not answer in time.
var errHanging = errors.New("the storage does not answer")

// run attempts an operation until it succeeds, or fails in a way that will not pass, or was tried often enough. It returns soon after ctx
// or the engine has ended, even if the operation, a system call that hangs, knows nothing of contexts. So an attempt may go
// on when run has returned: what it reads from and writes to must be its own.
func (p patience) run(ctx context.Context, attempt func(context.Context) error) error {
	wait, began := p.first, time.Now()
	for n := 1; ; n++ {
		err := p.once(ctx, attempt)
		if err == nil || n == tries || time.Since(began) > p.limit/4 || ctx.Err() != nil || p.life.Err() != nil || !passing(err) {
			return err
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
		case <-p.life.Done():
		}
		timer.Stop()
		wait *= 4
	}
}

func (p patience) once(ctx context.Context, attempt func(context.Context) error) error {
	if err := context.Cause(p.life); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, p.limit, errHanging)
	defer cancel()
	ctx, end := context.WithCancelCause(ctx)
	defer context.AfterFunc(p.life, func() { end(context.Cause(p.life)) })()
	done := make(chan error, 1)
	go func() { done <- attempt(ctx) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		if err == nil {
			return nil
		}
	case <-time.After(lastBreath):
	}
	return context.Cause(ctx)
}

// Kopia lists the index again for ever when a listing fails (internal/epoch), until its context ends. So every operation of the engine has a
// context that ends with the storage's error once a listing has failed for good.
type giveUpKey struct{}

// bounded returns such a context; settle puts the error with which it ended in the place of Kopia's.
func bounded(parent context.Context) (ctx context.Context, settle func(*error)) {
	ctx, end := context.WithCancelCause(parent)
	return context.WithValue(ctx, giveUpKey{}, end), func(err *error) {
		if *err != nil && ctx.Err() != nil && parent.Err() == nil {
			*err = context.Cause(ctx)
		}
		end(nil)
	}
}

// giveUp ends the operation that a context belongs to.
func giveUp(ctx context.Context, err error) {
	if end, ok := ctx.Value(giveUpKey{}).(context.CancelCauseFunc); ok {
		end(err)
	}
}

// result is run for what has a result. An attempt that was left behind cannot touch it any more.
func result[T any](ctx context.Context, p patience, attempt func(context.Context) (T, error)) (T, error) {
	results := make(chan T, tries)
	err := p.run(ctx, func(ctx context.Context) error {
		v, err := attempt(ctx)
		if err == nil {
			results <- v
		}
		return err
	})
	if err != nil {
		var none T
		return none, err
	}
	return <-results, nil
}

// lasting are errors that will be the same when the same is tried again at once.
var lasting = []error{
	blob.ErrBlobNotFound, blob.ErrInvalidRange, blob.ErrInvalidCredentials, blob.ErrSetTimeUnsupported, blob.ErrUnsupportedPutBlobOption,
	blob.ErrBlobAlreadyExists, repo.ErrRepositoryUnavailableDueToUpgradeInProgress, fs.ErrNotExist, fs.ErrExist, fs.ErrPermission,
	unix.ENOSPC, unix.EDQUOT, unix.EROFS, unix.EIO, context.Canceled, errExcluded,
}

// refused is the error of a guard: what was to be done is not this process's to do any more.
type refused struct{ error }

func (r refused) Unwrap() error { return r.error }

// passing reports whether an operation that has failed may succeed soon.
func passing(err error) bool {
	if _, final := errors.AsType[refused](err); final {
		return false
	}
	for _, l := range lasting {
		if errors.Is(err, l) {
			return false
		}
	}
	status := answerOf(err).StatusCode
	return status < 400 || status >= 500 && status != http.StatusInsufficientStorage ||
		status == http.StatusTooManyRequests || status == http.StatusRequestTimeout
}

// answerOf is what a bucket has answered, if it was that.
func answerOf(err error) minio.ErrorResponse {
	answer, _ := errors.AsType[minio.ErrorResponse](err)
	return answer
}

// storageReason tells a tenant in words why data could not be stored, where that is the storage's fault.
func storageReason(err error) error {
	answer := answerOf(err)
	text := ""
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT), answer.StatusCode == http.StatusInsufficientStorage,
		answer.Code == "QuotaExceeded", answer.Code == "XMinioStorageFull":
		text = "the storage of backups is full"
	case errors.Is(err, errStorageDenied), errors.Is(err, blob.ErrInvalidCredentials),
		answer.StatusCode == http.StatusForbidden, answer.StatusCode == http.StatusUnauthorized:
		text = "the storage of backups refuses access"
	case errors.Is(err, errHanging):
		text = "the storage of backups does not answer"
	case errors.Is(err, errForgetful):
		text = "the storage of backups lost what it was given"
	case errors.Is(err, errStorage):
		text = "the storage of backups fails"
	default:
		return err
	}
	if isReason(err) {
		return err
	}
	return &abaca.Reason{Text: text, Err: err}
}

// errStorage marks errors of a storage, which are nobody's fault but its own, and errStorageDenied those of them that are about permissions.
var (
	errStorage       = errors.New("storage")
	errStorageDenied = errors.New("storage denied")
)

// markStorage marks an error as a storage's, without words of its own: it says nothing of what is stored, unlike those of blobs that are not
// there, or too short, or on a medium that is damaged.
func markStorage(err error) error {
	if _, ours := errors.AsType[refused](err); ours {
		return err
	}
	for _, other := range []error{context.Canceled, errClosing, blob.ErrBlobNotFound, blob.ErrInvalidRange, unix.EIO, errStorage} {
		if errors.Is(err, other) {
			return err
		}
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.EROFS):
		return storageError{err, errStorageDenied}
	}
	return storageError{err, nil}
}

// A storageError is what a storage said.
type storageError struct {
	err, kind error
}

func (e storageError) Error() string { return e.err.Error() }

func (e storageError) Unwrap() []error {
	if e.kind == nil {
		return []error{e.err, errStorage}
	}
	return []error{e.err, e.kind, errStorage}
}

// errTorn says that a blob is not what was just put, and errForgetful that blobs are gone which the storage had acknowledged.
var (
	errTorn      = fmt.Errorf("a blob was not stored as it was put")
	errForgetful = errors.New("blobs are gone that were stored")
)

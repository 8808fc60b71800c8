package engine

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"time"

	"github.com/minio/minio-go/v7"

	"abaca"
)

const (
	// admission is how long a start waits for the place of all repositories.
	admission = 10 * time.Second
	// sample is how many projects' keys are tried before a master key is another's: single ones may have been damaged, or be left of a key
	// that was lost.
	sample = 16
)

// Admit looks whether there is any use in working with this configuration, before tenants' work fails by it. The error is
// abaca.ErrPermanent where the place of all repositories refuses this process, or nothing there has been made with its master key; any other
// means that the place cannot be asked now.
func (e *Engine) Admit(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, admission, errHanging)
	defer cancel()
	names, err := result(ctx, e.patience, e.placeNames)
	if err != nil {
		return e.refusal(err)
	}
	tried := 0
	for _, name := range names {
		project, err := e.projectAt(ctx, name)
		if err != nil {
			continue // nobody's place, or one that says not whose it is
		}
		wrapped, err := e.annexAt(name).read(ctx, secretFile)
		if errors.Is(err, fs.ErrNotExist) {
			continue // shredded since
		}
		if err != nil {
			return e.refusal(err)
		}
		if len(wrapped) == 0 || wrapped[0] != wrapVersion {
			continue // damaged, whatever the key
		}
		if _, err = e.keys.unwrap(project, wrapped); err == nil {
			return nil
		}
		if tried++; tried == sample {
			break
		}
	}
	if tried > 0 {
		err := fmt.Errorf("what is in %s was made with another master key than this process has, or the keys there are damaged", e.place())
		return storageError{err, abaca.ErrPermanent}
	}
	return nil
}

// place names where all repositories are.
func (e *Engine) place() string {
	if e.config.Bucket != nil {
		return e.config.Bucket.String() + " at " + e.config.Bucket.Endpoint
	}
	return e.config.Root
}

// refusal says in an operator's words why the place of all repositories is of no use.
func (e *Engine) refusal(err error) error {
	answer, why := answerOf(err), ""
	_, unverified := errors.AsType[*tls.CertificateVerificationError](err)
	switch {
	case unverified:
		why = "its certificate cannot be verified"
	case errors.Is(err, http.ErrSchemeMismatch):
		why = "it does not speak TLS"
	case answer.Code == minio.NoSuchBucket:
		why = "there is no such bucket"
	case answer.Code == minio.RequestTimeTooSkewed:
		why = "this machine's clock is wrong"
	case answer.Code == "AuthorizationHeaderMalformed", answer.StatusCode == http.StatusMovedPermanently:
		why = "it is in another region"
	case answer.StatusCode == http.StatusForbidden, answer.StatusCode == http.StatusUnauthorized, answer.Code == minio.InvalidAccessKeyID:
		why = "the credentials are refused"
	case errors.Is(err, fs.ErrPermission):
		why = "this process may not read it"
	case answer.StatusCode >= http.StatusBadRequest && !passing(err):
		why = "it refuses"
	default:
		return markStorage(fmt.Errorf("reaching %s: %w", e.place(), err))
	}
	return storageError{fmt.Errorf("%s cannot be used, since %s: %w", e.place(), why, err), abaca.ErrPermanent}
}

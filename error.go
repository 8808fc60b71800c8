package abaca

import (
	"errors"
	"fmt"
)

// A Fault classes an error by what the caller can do about it. Package api turns each into Manila's status and key.
type Fault int

// The classes of faults.
const (
	Internal      Fault = iota // nobody's fault but ours; the text stays in the log
	Invalid                    // the request is wrong (400)
	Unauthorized               // no or unusable credentials (401)
	Forbidden                  // not allowed to this caller or in this state (403)
	NotFound                   // no such thing for this caller (404)
	Unacceptable               // unsupported microversion (406)
	Conflict                   // busy or already there (409)
	OverLimit                  // over quota (413)
	Unprocessable              // the body has the wrong shape (422)
	Unavailable                // what the answer depends on does not answer; the client may ask again in a while (503)
)

// A RequestError is an error whose text is meant for the client.
type RequestError struct {
	Fault   Fault
	Message string
}

func (e *RequestError) Error() string { return e.Message }

// Errorf makes a RequestError.
func Errorf(fault Fault, format string, args ...any) error {
	return &RequestError{Fault: fault, Message: fmt.Sprintf(format, args...)}
}

// FaultOf returns the class of err: Internal for any error that is not, and does not wrap, a RequestError.
func FaultOf(err error) Fault {
	if e, ok := errors.AsType[*RequestError](err); ok {
		return e.Fault
	}
	return Internal
}

// ErrPermanent marks a failure of work that trying again cannot mend, such as saved data that is gone.
var ErrPermanent = errors.New("trying again cannot help")

// A Reason is a failure of work whose text may be shown to the tenant: it names no path outside the share,
// no host and no secret. The wrapped error is for the log and for administrators.
type Reason struct {
	Text string
	Err  error
}

func (r *Reason) Error() string { return r.Text + ": " + r.Err.Error() }
func (r *Reason) Unwrap() error { return r.Err }

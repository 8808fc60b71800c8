package api

import (
	"errors"
	"net/http"
	"runtime/debug"

	"abaca"
)

// A faultForm is how a class of faults looks on the wire.
type faultForm struct {
	status int
	key    string
}

var faultForms = map[abaca.Fault]faultForm{
	abaca.Internal:      {http.StatusInternalServerError, "computeFault"},
	abaca.Invalid:       {http.StatusBadRequest, "badRequest"},
	abaca.Unauthorized:  {http.StatusUnauthorized, "unauthorized"},
	abaca.Forbidden:     {http.StatusForbidden, "forbidden"},
	abaca.NotFound:      {http.StatusNotFound, "itemNotFound"},
	abaca.Unacceptable:  {http.StatusNotAcceptable, "computeFault"},
	abaca.Conflict:      {http.StatusConflict, "conflictingRequest"},
	abaca.OverLimit:     {http.StatusRequestEntityTooLarge, "overLimit"},
	abaca.Unprocessable: {http.StatusUnprocessableEntity, "computeFault"},
	abaca.Unavailable:   {http.StatusServiceUnavailable, "serviceUnavailable"},
}

// pause is how long a client is asked to wait before it tries again what was unavailable, in seconds.
const pause = "5"

// fault writes an error in Manila's shape. What is nobody's fault but ours, or our
// surroundings', goes to the log, and only its request id to the client.
func (q *request) fault(w http.ResponseWriter, err error) int {
	if _, worded := errors.AsType[*abaca.RequestError](err); !worded && q.Context().Err() != nil {
		// Either the client is gone or the time for an answer is up.
		err = abaca.Errorf(abaca.Unavailable, "The request could not be answered in time.")
	}
	form := faultForms[abaca.FaultOf(err)]
	detail := object{"code": form.status, "message": failed}
	if e, ok := errors.AsType[*abaca.RequestError](err); ok {
		detail["message"] = e.Message
	}
	// That callers cannot be told apart is logged by who tells them apart, once: strangers could have the log fill the disk.
	told := form.status == http.StatusServiceUnavailable && q.caller.User == ""
	if form.status >= http.StatusInternalServerError && !told && q.Context().Err() == nil {
		q.Log.ErrorContext(q.Context(), "answering a request", "method", q.Method, "path", q.URL.Path, "error", err)
	}
	switch form.status {
	case http.StatusRequestEntityTooLarge:
		detail["retryAfter"] = "0"
		w.Header().Set("Retry-After", "0")
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", pause)
	}
	writeJSON(w, form.status, object{form.key: detail})
	return form.status
}

// mistaken is deferred. It logs that a handler has panicked, which net/http would do where few look, and answers where nothing has been
// answered yet.
func (s *Server) mistaken(w *watched, r *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	s.Log.ErrorContext(r.Context(), "answering a request panicked", "method", r.Method, "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
	if w.told.Status != 0 {
		panic(http.ErrAbortHandler) // so that the client does not take half an answer for a whole one
	}
	status := http.StatusInternalServerError
	writeJSON(w, status, object{faultForms[abaca.Internal].key: object{"code": status, "message": failed}})
}

// failed is what a client is told of what is not its own fault.
const failed = "The server failed to answer the request."

// absent is the answer to what this version of the API, or this caller, does not have.
func absent(*request) (int, any, error) {
	return 0, nil, abaca.Errorf(abaca.NotFound, "The resource could not be found.")
}

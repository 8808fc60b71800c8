package abaca

import (
	"log/slog"
	"time"
)

// An Audit says who did, or had done, what to whose. It holds no secret, no body and no name that a tenant chose.
type Audit struct {
	Event    string    // AuditRequest or AuditEnd
	Caller   Caller    // of an end, who asked for the operation, without roles
	Remote   string    // the address that a request came from; empty for an end
	Action   string    // the policy's rule for a request, the operation's name for an end
	Resource string    // what sort of thing it is about: the Kinds, share_type, quota_set, quota_class_set, message
	ID       string    // of the thing; empty where none came about, or where what was given is no id
	Owner    ProjectID // whose it is; empty where it does not exist
	Share    ShareID   // the share that a request names beside the thing, to read or to write
	Status   int       // the answer's HTTP status; 0 for an end
	Outcome  string    // one of the Outcomes
	Began    time.Time // when the request came or the claim was made; zero where neither was
	Ended    time.Time
}

// What an Audit tells of: a call that was answered, or an operation that has come to its end.
const (
	AuditRequest = "request"
	AuditEnd     = "end"
)

// Outcomes of requests are the first three, those of operations the others.
const (
	OutcomeAccepted = "accepted" // status below 400
	OutcomeRefused  = "refused"  // status below 500
	OutcomeBroken   = "broken"   // the server's own failure
	OutcomeDone     = "done"
	OutcomeFailed   = "failed"
	OutcomeReset    = "reset" // stopped by an administrator
)

// Attrs are the fields of the line; their names are fixed. What is empty is left out.
func (a Audit) Attrs() []slog.Attr {
	attrs := []slog.Attr{slog.Time("time", a.Ended.UTC()), slog.String("event", a.Event), slog.String("action", a.Action), slog.String("outcome", a.Outcome)}
	for _, f := range []struct{ key, value string }{
		{"request_id", a.Caller.Request}, {"user_id", a.Caller.User}, {"project_id", string(a.Caller.Project)}, {"remote_addr", a.Remote},
		{"resource_type", a.Resource}, {"resource_id", a.ID}, {"owner_project_id", string(a.Owner)}, {"share_id", string(a.Share)},
	} {
		if f.value != "" {
			attrs = append(attrs, slog.String(f.key, f.value))
		}
	}
	if len(a.Caller.Roles) > 0 {
		attrs = append(attrs, slog.Any("roles", a.Caller.Roles))
	}
	if a.Status != 0 {
		attrs = append(attrs, slog.Int("status", a.Status))
	}
	if !a.Began.IsZero() {
		attrs = append(attrs, slog.Float64("seconds", a.Ended.Sub(a.Began).Seconds()))
	}
	return attrs
}

package api

import (
	"net"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/google/uuid"

	"abaca"
)

// resources are the sorts of things that the first word of a path names.
var resources = map[string]string{
	"share-backups": string(abaca.KindBackup), "shares": string(abaca.KindShare), "snapshots": string(abaca.KindSnapshot), "types": "share_type",
	"quota-sets": "quota_set", "quota-class-sets": "quota_class_set", "messages": "message",
}

// audited answers a call that may change something and, whatever comes of it, tells of it: calls with credentials, on routes
// that there are. What the client chose freely is kept out; ids have the form of ids.
func (q *request) audited(w http.ResponseWriter, rs routes) {
	began := time.Now()
	q.audit = abaca.Audit{
		Event: abaca.AuditRequest, Caller: q.caller, Action: "unknown", Remote: q.RemoteAddr, Status: http.StatusInternalServerError, Began: began,
	}
	if host, _, err := net.SplitHostPort(q.RemoteAddr); err == nil {
		q.audit.Remote = host
	}
	if len(rs) == 1 {
		q.audit.Action = rs[0].rule
	}
	first, _, _ := strings.Cut(strings.TrimPrefix(rs[0].path, "/"), "/")
	q.audit.Resource = resources[first]
	q.findOwner()
	defer func() { // also of a handler that panics
		q.audit.Outcome, q.audit.Ended = outcome(q.audit.Status), time.Now()
		if q.Audit != nil {
			q.Audit(q.audit)
		}
	}()
	q.audit.Status = q.reply(w, rs.serve)
}

func outcome(status int) string {
	switch {
	case status < http.StatusBadRequest:
		return abaca.OutcomeAccepted
	case status < http.StatusInternalServerError:
		return abaca.OutcomeRefused
	}
	return abaca.OutcomeBroken
}

// projectName is what an identity service could call a project.
var projectName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// findOwner notes which thing the path names, and whose it is, before it may be gone.
func (q *request) findOwner() {
	a := &q.audit
	switch {
	case a.Resource == "quota_set" && projectName.MatchString(q.pathValue("project")):
		a.ID, a.Owner = q.pathValue("project"), q.project()
		return
	case a.Resource == "quota_class_set" && q.pathValue("class") == defaultClass:
		a.ID = defaultClass
		return
	case uuid.Validate(q.pathValue("id")) != nil:
		return
	}
	a.ID = q.pathValue("id")
	a.Owner, _ = q.DB.Owner(q.Context(), a.Resource, a.ID) // an error is left aside: what cannot be read has no owner to name
}

// made notes what has come about.
func (q *request) made(id string, owner abaca.ProjectID) { q.audit.ID, q.audit.Owner = id, owner }

// names notes the share that the body names.
func (q *request) names(share abaca.ShareID) {
	if uuid.Validate(string(share)) == nil {
		q.audit.Share = share
	}
}

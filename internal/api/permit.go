package api

import (
	"abaca"
	"abaca/internal/auth"
)

// may reports whether the caller may do what the rule names to things of their own.
func (q *request) may(rule string) bool {
	return q.allows(rule, q.caller.Project, q.caller.User)
}

func (q *request) allows(rule string, project abaca.ProjectID, user string) bool {
	return q.policy.Allows(rule, q.caller, auth.Owner{Project: project, User: user})
}

// permit refuses what the route's rule does not allow to be done to a thing of this owner. The caller must be able to see the thing:
// of others' the answer is that they are not there.
func (q *request) permit(project abaca.ProjectID, user string) error {
	if !q.allows(q.rule, project, user) {
		return forbidden(q.rule)
	}
	return nil
}

func forbidden(rule string) error {
	return abaca.Errorf(abaca.Forbidden, "The policy %s does not allow this to be done.", rule)
}

// backup returns the backup that is asked for, which the caller must be able to see and be allowed the route's rule of.
func (q *request) backup() (abaca.Backup, error) {
	b, err := q.DB.Backup(q.Context(), q.backupID(), q.caller.Scope())
	if err == nil {
		err = q.permit(b.Project, b.User)
	}
	return b, err
}

// visibleShare returns a share of the caller's project, or another's public one; any other is the fault unknown.
func (q *request) visibleShare(id abaca.ShareID, unknown abaca.Fault) (abaca.Share, error) {
	s, err := q.DB.VisibleShare(q.Context(), id, q.caller.Scope())
	if abaca.FaultOf(err) == abaca.NotFound {
		err = abaca.Errorf(unknown, "Share %s could not be found.", id)
	}
	return s, err
}

// share returns the share that is asked for, which the caller must be able to see. Who may look at it is decided by its owner unless it
// is public, as upstream.
func (q *request) share() (abaca.Share, error) {
	s, err := q.visibleShare(q.shareID(), abaca.NotFound)
	if err == nil && !s.Public {
		err = q.permit(s.Project, s.User)
	}
	return s, err
}

// writableShare returns the share that is asked for, which the caller must be able to see and be allowed the route's rule of. That they
// own it is looked at by the manager as well.
func (q *request) writableShare() (abaca.Share, error) {
	s, err := q.visibleShare(q.shareID(), abaca.NotFound)
	if err == nil {
		err = q.permit(s.Project, s.User)
	}
	return s, err
}

// permitShare refuses what the route's rule does not allow to be done to a share that the caller can see. Of any other the manager says
// that it is not there, in its turn.
func (q *request) permitShare(id abaca.ShareID) error {
	s, err := q.DB.VisibleShare(q.Context(), id, q.caller.Scope())
	switch {
	case err == nil:
		return q.permit(s.Project, s.User)
	case abaca.FaultOf(err) == abaca.NotFound:
		return nil
	}
	return err
}

// snapshot returns the snapshot that is asked for, which the caller must be able to see and be allowed the route's rule of.
func (q *request) snapshot() (abaca.Snapshot, error) {
	s, err := q.DB.Snapshot(q.Context(), q.snapshotID(), q.caller.Scope())
	if err == nil {
		err = q.permit(s.Project, s.User)
	}
	return s, err
}

// permitSnapshot refuses a snapshot to make a share from that the caller can see and may not show. Of any other the manager says that
// it is not there, in its turn.
func (q *request) permitSnapshot(id abaca.SnapshotID) error {
	const rule = "share_snapshot:get_snapshot"
	if id == "" {
		return nil
	}
	s, err := q.DB.Snapshot(q.Context(), id, q.caller.Scope())
	if err == nil && !q.allows(rule, s.Project, s.User) {
		return forbidden(rule)
	}
	if err != nil && abaca.FaultOf(err) != abaca.NotFound {
		return err
	}
	return nil
}

// message returns the message that is asked for, which the caller must be able to see and be allowed the route's rule of. It is the
// project's, and no user's.
func (q *request) message() (abaca.Message, error) {
	m, err := q.DB.Message(q.Context(), q.pathValue("id"), q.caller.Scope())
	if err == nil {
		err = q.permit(m.Project, "")
	}
	return m, err
}

// permitQuota refuses quotas that are not the caller's own project's, whatever the policy says, unless the caller is an administrator.
func (q *request) permitQuota() error {
	if !q.caller.Admin && q.project() != q.caller.Project {
		return abaca.Errorf(abaca.Forbidden, "Another project's quota is the administrators'.")
	}
	return q.permit(q.project(), "")
}

// shareType returns the share type that is asked for. A private one exists for administrators alone.
func (q *request) shareType() (abaca.ShareType, error) {
	return q.DB.VisibleShareType(q.Context(), q.typeID(), !q.caller.Admin)
}

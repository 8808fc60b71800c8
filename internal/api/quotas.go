package api

import (
	"math"
	"net/http"

	"abaca"
	"abaca/internal/db"
)

// uncounted are the resources that upstream has quotas of and this service has none of, with upstream's defaults.
var uncounted = []struct {
	name  string
	since microversion
	limit int
}{
	{"share_networks", 0, 10}, {"share_groups", 40, 50}, {"share_group_snapshots", 40, 50},
	{"share_replicas", 53, 100}, {"replica_gigabytes", 53, 1000}, {"per_share_gigabytes", 62, abaca.Unlimited}, {"encryption_keys", 90, 100},
}

// counted are the resources with quotas of their own, each since a version.
var counted = map[abaca.Resource]microversion{
	abaca.Shares: 0, abaca.Gigabytes: 0, abaca.Snapshots: 0, abaca.SnapshotGigabytes: 0, abaca.Backups: 80, abaca.BackupGigabytes: 80,
}

// quotaSet writes each resource's usage with view.
func (q *request) quotaSet(usages map[abaca.Resource]db.Usage, view func(db.Usage) any) object {
	v := object{}
	for r, since := range counted {
		if q.version >= since {
			v[string(r)] = view(usages[r])
		}
	}
	for _, u := range uncounted {
		if q.version >= u.since {
			v[u.name] = view(db.Usage{Limit: u.limit})
		}
	}
	return v
}

func limitOnly(u db.Usage) any { return u.Limit }

func (q *request) project() abaca.ProjectID { return abaca.ProjectID(q.pathValue("project")) }

// quota answers for a project.
func (q *request) quota(usages func() (map[abaca.Resource]db.Usage, error), view func(db.Usage) any) (int, any, error) {
	if err := q.permitQuota(); err != nil {
		return 0, nil, err
	}
	if _, err := q.quotaPart(); err != nil {
		return 0, nil, err
	}
	u, err := usages()
	if err != nil {
		return 0, nil, err
	}
	v := q.quotaSet(u, view)
	v["id"] = q.project()
	return http.StatusOK, object{"quota_set": v}, nil
}

// quotaPart reads which part of a project's quota is meant: a user's or a share type's. There is only the whole, which is
// what bounds each of its parts.
func (q *request) quotaPart() (part string, err error) {
	user, _ := q.query("user_id")
	shareType, _ := q.query("share_type")
	switch {
	case user != "" && shareType != "":
		return "", abaca.Errorf(abaca.Invalid, "user_id and share_type exclude each other.")
	case shareType != "" && q.version < 39:
		return "", abaca.Errorf(abaca.Invalid, "Quotas of share types are known from version 2.39 on.")
	case shareType != "":
		return "share type", q.knownType(shareType)
	case user != "":
		return "user", nil
	}
	return "", nil
}

// knownType fails where the caller knows no share type by this id or name.
func (q *request) knownType(name string) error {
	_, err := q.DB.VisibleShareType(q.Context(), abaca.ShareTypeID(name), !q.caller.Admin)
	if abaca.FaultOf(err) == abaca.NotFound {
		_, err = q.DB.ShareTypeNamed(q.Context(), name, !q.caller.Admin)
	}
	return err
}

// wholeQuota refuses to change a part of a project's quota: the whole would be changed instead.
func (q *request) wholeQuota() error {
	part, err := q.quotaPart()
	if err == nil && part != "" {
		err = abaca.Errorf(abaca.Invalid, "There are quotas of projects, and none of a %s.", part)
	}
	return err
}

func (q *request) usages() (map[abaca.Resource]db.Usage, error) {
	return q.Manager.Usages(q.Context(), q.project())
}

func (q *request) defaults() (map[abaca.Resource]db.Usage, error) {
	u := map[abaca.Resource]db.Usage{}
	limits, err := q.Manager.Defaults(q.Context())
	for r, limit := range limits {
		u[r] = db.Usage{Limit: limit}
	}
	return u, err
}

func showQuota(q *request) (int, any, error)    { return q.quota(q.usages, limitOnly) }
func defaultQuota(q *request) (int, any, error) { return q.quota(q.defaults, limitOnly) }

func detailQuota(q *request) (int, any, error) {
	return q.quota(q.usages, func(u db.Usage) any { return object{"limit": u.Limit, "in_use": u.InUse, "reserved": 0} })
}

// limits reads the limits to be set, below key in the body, and whether those below what is in use are meant too.
func (q *request) limits(key string) (limits map[abaca.Resource]int, force bool, err error) {
	body, _, err := q.decode()
	if err != nil {
		return nil, false, err
	}
	outer, _ := body.(object)
	o, ok := outer[key].(object)
	if !ok {
		// Upstream finds no quota to set in a wrong wrapper, where other resources answer that it cannot be processed.
		return nil, false, abaca.Errorf(abaca.Invalid, "The request's body needs an object %q.", key)
	}
	limits = map[abaca.Resource]int{}
	for name, value := range o {
		switch since, known := counted[abaca.Resource(name)]; {
		case name == "tenant_id" || name == "project_id" || name == "id" || name == "class_name":
		case name == "force":
			if force, known = truth(value); !known {
				return nil, false, abaca.Errorf(abaca.Invalid, "force must be a boolean.")
			}
		case known && q.version >= since:
			n, ok := integer(value, abaca.Unlimited)
			if !ok {
				return nil, false, abaca.Errorf(abaca.Invalid, "The limit of %s must be an integer from -1 to %d.", name, math.MaxInt32)
			}
			limits[abaca.Resource(name)] = n
		default:
			return nil, false, abaca.Errorf(abaca.Invalid, "There is no quota of %.40q to set.", name)
		}
	}
	if len(limits) == 0 {
		return nil, false, abaca.Errorf(abaca.Invalid, "The request names no quota to set.")
	}
	return limits, force, nil
}

func updateQuota(q *request) (int, any, error) {
	if !projectName.MatchString(q.pathValue("project")) {
		return 0, nil, abaca.Errorf(abaca.Invalid, "The quota's project is not named as projects are.")
	}
	if err := q.wholeQuota(); err != nil {
		return 0, nil, err
	}
	limits, force, err := q.limits("quota_set")
	if err != nil {
		return 0, nil, err
	}
	if err := q.permitQuota(); err != nil {
		return 0, nil, err
	}
	if err := q.Manager.SetLimits(q.Context(), q.project(), limits, force); err != nil {
		return 0, nil, err
	}
	u, err := q.usages()
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, object{"quota_set": q.quotaSet(u, limitOnly)}, nil
}

// deleteQuota gives a project the default limits again. Unlike upstream it leaves the counters of what is in use alone: they are true.
func deleteQuota(q *request) (int, any, error) {
	if err := q.permitQuota(); err != nil {
		return 0, nil, err
	}
	if err := q.wholeQuota(); err != nil {
		return 0, nil, err
	}
	return http.StatusAccepted, nil, q.Manager.ResetLimits(q.Context(), q.project())
}

// defaultClass is the one quota class there is: of the projects that have no limits of their own.
const defaultClass = "default"

func (q *request) quotaClass() error {
	if class := q.pathValue("class"); class != defaultClass {
		return abaca.Errorf(abaca.NotFound, "Quota class %.40s could not be found.", class)
	}
	return nil
}

func showQuotaClass(q *request) (int, any, error) {
	if err := q.quotaClass(); err != nil {
		return 0, nil, err
	}
	u, err := q.defaults()
	if err != nil {
		return 0, nil, err
	}
	v := q.quotaSet(u, limitOnly)
	v["id"] = defaultClass
	return http.StatusOK, object{"quota_class_set": v}, nil
}

func updateQuotaClass(q *request) (int, any, error) {
	if err := q.quotaClass(); err != nil {
		return 0, nil, err
	}
	limits, _, err := q.limits("quota_class_set")
	if err != nil {
		return 0, nil, err
	}
	if err := q.Manager.SetDefaults(q.Context(), limits); err != nil {
		return 0, nil, err
	}
	u, err := q.defaults()
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, object{"quota_class_set": q.quotaSet(u, limitOnly)}, nil
}

func showLimits(q *request) (int, any, error) {
	u, err := q.Manager.Usages(q.Context(), q.caller.Project)
	if err != nil {
		return 0, nil, err
	}
	v := object{}
	for _, l := range []struct {
		since      microversion
		max, total string
		usage      db.Usage
	}{
		{0, "maxTotalShares", "totalSharesUsed", u[abaca.Shares]},
		{0, "maxTotalShareGigabytes", "totalShareGigabytesUsed", u[abaca.Gigabytes]},
		{0, "maxTotalShareSnapshots", "totalShareSnapshotsUsed", u[abaca.Snapshots]},
		{0, "maxTotalSnapshotGigabytes", "totalSnapshotGigabytesUsed", u[abaca.SnapshotGigabytes]},
		{0, "maxTotalShareNetworks", "totalShareNetworksUsed", db.Usage{Limit: 10}},
		{40, "maxTotalShareGroups", "totalShareGroupsUsed", db.Usage{Limit: 50}},
		{40, "maxTotalShareGroupSnapshots", "totalShareGroupSnapshotsUsed", db.Usage{Limit: 50}},
		{53, "maxTotalShareReplicas", "totalShareReplicasUsed", db.Usage{Limit: 100}},
		{53, "maxTotalReplicaGigabytes", "totalReplicaGigabytesUsed", db.Usage{Limit: 1000}},
		{80, "maxTotalShareBackups", "totalShareBackupsUsed", u[abaca.Backups]},
		{80, "maxTotalBackupGigabytes", "totalBackupGigabytesUsed", u[abaca.BackupGigabytes]},
	} {
		if q.version >= l.since {
			v[l.max], v[l.total] = l.usage.Limit, l.usage.InUse
		}
	}
	return http.StatusOK, object{"limits": object{"rate": []object{}, "absolute": v}}, nil
}

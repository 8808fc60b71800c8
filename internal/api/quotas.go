package api

import (
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
	u, err := usages()
	if err != nil {
		return 0, nil, err
	}
	v := q.quotaSet(u, view)
	v["id"] = q.project()
	return http.StatusOK, object{"quota_set": v}, nil
}

func (q *request) usages() (map[abaca.Resource]db.Usage, error) {
	return q.Manager.Usages(q.Context(), q.project())
}

func (q *request) defaults() (map[abaca.Resource]db.Usage, error) {
	u := map[abaca.Resource]db.Usage{}
	for r, limit := range q.Manager.Limits {
		u[r] = db.Usage{Limit: limit}
	}
	return u, nil
}

func showQuota(q *request) (int, any, error)    { return q.quota(q.usages, limitOnly) }
func defaultQuota(q *request) (int, any, error) { return q.quota(q.defaults, limitOnly) }

func detailQuota(q *request) (int, any, error) {
	return q.quota(q.usages, func(u db.Usage) any { return object{"limit": u.Limit, "in_use": u.InUse, "reserved": 0} })
}

func showQuotaClass(q *request) (int, any, error) {
	u, err := q.defaults()
	if err != nil {
		return 0, nil, err
	}
	v := q.quotaSet(u, limitOnly)
	v["id"] = q.pathValue("class")
	return http.StatusOK, object{"quota_class_set": v}, nil
}

func updateQuota(q *request) (int, any, error) {
	o, err := q.wrapped("quota_set")
	if err != nil {
		return 0, nil, err
	}
	limits := map[abaca.Resource]int{}
	force := false
	for key, value := range o {
		switch since, known := counted[abaca.Resource(key)]; {
		case key == "tenant_id" || key == "project_id":
		case key == "force":
			if force, known = truth(value); !known {
				return 0, nil, abaca.Errorf(abaca.Invalid, "force must be a boolean.")
			}
		case known && q.version >= since:
			n, ok := integer(value, abaca.Unlimited)
			if !ok {
				return 0, nil, abaca.Errorf(abaca.Invalid, "The limit of %s must be an integer of -1 or more.", key)
			}
			limits[abaca.Resource(key)] = n
		default:
			return 0, nil, abaca.Errorf(abaca.Invalid, "There is no quota of %q to set.", key)
		}
	}
	if len(limits) == 0 {
		return 0, nil, abaca.Errorf(abaca.Invalid, "The request names no quota to set.")
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

func deleteQuota(q *request) (int, any, error) {
	if err := q.permitQuota(); err != nil {
		return 0, nil, err
	}
	return http.StatusAccepted, nil, q.Manager.ResetLimits(q.Context(), q.project())
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

package abaca

// A Resource is something a project has a quota of, spelled as in quota sets.
type Resource string

// The resources that are counted. Sizes are in GiB.
const (
	Shares            Resource = "shares"
	Gigabytes         Resource = "gigabytes"
	Snapshots         Resource = "snapshots"
	SnapshotGigabytes Resource = "snapshot_gigabytes"
	Backups           Resource = "backups"
	BackupGigabytes   Resource = "backup_gigabytes"
)

// Unlimited is the limit that is none.
const Unlimited = -1

// DefaultLimits are Manila's default quotas for a project.
var DefaultLimits = map[Resource]int{
	Shares: 50, Gigabytes: 1000, Snapshots: 50, SnapshotGigabytes: 1000, Backups: 10, BackupGigabytes: 1000,
}

// A Charge is how much of each resource an operation uses up; negative where it gives back.
type Charge map[Resource]int

// Negative returns the charge that undoes c.
func (c Charge) Negative() Charge {
	n := make(Charge, len(c))
	for r, v := range c {
		n[r] = -v
	}
	return n
}

// Cost of one more of each, in the project that owns the share.
func ShareCost(size int) Charge    { return Charge{Shares: 1, Gigabytes: size} }
func SnapshotCost(size int) Charge { return Charge{Snapshots: 1, SnapshotGigabytes: size} }
func BackupCost(size int) Charge   { return Charge{Backups: 1, BackupGigabytes: size} }

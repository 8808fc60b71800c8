package abaca

import "time"

// Ids are lower-case dashed UUIDs, except a ProjectID, which is whatever the identity service uses.
type (
	BackupID    string
	ShareID     string
	SnapshotID  string
	ShareTypeID string
	ProjectID   string
)

// Topics are what a backup says of the service that does its work: in Manila the generic data service or, for a backup
// asked for with options, the storage driver's own. Here one engine does both; clients still tell them apart.
const (
	TopicData  = "manila-data"
	TopicShare = "manila-share"
)

// A Backup is a share backup.
type Backup struct {
	ID              BackupID
	Project         ProjectID // the share's project, which pays for it
	User            string    // who asked for it
	Share           ShareID
	Size            int     // GiB: the share's size when the backup was asked for
	Name            *string // nil where the tenant gave none
	Description     *string
	Type            *string // the tenant's backup_options.backup_type
	Zone            string
	WithOptions     bool    // whether the tenant gave backup_options
	Host            *string // where the work is done; nil until a worker has taken it
	Topic           *string // TopicData or, with options, TopicShare; nil until a worker has taken it
	Status          Status
	Progress        int // percent
	RestoreProgress int // percent, of the latest restore
	CreatedAt       time.Time
	UpdatedAt       time.Time // zero until the first change

	Ref    Ref     // the engine's name for the data; empty until the backup is available
	Target ShareID // the share that the restore in progress, or the latest one, writes to
	Reason string  // why the latest work failed, for administrators
}

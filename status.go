package abaca

import "slices"

// A Status is the state of a share, a share backup or a share snapshot, spelled as on the wire.
type Status string

// The statuses that abaca itself writes. An administrator's reset_status may write those of ResetStatuses too.
const (
	Available            Status = "available"
	Creating             Status = "creating"
	Deleting             Status = "deleting"
	Error                Status = "error"
	ErrorDeleting        Status = "error_deleting"
	Restoring            Status = "restoring"
	BackupCreating       Status = "backup_creating"
	BackupRestoring      Status = "backup_restoring"
	BackupRestoringError Status = "backup_restoring_error"
	Inactive             Status = "inactive"
	ManageStarting       Status = "manage_starting"
	ManageError          Status = "manage_error"

	// None stands for "no such row": before a creation and after a deletion.
	None Status = ""
)

// A Move is how one operation takes one resource from rest, through work, back to rest.
type Move struct {
	From   []Status // where it may start; None where the row is made by the operation
	During Status   // while the work is unfinished
	Done   Status   // after success; None where the row goes
	Failed Status   // after the last failed attempt
}

// Allows reports whether a resource in status s may start the move.
func (m Move) Allows(s Status) bool { return slices.Contains(m.From, s) }

// An Operation is one kind of work: what it does to its subject (the row that carries the lease)
// and, for backups, to the share whose files are read or written.
type Operation struct {
	Name    string
	Kind    Kind
	Subject Move
	Share   Move // zero where the share's status is left alone
	Heavy   bool // reads or writes a whole tree, so it may take hours
}

// A Kind is a sort of resource that can be the subject of work.
type Kind string

// The kinds of resources that operations work on.
const (
	KindBackup   Kind = "share_backup"
	KindShare    Kind = "share"
	KindSnapshot Kind = "share_snapshot"
)

// The state machine. Requests, conditional updates, recovery and ARCHITECTURE.md all follow this table.
//
// A share's own status is what makes operations on one share exclusive; there is no other lock.
var (
	CreateBackup = Operation{
		Name: "create_backup", Kind: KindBackup, Heavy: true,
		Subject: Move{From: []Status{None}, During: Creating, Done: Available, Failed: Error},
		Share:   Move{From: []Status{Available}, During: BackupCreating, Done: Available, Failed: Available},
	}
	// RestoreBackup may start from BackupRestoringError, so that an owner can try again without an administrator.
	RestoreBackup = Operation{
		Name: "restore_backup", Kind: KindBackup, Heavy: true,
		Subject: Move{From: []Status{Available}, During: Restoring, Done: Available, Failed: Available},
		Share:   Move{From: []Status{Available, BackupRestoringError}, During: BackupRestoring, Done: Available, Failed: BackupRestoringError},
	}
	// DeleteBackup fails into Error rather than ErrorDeleting: clients that wait know the former, and both may be deleted again.
	DeleteBackup = Operation{
		Name: "delete_backup", Kind: KindBackup,
		Subject: Move{From: []Status{Available, Error, ErrorDeleting}, During: Deleting, Done: None, Failed: Error},
	}
	CreateShare = Operation{
		Name: "create_share", Kind: KindShare,
		Subject: Move{From: []Status{None}, During: Creating, Done: Available, Failed: Error},
	}
	// ManageShare adopts a directory that is there already and finds out how much it holds.
	ManageShare = Operation{
		Name: "manage_share", Kind: KindShare,
		Subject: Move{From: []Status{None}, During: ManageStarting, Done: Available, Failed: ManageError},
	}
	DeleteShare = Operation{
		Name: "delete_share", Kind: KindShare,
		Subject: Move{From: []Status{Available, Error, Inactive, ErrorDeleting}, During: Deleting, Done: None, Failed: ErrorDeleting},
	}
	CreateSnapshot = Operation{
		Name: "create_snapshot", Kind: KindSnapshot, Heavy: true,
		Subject: Move{From: []Status{None}, During: Creating, Done: Available, Failed: Error},
	}
	DeleteSnapshot = Operation{
		Name: "delete_snapshot", Kind: KindSnapshot,
		Subject: Move{From: []Status{Available, Error, ErrorDeleting}, During: Deleting, Done: None, Failed: ErrorDeleting},
	}
)

// Operations lists every operation, in the order in which waiting work is looked for.
var Operations = []Operation{
	CreateShare, ManageShare, DeleteShare, DeleteBackup, DeleteSnapshot, RestoreBackup, CreateBackup, CreateSnapshot,
}

// OperationOf returns the operation that a resource of this kind is in the middle of; ok is false at rest.
func OperationOf(kind Kind, status Status) (op Operation, ok bool) {
	i := slices.IndexFunc(Operations, func(op Operation) bool {
		return op.Kind == kind && op.Subject.During == status
	})
	if i < 0 {
		return Operation{}, false
	}
	return Operations[i], true
}

// ResetStatuses are the statuses an administrator may write with reset_status on a share or a backup.
// Manila's own list lacks "restoring" although its reference documents it for backups; it is accepted here.
var ResetStatuses = []Status{
	Available, Creating, Deleting, Error, ErrorDeleting, Restoring,
	"migrating", "migrating_to", "server_migrating",
}

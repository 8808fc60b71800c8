package abaca

import "time"

// A Share is a directory tree on a back end.
type Share struct {
	ID           ShareID
	Project      ProjectID
	User         string
	Type         ShareTypeID
	Size         int // GiB; what the tenant asked for
	Name         *string
	Description  *string
	Proto        string // upper case: NFS, CIFS, …
	Public       bool
	Metadata     map[string]string
	Zone         string
	Backend      string     // the name of the back end that keeps its files
	Path         string     // the root directory, relative to the back end's own path
	Snapshot     SnapshotID // the snapshot whose files it was made with; empty for none
	SourceBackup BackupID   // the backup last restored into it; empty for none
	Status       Status
	Reason       string // why the latest work on it failed, for administrators
	CreatedAt    time.Time
	UpdatedAt    time.Time
}

// A ShareType is a named kind of share with its extra specs.
type ShareType struct {
	ID          ShareTypeID
	Name        string
	Description *string
	Public      bool
	Specs       map[string]string // as Manila stores them: booleans are "True" and "False"
	CreatedAt   time.Time
}

// A Snapshot is a point in time of a share, kept by the engine like a backup but tied to its share.
type Snapshot struct {
	ID          SnapshotID
	Project     ProjectID
	User        string
	Share       ShareID
	ShareSize   int // GiB, when it was taken
	Proto       string
	Name        *string
	Description *string
	Metadata    map[string]string
	Status      Status
	Reason      string // why the latest work on it failed, for administrators
	Ref         Ref
	CreatedAt   time.Time
	UpdatedAt   time.Time
}

// A Message tells a tenant why something that was asked for did not come about.
type Message struct {
	ID           string
	Project      ProjectID
	ResourceType string // SHARE or SHARE_SNAPSHOT, the words that clients filter on
	ResourceID   string
	RequestID    string
	Action       string // three digits, as in Manila's table of message actions
	Detail       string // three digits, as in Manila's table of message details
	Text         string
	CreatedAt    time.Time
	ExpiresAt    time.Time
}

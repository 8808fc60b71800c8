package abaca

import "time"

// A Saved is a tree that the engine keeps whole: a backup's or a share snapshot's.
type Saved struct {
	Kind    Kind   // KindBackup or KindSnapshot
	ID      string // the backup's or snapshot's
	Project ProjectID
	Share   ShareID
	Name    *string // nil where the tenant gave none
	Ref     Ref
}

// A Verified is the record of one reading back of a saved tree.
type Verified struct {
	Saved
	Slice        Slice // what part of the contents was read back; the tree's structure is read whole each time
	Began, Ended time.Time
	Verification
}

package abaca

// RepositoryStats tell how large a project's repository is. Sizes are bytes.
type RepositoryStats struct {
	Project     ProjectID
	Trees       int   // backups and snapshots that can be restored
	Logical     int64 // what they would take up on their own: the content of all their files
	Contents    int64 // pieces that they consist of, each counted once, with those of directories
	Unique      int64 // what these pieces hold, uncompressed
	Stored      int64 // what the storage holds: compressed, with indexes, and with what waits to be collected
	Packs       int64 // blobs that contents lie in
	Reclaimable int64 // of Stored, what nothing refers to that is finished; a save that is under way may still need some of it
}

// Package abaca holds the words of a share-backup server: what the other packages talk about.
//
// Above the engine the words are those of OpenStack's Shared File Systems service (Manila):
//
//   - A share is a directory tree that a project keeps on a back end; its host says which back end.
//   - A share backup is a point-in-time, read-only copy of a share's data.
//   - A backup type is the free word a tenant gives in backup_options; it is kept and shown, never interpreted.
//   - The topic names the service that does a backup's work, in the words of a Manila deployment.
//   - reset_status is an administrator writing a status by hand; it starts no work and stops none.
//   - A microversion ("2.91") selects a revision of the REST API; only package api knows about them.
//
// Below it they are those of backup programs: a repository holds one project's saved data, a snapshot in
// a repository is one saved tree, a chunk is a piece of a file, maintenance gives space back.
//
// The package depends on the standard library alone and does no input or output.
package abaca

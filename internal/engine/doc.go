// Package engine keeps the bytes of backups in encrypted, deduplicating repositories, one for each project.
//
// A repository is Kopia's (github.com/kopia/kopia: hashing, packing, encryption, index, maintenance); walking trees,
// chunking files and what a directory looks like are this package's own, since Kopia's walker knows neither extended
// attributes nor hard links nor names that are not UTF-8. What is saved remains readable with the stock kopia command.
//
// Where to start reading: format.go says what a saved directory is, save.go how a tree becomes one, repository.go how
// a repository is made and opened, maintain.go how space comes back, verify.go how saved trees are read back, mend.go what is
// mended when it is damaged.
package engine

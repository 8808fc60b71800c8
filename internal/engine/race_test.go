//go:build race

package engine

// underRace says that the race detector watches, which makes deriving a key of a repository take seconds.
const underRace = true

//go:build !race

package engine

// underRace: see race_test.go.
const underRace = false

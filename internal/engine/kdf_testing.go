//go:build testing

package engine

// keyDerivation is one that Kopia has for its own tests, and only with this tag: a single SHA-256. The others take
// seconds under the race detector.
const keyDerivation = "testing-only-insecure"

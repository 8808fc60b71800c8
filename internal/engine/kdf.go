//go:build !testing

package engine

// keyDerivation is how Kopia makes a repository's key of its password. The password is 256 random bits, so the memory
// that Kopia's default, scrypt, takes for guessable ones would win nothing.
const keyDerivation = "pbkdf2-sha256-600000"

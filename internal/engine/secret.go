package engine

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"

	"abaca"
)

// A keyring wraps and unwraps the passwords of repositories with the server's master key.
//
// A wrapped password is: the version byte 1, 12 bytes of nonce, and the password sealed by AES-256-GCM with the
// project's id as additional data, so that one project's password cannot be passed off as another's. Destroying that
// file makes everything that the project has saved unreadable.
type keyring struct{ aead cipher.AEAD }

const (
	wrapVersion    = 1
	passwordLength = 32 // random bytes; the password itself is their base64
)

// errWrongKey says that a password was not wrapped with this master key for this project, or was damaged.
var errWrongKey = errors.New("the master key does not open the key of this project")

func newKeyring(master []byte) (keyring, error) {
	block, err := aes.NewCipher(master)
	if err != nil {
		return keyring{}, fmt.Errorf("using the master key: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	return keyring{aead}, err
}

// additional is what the wrapping authenticates besides the password.
func additional(project abaca.ProjectID) []byte {
	return []byte("abaca repository password\x00" + string(project))
}

func (k keyring) wrap(project abaca.ProjectID, password string) []byte {
	return k.seal([]byte(password), additional(project))
}

func (k keyring) unwrap(project abaca.ProjectID, wrapped []byte) (string, error) {
	password, err := k.unseal(wrapped, additional(project))
	return string(password), err
}

// seal encrypts what is then bound to the additional data; it is laid out as a wrapped password is.
func (k keyring) seal(plain, additional []byte) []byte {
	out := make([]byte, 1+k.aead.NonceSize(), 1+k.aead.NonceSize()+len(plain)+k.aead.Overhead())
	out[0] = wrapVersion
	rand.Read(out[1:])
	return k.aead.Seal(out, out[1:], plain, additional) //nolint:gosec // G407: the nonce is random, two lines above
}

func (k keyring) unseal(sealed, additional []byte) ([]byte, error) {
	n := 1 + k.aead.NonceSize()
	if len(sealed) < n || sealed[0] != wrapVersion {
		return nil, errWrongKey
	}
	plain, err := k.aead.Open(nil, sealed[1:n], sealed[n:], additional)
	if err != nil {
		return nil, errWrongKey
	}
	return plain, nil
}

func newPassword() string {
	raw := make([]byte, passwordLength)
	rand.Read(raw)
	return base64.RawURLEncoding.EncodeToString(raw)
}

// derive makes of a password what is random in a repository that is made with it. So of two processes that make it at one time, each
// writes what the other does.
func derive(password, purpose string) ([]byte, error) {
	return hkdf.Key(sha256.New, []byte(password), nil, "abaca repository "+purpose, passwordLength)
}

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
	"sync"

	"abaca"
)

// A keyring wraps and unwraps the passwords of repositories with the server's master keys.
//
// A wrapped password is: the version byte 1, 12 bytes of nonce, and the password sealed by AES-256-GCM with the
// project's id as additional data, so that one project's password cannot be passed off as another's. Destroying that
// file makes everything that the project has saved unreadable.
//
// While the master key is being changed there are several: the first wraps, all unwrap. Another process may change them at any
// time, so they are read anew before anything is wrapped and where nothing unwraps.
type keyring struct {
	hold func() (keys [][]byte, release func(), err error) // nil where they never change

	mu      sync.Mutex
	ciphers []cipher.AEAD
}

const (
	wrapVersion    = 1
	sealVersion    = 2  // of what is sealed with a project's own key, in the same layout
	passwordLength = 32 // random bytes; the password itself is their base64
)

// errWrongKey says that a password was not wrapped with this master key for this project, or was damaged.
var errWrongKey = errors.New("the master key does not open the key of this project")

func newKeyring(keys ...[]byte) (*keyring, error) {
	k := &keyring{}
	return k, k.set(keys)
}

func (k *keyring) set(keys [][]byte) error {
	var ciphers []cipher.AEAD
	for _, key := range keys {
		c, err := newCipher(key)
		if err != nil {
			return fmt.Errorf("using the master key: %w", err)
		}
		ciphers = append(ciphers, c)
	}
	if len(ciphers) == 0 {
		return errors.New("there is no master key")
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ciphers = ciphers
	return nil
}

func newCipher(key []byte) (cipher.AEAD, error) {
	if len(key) != masterKeyLength {
		return nil, fmt.Errorf("it has %d bytes instead of %d", len(key), masterKeyLength)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// renew reads the keys again. They do not change until they are released.
func (k *keyring) renew() (release func(), err error) {
	if k.hold == nil {
		return func() {}, nil
	}
	keys, release, err := k.hold()
	if err != nil {
		return nil, fmt.Errorf("reading the master key: %w", err)
	}
	if err := k.set(keys); err != nil {
		release()
		return nil, err
	}
	return release, nil
}

func (k *keyring) all() []cipher.AEAD {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.ciphers
}

// additional is what the wrapping authenticates besides the password.
func additional(project abaca.ProjectID) []byte {
	return []byte("abaca repository password\x00" + string(project))
}

func (k *keyring) wrap(project abaca.ProjectID, password string) []byte {
	return seal(k.all()[0], wrapVersion, []byte(password), additional(project))
}

// unwrap returns the password, read with whichever key opens it.
func (k *keyring) unwrap(project abaca.ProjectID, wrapped []byte) (string, error) {
	password, err := k.unseal(wrapped, additional(project))
	if err == nil || k.hold == nil {
		return string(password), err
	}
	release, rerr := k.renew()
	if rerr != nil {
		return "", errors.Join(err, rerr)
	}
	defer release()
	password, err = k.unseal(wrapped, additional(project))
	return string(password), err
}

// current reports whether the key that wraps is the one that opens this.
func (k *keyring) current(project abaca.ProjectID, wrapped []byte) bool {
	_, err := unseal(k.all()[0], wrapVersion, wrapped, additional(project))
	return err == nil
}

func (k *keyring) unseal(sealed, additional []byte) ([]byte, error) {
	for _, c := range k.all() {
		if plain, err := unseal(c, wrapVersion, sealed, additional); err == nil {
			return plain, nil
		}
	}
	return nil, errWrongKey
}

// seal encrypts what is then bound to the additional data.
func seal(c cipher.AEAD, version byte, plain, additional []byte) []byte {
	out := make([]byte, 1+c.NonceSize(), 1+c.NonceSize()+len(plain)+c.Overhead())
	out[0] = version
	rand.Read(out[1:])
	return c.Seal(out, out[1:], plain, additional) //nolint:gosec // G407: the nonce is random
}

func unseal(c cipher.AEAD, version byte, sealed, additional []byte) ([]byte, error) {
	n := 1 + c.NonceSize()
	if len(sealed) < n || sealed[0] != version {
		return nil, errWrongKey
	}
	plain, err := c.Open(nil, sealed[1:n], sealed[n:], additional)
	if err != nil {
		return nil, errWrongKey
	}
	return plain, nil
}

// notesCipher is what seals the things beside a project's repository that tell of the tenant's files. Its key follows from the
// password, so that it changes with no master key, and is gone when the password is.
func notesCipher(password string) (cipher.AEAD, error) {
	key, err := derive(password, "notes")
	if err != nil {
		return nil, err
	}
	return newCipher(key)
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

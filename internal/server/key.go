package server

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"abaca/internal/posix"
)

// keyLength is that of the master key, in bytes.
const keyLength = 32

// errNoKey is for an operator who asks the wrong one of several processes.
var errNoKey = errors.New("a process of role api has none; this is for one that works")

// masterKey returns the key that wraps every project's own. A file that does not exist is made, readable by its owner alone;
// but where there is data already it is an error, because a new key could read none of it.
func (c *Config) masterKey(dataExists bool) ([]byte, error) {
	if !c.works() {
		return nil, fmt.Errorf("master key: %w", errNoKey)
	}
	if c.MasterKey != "" {
		return parseKey(string(c.MasterKey))
	}
	text, err := readSecret(c.MasterKeyFile)
	if errors.Is(err, fs.ErrNotExist) {
		if dataExists {
			return nil, fmt.Errorf("the master key %s is missing; without it the backups that there are cannot be read", c.MasterKeyFile)
		}
		return makeKey(c.MasterKeyFile)
	}
	if err != nil {
		return nil, err
	}
	key, err := parseKey(keyDigits(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.MasterKeyFile, err)
	}
	if !dataExists {
		if err := settleKey(c.MasterKeyFile); err != nil {
			return nil, fmt.Errorf("master key: %w", err)
		}
	}
	return key, nil
}

// settleKey makes a key durable that somebody else has put there, such as a start that was killed, before anything is encrypted with it. Where this
// process may not do so, it was an operator's to do.
func settleKey(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	err = errors.Join(f.Sync(), f.Close())
	if derr := posix.SyncDir(filepath.Dir(path)); !errors.Is(derr, fs.ErrPermission) && !errors.Is(derr, unix.EINVAL) && !errors.Is(derr, unix.EROFS) {
		err = errors.Join(err, derr)
	}
	return err
}

// makeKey makes a key's file.
func makeKey(path string) ([]byte, error) {
	key := make([]byte, keyLength)
	rand.Read(key)
	if err := writeKey(path, key); err != nil {
		return nil, fmt.Errorf("make master key: %w", err)
	}
	return key, nil
}

// writeKey puts a key in place so that after a power loss there is all of it or what was there before.
func writeKey(path string, key []byte) error {
	draft := path + ".new"
	if err := os.Remove(draft); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(draft, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(hex.EncodeToString(key) + "\n")
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(draft, path)
	}
	if err == nil {
		err = posix.SyncDir(filepath.Dir(path))
	}
	return err
}

package server

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// keyLength is that of the master key, in bytes.
const keyLength = 32

// masterKey returns the key that wraps every project's own. A file that does not exist is made, readable by its owner alone;
// but where there is data already it is an error, because a new key could read none of it.
func (c *Config) masterKey(dataExists bool) ([]byte, error) {
	if c.MasterKey != "" {
		return parseKey(string(c.MasterKey))
	}
	info, err := os.Stat(c.MasterKeyFile)
	if errors.Is(err, fs.ErrNotExist) {
		if dataExists {
			return nil, fmt.Errorf("the master key %s is missing; without it the backups that there are cannot be read", c.MasterKeyFile)
		}
		return makeKey(c.MasterKeyFile)
	}
	if err != nil {
		return nil, fmt.Errorf("master key: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("the master key %s can be read by others; its mode must be 0600", c.MasterKeyFile)
	}
	text, err := os.ReadFile(c.MasterKeyFile)
	if err != nil {
		return nil, fmt.Errorf("master key: %w", err)
	}
	key, err := parseKey(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.MasterKeyFile, err)
	}
	return key, nil
}

// makeKey writes a new key so that after a power loss there is all of it or nothing.
func makeKey(path string) ([]byte, error) {
	key := make([]byte, keyLength)
	rand.Read(key)
	draft := path + ".new"
	if err := os.Remove(draft); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("make master key: %w", err)
	}
	f, err := os.OpenFile(draft, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make master key: %w", err)
	}
	_, err = f.WriteString(hex.EncodeToString(key) + "\n")
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(draft, path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return nil, fmt.Errorf("make master key: %w", err)
	}
	return key, nil
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

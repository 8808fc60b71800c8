package server

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"abaca"
	"abaca/internal/engine"
	"abaca/internal/posix"
)

// The master key is changed in steps after each of which everything can be read, with the same configuration:
//
//  1. the key of now is written into the file of previous keys, which are accepted but wrap nothing,
//  2. the new key takes its place in master_key_file,
//  3. each project's password is wrapped with the new key,
//  4. the file of previous keys is removed.
//
// Who wraps a password for the first time holds a shared lock on the key file meanwhile, and step 2 an exclusive one, so that nobody
// wraps with the old key after it. A rotation that finds previous keys goes on with step 3.

// lockKeyFile opens the master key's file and locks it, whichever file that is by then.
func (c *Config) lockKeyFile(how int) (*os.File, error) {
	if !c.works() {
		return nil, errNoKey
	}
	for {
		f, err := os.Open(c.MasterKeyFile)
		if err != nil {
			return nil, err
		}
		for err = unix.EINTR; errors.Is(err, unix.EINTR); {
			err = unix.Flock(int(f.Fd()), how)
		}
		var locked, named os.FileInfo
		if err == nil {
			locked, err = f.Stat()
		}
		if err == nil {
			named, err = os.Stat(c.MasterKeyFile)
		}
		if err == nil && os.SameFile(locked, named) {
			return f, nil
		}
		f.Close()
		if err != nil {
			return nil, err
		}
	}
}

// holdKeys returns the master key and the previous ones, which do not change until they are released.
func (c *Config) holdKeys() (keys [][]byte, release func(), err error) {
	release = func() {}
	if c.MasterKey == "" {
		f, err := c.lockKeyFile(unix.LOCK_SH)
		if err != nil {
			return nil, nil, fmt.Errorf("master key: %w", err)
		}
		release = func() { f.Close() }
	}
	key, err := c.masterKey(true)
	if err == nil {
		var previous [][]byte
		if previous, err = c.previousKeys(); err == nil {
			return append([][]byte{key}, previous...), release, nil
		}
	}
	release()
	return nil, nil, err
}

// previousKeys reads the keys that are still accepted; without the file there are none.
func (c *Config) previousKeys() (keys [][]byte, err error) {
	if c.MasterKeyPrevious == "" {
		return nil, nil
	}
	text, err := readSecret(c.MasterKeyPrevious)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	digits := keyDigits(text)
	for len(digits) > 0 {
		key, err := parseKey(digits[:min(2*keyLength, len(digits))])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.MasterKeyPrevious, err)
		}
		keys, digits = append(keys, key), digits[2*keyLength:]
	}
	return keys, nil
}

// readSecret reads a file that its owner alone may be able to read.
func readSecret(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("master key: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("the master key %s can be read by others; its mode must be 0600", path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("master key: %w", err)
	}
	return string(text), nil
}

// keyDigits leaves out of a key's text what is there for people: space between the digits, and lines that begin with #.
func keyDigits(text string) string {
	var digits strings.Builder
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(strings.TrimSpace(line), "#") {
			digits.WriteString(strings.Join(strings.Fields(line), ""))
		}
	}
	return digits.String()
}

// A Rotation tells what changing the master key has done.
type Rotation struct {
	Continued bool     // there were previous keys: no new one was made
	Previous  string   // the file of previous keys if it was not removed, because the configuration names it; else empty
	Rewrapped int      // projects
	Failed    []string // why projects were not; the previous keys are still needed then
}

// RotateKey makes a new master key and wraps the passwords of all projects with it, while servers go on. Where there are previous
// keys, because a rotation was interrupted or an operator has put a new key in place, it makes none and wraps what they still open.
func (c *Config) RotateKey(ctx context.Context, log *slog.Logger) (r Rotation, err error) {
	began := time.Now()
	r, err = c.rotateKey(ctx, log)
	return r, c.auditCommand(log, abaca.Audit{Action: "rotate_key", Resource: "master_key", Began: began}, err)
}

func (c *Config) rotateKey(ctx context.Context, log *slog.Logger) (r Rotation, err error) {
	if err := c.own("."); err != nil {
		return r, err
	}
	if r.Continued, err = c.replaceKey(); err != nil {
		return r, err
	}
	err = c.withEngine(ctx, log, func(e *engine.Engine) error {
		projects, err := e.Projects(ctx)
		for _, p := range projects {
			changed, err := e.Rewrap(ctx, p)
			if err != nil {
				r.Failed = append(r.Failed, fmt.Sprintf("project %s: %v", p, err))
			}
			if changed {
				r.Rewrapped++
			}
		}
		return err
	})
	if err != nil {
		return r, err
	}
	switch {
	case len(r.Failed) > 0, c.keepsPrevious:
		if _, err := os.Stat(c.MasterKeyPrevious); err == nil {
			r.Previous = c.MasterKeyPrevious
		}
		return r, nil
	}
	return r, removeDurably(c.MasterKeyPrevious)
}

// replaceKey takes the first two steps, unless there are previous keys.
func (c *Config) replaceKey() (continued bool, err error) {
	if c.MasterKey != "" {
		keys, err := c.previousKeys()
		if err == nil && len(keys) == 0 {
			err = errors.New("the master key stands in the configuration: put a new one there, and the one of before into a file " +
				"that master_key_previous names")
		}
		return true, err
	}
	f, err := c.lockKeyFile(unix.LOCK_EX)
	if err != nil {
		return false, fmt.Errorf("master key: %w", err)
	}
	defer f.Close()
	old, err := c.masterKey(true)
	if err != nil {
		return false, err
	}
	previous, err := c.previousKeys()
	if err != nil {
		return false, err
	}
	for _, p := range previous {
		if !bytes.Equal(p, old) {
			return true, nil
		}
	}
	if err := writeKey(c.MasterKeyPrevious, old); err != nil {
		return false, fmt.Errorf("keep the previous master key: %w", err)
	}
	key := make([]byte, keyLength)
	rand.Read(key)
	if err := writeKey(c.MasterKeyFile, key); err != nil {
		return false, fmt.Errorf("make master key: %w", err)
	}
	return false, nil
}

// withEngine does something with an engine beside the server that may be running.
func (c *Config) withEngine(_ context.Context, log *slog.Logger, do func(*engine.Engine) error) error {
	keys, release, err := c.holdKeys()
	if err != nil {
		return err
	}
	release()
	e, err := c.openEngine(keys[0], log, time.Now)
	if err != nil {
		return err
	}
	return errors.Join(do(e), closer(e, log)())
}

// ExportKey returns the master key as it is to be written down: digits in groups, with the fingerprint that tells it from others.
func (c *Config) ExportKey() (text string, err error) {
	keys, release, err := c.holdKeys()
	if err != nil {
		return "", err
	}
	release()
	return exportedKey(keys[0])
}

func exportedKey(key []byte) (string, error) {
	print, err := fingerprint(key)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# abaca's master key, fingerprint %s\n# Whoever has it, and the repositories, can read every backup; without it nobody can.\n", print)
	digits := hex.EncodeToString(key)
	for i := 0; i < len(digits); i += 4 {
		b.WriteString(digits[i : i+4])
		if i%16 == 12 {
			b.WriteByte('\n')
		} else {
			b.WriteByte(' ')
		}
	}
	return b.String(), nil
}

// fingerprint tells keys apart and says nothing else of them.
func fingerprint(key []byte) (string, error) {
	sum, err := hkdf.Key(sha256.New, key, nil, "abaca master key fingerprint", 4)
	return hex.EncodeToString(sum[:2]) + "-" + hex.EncodeToString(sum[2:]), err
}

// A KeyCheck tells what a master key is good for.
type KeyCheck struct {
	Fingerprint string
	Opens       []abaca.ProjectID
	Others      []abaca.ProjectID // whose passwords it does not open
}

// CheckKey tries a key on the passwords of all projects; path names the file that it is in, empty for the one in force.
func (c *Config) CheckKey(ctx context.Context, path string, log *slog.Logger) (check KeyCheck, err error) {
	if err := c.own("."); err != nil {
		return check, err
	}
	mine := *c
	if path != "" {
		mine.MasterKey, mine.MasterKeyFile, mine.MasterKeyPrevious = "", path, ""
	}
	key, release, err := mine.holdKeys()
	if err != nil {
		return check, err
	}
	release()
	if check.Fingerprint, err = fingerprint(key[0]); err != nil {
		return check, err
	}
	return check, mine.withEngine(ctx, log, func(e *engine.Engine) error {
		projects, err := e.Projects(ctx)
		for _, p := range projects {
			opens, err := e.Opens(ctx, p)
			switch {
			case err != nil:
				return err
			case opens:
				check.Opens = append(check.Opens, p)
			default:
				check.Others = append(check.Others, p)
			}
		}
		return err
	})
}

// removeDurably removes a file so that it stays gone through a power loss; one that is not there is no error.
func removeDurably(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return posix.SyncDir(filepath.Dir(path))
}

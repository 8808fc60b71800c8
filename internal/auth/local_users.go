package auth

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"syscall"
	"time"

	"go.yaml.in/yaml/v3"

	"abaca"
)

// A User is somebody who is known by tokens of a users file.
type User struct {
	Name    string          `yaml:"name" json:"name"`
	Project abaca.ProjectID `yaml:"project" json:"project"`
	Roles   []string        `yaml:"roles,flow" json:"roles"` // as they were given, without those they imply
	Tokens  []Token         `yaml:"tokens" json:"tokens"`
}

// A Token is what is kept of one: enough to know it again, not to say it.
type Token struct {
	ID      string    `yaml:"id" json:"id"` // the part of the token that is no secret
	Hash    digest    `yaml:"hash" json:"-"`
	Created time.Time `yaml:"created" json:"created"`
	Expires time.Time `yaml:"expires,omitempty" json:"expires,omitzero"` // zero for never
}

func (t Token) expired(now time.Time) bool { return !t.Expires.IsZero() && !now.Before(t.Expires) }

// A digest is the SHA-256 of a whole token. Slow hashes protect secrets that people think of; of one with 256 random bits nothing
// can be tried out, and a fast hash costs each request next to nothing.
type digest [sha256.Size]byte

func digestOf(token string) digest { return sha256.Sum256([]byte(token)) }

func (d digest) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(d[:])), nil }

func (d *digest) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	if err != nil || len(b) != len(d) {
		return errors.New("a hash is not 64 hexadecimal digits")
	}
	copy(d[:], b)
	return nil
}

// A token is "abaca_", its id, "_" and its secret: letters and digits that no shell, URL, header or double click takes apart.
const (
	tokenPrefix = "abaca_"
	idLength    = 10
)

var tokenSyntax = regexp.MustCompile(`^abaca_([a-z2-7]{10})_[A-Z2-7]{52}$`)

// newToken makes up a token with a secret of 260 random bits.
func newToken() (token, id string) {
	id = strings.ToLower(rand.Text()[:idLength])
	return tokenPrefix + id + "_" + rand.Text() + rand.Text(), id
}

// tokenID returns the id in a token; nothing in what is none.
func tokenID(token string) string {
	if m := tokenSyntax.FindStringSubmatch(token); m != nil {
		return m[1]
	}
	return ""
}

// What users, projects and roles may be called. A project stands in URLs, whose ".json" at the end says nothing; roles are
// compared with a policy's, where case does not count.
var (
	userName    = ids
	projectName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`)
	roleName    = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)
	idSyntax    = regexp.MustCompile(`^[a-z2-7]{10}$`)
)

// Check fails where the name, a role or, if there is one, the project cannot be called so.
func (u User) Check() error {
	switch {
	case !userName.MatchString(u.Name):
		return fmt.Errorf("%q cannot be a user's name: that is up to 64 letters, digits, dots, hyphens and underscores", u.Name)
	case u.Project != "" && !projectName.MatchString(string(u.Project)):
		return fmt.Errorf("%q cannot be a project: that is up to 64 letters, digits, hyphens and underscores", u.Project)
	}
	for _, r := range u.Roles {
		if !roleName.MatchString(r) {
			return fmt.Errorf("%q cannot be a role: that is up to 64 small letters, digits, dots, hyphens and underscores", r)
		}
	}
	return nil
}

// document is what a users file holds.
type document struct {
	Users []User `yaml:"users"`
}

// parse reads a users file's text, which must make sense as a whole.
func parse(text []byte) ([]User, error) {
	var d document
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(&d); err != nil && !errors.Is(err, io.EOF) {
		return nil, errors.New(strings.Join(strings.Fields(err.Error()), " "))
	}
	if err := dec.Decode(&document{}); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is something after its end")
	}
	names, tokens := map[string]bool{}, map[string]bool{}
	for _, u := range d.Users {
		if err := u.Check(); err != nil {
			return nil, err
		}
		if names[u.Name] || u.Project == "" {
			return nil, fmt.Errorf("there are two users %s, or one without a project", u.Name)
		}
		names[u.Name] = true
		for _, t := range u.Tokens {
			if !idSyntax.MatchString(t.ID) || tokens[t.ID] || t.Hash == (digest{}) {
				return nil, fmt.Errorf("the token %q of %s has an id that is none or not its own, or no hash", t.ID, u.Name)
			}
			tokens[t.ID] = true
		}
	}
	return d.Users, nil
}

// readUsers reads a users file that nobody but its owner can read or write. Where there is no file there are no users, and info is
// nil; otherwise info tells which file was read, or was refused.
func readUsers(path string) (users []User, info fs.FileInfo, err error) {
	// Neither a link that somebody could turn elsewhere is followed, nor waited for a pipe's other end.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil, nil
	case errors.Is(err, syscall.ELOOP):
		return nil, nil, fmt.Errorf("the users file %s is a symbolic link; auth.users_file must name the file itself", path)
	case err != nil:
		return nil, nil, fmt.Errorf("users file: %w", err)
	}
	defer f.Close()
	if info, err = f.Stat(); err != nil {
		return nil, nil, fmt.Errorf("users file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, info, fmt.Errorf("the users file %s is not a regular file", path)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, info, fmt.Errorf("the users file %s can be read or written by others; its mode must be 0600", path)
	}
	text, err := io.ReadAll(f)
	if err != nil {
		return nil, info, fmt.Errorf("users file: %w", err)
	}
	if users, err = parse(text); err != nil {
		return nil, info, fmt.Errorf("the users file %s: %w", path, err)
	}
	return users, info, nil
}

// ownedBy fails where a file belongs to neither this user nor root: who owns it can write it.
func ownedBy(path string, info fs.FileInfo, uid int) error {
	if info == nil {
		return nil
	}
	if of, ok := info.Sys().(*syscall.Stat_t); ok && of.Uid != 0 && int(of.Uid) != uid {
		return fmt.Errorf("the file %s belongs to the user with the number %d, not to the server's, %d", path, of.Uid, uid)
	}
	return nil
}

// A version tells one state of a file from the next: whatever is done to content, mode or owner sets the time of change.
type version struct {
	device, inode uint64
	size          int64
	changed       time.Time
}

func versionOf(info fs.FileInfo) version {
	s := info.Sys().(*syscall.Stat_t)
	return version{device: s.Dev, inode: s.Ino, size: s.Size, changed: time.Unix(s.Ctim.Unix())}
}

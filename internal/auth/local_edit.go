package auth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"go.yaml.in/yaml/v3"
	"golang.org/x/sys/unix"

	"abaca/internal/posix"
)

// A UserFile edits a file of users, beside the server that reads it and beside others that edit it.
type UserFile struct {
	Path     string
	Now      func() time.Time
	Reserved []string // what no project may be called

	step func(string) // told where an edit has come to; nil but in tests
}

// Users returns all users in the order of their names; none where there is no file.
func (f *UserFile) Users() ([]User, error) {
	users, _, err := readUsers(f.Path)
	return users, err
}

// Add gives a user, who may be a new one, a further token, and returns it: it is kept nowhere. One who is there already must have
// the same project and roles, or want is without them. A zero time of expiry is never. The file's directory is made if it is missing.
func (f *UserFile) Add(ctx context.Context, want User, expires time.Time) (token string, u User, err error) {
	now := f.Now()
	if !expires.IsZero() && !expires.After(now) {
		return "", User{}, fmt.Errorf("the token would have expired already, at %s", expires.UTC().Format(time.RFC3339))
	}
	if err := want.Check(); err != nil {
		return "", User{}, err
	}
	if err := posix.MakeDirs(filepath.Dir(f.Path), 0o700); err != nil {
		return "", User{}, fmt.Errorf("users file: %w", err)
	}
	err = f.edit(ctx, func(users []User) ([]User, error) {
		i := slices.IndexFunc(users, func(u User) bool { return u.Name == want.Name })
		if i < 0 {
			if err := f.welcome(want, users); err != nil {
				return nil, err
			}
			i, users = len(users), append(users, User{Name: want.Name, Project: want.Project, Roles: distinct(want.Roles)})
		} else if err := users[i].agrees(want); err != nil {
			return nil, err
		}
		t := Token{Created: now.UTC().Truncate(time.Second), Expires: expires}
		for t.ID == "" || taken(users, t.ID) {
			token, t.ID = newToken()
		}
		t.Hash = digestOf(token)
		users[i].Tokens = append(users[i].Tokens, t)
		u = users[i]
		return users, nil
	})
	return token, u, err
}

// welcome fails where a new user would be taken for another one, or is not fully described.
func (f *UserFile) welcome(want User, users []User) error {
	if want.Project == "" || len(want.Roles) == 0 {
		return fmt.Errorf("there is no user %s yet; a new one needs a project and a role", want.Name)
	}
	if slices.Contains(f.Reserved, string(want.Project)) {
		return fmt.Errorf("a project cannot be called %s: in URLs that is something else", want.Project)
	}
	for _, u := range users {
		if strings.EqualFold(u.Name, want.Name) {
			return fmt.Errorf("there is a user %s, who would be taken for %s", u.Name, want.Name)
		}
		if u.Project != want.Project && strings.EqualFold(string(u.Project), string(want.Project)) {
			return fmt.Errorf("there is a project %s, which would be taken for %s", u.Project, want.Project)
		}
	}
	return nil
}

// UnknownRoles returns those of the roles that mean nothing without a policy that names them.
func (u User) UnknownRoles() []string {
	return slices.DeleteFunc(slices.Clone(u.Roles), func(r string) bool { return slices.Contains(ladder, r) })
}

// agrees fails where somebody who is there already is described otherwise.
func (u User) agrees(want User) error {
	roles := func(r []string) []string { return slices.Sorted(slices.Values(distinct(r))) }
	if want.Project != "" && want.Project != u.Project || len(want.Roles) > 0 && !slices.Equal(roles(want.Roles), roles(u.Roles)) {
		return fmt.Errorf("there is a user %s already, of project %s with %s; remove that one first, or choose another name",
			u.Name, u.Project, strings.Join(u.Roles, ", "))
	}
	return nil
}

func distinct(words []string) (once []string) {
	for _, w := range words {
		if !slices.Contains(once, w) {
			once = append(once, w)
		}
	}
	return once
}

func taken(users []User, token string) bool {
	return slices.ContainsFunc(users, func(u User) bool {
		return slices.ContainsFunc(u.Tokens, func(t Token) bool { return t.ID == token })
	})
}

// Remove forgets a user, and so refuses all of the user's tokens. What the project has stays.
func (f *UserFile) Remove(ctx context.Context, name string) (removed User, err error) {
	return removed, f.edit(ctx, func(users []User) ([]User, error) {
		i := slices.IndexFunc(users, func(u User) bool { return u.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("there is no user %q", name)
		}
		removed = users[i]
		return slices.Delete(users, i, i+1), nil
	})
}

// Revoke forgets the user's token with this id, or without one all of the user's, and returns how many that were.
func (f *UserFile) Revoke(ctx context.Context, name, token string) (revoked int, err error) {
	return revoked, f.edit(ctx, func(users []User) ([]User, error) {
		i := slices.IndexFunc(users, func(u User) bool { return u.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("there is no user %q", name)
		}
		left := slices.DeleteFunc(slices.Clone(users[i].Tokens), func(t Token) bool { return token == "" || t.ID == token })
		if revoked = len(users[i].Tokens) - len(left); revoked == 0 && token != "" {
			return nil, fmt.Errorf("%s has no token with that id", name) // which is not repeated: it may be a whole token
		}
		users[i].Tokens = left
		return users, nil
	})
}

// edit replaces the file by a changed one, so that whoever reads it, and whatever a power loss leaves, is the one or the other.
func (f *UserFile) edit(ctx context.Context, change func([]User) ([]User, error)) error {
	// The lock is on the directory: a file of its own would lie about, and might belong to whoever happened to be first.
	dir, err := os.Open(filepath.Dir(f.Path))
	if err != nil {
		return fmt.Errorf("users file: %w", err)
	}
	defer dir.Close()
	if err := lock(ctx, dir); err != nil {
		return fmt.Errorf("the users file %s: %w", f.Path, err)
	}
	users, info, err := readUsers(f.Path)
	if err != nil {
		return err
	}
	if info == nil {
		if info, err = dir.Stat(); err != nil {
			return fmt.Errorf("users file: %w", err)
		}
	}
	owner := info.Sys().(*syscall.Stat_t)
	if uid := os.Geteuid(); uid != 0 && uid != int(owner.Uid) {
		return fmt.Errorf("%s belongs to the user with the number %d, as whom this is to be run too", filepath.Dir(f.Path), owner.Uid)
	}
	if users, err = change(users); err != nil {
		return err
	}
	slices.SortFunc(users, func(a, b User) int { return strings.Compare(a.Name, b.Name) })
	if err := f.replace(dir, users, owner); err != nil {
		return fmt.Errorf("write users file: %w", err)
	}
	return nil
}

// patience is how long an edit waits for another one, which takes milliseconds.
const patience = 10 * time.Second

// lock keeps other edits of files in the directory out until it is closed.
func lock(ctx context.Context, dir *os.File) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.New("it is being edited by another process")
		case <-again.C:
		}
	}
}

// heading tells who opens the file where it comes from.
const heading = "# Written by \"abaca user\", which keeps no token here but its hash. A running server follows each change.\n"

// replace writes a draft and gives it the file's name once it is on disk. A draft that a crash has left is written over.
func (f *UserFile) replace(dir *os.File, users []User, owner *syscall.Stat_t) error {
	text := bytes.NewBufferString(heading)
	enc := yaml.NewEncoder(text)
	enc.SetIndent(2)
	if err := errors.Join(enc.Encode(document{users}), enc.Close()); err != nil {
		return err
	}
	draft := f.Path + ".new"
	if err := os.Remove(draft); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	w, err := os.OpenFile(draft, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = w.Write(text.Bytes())
	if err == nil && os.Geteuid() == 0 {
		err = w.Chown(int(owner.Uid), int(owner.Gid)) // the server's user must be able to read what root writes
	}
	if err = errors.Join(err, w.Sync(), w.Close()); err != nil {
		return err
	}
	f.at("written")
	if err := os.Rename(draft, f.Path); err != nil {
		return err
	}
	f.at("renamed")
	return dir.Sync()
}

func (f *UserFile) at(step string) {
	if f.step != nil {
		f.step(step)
	}
}

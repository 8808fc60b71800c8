package auth

import (
	"crypto/sha256"
	"crypto/subtle"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"time"

	"abaca"
)

// Local knows callers by the tokens of a file of users: in X-Auth-Token, or as the password of HTTP Basic beside the user's name.
//
// The file is looked at in each request. While it cannot be read, or others could read or have written it, nobody is let in: who
// went on with the users of before would keep those whom an administrator has just tried to remove.
type Local struct {
	path   string
	now    func() time.Time
	log    *slog.Logger
	brake  *brake
	origin *http.CrossOriginProtection

	mu      sync.Mutex
	read    version
	settled bool // the file has not been changed for so long that its next change must show in its version
	tokens  map[string]holding
	err     error // why there are none
}

// A holding is a token and who has it.
type holding struct {
	Token
	user User
}

// settling is how long a file must not have changed before its times can be trusted to tell of the next change: a file system's
// clock ticks every few milliseconds, and inodes' numbers are used again.
const settling = time.Second

// OpenLocal makes a Local of the users file at a path. A file that does not exist has no users; one that cannot be used is an error.
// What has expired is judged by now.
func OpenLocal(path string, now func() time.Time, log *slog.Logger) (*Local, error) {
	l := &Local{path: path, now: now, log: slog.New(slog.DiscardHandler), brake: newBrake(now), origin: http.NewCrossOriginProtection()}
	if _, err := l.current(); err != nil {
		return nil, err // which the caller tells
	}
	l.log = log
	return l, nil
}

// Authenticate returns the caller whose token the request carries. Where it carries one in each of the two places, both must be
// good and of one user. A wrong one is answered the later the more of them came from an address or for a name; a good one at once,
// so that nobody can be locked out by another's guesses.
func (l *Local) Authenticate(r *http.Request) (abaca.Caller, error) {
	given, err := credentialsOf(r)
	if err != nil {
		return abaca.Caller{}, err
	}
	tokens, err := l.current()
	if err != nil {
		return abaca.Caller{}, abaca.Errorf(abaca.Unavailable, "The server cannot tell at the moment who is calling.")
	}
	var caller User
	for i, c := range given {
		h, right := c.find(tokens)
		if !right {
			return abaca.Caller{}, l.brake.miss(r.Context(), r.RemoteAddr, c.name)
		}
		switch {
		case h.expired(l.now()):
			return abaca.Caller{}, unknown("The token has expired.")
		case i > 0 && h.user.Name != caller.Name:
			return abaca.Caller{}, unknown("The request has tokens of two users.")
		}
		caller = h.user
		// Browsers send what Basic has asked for by themselves, also for requests that another site's page makes.
		if c.basic && l.origin.Check(r) != nil {
			return abaca.Caller{}, abaca.Errorf(abaca.Forbidden, "The request comes from a page of another site.")
		}
	}
	return abaca.Caller{User: caller.Name, Project: caller.Project, Roles: WithImplied(caller.Roles...)}, nil
}

// current returns the tokens by their ids, read again if the file has changed since.
func (l *Local) current() (map[string]holding, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	info, err := os.Lstat(l.path)
	if err == nil && l.settled && versionOf(info) == l.read {
		return l.tokens, l.err
	}
	users, info, err := readUsers(l.path)
	if err == nil {
		err = ownedBy(l.path, info, os.Geteuid())
	}
	before := l.read
	l.tokens, l.read, l.settled = nil, version{}, false
	if info != nil {
		l.read = versionOf(info)
		l.settled = time.Since(l.read.changed) > settling
	}
	if err != nil {
		if l.err == nil || l.err.Error() != err.Error() {
			l.log.Error("the users cannot be read, so nobody is let in", "error", err)
		}
		l.err = err
		return nil, err
	}
	if l.err != nil || l.read != before {
		l.log.Info("read the users", "file", l.path, "users", len(users))
	}
	l.err, l.tokens = nil, map[string]holding{}
	for _, u := range users {
		for _, t := range u.Tokens {
			l.tokens[t.ID] = holding{t, u}
		}
	}
	return l.tokens, nil
}

// A credential is a token as a request carries it.
type credential struct {
	token string
	basic bool
	name  string // of the user, with Basic
}

// find looks the token up. Whether it is the id, the secret or the name that is wrong, the same is done, so that the time it takes
// tells nobody which names and ids there are.
func (c credential) find(tokens map[string]holding) (h holding, right bool) {
	h, known := tokens[tokenID(c.token)]
	hash := digestOf(c.token)
	same := subtle.ConstantTimeCompare(hash[:], h.Hash[:])
	if c.basic {
		given, wanted := sha256.Sum256([]byte(c.name)), sha256.Sum256([]byte(h.user.Name))
		same &= subtle.ConstantTimeCompare(given[:], wanted[:])
	}
	return h, known && same == 1
}

// credentialsOf returns what the request carries. A header that is there twice is refused: which of them counts would be a guess,
// and another's, such as a proxy's, could be different.
func credentialsOf(r *http.Request) (given []credential, err error) {
	for _, name := range []string{"X-Auth-Token", "Authorization"} {
		if len(r.Header.Values(name)) > 1 {
			return nil, unknown("The request has more than one " + name + " header.")
		}
	}
	if token := r.Header.Get("X-Auth-Token"); token != "" {
		given = append(given, credential{token: token})
	}
	if r.Header.Get("Authorization") != "" {
		name, password, ok := r.BasicAuth()
		if !ok {
			return nil, unknown("The Authorization header is not one of HTTP Basic.")
		}
		given = append(given, credential{token: password, basic: true, name: name})
	}
	if len(given) == 0 {
		return nil, unknown("The request needs a token, in X-Auth-Token or as the password of HTTP Basic.")
	}
	return given, nil
}

// unknown is Unauthorized, and asks a browser for a name and a token.
func unknown(message string) *Challenge {
	c := Unauthorized(message)
	c.Header.Set("WWW-Authenticate", `Basic realm="abaca", charset="UTF-8"`)
	return c
}

package auth

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"

	"abaca"
)

// Bounds of what callers can make a Keystone do or have remembered.
const (
	longestToken = 8 << 10 // in bytes
	goodOnes     = 16384   // tokens remembered as good
	badOnes      = 4096    // tokens remembered as bad; apart, so that guesses push out no good ones
	refusal      = 5 * time.Second
	atATime      = 16  // questions to Keystone at a time
	inLine       = 512 // questions under way or waiting to be; beyond, callers are turned away at once
)

// Keystone takes the word of OpenStack's identity service, version 3, for who calls. Only tokens scoped to a project are of use;
// nothing else that a request says of its caller is looked at.
//
// An answer holds as long as the token and no longer than Cache; so long it takes for a revoked token to be refused, and so long
// callers go on while Keystone cannot be asked. What cannot be asked opens nothing: it is abaca.Unavailable.
type Keystone struct {
	config  KeystoneConfig
	client  *identity
	good    *lru.Cache[digest, verdict] // by digest: the tokens themselves are kept nowhere
	bad     *lru.Cache[digest, verdict]
	flights singleflight.Group
	queue   chan struct{}
	slots   chan struct{}

	mu    sync.Mutex
	down  bool // Keystone could not be asked the last time
	noted time.Time
}

// A KeystoneConfig says where Keystone is and who the server is to it.
type KeystoneConfig struct {
	URL        string        // with or without the closing /v3
	Advertised string        // the URL that a caller without a token is told; empty: URL
	Login      Login         // who may validate tokens: the role service suffices
	Roots      []byte        // certificates to trust, PEM; nil: the system's
	Cache      time.Duration // how long an answer may be used again; 0: not at all
	Timeout    time.Duration // until callers are told that Keystone cannot be asked
	Log        *slog.Logger
	Now        func() time.Time
}

// A verdict is what Keystone has said of a token.
type verdict struct {
	caller abaca.Caller
	err    error // for the client, where the token is of no use
	until  time.Time
}

// NewKeystone makes the way in; Keystone need not be there yet.
func NewKeystone(c KeystoneConfig) (*Keystone, error) {
	client, err := newIdentity(c)
	if err != nil {
		return nil, err
	}
	if c.Advertised == "" {
		c.Advertised = c.URL
	}
	k := &Keystone{config: c, client: client, queue: make(chan struct{}, inLine), slots: make(chan struct{}, atATime)}
	if k.good, err = lru.New[digest, verdict](goodOnes); err != nil {
		return nil, err
	}
	if k.bad, err = lru.New[digest, verdict](badOnes); err != nil {
		return nil, err
	}
	return k, nil
}

// LogIn gets the server's own token, so that the log tells at once whether Keystone can be asked. It is got later, too.
func (k *Keystone) LogIn(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, k.config.Timeout)
	defer cancel()
	k.note(k.client.logIn(ctx))
}

// Authenticate returns the caller that the request's token stands for: a Challenge where it stands for nobody, Forbidden where it
// is of another scope than a project, Unavailable where Keystone cannot be asked.
func (k *Keystone) Authenticate(r *http.Request) (abaca.Caller, error) {
	token, err := k.token(r.Header)
	if err != nil {
		return abaca.Caller{}, err
	}
	key := digestOf(token)
	for _, known := range []*lru.Cache[digest, verdict]{k.good, k.bad} {
		if v, ok := known.Get(key); ok && k.config.Now().Before(v.until) {
			return v.caller, v.err
		}
	}
	// The question is nobody's own: that the first who asks goes away must not cost the others their answer.
	flight := k.flights.DoChan(string(key[:]), func() (any, error) { return k.ask(key, token) })
	select {
	case <-r.Context().Done():
		return abaca.Caller{}, r.Context().Err()
	case landed := <-flight:
		if landed.Err != nil {
			return abaca.Caller{}, landed.Err
		}
		v := landed.Val.(verdict)
		return v.caller, v.err
	}
}

// token returns the request's token, if there is one that Keystone could have issued. It never picks between two.
func (k *Keystone) token(h http.Header) (string, error) {
	switch tokens := h["X-Auth-Token"]; {
	case len(tokens) == 0 || tokens[0] == "":
		return "", k.challenge("The request carries no token.")
	case len(tokens) > 1:
		return "", k.challenge("The request carries more than one token.")
	case len(tokens[0]) > longestToken || slices.ContainsFunc([]byte(tokens[0]), func(b byte) bool { return b <= ' ' || b > '~' }):
		return "", k.challenge("The token is not one of the identity service's.")
	default:
		return tokens[0], nil
	}
}

func (k *Keystone) challenge(message string) *Challenge {
	c := Unauthorized(message)
	c.Header.Set("WWW-Authenticate", `Keystone uri="`+k.config.Advertised+`"`)
	return c
}

// unavailable is what callers are told whose token cannot be judged.
func unavailable() error {
	return abaca.Errorf(abaca.Unavailable, "The identity service cannot be asked at the moment.")
}

// ask has Keystone judge a token and remembers the verdict.
func (k *Keystone) ask(key digest, token string) (verdict, error) {
	select {
	case k.queue <- struct{}{}:
		defer func() { <-k.queue }()
	default:
		return verdict{}, unavailable()
	}
	ctx, cancel := context.WithTimeout(context.Background(), k.config.Timeout)
	defer cancel()
	select {
	case k.slots <- struct{}{}:
		defer func() { <-k.slots }()
	case <-ctx.Done():
		return verdict{}, unavailable()
	}
	asked := k.config.Now() // from here on a revocation may not be in the answer
	said, err := k.client.validate(ctx, token)
	if errors.Is(err, errNoSuchToken) {
		k.note(nil)
		v := verdict{err: k.challenge("The token is not valid."), until: asked.Add(min(refusal, k.config.Cache))}
		k.bad.Add(key, v)
		return v, nil
	}
	k.note(err)
	if err != nil {
		return verdict{}, unavailable()
	}
	v := k.judge(said)
	if v.until = asked.Add(k.config.Cache); said.Expires.Before(v.until) {
		v.until = said.Expires
	}
	k.good.Add(key, v)
	return v, nil
}

// judge decides what a token that Keystone holds for valid is good for here.
func (k *Keystone) judge(t description) verdict {
	switch {
	case !k.config.Now().Before(t.Expires):
		return verdict{err: k.challenge("The token has expired.")}
	case t.Project.ID == "":
		return verdict{err: abaca.Errorf(abaca.Forbidden, "The token is not scoped to a project.")}
	case !ids.MatchString(t.Project.ID):
		return verdict{err: abaca.Errorf(abaca.Forbidden, "The token's project cannot have shares here.")}
	}
	caller := abaca.Caller{User: t.User.ID, Project: abaca.ProjectID(t.Project.ID)}
	for _, role := range t.Roles {
		caller.Roles = append(caller.Roles, role.Name)
	}
	caller.Roles = slices.Clip(caller.Roles) // many requests share them
	return verdict{caller: caller}
}

// reminder is how often the same trouble with Keystone is logged.
const reminder = time.Minute

// note tells the log when trouble with Keystone begins, now and then while it lasts, and when it is over.
func (k *Keystone) note(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.config.Now()
	switch {
	case err == nil && k.down:
		k.config.Log.Info("Keystone answers again", "url", k.config.URL)
	case err != nil && (!k.down || now.Sub(k.noted) >= reminder):
		k.config.Log.Error("Keystone cannot be asked; callers whom it has not vouched for lately are turned away",
			"url", k.config.URL, "error", err)
		k.noted = now
	}
	k.down = err != nil
}

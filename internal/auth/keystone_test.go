package auth

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"

	"abaca"
	"abaca/internal/test/keystone"
)

// A front passes requests on to the real Keystone, counts them, and misbehaves in its place when told to.
type front struct {
	*httptest.Server
	questions, logins atomic.Int64
	instead           atomic.Pointer[http.HandlerFunc] // answers questions about tokens; nil: Keystone does
}

func newFront(t *testing.T, k *keystone.Keystone, start func(http.Handler) *httptest.Server) *front {
	t.Helper()
	target, err := url.Parse(strings.TrimSuffix(k.URL, "/v3"))
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	f := &front{}
	f.Server = start(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			f.logins.Add(1)
		} else {
			f.questions.Add(1)
			if h := f.instead.Load(); h != nil {
				(*h)(w, r)
				return
			}
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(f.Close)
	return f
}

func (f *front) answer(h http.HandlerFunc) { f.instead.Store(&h) }

// notFound says of every token that Keystone does not know it, in Keystone's form.
func notFound(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusNotFound)
	w.Write([]byte(`{"error": {"code": 404, "message": "Could not find token.", "title": "Not Found"}}`))
}

// A clock shows the system's time, and more when it is wound forward.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) forward(d time.Duration) { c.ahead.Add(int64(d)) }

// A lockedBuffer is a log that several may write to.
type lockedBuffer struct {
	sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.Lock()
	defer b.Unlock()
	return b.Buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.Lock()
	defer b.Unlock()
	return b.Buffer.String()
}

// A way is a way in by Keystone, with what tests wind and read.
type way struct {
	*Keystone
	clock clock
	log   lockedBuffer
}

func newWay(t *testing.T, address string, change func(*KeystoneConfig)) *way {
	t.Helper()
	w := &way{}
	c := KeystoneConfig{
		URL: address, Cache: 30 * time.Second, Timeout: 5 * time.Minute, Log: slog.New(slog.NewTextHandler(&w.log, nil)), Now: w.clock.now,
		Login: Login{
			Username: "abaca", UserDomainName: "Default", ProjectName: "service", ProjectDomainName: "Default",
			Secret: func() (string, error) { return keystone.Password, nil },
		},
	}
	if change != nil {
		change(&c)
	}
	var err error
	if w.Keystone, err = NewKeystone(c); err != nil {
		t.Fatal(err)
	}
	return w
}

func request(tokens ...string) *http.Request {
	r := httptest.NewRequest("GET", "/v2/shares", nil)
	r.Header["X-Auth-Token"] = tokens
	return r
}

// outcome is what came of a request in a word.
func outcome(err error) string {
	if c, ok := errors.AsType[*Challenge](err); ok {
		return fmt.Sprint(c.Status)
	}
	switch {
	case err == nil:
		return "in"
	case abaca.FaultOf(err) == abaca.Forbidden:
		return "403"
	case abaca.FaultOf(err) == abaca.Unavailable:
		return "503"
	}
	return err.Error()
}

func (w *way) wants(t *testing.T, want, token string) abaca.Caller {
	t.Helper()
	c, err := w.Authenticate(request(token))
	if got := outcome(err); got != want {
		t.Fatalf("%s, want %s: %v; the log says %s", got, want, err, w.log.String())
	}
	return c
}

func TestKeystone(t *testing.T) {
	k := keystone.Start(t)
	f := newFront(t, k, httptest.NewServer)
	t.Run("it vouches for callers", func(t *testing.T) { vouches(t, k, f) })
	t.Run("its answers are remembered for a while", func(t *testing.T) { remembers(t, k, f) })
	t.Run("many callers at once are few questions", func(t *testing.T) { bounds(t, k, f) })
	t.Run("without it nothing opens", func(t *testing.T) { opensNothing(t, k, f) })
	t.Run("the server's own account", func(t *testing.T) { ownAccount(t, k, f) })
}

func vouches(t *testing.T, k *keystone.Keystone, f *front) {
	alpha := keystone.Project("alpha")

	t.Run("a token stands for its user, project and roles, the implied ones too", func(t *testing.T) {
		w := newWay(t, f.URL, nil)
		for _, test := range []struct{ user, project, roles string }{
			{"anna", "alpha", "member reader"}, {"rita", "alpha", "reader"}, {"vera", "alpha", "visitor"}, {"bert", "beta", "member reader"},
			{"admin", "admin", "admin manager member reader"},
		} {
			c := w.wants(t, "in", k.Token(test.user, keystone.Project(test.project)))
			slices.Sort(c.Roles)
			if c.User != k.User(test.user) || string(c.Project) != k.Project(test.project) || strings.Join(c.Roles, " ") != test.roles {
				t.Errorf("%s: %+v", test.user, c)
			}
		}
	})

	t.Run("tokens of other scopes are forbidden", func(t *testing.T) {
		w := newWay(t, f.URL, nil)
		for name, scope := range map[string]*gophercloud.AuthScope{
			"system": keystone.System(), "domain": keystone.Domain(), "none": nil,
		} {
			t.Run(name, func(t *testing.T) {
				token := k.Token("admin", scope)
				w.wants(t, "403", token)
				w.wants(t, "403", token)
			})
		}
	})

	t.Run("an application credential stands for its user, unless it is for other requests alone", func(t *testing.T) {
		w := newWay(t, f.URL, nil)
		if c := w.wants(t, "in", k.CredentialToken(k.ApplicationCredential("anna", "alpha"))); string(c.Project) != k.Project("alpha") {
			t.Errorf("%+v", c)
		}
		// Keystone does not show such a token to services that have not said that they enforce its rules.
		w.wants(t, "401", k.CredentialToken(k.ApplicationCredential("anna", "alpha", [3]string{"compute", "GET", "/v2.1/servers"})))
	})

	t.Run("what Keystone does not know or has let run out is a challenge that names Keystone", func(t *testing.T) {
		w := newWay(t, f.URL, func(c *KeystoneConfig) { c.Advertised = "https://identity.example/v3" })
		for _, token := range []string{k.Expired, "garbage", k.Expired[:len(k.Expired)-1], strings.Repeat("a", longestToken), "../../users", "a?nocatalog", `"'{}$`} {
			_, err := w.Authenticate(request(token))
			c, ok := errors.AsType[*Challenge](err)
			if !ok || c.Status != 401 || c.Header.Get("WWW-Authenticate") != `Keystone uri="https://identity.example/v3"` {
				t.Errorf("%.20q: %v", token, err)
			}
		}
	})

	t.Run("what cannot be a token is refused without asking", func(t *testing.T) {
		w := newWay(t, f.URL, nil)
		anna := k.Token("anna", alpha)
		before := f.questions.Load() + f.logins.Load()
		for _, tokens := range [][]string{
			nil, {""}, {"", anna}, {anna, anna}, {anna, "x"}, {anna + "," + "\n"}, {anna + " "}, {"tök"}, {"a\x00b"}, {"a\x7f"},
			{strings.Repeat("a", longestToken+1)},
		} {
			if _, err := w.Authenticate(request(tokens...)); outcome(err) != "401" {
				t.Errorf("%.20q: %v", tokens, err)
			}
		}
		if asked := f.questions.Load() + f.logins.Load() - before; asked != 0 {
			t.Errorf("Keystone was asked %d times", asked)
		}
	})

	t.Run("what clients say of themselves is not looked at", func(t *testing.T) {
		w := newWay(t, f.URL, nil)
		for _, tokens := range [][]string{nil, {k.Token("rita", alpha)}} {
			r := request(tokens...)
			for name, value := range map[string]string{
				"X-Roles": "admin", "X-User-Id": "somebody", "X-Project-Id": k.Project("beta"), "X-Tenant-Id": k.Project("beta"),
				"X-Identity-Status": "Confirmed", "X-Is-Admin-Project": "True", "X-Service-Token": "x", "X-Auth-User": "admin",
				"X-Auth-Project-Id": "admin", "X-Storage-Token": k.Token("admin", keystone.Project("admin")),
			} {
				r.Header.Set(name, value)
			}
			c, err := w.Authenticate(r)
			if tokens == nil && outcome(err) != "401" {
				t.Errorf("without a token: %+v, %v", c, err)
			}
			if tokens != nil && (err != nil || !slices.Equal(c.Roles, []string{"reader"}) || string(c.Project) != k.Project("alpha")) {
				t.Errorf("%+v, %v", c, err)
			}
		}
	})
}

func remembers(t *testing.T, k *keystone.Keystone, f *front) {
	alpha := keystone.Project("alpha")
	asked := func(t *testing.T, want int64, do func()) {
		t.Helper()
		before := f.questions.Load()
		do()
		if got := f.questions.Load() - before; got != want {
			t.Errorf("Keystone was asked %d times, want %d", got, want)
		}
	}

	t.Run("a good token is asked for once in the cache's time", func(t *testing.T) {
		w := newWay(t, f.URL, nil)
		w.LogIn(t.Context())
		token := k.Token("anna", alpha)
		asked(t, 1, func() {
			for range 5 {
				w.wants(t, "in", token)
			}
		})
		w.clock.forward(29 * time.Second)
		asked(t, 0, func() { w.wants(t, "in", token) })
		w.clock.forward(time.Second)
		asked(t, 1, func() { w.wants(t, "in", token) })
	})

	t.Run("without a cache each request is a question", func(t *testing.T) {
		w := newWay(t, f.URL, func(c *KeystoneConfig) { c.Cache = 0 })
		w.LogIn(t.Context())
		token := k.Token("anna", alpha)
		asked(t, 4, func() {
			w.wants(t, "in", token)
			w.wants(t, "in", token)
			w.wants(t, "401", "garbage")
			w.wants(t, "401", "garbage")
		})
	})

	t.Run("a revoked token works until the cache's time is over", func(t *testing.T) {
		w := newWay(t, f.URL, nil)
		token := k.Token("anna", alpha)
		w.wants(t, "in", token)
		k.Revoke(token)
		w.wants(t, "in", token)
		w.clock.forward(30 * time.Second)
		w.wants(t, "401", token)
	})

	t.Run("a role given or taken counts when the cache's time is over", func(t *testing.T) {
		w := newWay(t, f.URL, nil)
		k.Assign("member", "rita", "beta")
		token := k.Token("rita", keystone.Project("beta"))
		if c := w.wants(t, "in", token); !slices.Contains(c.Roles, "member") {
			t.Errorf("%+v", c)
		}
		k.Assign("visitor", "rita", "beta")
		k.Unassign("member", "rita", "beta")
		w.clock.forward(30 * time.Second)
		if c := w.wants(t, "in", token); !slices.Equal(c.Roles, []string{"visitor"}) {
			t.Errorf("%+v", c)
		}
		k.Unassign("visitor", "rita", "beta")
		w.clock.forward(30 * time.Second)
		w.wants(t, "401", token)
	})

	t.Run("a token is not remembered beyond its end", func(t *testing.T) {
		w := newWay(t, f.URL, nil)
		w.clock.forward(time.Hour - 10*time.Second) // Keystone's tokens live for an hour
		token := k.Token("anna", alpha)
		w.wants(t, "in", token)
		w.clock.forward(11 * time.Second)
		w.wants(t, "401", token)
	})

	t.Run("a bad token is asked for once in five seconds, and pushes no good one out", func(t *testing.T) {
		w := newWay(t, f.URL, nil)
		w.LogIn(t.Context())
		token := k.Token("anna", alpha)
		w.wants(t, "in", token)
		asked(t, 1, func() {
			for range 5 {
				w.wants(t, "401", "garbage")
			}
		})
		w.clock.forward(refusal)
		asked(t, 1, func() { w.wants(t, "401", "garbage") })
		f.answer(notFound)
		defer f.instead.Store(nil)
		for i := range badOnes + 1 {
			w.wants(t, "401", fmt.Sprint("guess-", i))
		}
		asked(t, 0, func() { w.wants(t, "in", token) })
		if w.bad.Len() > badOnes {
			t.Errorf("%d bad tokens are remembered", w.bad.Len())
		}
	})

	t.Run("no token is kept", func(t *testing.T) {
		w := newWay(t, f.URL, nil)
		token := k.Token("anna", alpha)
		w.wants(t, "in", token)
		if kept := fmt.Sprintf("%+v %+v", w.good.Keys(), w.good.Values()); strings.Contains(kept, token) || w.good.Len() != 1 {
			t.Errorf("%s", kept)
		}
	})
}

package auth

import (
	"bytes"
	"context"
	"encoding/pem"
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
		for i := range refused + 1 {
			w.wants(t, "401", fmt.Sprint("guess-", i))
		}
		asked(t, 0, func() { w.wants(t, "in", token) })
		if w.bad.Len() > refused {
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

func bounds(t *testing.T, k *keystone.Keystone, f *front) {

	t.Run("one token is one question, whoever goes away meanwhile", func(t *testing.T) {
		w := newWay(t, f.URL, nil)
		w.LogIn(t.Context())
		token := k.Token("anna", keystone.Project("alpha"))
		inside, open := make(chan struct{}, 100), make(chan struct{})
		f.answer(func(rw http.ResponseWriter, r *http.Request) {
			inside <- struct{}{}
			<-open
			notFound(rw, r)
		})
		defer f.instead.Store(nil)
		before := f.questions.Load()
		gone, leave := context.WithCancel(t.Context())
		left := make(chan error)
		go func() {
			_, err := w.Authenticate(request(token).WithContext(gone))
			left <- err
		}()
		<-inside
		leave()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("who went away is told %v", err)
		}
		outcomes := make(chan string)
		for range 100 {
			go func() {
				_, err := w.Authenticate(request(token))
				outcomes <- outcome(err)
			}()
		}
		close(open)
		for range 100 {
			if got := <-outcomes; got != "401" {
				t.Error(got)
			}
		}
		if asked := f.questions.Load() - before; asked != 1 {
			t.Errorf("Keystone was asked %d times", asked)
		}
	})

	t.Run("questions under way are bounded, and so are those that wait", func(t *testing.T) {
		w := newWay(t, f.URL, nil)
		w.LogIn(t.Context())
		open := make(chan struct{})
		var now, most atomic.Int64
		f.answer(func(rw http.ResponseWriter, r *http.Request) {
			n := now.Add(1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			<-open
			now.Add(-1)
			notFound(rw, r)
		})
		defer f.instead.Store(nil)
		const extra = 50
		outcomes := make(chan string, inLine+extra)
		for i := range inLine + extra {
			go func() {
				_, err := w.Authenticate(request(fmt.Sprint("guess-", i)))
				outcomes <- outcome(err)
			}()
		}
		for range extra {
			if got := <-outcomes; got != "503" {
				t.Errorf("one too many gets %s", got)
			}
		}
		close(open)
		for range inLine {
			if got := <-outcomes; got != "401" {
				t.Errorf("one who waited gets %s", got)
			}
		}
		if m := most.Load(); m > atATime {
			t.Errorf("%d questions at a time", m)
		}
	})

	t.Run("a new token for the server itself is got once for all", func(t *testing.T) {
		w := newWay(t, f.URL, nil)
		w.LogIn(t.Context())
		tokens := []string{}
		for range 8 {
			tokens = append(tokens, k.Token("anna", keystone.Project("alpha")))
		}
		k.Revoke(w.client.service.Token())
		before := f.logins.Load()
		var group sync.WaitGroup
		for _, token := range tokens {
			group.Go(func() {
				if _, err := w.Authenticate(request(token)); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		if logins := f.logins.Load() - before; logins != 1 {
			t.Errorf("%d logins", logins)
		}
	})
}

func opensNothing(t *testing.T, k *keystone.Keystone, f *front) {
	alpha := keystone.Project("alpha")

	t.Run("cached callers go on until their time is over, others wait for Keystone to come back", func(t *testing.T) {
		w := newWay(t, k.URL, nil)
		known, other := k.Token("anna", alpha), k.Token("rita", alpha)
		w.wants(t, "in", known)
		k.Stop()
		w.wants(t, "in", known)
		w.wants(t, "503", other)
		w.wants(t, "503", "garbage")
		w.clock.forward(30 * time.Second)
		w.wants(t, "503", known)
		k.Restart()
		w.wants(t, "in", known)
		w.wants(t, "in", other)
		w.wants(t, "401", "garbage")
		if said := w.log.String(); strings.Count(said, "cannot be asked") != 1 || strings.Count(said, "answers again") != 1 {
			t.Errorf("the log says %s", said)
		}
	})

	t.Run("a Keystone that hangs makes nobody wait for ever", func(t *testing.T) {
		w := newWay(t, k.URL, func(c *KeystoneConfig) { c.Timeout = 2 * time.Second })
		known, other := k.Token("anna", alpha), k.Token("rita", alpha)
		w.wants(t, "in", known)
		k.Freeze()
		w.wants(t, "503", other)
		w.wants(t, "in", known)
		k.Thaw()
		w.wants(t, "in", other)
	})

	t.Run("an answer that is not Keystone's opens nothing", func(t *testing.T) {
		w := newWay(t, f.URL, func(c *KeystoneConfig) { c.Cache = 0 })
		token := k.Token("anna", alpha)
		valid := `{"token": {"user": {"id": "u"}, "project": {"id": "p"}, "roles": [{"name": "admin"}], "expires_at": "2999-01-01T00:00:00.000000Z"}}`
		for name, h := range map[string]http.HandlerFunc{
			"500":              func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) },
			"503 with a token": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503); w.Write([]byte(valid)) },
			"201 with a token": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(201); w.Write([]byte(valid)) },
			"204":              func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) },
			"403":              func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) },
			"429":              func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(429) },
			"a redirect":       func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Location", "/v3/"); w.WriteHeader(302) },
			"404 of a proxy":   func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404); w.Write([]byte("<html>")) },
			"nothing":          func(http.ResponseWriter, *http.Request) {},
			"a page":           func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("<html>Keystone</html>")) },
			"null":             func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("null")) },
			"a list":           func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("[]")) },
			"no token":         func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("{}")) },
			"an empty token":   func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(`{"token": {}}`)) },
			"no user":          func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(strings.Replace(valid, `"u"`, `""`, 1))) },
			"no end": func(w http.ResponseWriter, _ *http.Request) {
				w.Write([]byte(strings.Replace(valid, "expires_at", "ends_at", 1)))
			},
			"roles as text": func(w http.ResponseWriter, _ *http.Request) {
				w.Write([]byte(strings.Replace(valid, `[{"name": "admin"}]`, `"admin"`, 1)))
			},
			"half of it": func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(valid[:len(valid)/2])) },
			"endlessly": func(w http.ResponseWriter, r *http.Request) {
				for w.Write([]byte(`{"token": {"a": "`)); r.Context().Err() == nil; {
					if _, err := w.Write(bytes.Repeat([]byte("a"), 1<<16)); err != nil {
						return
					}
				}
			},
			"a broken connection": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		} {
			t.Run(name, func(t *testing.T) {
				w.wants(t, "in", token)
				w.log.Reset()
				f.answer(h)
				defer f.instead.Store(nil)
				w.wants(t, "503", token)
				if said := w.log.String(); strings.Count(said, "cannot be asked") != 1 || strings.Contains(said, token) ||
					strings.Contains(said, keystone.Password) {
					t.Errorf("the log says %s", said)
				}
			})
		}
	})
}

func ownAccount(t *testing.T, k *keystone.Keystone, f *front) {
	token := k.Token("anna", keystone.Project("alpha"))

	t.Run("a wrong password is the server's fault, said once, and not tried again at once", func(t *testing.T) {
		password := "wrong-" + keystone.Password
		w := newWay(t, f.URL, func(c *KeystoneConfig) {
			c.Login.Secret = func() (string, error) { return password, nil }
		})
		before := f.logins.Load()
		w.LogIn(t.Context())
		for range 5 {
			w.wants(t, "503", token)
		}
		if logins := f.logins.Load() - before; logins != 1 {
			t.Errorf("%d logins", logins)
		}
		if said := w.log.String(); strings.Count(said, "credentials") != 1 || strings.Contains(said, password) || strings.Contains(said, token) {
			t.Errorf("the log says %s", said)
		}
		password = keystone.Password // its file has been corrected
		w.clock.forward(pause)
		w.wants(t, "in", token)
	})

	t.Run("an account that may not validate tokens is the server's fault", func(t *testing.T) {
		w := newWay(t, f.URL, func(c *KeystoneConfig) { c.Login.Username, c.Login.ProjectName = "vera", "alpha" })
		w.wants(t, "503", token)
		if said := w.log.String(); !strings.Contains(said, "403") {
			t.Errorf("the log says %s", said)
		}
	})

	t.Run("an application credential does as well as a password", func(t *testing.T) {
		id, secret := k.ApplicationCredential("abaca", "service")
		w := newWay(t, f.URL, func(c *KeystoneConfig) {
			c.Login = Login{CredentialID: id, Secret: func() (string, error) { return secret, nil }}
		})
		w.wants(t, "in", token)
	})

	t.Run("over TLS, whom nobody vouches for is not Keystone", func(t *testing.T) {
		f := newFront(t, k, httptest.NewTLSServer)
		f.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
		w := newWay(t, f.URL, nil)
		w.wants(t, "503", token)
		if said := w.log.String(); !strings.Contains(said, "certificate") {
			t.Errorf("the log says %s", said)
		}
		w = newWay(t, f.URL, func(c *KeystoneConfig) {
			c.Roots = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.Certificate().Raw})
		})
		w.wants(t, "in", token)
	})
	t.Run("a new password counts without a restart", func(t *testing.T) {
		password := keystone.Password
		w := newWay(t, f.URL, func(c *KeystoneConfig) {
			c.Cache = 0
			c.Login.Secret = func() (string, error) { return password, nil }
		})
		w.wants(t, "in", token)
		password = "another"
		k.SetPassword("abaca", password)
		// For the rest of that second Keystone takes new tokens, too, for older than the password.
		for end := time.Now().Add(time.Minute); time.Now().Before(end); {
			if _, err := w.Authenticate(request(token)); err == nil {
				return
			}
		}
		t.Errorf("the log says %s", w.log.String())
	})
}

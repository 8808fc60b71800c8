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
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"abaca/internal/test/keystone"
)

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

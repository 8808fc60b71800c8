package health_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"abaca/internal/health"
)

func ask(h http.Handler, method, target, accept string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, nil)
	if accept != "" {
		r.Header.Set("Accept", accept)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func well(context.Context) error { return nil }

func broken(context.Context) error { return errors.New("dial 10.0.0.1: /secret/path") }

func TestTheAnswerIsInTheShapesOfOpenStack(t *testing.T) {
	for _, test := range []struct {
		says           string
		parts          []health.Part
		drain          bool
		method, accept string
		code           int
		media, body    string
	}{
		{"all is well", []health.Part{{Reason: "A", Check: well}}, false, "GET", "", 200, "text/plain; charset=UTF-8", "OK"},
		{"in JSON", []health.Part{{Reason: "A", Check: well}}, false, "GET", "application/json", 200, "application/json", `{"detailed":false,"reasons":["OK"]}`},
		{"without a body", []health.Part{{Reason: "A", Check: well}}, false, "HEAD", "", 204, "", ""},
		{"to any method", []health.Part{{Reason: "A", Check: well}}, false, "POST", "", 200, "text/plain; charset=UTF-8", "OK"},
		{"a part is not", []health.Part{{Reason: "A", Check: well}, {Reason: "B", Check: broken}}, false, "GET", "", 503, "text/plain; charset=UTF-8", "B"},
		{"two are not", []health.Part{{Reason: "A", Check: broken}, {Reason: "B", Check: broken}}, false, "GET", "", 503, "text/plain; charset=UTF-8", "A\nB"},
		{"two, in JSON", []health.Part{{Reason: "A", Check: broken}, {Reason: "B", Check: broken}}, false, "GET", "application/json", 503, "application/json",
			`{"detailed":false,"reasons":["A","B"]}`},
		{"one of many is not", []health.Part{{Reason: "A", Check: well}, {Reason: "B", Check: broken, OneOf: true}}, false, "GET", "", 200,
			"text/plain; charset=UTF-8", "OK\nB"},
		{"one of many and another are not", []health.Part{{Reason: "B", Check: broken, OneOf: true}, {Reason: "C", Check: broken}}, false, "GET", "", 503,
			"text/plain; charset=UTF-8", "C\nB"},
		{"it drains", []health.Part{{Reason: "A", Check: well}}, true, "GET", "", 503, "text/plain; charset=UTF-8", "DRAINING"},
	} {
		t.Run(test.says, func(t *testing.T) {
			h := health.New(test.parts, func(*http.Request) bool { return false }, slog.New(slog.DiscardHandler))
			if test.drain {
				h.Drain()
			}
			a := ask(h, test.method, "/healthcheck?detailed", test.accept)
			if a.Code != test.code || a.Header().Get("Content-Type") != test.media || a.Body.String() != test.body {
				t.Errorf("%d, %s: %s", a.Code, a.Header().Get("Content-Type"), a.Body)
			}
		})
	}
}

func TestErrorsAreShownToThoseAloneWhoMaySeeThem(t *testing.T) {
	h := health.New([]health.Part{{Reason: "A", Check: broken}}, func(r *http.Request) bool { return r.Header.Get("Accept") == "" }, slog.New(slog.DiscardHandler))
	if a := ask(h, "GET", "/healthcheck?detailed", ""); a.Code != 503 || !strings.Contains(a.Body.String(), "/secret/path") {
		t.Errorf("%d: %s", a.Code, a.Body)
	}
	if a := ask(h, "GET", "/healthcheck?detailed", "text/plain"); a.Code != 503 || strings.Contains(a.Body.String(), "secret") {
		t.Errorf("%d: %s", a.Code, a.Body)
	}
}

func TestALogSaysWhenAPartFallsIllAndWhenItRecovers(t *testing.T) {
	var out strings.Builder
	var sick atomic.Bool
	h := health.New([]health.Part{{Reason: "A", Check: func(context.Context) error {
		if sick.Load() {
			return errors.New("ill")
		}
		return nil
	}}}, func(*http.Request) bool { return false }, slog.New(slog.NewTextHandler(&out, nil)))
	until := func(code int) {
		t.Helper()
		for end := time.Now().Add(time.Minute); ask(h, "GET", "/healthcheck", "").Code != code; {
			if time.Now().After(end) {
				t.Fatalf("it never answers %d", code)
			}
		}
	}
	until(200)
	sick.Store(true)
	until(503)
	until(503)
	sick.Store(false)
	until(200)
	if got := out.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, "error=ill") || !strings.Contains(got, "ready again") {
		t.Errorf("the log says\n%s", got)
	}
}

func TestWhatHangsIsAskedOnceAndWaitedForNoLongerThanAgreed(t *testing.T) {
	release := make(chan struct{})
	var asked atomic.Int64
	p := health.Probe[int]{Fresh: time.Hour, Patience: 50 * time.Millisecond, Ask: func(context.Context) (int, error) {
		asked.Add(1)
		<-release // whatever its context says, as a mount that is gone
		return 7, nil
	}}
	var all sync.WaitGroup
	began := time.Now()
	for range 20 {
		all.Go(func() {
			if _, err := p.Get(); !errors.Is(err, health.ErrSilent) {
				t.Errorf("who asks is told %v", err)
			}
		})
	}
	all.Wait()
	if _, err := p.Get(); !errors.Is(err, health.ErrSilent) {
		t.Errorf("who asks later is told %v", err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it takes %v", took)
	}
	close(release)
	for end := time.Now().Add(time.Minute); ; {
		if n, err := p.Get(); err == nil && n == 7 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("an answer that comes late is never told")
		}
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("it is asked %d times", n)
	}
}

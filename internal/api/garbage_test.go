package api_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"abaca/internal/api"
)

// An odd request is one that no client would send. It goes to the handler itself: on the wire net/http would
// refuse some of it before the handler is asked.
type odd struct {
	method, path, query       string
	token, version            string
	experimental, contentType string
	header, value             string // one more
	body                      string
}

func (o odd) request() *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/", strings.NewReader(o.body))
	r.Method = o.method
	r.URL = &url.URL{Path: o.path, RawQuery: o.query}
	r.RequestURI = ""
	for name, value := range map[string]string{
		"X-Auth-Token": o.token, "X-OpenStack-Manila-API-Version": o.version, "X-OpenStack-Manila-API-Experimental": o.experimental,
		"Content-Type": o.contentType, o.header: o.value,
	} {
		if value != "" {
			r.Header.Set(name, value)
		}
	}
	return r
}

var requestID = regexp.MustCompile(`^req-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// faultKeys are the keys of Manila's fault bodies.
var faultKeys = map[int]string{
	400: "badRequest", 401: "error", 403: "forbidden", 404: "itemNotFound", 406: "computeFault",
	409: "conflictingRequest", 413: "overLimit", 422: "computeFault",
}

// check lists what is wrong with the answer to an odd request.
func (o odd) check(a *httptest.ResponseRecorder) (wrong []string) {
	complain := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	if a.Code >= 500 || a.Code < 200 {
		complain("status %d", a.Code)
	}
	if o.method == http.MethodOptions || o.path == "/healthcheck" {
		return wrong
	}
	id, inner := a.Header().Get("x-openstack-request-id"), a.Header().Get("x-compute-request-id")
	if !requestID.MatchString(id) {
		complain("x-openstack-request-id is %q", id)
	}
	if inner != "" && inner != id {
		complain("x-compute-request-id is %q and x-openstack-request-id %q", inner, id)
	}
	if !utf8.Valid(a.Body.Bytes()) {
		complain("the body is no UTF-8")
	}
	media := a.Header().Get("Content-Type")
	switch {
	case media == "application/json" && o.method != http.MethodHead:
		return append(wrong, checkJSON(a, inner)...)
	case strings.HasPrefix(media, "text/html") && a.Body.Len() > 0:
		complain("an answer without content has some")
	case strings.HasPrefix(media, "text/plain") && a.Code == http.StatusOK:
		complain("a success is plain text")
	}
	return wrong
}

func checkJSON(a *httptest.ResponseRecorder, inner string) (wrong []string) {
	complain := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	var body map[string]json.RawMessage
	if err := json.Unmarshal(a.Body.Bytes(), &body); err != nil {
		complain("the body is no JSON object: %v", err)
	}
	if a.Code < 400 {
		if inner == "" && a.Code != http.StatusMultipleChoices {
			complain("no x-compute-request-id")
		}
		return wrong
	}
	var fault struct {
		Code    int
		Message string
	}
	raw, ok := body[faultKeys[a.Code]]
	if !ok || len(body) != 1 || json.Unmarshal(raw, &fault) != nil || fault.Code != a.Code || fault.Message == "" {
		complain("status %d has the fault %s", a.Code, a.Body)
	}
	if inner == "" && a.Code != http.StatusUnauthorized {
		complain("no x-compute-request-id")
	}
	if a.Code == http.StatusRequestEntityTooLarge && a.Header().Get("Retry-After") != "0" {
		complain("no Retry-After")
	}
	return wrong
}

func TestEveryRouteHasASoundRequest(t *testing.T) {
	wildcard := regexp.MustCompile(`\{\w+\}`)
	for _, route := range api.Routes() {
		pattern := regexp.MustCompile("^" + wildcard.ReplaceAllString(route.Path, "[^/]+") + "$")
		if !slices.ContainsFunc(sound, func(r request) bool { return r.method == route.Method && pattern.MatchString(r.path) }) {
			t.Errorf("nothing is asked of %s %s", route.Method, route.Path)
		}
	}
}

func TestGarbageIsAnsweredInOrder(t *testing.T) {
	const seed, requests = 20260823, 2000
	w := newWorld(t).copy(t, false)
	g := generator{Rand: rand.New(rand.NewPCG(seed, seed)), ids: idList(w)}
	answers := map[int]int{}
	for i := range requests {
		o := w.fillOdd(g.odd())
		a := httptest.NewRecorder()
		w.Config.Handler.ServeHTTP(a, o.request())
		answers[a.Code]++
		for _, wrong := range o.check(a) {
			t.Errorf("request %d: %s\n%.300q\n%.300s", i, wrong, fmt.Sprintf("%+v", o), a.Body)
		}
	}
	// The generator is worth something only while its requests get through to what they are meant for.
	for _, status := range []int{200, 202, 400, 401, 403, 404, 406, 413, 422} {
		if answers[status] == 0 {
			t.Errorf("no request was answered with %d: %v", status, answers)
		}
	}
	t.Logf("answers by status: %v", answers)
}

// FuzzRequest looks for requests that are answered with a failure of the server, or out of shape.
func FuzzRequest(f *testing.F) {
	w := newWorld(f).copy(f, false)
	g := generator{Rand: rand.New(rand.NewPCG(1, 2)), ids: idList(w)}
	for range 50 {
		o := w.fillOdd(g.odd())
		f.Add(o.method, o.path, o.query, o.version, o.contentType, o.body)
	}
	f.Fuzz(func(t *testing.T, method, path, query, version, contentType, body string) {
		o := odd{method: method, path: path, query: query, token: "admin", version: version, experimental: "true", contentType: contentType, body: body}
		a := httptest.NewRecorder()
		w.Config.Handler.ServeHTTP(a, o.request())
		for _, wrong := range o.check(a) {
			t.Errorf("%s\n%.300s", wrong, a.Body)
		}
	})
}

func idList(w *world) []string {
	var ids []string
	for _, name := range []string{"s_ok", "s_ok2", "s_busy", "s_alt", "b_drv", "b_gen", "b_alt", "l1", "snap", "type", "p_demo", "no_id"} {
		ids = append(ids, w.ids[name])
	}
	return ids
}

func (w *world) fillOdd(o odd) odd {
	o.path, o.query, o.body = w.fill(o.path), w.fill(o.query), w.fill(o.body)
	return o
}

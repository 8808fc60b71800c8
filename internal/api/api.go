// Package api speaks the Shared File Systems (Manila) v2 REST API. It alone knows about microversions, URLs and JSON.
//
// A request passes, in this order: size limit, authentication, the project in the URL, the route, the microversion, the policy,
// and the handler, which parses the body before it looks anything up. Upstream checks in the same order, and clients can tell.
package api

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"abaca"
	"abaca/internal/auth"
	"abaca/internal/db"
	"abaca/internal/manager"
)

// An Authenticator tells who makes a request; the error may be an *auth.Challenge.
type Authenticator interface {
	Authenticate(r *http.Request) (abaca.Caller, error)
}

// A Policies has the policy that is in force now.
type Policies interface{ Current() *auth.Policy }

// A Config is what a Server is made of; all of it is needed.
type Config struct {
	DB         *db.DB
	Manager    *manager.Manager
	Auth       Authenticator
	Policy     Policies
	ExportHost string // what export locations name as the host
	// ProxyHeaders has links begin with what X-Forwarded-Proto and X-Forwarded-Host say. Without a proxy that sets both, clients
	// would say it.
	ProxyHeaders bool

	Log    *slog.Logger
	Audit  func(abaca.Audit) // called after each call that may change something; nil for no audit
	Watch  Watcher           // nil for none
	Health http.Handler      // answers /healthcheck

	Requests int           // how many of callers with credentials are answered at a time; 0 for any number
	Patience time.Duration // how long the answering of one may take; 0 for as long as it takes
}

// A Server answers requests.
type Server struct {
	Config
	routes *http.ServeMux // of routes below /v2, with the project taken out of the path
	places chan struct{}  // one is taken by each request that is answered
}

// New makes a Server.
func New(c Config) *Server {
	s := &Server{Config: c, routes: http.NewServeMux(), places: make(chan struct{}, c.Requests)}
	s.routes.HandleFunc("/", unrouted)
	for pattern, rs := range byPattern() {
		s.routes.Handle(pattern, rs)
	}
	return s
}

// Manila's limits, in bytes.
const (
	maxBody = 114688
	maxURL  = 8192
)

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodOptions {
		return // 200 without a body, as upstream's outermost layer answers
	}
	if r.URL.Path == "/healthcheck" {
		s.Health.ServeHTTP(rw, r)
		return
	}
	id := "req-" + uuid.NewString()
	w, r, answered := s.watch(rw, r, id)
	defer answered()
	defer s.mistaken(w, r)
	w.Header().Set("x-openstack-request-id", id)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if len(r.URL.EscapedPath())+len(r.URL.RawQuery) > maxURL {
		plain(w, http.StatusRequestURITooLong, "The request's URL is too long.")
		return
	}
	switch p := r.URL.Path; {
	case strings.Trim(p, "/") == "":
		w.told.Route = "/"
		s.serveVersions(w, r)
	case p == "/v2" || strings.HasPrefix(p, "/v2/"):
		s.serveV2(w, r, id)
	default:
		unrouted(w, r)
	}
}

// projectID is what upstream takes for a project in a URL.
var projectID = regexp.MustCompile(`^[0-9a-f-]+$`)

func (s *Server) serveV2(w *watched, r *http.Request, id string) {
	body, err := io.ReadAll(http.MaxBytesReader(w.ResponseWriter, r.Body, maxBody))
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		plain(w, http.StatusRequestEntityTooLarge, "The request's body is too large.")
		return
	}
	if err != nil {
		plain(w, http.StatusBadRequest, "The request's body could not be read.")
		return
	}
	if s.Patience > 0 {
		ctx, cancel := context.WithTimeout(r.Context(), s.Patience)
		defer cancel()
		r = r.WithContext(ctx)
	}
	// What is told to somebody with credentials is for nobody else, and is old when it arrives.
	w.Header().Set("Cache-Control", "no-store")
	q := &request{Request: r, Server: s, id: id, prefix: "/v2", raw: body, done: func() {}, told: &w.told}
	if q.caller, err = s.Auth.Authenticate(r); err != nil {
		// Discovery tells nothing that the unauthenticated version list does not.
		if r.URL.Path == "/v2/" && r.Method == http.MethodGet {
			w.told.Route = "/v2/"
			q.reply(w, s.showVersions)
			return
		}
		s.challenge(w, q, err)
		return
	}
	if !q.enter() {
		q.fault(w, abaca.Errorf(abaca.Unavailable, "The server has too much to do at the moment."))
		return
	}
	defer q.done()
	q.caller.Request, w.told.Caller = id, q.caller
	q.policy = s.Policy.Current()
	q.caller.Admin = q.may(auth.Administrator)
	if r.URL.Path == "/v2" {
		w.told.Route = "/v2"
		w.Header().Set("Location", s.baseURL(r)+"/v2/")
		plain(w, http.StatusFound, "")
		return
	}
	if r.URL.Path == "/v2/" {
		if r.Method != http.MethodGet {
			unrouted(w, r)
			return
		}
		w.told.Route = "/v2/"
		q.reply(w, s.showVersions)
		return
	}
	rest, ok := q.withoutProject(w)
	if !ok {
		return
	}
	rest = strings.TrimSuffix(rest, ".json")
	// What is not written plainly is not a path of ours; the mux would redirect it.
	if path.Clean(rest) != rest || strings.Contains(strings.ToLower(r.URL.EscapedPath()), "%2f") || r.Method == http.MethodHead {
		unrouted(w, r)
		return
	}
	inner := r.WithContext(context.WithValue(r.Context(), requestKey{}, q))
	inner.URL = &url.URL{Path: rest}
	s.routes.ServeHTTP(w, inner)
}

// enter takes a place among the requests that are answered at a time; false where there is none. Who sends slowly, or without
// credentials, takes none: bodies are read and callers are known before.
func (q *request) enter() bool {
	if q.Requests == 0 {
		return true
	}
	select {
	case q.places <- struct{}{}:
		q.done = sync.OnceFunc(func() { <-q.places })
		return true
	default:
		return false
	}
}

// requestKey is under which a request's context holds the *request on its way through the mux.
type requestKey struct{}

// withoutProject takes a project out of the path: it must be the caller's own. Upstream knows projects by their hexadecimal
// ids; a caller's own project is known here whatever it is called, unless that is what a resource is called.
func (q *request) withoutProject(w http.ResponseWriter) (rest string, ok bool) {
	rest = strings.TrimPrefix(q.URL.Path, "/v2")
	first, more, deeper := strings.Cut(strings.TrimPrefix(rest, "/"), "/")
	own := first == string(q.caller.Project) && !slices.Contains(Resources(), first)
	if !deeper || !own && !projectID.MatchString(first) {
		return rest, true
	}
	if !own {
		q.reply(w, func(*request) (int, any, error) {
			return 0, nil, abaca.Errorf(abaca.Invalid, "The URL names a project that is not the caller's.")
		})
		return "", false
	}
	q.prefix += "/" + first
	return "/" + more, true
}

func (s *Server) challenge(w http.ResponseWriter, q *request, err error) {
	c, ok := errors.AsType[*auth.Challenge](err)
	if !ok {
		q.reply(w, func(*request) (int, any, error) { return 0, nil, err })
		return
	}
	for k, v := range c.Header {
		w.Header()[http.CanonicalHeaderKey(k)] = v
	}
	if c.Body == nil {
		w.WriteHeader(c.Status)
		return
	}
	writeJSON(w, c.Status, c.Body)
}

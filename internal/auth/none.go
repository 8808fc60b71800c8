// Package auth tells who makes a request and what that caller may do.
package auth

import (
	"net"
	"net/http"
	"regexp"
	"strings"

	"abaca"
)

// A Challenge is the answer to a request without usable credentials, as the authentication strategy words it.
type Challenge struct {
	Status int
	Header http.Header
	Body   any // encoded as JSON; nil for none
}

func (c *Challenge) Error() string { return http.StatusText(c.Status) }

// None trusts every token: the caller is user admin of project admin or, with a token "user:project", whom it names; always an
// administrator, as with Manila's noauth. It is for loopback addresses.
type None struct {
	// AnyName accepts requests to whatever name the client knows the server by. Otherwise that must be localhost or an address:
	// a web page whose name has been made to point to this machine must not speak for the person who looks at it.
	AnyName bool
}

// ids keeps what a token claims within what an identity service could have issued.
var ids = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// Authenticate returns the caller that the token names. Without a token the answer is Manila's: 204 and a token to use.
func (n None) Authenticate(r *http.Request) (abaca.Caller, error) {
	if !n.AnyName && !IsAddress(r.Host) {
		return abaca.Caller{}, Unauthorized("Without authentication the server answers to localhost and to addresses, not to other names.")
	}
	token := r.Header.Get("X-Auth-Token")
	if token == "" {
		user, project := r.Header.Get("X-Auth-User"), r.Header.Get("X-Auth-Project-Id")
		if !ids.MatchString(user) {
			user = "admin"
		}
		if !ids.MatchString(project) {
			project = "admin"
		}
		return abaca.Caller{}, &Challenge{Status: http.StatusNoContent, Header: http.Header{
			"X-Auth-Token":            {user + ":" + project},
			"X-Server-Management-Url": {"http://" + r.Host + r.URL.EscapedPath()},
			"Content-Type":            {"text/plain; charset=UTF-8"},
		}}
	}
	user, project := "admin", "admin"
	if u, p, ok := strings.Cut(token, ":"); ok && ids.MatchString(u) && ids.MatchString(p) {
		user, project = u, p
	} else if ok {
		return abaca.Caller{}, Unauthorized("The token names no user and project.")
	}
	return abaca.Caller{User: user, Project: abaca.ProjectID(project), Roles: WithImplied("admin")}, nil
}

// IsAddress reports whether a request's Host is localhost or an IP address, with or without a port: a name that nobody can have made
// point here.
func IsAddress(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	return strings.EqualFold(host, "localhost") || net.ParseIP(strings.Trim(host, "[]")) != nil
}

// Unauthorized is a Challenge in the words of OpenStack's identity middleware.
func Unauthorized(message string) *Challenge {
	return &Challenge{
		Status: http.StatusUnauthorized,
		Header: http.Header{"Content-Type": {"application/json"}},
		Body: map[string]any{"error": map[string]any{
			"code": http.StatusUnauthorized, "title": http.StatusText(http.StatusUnauthorized), "message": message,
		}},
	}
}

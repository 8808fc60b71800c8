package api

import (
	"net/http"
	"regexp"
	"strings"
)

// hostAndPort keeps what a proxy says within what links can begin with.
var hostAndPort = regexp.MustCompile(`^([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?$`)

// baseURL is how the client reaches the server.
func (s *Server) baseURL(r *http.Request) string {
	scheme, host := "http", r.Host
	if r.TLS != nil {
		scheme = "https"
	}
	if s.ProxyHeaders {
		if p := strings.ToLower(r.Header.Get("X-Forwarded-Proto")); p == "http" || p == "https" {
			scheme = p
		}
		if h := r.Header.Get("X-Forwarded-Host"); hostAndPort.MatchString(h) {
			host = h
		}
	}
	return scheme + "://" + host
}

func (s *Server) versions(r *http.Request) object {
	return object{"versions": []object{{
		"id": "v2.0", "status": "CURRENT", "version": newest.String(), "min_version": oldest.String(),
		"updated": "2015-08-27T11:33:21Z", // when upstream began the v2 API
		"links": []object{
			{"rel": "describedby", "type": "text/html", "href": "http://docs.openstack.org/"},
			{"rel": "self", "href": s.baseURL(r) + "/v2/"},
		},
		"media-types": []object{{"base": "application/json", "type": "application/vnd.openstack.share+json;version=1"}},
	}}}
}

// serveVersions answers at the root, which needs no token and ignores the version header: clients send their own newest
// version there before they know the server's.
func (s *Server) serveVersions(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodGet:
		writeJSON(w, http.StatusMultipleChoices, s.versions(r))
	case http.MethodHead:
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusMultipleChoices)
	case http.MethodPost:
		plain(w, http.StatusBadRequest, "There is nothing to post to here.")
	default:
		unrouted(w, r)
	}
}

func (s *Server) showVersions(q *request) (int, any, error) {
	return http.StatusOK, s.versions(q.Request), nil
}

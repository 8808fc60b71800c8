package api

import (
	"net/http"
)

// baseURL is how the client reaches the server.
func baseURL(r *http.Request) string {
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	return scheme + "://" + r.Host
}

func versions(r *http.Request) object {
	return object{"versions": []object{{
		"id": "v2.0", "status": "CURRENT", "version": newest.String(), "min_version": oldest.String(),
		"updated": "2015-08-27T11:33:21Z", // when upstream began the v2 API
		"links": []object{
			{"rel": "describedby", "type": "text/html", "href": "http://docs.openstack.org/"},
			{"rel": "self", "href": baseURL(r) + "/v2/"},
		},
		"media-types": []object{{"base": "application/json", "type": "application/vnd.openstack.share+json;version=1"}},
	}}}
}

// serveVersions answers at the root, which needs no token and ignores the version header: clients send their own newest
// version there before they know the server's.
func serveVersions(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodGet:
		writeJSON(w, http.StatusMultipleChoices, versions(r))
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
	return http.StatusOK, versions(q.Request), nil
}

package api

import (
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"abaca"
)

// A microversion is the minor number of a revision of the v2 API.
type microversion int

// The revisions that are served.
const (
	oldest microversion = 0
	newest microversion = 99
)

func (v microversion) String() string { return fmt.Sprintf("2.%d", int(v)) }

// Headers of Manila's own, older than the OpenStack-wide ones.
const (
	versionHeader      = "X-OpenStack-Manila-API-Version"
	experimentalHeader = "X-OpenStack-Manila-API-Experimental"
)

var versionSyntax = regexp.MustCompile(`^([1-9]\d*)\.([1-9]\d*|0)$`)

// negotiate reads the version that the request asks for, and says in the answer which one it gets. Without a header it is the
// oldest; "latest" is not a version.
func (q *request) negotiate(answer http.Header) error {
	asked := oldest.String()
	// The raw value: net/http trims the spaces that upstream refuses, so nothing here can tell.
	if values := q.Header.Values(versionHeader); len(values) > 0 {
		asked = values[0]
	}
	m := versionSyntax.FindStringSubmatch(asked)
	if m == nil {
		return abaca.Errorf(abaca.Invalid, "The version %q is malformed; it is written as in %s.", asked, newest)
	}
	minor, err := strconv.Atoi(m[2])
	answer[versionHeader] = []string{asked}
	answer.Set("Vary", versionHeader)
	if err != nil || m[1] != "2" || microversion(minor) > newest {
		return abaca.Errorf(abaca.Unacceptable, "Version %s is not supported; versions %s to %s are.", asked, oldest, newest)
	}
	q.version = microversion(minor)
	q.experimental, _ = truth(strings.TrimSpace(q.Header.Get(experimentalHeader)))
	if q.experimental {
		answer[experimentalHeader] = []string{"True"}
	}
	return nil
}

package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"abaca"
	"abaca/internal/auth"
)

// An object is a JSON object, in a request or in an answer.
type object = map[string]any

// A request is what a handler knows of the request it answers.
type request struct {
	*http.Request
	*Server
	caller       abaca.Caller
	policy       *auth.Policy // for the whole of the request
	rule         string       // of the route
	id           string
	prefix       string     // the URL's path up to the resource: /v2, or /v2/{project}
	raw          []byte     // the body
	values       url.Values // of the query, once they are asked for
	done         func()     // gives up the request's place among those that are answered at a time
	audit        abaca.Audit
	told         *Answered // what is noted of the answer for who watches
	version      microversion
	experimental bool
	pathValue    func(wildcard string) string
}

// A handler answers with a status and a body to be encoded as JSON, nil for none, or with an error.
type handler func(*request) (int, any, error)

// reply settles the microversion, runs the handler, writes its answer and returns its status.
func (q *request) reply(w http.ResponseWriter, h handler) int {
	header := w.Header()
	header.Set("x-compute-request-id", q.id)
	status, body, err := 0, any(nil), q.negotiate(header)
	if err == nil {
		status, body, err = h(q)
	}
	q.done() // who reads slowly makes nobody wait
	if err != nil {
		return q.fault(w, err)
	}
	if body == nil {
		header.Set("Content-Type", "text/html; charset=UTF-8")
		header.Set("Content-Length", "0")
		w.WriteHeader(status)
		return status
	}
	writeJSON(w, status, body)
	return status
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(body); err != nil {
		panic(err) // views are made of strings, numbers, booleans, lists and objects
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(bytes.TrimSuffix(b.Bytes(), []byte("\n"))) //nolint:errcheck // the client is gone
}

func plain(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=UTF-8")
	w.WriteHeader(status)
	w.Write([]byte(text)) //nolint:errcheck // the client is gone
}

// unrouted answers a path or method that no version of the API has.
func unrouted(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodHead {
		w.Header().Set("Content-Type", "text/html; charset=UTF-8")
		w.WriteHeader(http.StatusNotFound)
		return
	}
	plain(w, http.StatusNotFound, "There is no such resource.")
}

// decode returns the body as JSON. There is none unless the content type says that it is JSON.
func (q *request) decode() (body any, present bool, err error) {
	media, _, merr := mime.ParseMediaType(q.Header.Get("Content-Type"))
	if merr != nil || media != "application/json" || len(q.raw) == 0 {
		return nil, false, nil
	}
	malformed := abaca.Errorf(abaca.Invalid, "The request's body is not valid JSON.")
	if !utf8.Valid(q.raw) {
		return nil, false, malformed
	}
	if deeper(q.raw, maxDepth) {
		return nil, false, abaca.Errorf(abaca.Invalid, "The request's body is nested more than %d levels deep.", maxDepth)
	}
	dec := json.NewDecoder(bytes.NewReader(q.raw))
	dec.UseNumber()
	if err := dec.Decode(&body); err != nil {
		return nil, false, malformed
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) { // More would take a bracket too many for an end
		return nil, false, malformed
	}
	if holdsNUL(body) {
		return nil, false, abaca.Errorf(abaca.Invalid, "The request's body holds the character NUL, which no name or text may have.")
	}
	return body, true, nil
}

// holdsNUL reports whether any text in a JSON value holds the one character that not every database can keep.
func holdsNUL(v any) bool {
	switch v := v.(type) {
	case string:
		return strings.ContainsRune(v, 0)
	case []any:
		return slices.ContainsFunc(v, holdsNUL)
	case object:
		for key, value := range v {
			if strings.ContainsRune(key, 0) || holdsNUL(value) {
				return true
			}
		}
	}
	return false
}

// maxDepth is how deep objects and lists may be nested in a body. Nothing that is asked for needs more than four levels.
const maxDepth = 32

// deeper reports whether brackets outside strings are nested more than some levels deep, as far as text is JSON.
func deeper(text []byte, levels int) bool {
	depth, quoted, escaped := 0, false, false
	for _, c := range text {
		switch {
		case escaped:
			escaped = false
		case quoted:
			escaped, quoted = c == '\\', c != '"'
		case c == '"':
			quoted = true
		case c == '{' || c == '[':
			if depth++; depth > levels {
				return true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
}

// maxEntries is how many entries backup_options and extra specs may have.
const maxEntries = 128

func tooMany(key string, most int) error {
	return abaca.Errorf(abaca.Invalid, "%s may have %d entries at most.", key, most)
}

// wrapped returns the object below key in the body. A body without one is Unprocessable, no body at all Invalid.
func (q *request) wrapped(key string) (object, error) {
	body, present, err := q.decode()
	if err != nil {
		return nil, err
	}
	if !present {
		return nil, abaca.Errorf(abaca.Invalid, "The request needs a JSON body.")
	}
	outer, _ := body.(object)
	inner, ok := outer[key].(object)
	if !ok {
		return nil, abaca.Errorf(abaca.Unprocessable, "The request's body needs an object %q.", key)
	}
	return inner, nil
}

// maxText is the longest name or description, in characters.
const maxText = 255

// optionalText returns a string of the object, nil where it is null or not there.
func optionalText(o object, key string) (*string, error) {
	switch v := o[key].(type) {
	case nil:
		return nil, nil
	case string:
		if utf8.RuneCountInString(v) > maxText {
			return nil, abaca.Errorf(abaca.Invalid, "%q is longer than %d characters.", key, maxText)
		}
		return &v, nil
	}
	return nil, abaca.Errorf(abaca.Invalid, "%q must be a string.", key)
}

// firstOf returns the first of these keys that the object has.
func firstOf(o object, keys ...string) (key string, ok bool) {
	for _, k := range keys {
		if _, ok := o[k]; ok {
			return k, true
		}
	}
	return keys[0], false
}

// truth reads a boolean as upstream does, from JSON or from words; anything else is not one.
func truth(v any) (value, ok bool) {
	switch v := v.(type) {
	case bool:
		return v, true
	case string:
		switch strings.ToLower(strings.TrimSpace(v)) {
		case "1", "t", "true", "on", "y", "yes":
			return true, true
		case "0", "f", "false", "off", "n", "no":
			return false, true
		}
	case json.Number:
		return v.String() == "1", v.String() == "0" || v.String() == "1"
	}
	return false, false
}

// integer reads a 32-bit integer of at least least from a number or from text.
func integer(v any, least int) (int, bool) {
	var s string
	switch v := v.(type) {
	case json.Number:
		s = v.String()
	case string:
		s = v
	}
	n, err := strconv.ParseInt(s, 10, 32)
	return int(n), err == nil && int(n) >= least
}

// query returns a parameter's value: the last one where it is repeated, as upstream.
func (q *request) query(key string) (string, bool) {
	values := q.parameters()[key]
	if len(values) == 0 {
		return "", false
	}
	return values[len(values)-1], true
}

// parameters takes a semicolon, and a percent sign that escapes nothing, for what they are, as upstream. Package url passes over a
// parameter with one: a filter, which would be missing.
func (q *request) parameters() url.Values {
	if q.values == nil {
		escaped := oddities.ReplaceAllStringFunc(q.URL.RawQuery, func(text string) string {
			if len(text) == 1 {
				return url.QueryEscape(text)
			}
			return text
		})
		q.values, _ = url.ParseQuery(escaped) // the rest of its errors is of too many parameters, of which a URL has no room
	}
	return q.values
}

// oddities are semicolons, percent signs, and escapes, which are to be left alone.
var oddities = regexp.MustCompile(`;|%(?:[0-9a-fA-F]{2})?`)

// queryIsText reports whether all text in the parameters could be that of a row: UTF-8 without NUL.
func (q *request) queryIsText() bool {
	for name, values := range q.parameters() {
		if !textual(name) || slices.ContainsFunc(values, func(v string) bool { return !textual(v) }) {
			return false
		}
	}
	return true
}

// param returns a parameter's value for a filter, under the first of its names that is given; nil where none is.
func (q *request) param(names ...string) *string {
	for _, name := range names {
		if v, ok := q.query(name); ok {
			return &v
		}
	}
	return nil
}

// filter is param for a value of another string type.
func filter[T ~string](q *request, key string) *T {
	v, ok := q.query(key)
	if !ok {
		return nil
	}
	t := T(v)
	return &t
}

func textual(s string) bool { return utf8.ValidString(s) && !strings.ContainsRune(s, 0) }

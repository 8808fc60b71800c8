// Package client talks to a share-backup server: abaca, or any Manila that offers share backups.
//
// Values keep the object they were made from, so that encoding one as JSON gives back what the server sent,
// keys that this package does not know included.
package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/gophercloud/gophercloud/v2"
)

// The microversions this package can use: below the first there are no share backups.
const (
	oldest = "2.80"
	newest = "2.99"
)

// The headers that Manila's clients and servers agree on.
const (
	experimentalHeader = "X-OpenStack-Manila-API-Experimental"
	requestIDHeader    = "X-OpenStack-Request-Id"
	computeIDHeader    = "X-Compute-Request-Id"
)

// A Client is a connection to one server as one caller. It may be used by several goroutines.
type Client struct {
	service *gophercloud.ServiceClient
}

// Version returns the microversion that was agreed on, such as "2.99".
func (c *Client) Version() string { return c.service.Microversion }

// A ServerError is a refusal by the server.
type ServerError struct {
	Status    int    // the HTTP status
	Message   string // the server's own words; the status text where it sent none
	RequestID string // what the server's log calls the request; empty where it said nothing
}

func (e *ServerError) Error() string {
	if e.RequestID == "" {
		return fmt.Sprintf("%s (HTTP %d)", e.Message, e.Status)
	}
	return fmt.Sprintf("%s (HTTP %d, request %s)", e.Message, e.Status, e.RequestID)
}

// IsNotFound reports whether the server knows no such thing, or hides it from this caller.
func IsNotFound(err error) bool {
	e, ok := errors.AsType[*ServerError](err)
	return ok && e.Status == http.StatusNotFound
}

// negotiate picks the newest microversion that both sides know.
func (c *Client) negotiate(ctx context.Context) error {
	var doc struct {
		Versions []struct {
			Status, Version string
			Oldest          string `json:"min_version"`
		}
	}
	root, _, _ := strings.Cut(c.service.Endpoint, "/v2")
	_, err := c.service.Get(ctx, root+"/", &doc, &gophercloud.RequestOpts{OkCodes: []int{http.StatusOK, http.StatusMultipleChoices}})
	if err != nil {
		return fault(err)
	}
	for _, v := range doc.Versions {
		if v.Status != "CURRENT" || v.Version == "" {
			continue
		}
		if less(v.Version, oldest) {
			return fmt.Errorf("the server knows versions up to %s; share backups need %s", v.Version, oldest)
		}
		c.service.Microversion = newest
		if less(v.Version, newest) {
			c.service.Microversion = v.Version
		}
		if less(c.service.Microversion, v.Oldest) {
			return fmt.Errorf("the server wants at least version %s; this client knows up to %s", v.Oldest, newest)
		}
		return nil
	}
	return errors.New("the server offers no current version")
}

// less compares microversions by their numbers; what is not a microversion counts as 0.0.
func less(a, b string) bool {
	amajor, aminor := numbers(a)
	bmajor, bminor := numbers(b)
	return amajor < bmajor || amajor == bmajor && aminor < bminor
}

func numbers(version string) (major, minor int) {
	a, b, _ := strings.Cut(version, ".")
	major, _ = strconv.Atoi(a)
	minor, _ = strconv.Atoi(b)
	return major, minor
}

// do sends one request below the endpoint and decodes the answer into answer, which may be nil.
func (c *Client) do(ctx context.Context, method, path string, body, answer any) error {
	options := &gophercloud.RequestOpts{
		JSONBody:     body,
		JSONResponse: answer,
		OkCodes:      []int{http.StatusOK, http.StatusAccepted, http.StatusNoContent},
		MoreHeaders:  map[string]string{experimentalHeader: "true"}, // harmless on the routes that do not need it
	}
	_, err := c.service.Request(ctx, method, c.service.Endpoint+path, options)
	err = fault(err)
	if e, ok := errors.AsType[*ServerError](err); ok && e.Status == http.StatusUnauthorized && c.service.Token() == anyToken {
		return fmt.Errorf("%w; ABACA_TOKEN is where a token is taken from", err)
	}
	return err
}

// item requests something answered by {"<key>": {…}}.
func item[T any](ctx context.Context, c *Client, method, path, key string, body any) (*T, error) {
	var answer map[string]json.RawMessage
	if err := c.do(ctx, method, path, body, &answer); err != nil {
		return nil, err
	}
	v := new(T)
	if err := json.Unmarshal(answer[key], v); err != nil {
		return nil, fmt.Errorf("reading %q in the server's answer: %w", key, err)
	}
	return v, nil
}

// list requests something answered by {"<key>": [{…}, …]}.
func list[T any](ctx context.Context, c *Client, path, key string, query url.Values) ([]T, error) {
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	items, err := item[[]T](ctx, c, http.MethodGet, path, key, nil)
	if err != nil {
		return nil, err
	}
	return *items, nil
}

// fault turns gophercloud's error for an unexpected status into a ServerError and leaves other errors as they are.
func fault(err error) error {
	unexpected, ok := errors.AsType[gophercloud.ErrUnexpectedResponseCode](err)
	if !ok {
		return err
	}
	e := &ServerError{Status: unexpected.Actual, Message: http.StatusText(unexpected.Actual)}
	e.RequestID = unexpected.ResponseHeader.Get(requestIDHeader)
	if e.RequestID == "" {
		e.RequestID = unexpected.ResponseHeader.Get(computeIDHeader)
	}
	var body map[string]struct{ Message string }
	if json.Unmarshal(unexpected.Body, &body) == nil {
		for _, f := range body {
			if f.Message != "" {
				e.Message = f.Message
			}
		}
	}
	return e
}

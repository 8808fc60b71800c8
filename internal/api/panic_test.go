package api_test

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"abaca"
	"abaca/internal/api"
)

// A blunder is an authenticator with a mistake in it.
type blunder struct{}

func (blunder) Authenticate(*http.Request) (abaca.Caller, error) { panic("the mistake") }

func TestAMistakeOfOursIsLoggedAndAnswered(t *testing.T) {
	var said bytes.Buffer
	s := httptest.NewServer(api.New(api.Config{Auth: blunder{}, Log: slog.New(slog.NewTextHandler(&said, nil))}))
	for range 2 {
		resp, err := http.Get(s.URL + "/v2/shares")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		const want = `{"computeFault":{"code":500,"message":"The server failed to answer the request."}}`
		if err != nil || resp.StatusCode != http.StatusInternalServerError || string(body) != want || resp.Header.Get("X-Openstack-Request-Id") == "" {
			t.Errorf("%d, %v: %s, %v", resp.StatusCode, resp.Header, body, err)
		}
	}
	s.Close()
	if log := said.String(); strings.Count(log, "the mistake") != 2 || !strings.Contains(log, "panic_test.go") {
		t.Errorf("the log says %s", log)
	}
}

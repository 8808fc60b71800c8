package serve

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// A Client sends requests to a server and fails its test where an answer is not as it has to be.
type Client struct {
	URL   string // without the /v2
	Token string // sent with every request; an administrator's of project admin by default
	t     testing.TB
}

// NewClient makes a client of the server at an endpoint that ends in /v2.
func NewClient(t testing.TB, endpoint string) *Client {
	return &Client{URL: strings.TrimSuffix(endpoint, "/v2"), Token: "admin:admin", t: t}
}

// Do sends a request below /v2 at version 2.99, with a body unless it is nil, and decodes the answer.
func (c *Client) Do(method, path string, body any) (status int, answer map[string]any) {
	c.t.Helper()
	var reader io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			c.t.Fatal(err)
		}
		reader = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(c.t.Context(), method, c.URL+"/v2"+path, reader)
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("X-Auth-Token", c.Token)
	r.Header.Set("X-OpenStack-Manila-API-Version", "2.99")
	r.Header.Set("X-OpenStack-Manila-API-Experimental", "True")
	r.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	if len(b) > 0 {
		if err := json.Unmarshal(b, &answer); err != nil {
			c.t.Fatalf("%s %s: %s: %v", method, path, b, err)
		}
	}
	return resp.StatusCode, answer
}

// Must is Do for a request that has to be answered with this status; it returns the object below the answer's key, if it names one.
func (c *Client) Must(status int, key, method, path string, body any) map[string]any {
	c.t.Helper()
	got, answer := c.Do(method, path, body)
	if got != status {
		c.t.Fatalf("%s %s: %d, want %d: %v", method, path, got, status, answer)
	}
	if key == "" {
		return nil
	}
	o, ok := answer[key].(map[string]any)
	if !ok {
		c.t.Fatalf("%s %s: there is no %s in %v", method, path, key, answer)
	}
	return o
}

// Until asks every so often, since the API tells nobody of events, and for so long: that bounds a test that hangs and decides
// nothing.
const (
	often    = 20 * time.Millisecond
	patience = 10 * time.Minute
)

// Until asks for a resource until it is as wanted, and returns it; nil once it is gone.
func (c *Client) Until(path, key, what string, wanted func(o map[string]any) bool) map[string]any {
	c.t.Helper()
	tick := time.NewTicker(often)
	defer tick.Stop()
	var o map[string]any
	for end := time.Now().Add(patience); time.Now().Before(end); <-tick.C {
		status, answer := c.Do("GET", path, nil)
		o = nil
		if status == http.StatusOK {
			o, _ = answer[key].(map[string]any)
		}
		if wanted(o) {
			return o
		}
	}
	c.t.Fatalf("%s is not %s in time: %v", path, what, o)
	return nil
}

// AtRest waits until a resource is in a status that no work leaves, and fails the test where it is another one than wanted.
func (c *Client) AtRest(path, key, wanted string) map[string]any {
	c.t.Helper()
	o := c.Until(path, key, "at rest", func(o map[string]any) bool {
		status, _ := o["status"].(string)
		return o == nil || !strings.HasSuffix(status, "ing") || status == "error_deleting"
	})
	if got := fmt.Sprint(o["status"]); o == nil && wanted != "gone" || o != nil && got != wanted {
		c.t.Fatalf("%s is %v, want %s", path, o["status"], wanted)
	}
	return o
}

// NewShare makes a share of 1 GiB and returns its id.
func (c *Client) NewShare(name string) string {
	c.t.Helper()
	id := c.Must(200, "share", "POST", "/shares", map[string]any{"share": map[string]any{"share_proto": "NFS", "size": 1, "name": name}})["id"].(string)
	c.AtRest("/shares/"+id, "share", "available")
	return id
}

// NewBackup backs a share up, waits, and returns the backup's id.
func (c *Client) NewBackup(share string) string {
	c.t.Helper()
	body := map[string]any{"share_backup": map[string]any{"share_id": share}}
	id := c.Must(202, "share_backup", "POST", "/share-backups", body)["id"].(string)
	c.AtRest("/share-backups/"+id, "share_backup", "available")
	return id
}

// Restore restores a backup into its own share and waits.
func (c *Client) Restore(backup string) {
	c.t.Helper()
	share := c.Must(202, "restore", "POST", "/share-backups/"+backup+"/action", map[string]any{"restore": nil})["share_id"].(string)
	c.AtRest("/shares/"+share, "share", "available")
}

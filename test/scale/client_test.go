package scale

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

type object = map[string]any

// patience is how long a client tries, and how long work may take, before that is a violation.
const (
	patience = 3 * time.Minute
	often    = 100 * time.Millisecond
)

// A client speaks for a project. It asks the servers in turn, and again where none answers or the answer is 503, as users' clients do.
type client struct {
	f       *fleet
	project string
	next    atomic.Int64
	again   *atomic.Int64 // counts what had to be asked again
}

var connections = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}

// call sends a request until it is answered. Lost says that an earlier try of it was heard perhaps. Status 0 is no answer at all in time.
func (c *client) call(method, path string, body any) (status int, answer object, lost bool) {
	for end := time.Now().Add(patience); time.Now().Before(end); pause(often) {
		member := c.f.apis[int(c.next.Add(1))%len(c.f.apis)]
		status, answer, err := c.once("http://"+member.address, method, path, body)
		if err == nil && status != http.StatusServiceUnavailable {
			return status, answer, lost
		}
		lost = true
		c.again.Add(1)
	}
	return 0, nil, lost
}

func (c *client) once(server, method, path string, body any) (int, object, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return 0, nil, err
	}
	if body == nil {
		text = nil
	}
	r, err := http.NewRequestWithContext(c.f.t.Context(), method, server+"/v2"+path, bytes.NewReader(text))
	if err != nil {
		return 0, nil, err
	}
	r.Header.Set("X-Auth-Token", "scale:"+c.project)
	r.Header.Set("X-OpenStack-Manila-API-Version", "2.99")
	r.Header.Set("X-OpenStack-Manila-API-Experimental", "True")
	r.Header.Set("Content-Type", "application/json")
	resp, err := connections.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	text, err = io.ReadAll(resp.Body)
	if err != nil {
		return 0, nil, err
	}
	if resp.StatusCode == http.StatusServiceUnavailable && resp.Header.Get("Retry-After") == "" {
		c.f.t.Errorf("%s %s: 503 without Retry-After: %s", method, path, text)
	}
	if resp.StatusCode >= 500 && resp.StatusCode != http.StatusServiceUnavailable {
		c.f.t.Errorf("%s %s: %d: %s", method, path, resp.StatusCode, text)
	}
	var answer object
	if len(text) > 0 {
		if err := json.Unmarshal(text, &answer); err != nil {
			return 0, nil, fmt.Errorf("%s %s: %w: %s", method, path, err, text)
		}
	}
	return resp.StatusCode, answer, nil
}

// rest waits until something is in a status that no work leaves and returns that; "gone" where it does not exist, and a violation
// where that takes too long.
func (c *client) rest(path, key string) (status string) {
	for end := time.Now().Add(patience); time.Now().Before(end); pause(often) {
		code, answer, _ := c.call("GET", path, nil)
		switch o, _ := answer[key].(object); {
		case code == http.StatusNotFound:
			return "gone"
		case o != nil:
			if status, _ = o["status"].(string); !moving(status) {
				return status
			}
		}
	}
	c.f.t.Errorf("%s of project %s is left %s", path, c.project, status)
	return status
}

// moving reports whether a status is one that work leaves.
func moving(status string) bool {
	return strings.HasSuffix(status, "ing") && status != "error_deleting"
}

// list returns what a list has, page by page.
func (c *client) list(path, key string) (all []object) {
	marker := ""
	for {
		_, answer, _ := c.call("GET", path+"?limit=500"+marker, nil)
		page, _ := answer[key].([]any)
		for _, item := range page {
			all = append(all, item.(object))
		}
		if len(page) < 500 {
			return all
		}
		marker = "&marker=" + all[len(all)-1]["id"].(string)
	}
}

// newShare makes a share and returns its id.
func (c *client) newShare() (id string) {
	status, answer, _ := c.call("POST", "/shares", object{"share": object{"share_proto": "NFS", "size": 1}})
	share, _ := answer["share"].(object)
	if status != http.StatusOK || share == nil {
		c.f.t.Errorf("a share is answered with %d: %v", status, answer)
		return ""
	}
	id = share["id"].(string)
	if got := c.rest("/shares/"+id, "share"); got != "available" {
		c.f.t.Errorf("share %s is %s", id, got)
	}
	return id
}

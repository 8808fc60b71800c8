package client

import (
	"encoding/json"
	"errors"
	"net/http"
	"testing"
)

// connected returns a client of a server that answers each path with a body, and what is not listed with 404.
func connected(t *testing.T, newest string, bodies map[string]string) (*Client, *recorder) {
	discovery := versions("2.0", newest)
	server := record(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if body, ok := bodies[r.URL.RequestURI()]; ok {
			w.Write([]byte(body))
			return
		}
		if r.URL.Path == "/" {
			discovery(w, r)
			return
		}
		w.Header().Set("x-openstack-request-id", "req-7")
		w.WriteHeader(http.StatusNotFound)
		w.Write([]byte(`{"itemNotFound": {"code": 404, "message": "No such thing."}}`))
	})
	c, err := Connect(t.Context(), Options{Endpoint: server.URL, Getenv: func(string) string { return "" }})
	if err != nil {
		t.Fatal(err)
	}
	return c, server
}

func TestFaultsKeepTheServersWordsAndRequestID(t *testing.T) {
	c, _ := connected(t, "2.99", nil)
	_, err := c.Backup(t.Context(), "x")
	refusal, ok := errors.AsType[*ServerError](err)
	if !ok {
		t.Fatalf("error %v is no ServerError", err)
	}
	if want := (ServerError{Status: 404, Message: "No such thing.", RequestID: "req-7"}); *refusal != want {
		t.Errorf("got %+v, want %+v", *refusal, want)
	}
	if !IsNotFound(err) {
		t.Error("it is not taken for what is not found")
	}
}

func TestFaultsWithoutJSONAreNamedByTheirStatus(t *testing.T) {
	discovery := versions("2.0", "2.99")
	server := record(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			discovery(w, r)
			return
		}
		w.WriteHeader(http.StatusBadGateway)
		w.Write([]byte("<html>"))
	})
	c, err := Connect(t.Context(), Options{Endpoint: server.URL, Getenv: func(string) string { return "" }})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Shares(t.Context(), nil)
	if err == nil || err.Error() != "Bad Gateway (HTTP 502)" {
		t.Errorf("error %v", err)
	}
}

func TestFind(t *testing.T) {
	const id = "3b524c46-c45f-4434-8d1a-3fee15347f19"
	one := `{"id": "` + id + `", "name": "papers", "progress": "7"}`
	bodies := map[string]string{
		"/v2/share-backups/" + id:                        `{"share_backup": ` + one + `}`,
		"/v2/share-backups/detail?name=papers":           `{"share_backups": [` + one + `]}`,
		"/v2/share-backups/detail?name=twice":            `{"share_backups": [` + one + `, ` + one + `]}`,
		"/v2/share-backups/detail?name=a%2F..%2Fb+%26c~": `{"share_backups": [` + one + `]}`,
		"/v2/share-backups/detail?name=none":             `{"share_backups": []}`,
		// The name of a backup may look like an id.
		"/v2/share-backups/detail?name=00000000-0000-0000-0000-000000000000": `{"share_backups": [` + one + `]}`,
		"/v2/share-backups/detail?name=00000000-0000-0000-0000-000000000001": `{"share_backups": []}`,
	}
	tests := []struct {
		name, asked string
		found       int
	}{
		{"by id", id, 1},
		{"by name", "papers", 1},
		{"by a name with odd characters", "a/../b &c~", 1},
		{"by a name that looks like an id", "00000000-0000-0000-0000-000000000000", 1},
		{"not by an unknown name", "none", 0},
		{"not by an unknown id", "00000000-0000-0000-0000-000000000001", 0},
		{"not by a name that two have", "twice", 2},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c, _ := connected(t, "2.99", bodies)
			b, err := c.FindBackup(t.Context(), test.asked)
			if test.found != 1 {
				lookup, ok := errors.AsType[*LookupError](err)
				if !ok || lookup.Found != test.found {
					t.Errorf("error %v, want one that found %d", err, test.found)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if b.ID != id || b.Progress != 7 {
				t.Errorf("found %+v", b)
			}
		})
	}
}

func TestItemsAreEncodedAsTheServerSentThem(t *testing.T) {
	const object = `{"id":"1","zebra":{"b":1,"a":[2.50]},"name":null,"progress":null}`
	for name, v := range map[string]json.Marshaler{"backup": &Backup{}, "share": &Share{}} {
		t.Run(name, func(t *testing.T) {
			if err := json.Unmarshal([]byte(object), v); err != nil {
				t.Fatal(err)
			}
			if got, err := json.Marshal(v); err != nil || string(got) != object {
				t.Errorf("got %s, %v; want %s", got, err, object)
			}
		})
	}
}

func TestRestoreIntoAnotherShareNeedsVersion291(t *testing.T) {
	answer := map[string]string{"/v2/share-backups/b/action": `{"restore": {"backup_id": "b", "share_id": "s"}}`}
	c, _ := connected(t, "2.91", answer)
	if share, err := c.RestoreBackup(t.Context(), "b", "s"); err != nil || share != "s" {
		t.Errorf("at 2.91: %q, %v", share, err)
	}
	c, server := connected(t, "2.90", answer)
	if _, err := c.RestoreBackup(t.Context(), "b", "s"); err == nil {
		t.Error("at 2.90 it was asked for, and a Manila would have overwritten the source share")
	}
	if path := server.last(t).URL.Path; path != "/" {
		t.Errorf("at 2.90 the server was sent %s", path)
	}
	if share, err := c.RestoreBackup(t.Context(), "b", ""); err != nil || share != "s" {
		t.Errorf("at 2.90 into its own share: %q, %v", share, err)
	}
}

package client

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// A recorder is a server that offers a version range and remembers what it was asked.
type recorder struct {
	*httptest.Server
	mu       sync.Mutex
	requests []*http.Request
}

func record(t *testing.T, handler http.HandlerFunc) *recorder {
	r := &recorder{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		r.requests = append(r.requests, req.Clone(t.Context()))
		r.mu.Unlock()
		handler(w, req)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *recorder) last(t *testing.T) *http.Request {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.requests) == 0 {
		t.Fatal("the server was not asked anything")
	}
	return r.requests[len(r.requests)-1]
}

// versions answers GET / as servers do, with status 300, and everything else with an empty list of shares.
func versions(oldest, newest string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Path != "/" {
			w.Write([]byte(`{"shares": []}`))
			return
		}
		w.WriteHeader(http.StatusMultipleChoices)
		json.NewEncoder(w).Encode(map[string]any{"versions": []any{
			map[string]string{"id": "v1.0", "status": "SUPPORTED", "version": "", "min_version": ""},
			map[string]string{"id": "v2.0", "status": "CURRENT", "version": newest, "min_version": oldest},
		}})
	}
}

// identity is the part of Keystone that a client needs: it checks a password or a token and gives out a token and a catalog.
func identity(t *testing.T, serviceType, service string) *recorder {
	var keystone *recorder
	keystone = record(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.URL.Path != "/v3/auth/tokens" {
			w.WriteHeader(http.StatusMultipleChoices)
			json.NewEncoder(w).Encode(map[string]any{"versions": map[string]any{"values": []any{map[string]any{
				"id": "v3.14", "status": "stable", "links": []any{map[string]string{"rel": "self", "href": keystone.URL + "/v3/"}},
			}}}})
			return
		}
		var body struct {
			Auth struct {
				Identity struct {
					Password struct {
						User struct {
							Name, Password string
							Domain         struct{ Name string }
						}
					}
				}
				Scope struct {
					Project struct {
						Name   string
						Domain struct{ ID string }
					}
				}
			}
		}
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			t.Errorf("Keystone was sent no JSON: %v", err)
		}
		user, project := body.Auth.Identity.Password.User, body.Auth.Scope.Project
		if user.Name != "ann" || user.Password != "secret" || user.Domain.Name != "Default" ||
			project.Name != "papers" || project.Domain.ID != "default" {
			w.WriteHeader(http.StatusUnauthorized)
			w.Write([]byte(`{"error": {"code": 401, "title": "Unauthorized", "message": "Who are you?"}}`))
			return
		}
		w.Header().Set("X-Subject-Token", "token-of-ann")
		w.WriteHeader(http.StatusCreated)
		json.NewEncoder(w).Encode(map[string]any{"token": map[string]any{
			"expires_at": "2100-01-01T00:00:00.000000Z",
			"catalog": []any{map[string]any{"type": serviceType, "name": "manila", "id": "1", "endpoints": []any{
				map[string]string{"id": "2", "interface": "public", "region": "here", "region_id": "here", "url": service},
			}}},
		}})
	})
	return keystone
}

// writeClouds makes a clouds.yaml with a cloud "mine", where the library finds it.
func writeClouds(t *testing.T, url string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "clouds.yaml")
	text := `clouds: {mine: {auth: {auth_url: "` + url + `", username: ann, password: secret, user_domain_name: Default,
		project_name: papers, project_domain_id: default}}}`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("OS_CLIENT_CONFIG_FILE", file)
}

// openrc is the environment that an OpenStack dashboard hands out.
func openrc(url string) map[string]string {
	return map[string]string{"OS_AUTH_URL": url, "OS_USERNAME": "ann", "OS_PASSWORD": "secret", "OS_USER_DOMAIN_NAME": "Default",
		"OS_PROJECT_NAME": "papers", "OS_PROJECT_DOMAIN_ID": "default", "OS_IDENTITY_API_VERSION": "3"}
}

func TestConnect(t *testing.T) {
	server := record(t, versions("2.0", "2.99"))
	keystone := identity(t, "shared-file-system", server.URL+"/v2")
	old := identity(t, "sharev2", server.URL+"/v2/0123456789abcdef")
	writeClouds(t, keystone.URL)
	nowhere := "http://127.0.0.1:1/v2"

	tests := []struct {
		name    string
		options Options
		env     map[string]string
		token   string
		path    string
	}{
		{"an endpoint without a token gets any", Options{Endpoint: server.URL + "/v2"}, nil, anyToken, "/v2/shares/detail"},
		{"an endpoint may leave out its version", Options{Endpoint: server.URL}, nil, anyToken, "/v2/shares/detail"},
		{"an endpoint may end in a slash", Options{Endpoint: server.URL + "/v2/"}, nil, anyToken, "/v2/shares/detail"},
		{"an endpoint may name the project", Options{Endpoint: server.URL + "/v2/abc"}, nil, anyToken, "/v2/abc/shares/detail"},
		{"a token comes from ABACA_TOKEN", Options{Endpoint: server.URL}, map[string]string{"ABACA_TOKEN": "one", "OS_TOKEN": "two"}, "one", "/v2/shares/detail"},
		{"a token comes from OS_TOKEN", Options{Endpoint: server.URL}, map[string]string{"OS_TOKEN": "two"}, "two", "/v2/shares/detail"},
		{"ABACA_ENDPOINT wins over Keystone", Options{}, map[string]string{"ABACA_ENDPOINT": server.URL, "OS_AUTH_URL": nowhere}, anyToken, "/v2/shares/detail"},
		{"the option wins over ABACA_ENDPOINT", Options{Endpoint: server.URL}, map[string]string{"ABACA_ENDPOINT": nowhere}, anyToken, "/v2/shares/detail"},
		{"OS_AUTH_TYPE none means OS_ENDPOINT", Options{}, map[string]string{"OS_AUTH_TYPE": "none", "OS_ENDPOINT": server.URL + "/v2"}, anyToken, "/v2/shares/detail"},
		{"OS_* log in at Keystone", Options{}, openrc(keystone.URL + "/v3"), "token-of-ann", "/v2/shares/detail"},
		{"Keystone's URL may leave out its version", Options{}, openrc(keystone.URL), "token-of-ann", "/v2/shares/detail"},
		{"an old catalog says sharev2 and the project", Options{}, openrc(old.URL + "/v3"), "token-of-ann", "/v2/0123456789abcdef/shares/detail"},
		{"clouds.yaml logs in by option", Options{Cloud: "mine"}, nil, "token-of-ann", "/v2/shares/detail"},
		{"clouds.yaml logs in by OS_CLOUD", Options{}, map[string]string{"OS_CLOUD": "mine", "OS_AUTH_URL": nowhere}, "token-of-ann", "/v2/shares/detail"},
		{"an override replaces the catalog", Options{Cloud: "mine"}, map[string]string{"OS_ENDPOINT_OVERRIDE": server.URL + "/v2/other"}, "token-of-ann", "/v2/other/shares/detail"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.options.Getenv = func(name string) string { return test.env[name] }
			c, err := Connect(t.Context(), test.options)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Shares(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			r := server.last(t)
			if got := r.Header.Get("X-Auth-Token"); got != test.token {
				t.Errorf("token %q, want %q", got, test.token)
			}
			if r.URL.Path != test.path {
				t.Errorf("path %q, want %q", r.URL.Path, test.path)
			}
			if got := r.Header.Get("X-OpenStack-Manila-API-Version"); got != "2.99" {
				t.Errorf("version %q, want 2.99", got)
			}
		})
	}
}

func TestConnectFails(t *testing.T) {
	keystone := identity(t, "shared-file-system", "http://127.0.0.1:1/v2")
	certificates := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(certificates, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name    string
		options Options
		env     map[string]string
		says    string
	}{
		{"on an endpoint that is no URL", Options{Endpoint: "localhost:8786"}, nil, "not an http or https URL"},
		{"on an endpoint with another scheme", Options{Endpoint: "file:///etc/passwd"}, nil, "not an http or https URL"},
		{"where nothing listens", Options{Endpoint: "http://127.0.0.1:1"}, nil, "asking http://127.0.0.1:1/v2/"},
		{"on a wrong password", Options{}, map[string]string{"OS_AUTH_URL": keystone.URL + "/v3", "OS_USERNAME": "ann", "OS_PASSWORD": "wrong",
			"OS_USER_DOMAIN_NAME": "Default"}, "Who are you? (HTTP 401)"},
		{"on a file without certificates", Options{Endpoint: "https://127.0.0.1:1"}, map[string]string{"OS_CACERT": certificates}, "holds no certificate"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.options.Getenv = func(name string) string { return test.env[name] }
			_, err := Connect(t.Context(), test.options)
			if err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("error %v, want one that says %q", err, test.says)
			}
			if err != nil && strings.Contains(err.Error(), "wrong") {
				t.Errorf("the error tells the password: %v", err)
			}
		})
	}
}

func TestNegotiation(t *testing.T) {
	tests := []struct{ name, oldest, newest, want, says string }{
		{"takes the client's newest from a newer server", "2.0", "2.120", "2.99", ""},
		{"takes the server's newest from an older server", "2.0", "2.80", "2.80", ""},
		{"refuses a server without share backups", "2.0", "2.79", "", "share backups need 2.80"},
		{"refuses a server that is too new", "2.100", "2.120", "", "wants at least version 2.100"},
		{"refuses a server without a current version", "", "", "", "no current version"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			server := record(t, versions(test.oldest, test.newest))
			c, err := Connect(t.Context(), Options{Endpoint: server.URL, Getenv: func(string) string { return "" }})
			if test.says != "" {
				if err == nil || !strings.Contains(err.Error(), test.says) {
					t.Errorf("error %v, want one that says %q", err, test.says)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if c.Version() != test.want {
				t.Errorf("version %s, want %s", c.Version(), test.want)
			}
		})
	}
}

func TestRedirectDoesNotCarryTheTokenAway(t *testing.T) {
	elsewhere := record(t, versions("2.0", "2.99"))
	server := record(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL+"/", http.StatusFound)
	})
	env := map[string]string{"ABACA_TOKEN": "secret"}
	_, err := Connect(t.Context(), Options{Endpoint: server.URL, Getenv: func(name string) string { return env[name] }})
	if err == nil {
		t.Error("a redirect to another host was followed")
	}
	if n := len(elsewhere.requests); n > 0 {
		t.Errorf("the other host got %d requests", n)
	}
}

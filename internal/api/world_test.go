package api_test

import (
	"database/sql"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"abaca"
	"abaca/internal/api"
	"abaca/internal/auth"
	"abaca/internal/backend"
	"abaca/internal/db"
	"abaca/internal/health"
	"abaca/internal/manager"
	"abaca/internal/posix"
	"abaca/internal/test/postgres"
)

func TestMain(m *testing.M) { os.Exit(postgres.Main(m)) }

// A world is a server that knows what the recorded one knew. Its manager takes requests and its workers do not run,
// so that what is asked for stays as it is right after the answer.
type world struct {
	*httptest.Server
	t      testing.TB
	at     string // the database
	db     *db.DB
	files  string // where the shares' directories would be
	policy api.Policies
	ids    map[string]string
	client *http.Client
}

// newWorld makes the database that others are copies of.
func newWorld(t testing.TB) *world {
	t.Helper()
	if os.Getenv("TEST_DATABASE") == "postgres" {
		return newWorldAt(t, postgres.New(t))
	}
	return newWorldAt(t, filepath.Join(t.TempDir(), "world.sqlite"))
}

func newWorldAt(t testing.TB, at string) *world {
	t.Helper()
	w := &world{t: t, at: at, ids: map[string]string{}, policy: auth.DefaultPolicy()}
	data, err := os.ReadFile("testdata/ids.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &w.ids); err != nil {
		t.Fatal(err)
	}
	d, err := db.Open(t.Context(), w.at) // makes the tables
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if data, err = os.ReadFile("testdata/world.sql"); err != nil {
		t.Fatal(err)
	}
	w.exec(string(data))
	return w
}

// copy serves a copy of the world to the callers of the recording.
func (w *world) copy(t testing.TB, noAuth bool) *world {
	t.Helper()
	if noAuth {
		return w.copyFor(t, auth.None{})
	}
	return w.copyFor(t, personas(w.ids))
}

// copyFor serves a copy of the world to callers whom somebody tells apart.
func (w *world) copyFor(t testing.TB, callers api.Authenticator) *world {
	t.Helper()
	c := &world{t: t, files: t.TempDir(), policy: w.policy, ids: w.ids}
	if db.IsURL(w.at) {
		c.at = postgres.Copy(t, w.at)
		c.serve(callers)
		return c
	}
	c.at = filepath.Join(t.TempDir(), "copy.sqlite")
	data, err := os.ReadFile(w.at)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(c.at, data, 0o600); err != nil {
		t.Fatal(err)
	}
	c.serve(callers)
	return c
}

func (w *world) serve(callers api.Authenticator) {
	t := w.t
	t.Helper()
	d, err := db.Open(t.Context(), w.at)
	if err != nil {
		t.Fatal(err)
	}
	w.db = d
	files, err := backend.OpenDirectory(w.files)
	if err != nil {
		t.Fatal(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	config := api.Config{
		Health: health.New([]health.Part{{Reason: "DATABASE", Check: d.Ping}}, func(*http.Request) bool { return false }, quiet),
		DB:     d, Auth: callers, Policy: w.policy, ExportHost: "127.0.0.1", Log: quiet,
		Manager: manager.New(manager.Config{
			DB: d, Backends: map[string]manager.Backend{"local": files}, DefaultBackend: "local", DefaultType: "default",
			Protocols: []string{"NFS", "CIFS"}, DataProtocols: []string{"NFS"}, Zone: "nova", Limits: abaca.DefaultLimits,
			Host: "worker", Lease: time.Hour, Log: quiet, Now: time.Now, Uptime: posix.Uptime,
		}),
	}
	if err := config.Manager.Register(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.Server = httptest.NewServer(api.New(config))
	w.client = w.Server.Client()
	w.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	t.Cleanup(func() {
		w.Close()
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		if err := files.Close(); err != nil {
			t.Error(err)
		}
	})
}

// exec writes into the database past the server, as only a test may.
func (w *world) exec(statements string) {
	w.t.Helper()
	driver := "sqlite"
	if db.IsURL(w.at) {
		driver = "pgx"
	}
	d, err := sql.Open(driver, w.at)
	if err != nil {
		w.t.Fatal(err)
	}
	defer d.Close()
	if _, err := d.ExecContext(w.t.Context(), w.fill(statements)); err != nil {
		w.t.Fatal(err)
	}
}

// fill puts ids where text names them.
func (w *world) fill(text string) string {
	for name, id := range w.ids {
		text = strings.ReplaceAll(text, "{{"+name+"}}", id)
	}
	return text
}

// authenticator knows the callers of the recording by tokens that are their names.
type authenticator map[string]abaca.Caller

func personas(ids map[string]string) authenticator {
	demo, alt, admin := abaca.ProjectID(ids["p_demo"]), abaca.ProjectID(ids["p_alt"]), abaca.ProjectID(ids["p_admin"])
	return authenticator{
		"demo":   {User: ids["u_demo"], Project: demo, Roles: []string{"member", "reader"}},
		"demo2":  {User: "demo2", Project: demo, Roles: []string{"member", "reader"}},
		"rdr":    {User: "rdr", Project: demo, Roles: []string{"reader"}},
		"norole": {User: "norole", Project: demo, Roles: []string{"visitor"}},
		"alt":    {User: "alt", Project: alt, Roles: []string{"member", "reader"}},
		"admin":  {User: "admin", Project: admin, Roles: []string{"admin", "manager", "member", "reader"}},
	}
}

func (a authenticator) Authenticate(r *http.Request) (abaca.Caller, error) {
	if caller, ok := a[r.Header.Get("X-Auth-Token")]; ok {
		return caller, nil
	}
	challenge := auth.Unauthorized("The request needs a token.")
	challenge.Header.Set("WWW-Authenticate", `Keystone uri="http://127.0.0.1:5000"`)
	return abaca.Caller{}, challenge
}

package server_test

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"abaca"
	"abaca/internal/server"
	"abaca/internal/test/serve"
)

// roomy are bounds that no test comes up against but by what it changes of them.
func roomy() server.Bounds {
	long := time.Hour
	return server.Bounds{Header: long, Body: long, Answer: long, Whole: long, Idle: long, HeaderBytes: 64 << 10, Requests: 100, Connections: 100}
}

// short is a bound that a test waits for.
const short = time.Second

func dial(t *testing.T, s *serve.Server) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// rest reads until the server closes the connection.
func rest(t *testing.T, c net.Conn) string {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(c)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("the server has not closed the connection: %v after %q", err, b)
	}
	return string(b)
}

func say(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

const head = "POST /v2/shares HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Auth-Token: admin:admin\r\nX-OpenStack-Manila-API-Version: 2.99\r\n"

func TestWhoSendsOrReadsSlowlyIsCutOff(t *testing.T) {
	for _, test := range []struct {
		says  string
		bound func(*server.Bounds)
		sends string
		gets  string
	}{
		{"a header that does not end", func(b *server.Bounds) { b.Header = short }, head, ""},
		{"a connection on which nothing is sent", func(b *server.Bounds) { b.Header = short }, "", ""},
		{"a body that does not end", func(b *server.Bounds) { b.Body = short },
			head + "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{", "400 Bad Request"},
		{"a chunked body that does not end", func(b *server.Bounds) { b.Body = short },
			head + "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n", "400 Bad Request"},
		{"a connection on which nothing more is sent", func(b *server.Bounds) { b.Idle = short }, "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", "300 Multiple"},
	} {
		t.Run(test.says, func(t *testing.T) {
			b := roomy()
			test.bound(&b)
			s := serve.Start(t, server.WithBounds(b))
			c := dial(t, s)
			say(t, c, test.sends)
			if got := rest(t, c); test.gets == "" && strings.Contains(got, " 2") || !strings.Contains(got, test.gets) {
				t.Errorf("the answer is %q", got)
			}
		})
	}
}

func TestWhoDoesNotReadTheAnswerIsCutOff(t *testing.T) {
	dir := t.TempDir()
	s := serve.StartIn(t, dir)
	names := strings.Repeat("n", 255)
	for range 20 {
		s.Must(200, "share", "POST", "/shares", object{"share": object{"share_proto": "NFS", "size": 1, "name": names, "description": names}})
	}
	s.Stop()
	b := roomy()
	b.Whole = short
	c := dial(t, serve.StartIn(t, dir, server.WithBounds(b)))
	if err := c.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	// Answers are more than all buffers between can hold, so that one of them cannot be written.
	request := strings.Replace(head, "POST /v2/shares", "GET /v2/shares/detail", 1) + "\r\n"
	if err := c.SetWriteDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := io.WriteString(c, request); err != nil {
			if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
				return
			}
			t.Fatalf("the server waits for ever for a reader: %v", err)
		}
	}
}

func TestATooLongHeaderOrURLIsRefused(t *testing.T) {
	b := roomy()
	b.HeaderBytes = 16 << 10
	s := serve.Start(t, server.WithBounds(b))
	for status, text := range map[string]string{
		"431": head + "X-Much: " + strings.Repeat("x", 32<<10) + "\r\n\r\n",
		"414": strings.Replace(head, "POST /v2/shares", "GET /v2/shares?name="+strings.Repeat("n", 9_000), 1) + "\r\n",
	} {
		c := dial(t, s)
		say(t, c, text)
		line, err := bufio.NewReader(c).ReadString('\n')
		if err != nil || !strings.Contains(line, status) {
			t.Errorf("want %s, got %q, %v", status, line, err)
		}
	}
}

// slow is an authenticator that finds no answer.
type slow struct{}

func (slow) Authenticate(r *http.Request) (abaca.Caller, error) {
	<-r.Context().Done()
	return abaca.Caller{}, r.Context().Err()
}

func TestMoreRequestsThanThereArePlacesAreAskedToComeBack(t *testing.T) {
	b := roomy()
	b.Requests = 2
	s := serve.Start(t, server.WithBounds(b))
	s.NewShare("first") // then the server has written what it writes at its start
	answered := make(chan int, b.Requests)
	database(t, s.Config.DataDir, s.Config.Database, func(d *sql.DB) error {
		held, err := d.Conn(t.Context())
		if err != nil {
			return err
		}
		defer held.Close()
		if _, err := held.ExecContext(t.Context(), "BEGIN IMMEDIATE"); err != nil { // so that nobody else can write
			return err
		}
		for range b.Requests {
			go func() {
				status := 503 // as when it is turned away itself
				for status == 503 {
					status, _ = s.Do("POST", "/shares", object{"share": object{"share_proto": "NFS", "size": 1}})
				}
				answered <- status
			}()
		}
		turnedAway(t, s.URL)
		health, err := http.Get(s.URL + "/healthcheck")
		if err != nil || health.StatusCode != 200 {
			t.Errorf("meanwhile the healthcheck gives %v, %v", health, err)
		}
		_, err = held.ExecContext(t.Context(), "ROLLBACK")
		return err
	})
	for range b.Requests {
		if status := <-answered; status != 200 {
			t.Errorf("one that had a place is answered with %d", status)
		}
	}
	s.Must(200, "", "GET", "/shares", nil)
}

// turnedAway asks until the answer is that there is no place, and looks at that answer.
func turnedAway(t *testing.T, url string) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		r, err := http.NewRequestWithContext(t.Context(), "GET", url+"/v2/shares", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Auth-Token", "admin:admin")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode == 200 {
			continue // the others are not inside yet
		}
		if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" || !strings.Contains(string(body), `"serviceUnavailable"`) {
			t.Errorf("%d %v %s", resp.StatusCode, resp.Header, body)
		}
		return
	}
	t.Error("nobody is turned away")
}

func TestAnAnswerThatIsNotFoundInTimeIs503(t *testing.T) {
	b := roomy()
	b.Answer = short
	s := serve.Start(t, server.WithBounds(b), server.WithAuthenticator(slow{}))
	s.Must(503, "serviceUnavailable", "GET", "/shares", nil)
}

func TestMoreConnectionsThanThereArePlacesAreTurnedAway(t *testing.T) {
	b := roomy()
	b.Connections = 3
	s := serve.Start(t, server.WithBounds(b))
	const get = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
	var inside []net.Conn
	for range b.Connections {
		c := dial(t, s)
		say(t, c, get)
		if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || !strings.Contains(line, "300") {
			t.Fatalf("%q, %v", line, err)
		}
		inside = append(inside, c)
	}
	c := dial(t, s)
	say(t, c, get)
	if got := rest(t, c); !strings.Contains(got, "503") || !strings.Contains(got, "Retry-After") {
		t.Errorf("one too many gets %q", got)
	}
	inside[0].Close()
	// That the server has noticed is seen when it lets somebody in; until then it turns away.
	for end := time.Now().Add(time.Minute); ; {
		c := dial(t, s)
		say(t, c, get)
		line, err := bufio.NewReader(c).ReadString('\n')
		if err == nil && strings.Contains(line, "300") {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("a place that was left is not given to another: %q, %v", line, err)
		}
	}
}

func TestBodiesAndTheirPartsAreBounded(t *testing.T) {
	s := serve.Start(t)
	share := s.NewShare("docs")
	entries := func(prefix string, n int) object {
		o := object{}
		for i := range n {
			o[fmt.Sprint(prefix, i)] = "v"
		}
		return o
	}
	nested := any("v")
	for range 33 {
		nested = []any{nested}
	}
	shallow := any("v")
	for range 28 {
		shallow = []any{shallow}
	}
	backup := func(options any) object {
		return object{"share_backup": object{"share_id": "none", "backup_options": options}}
	}
	says := func(what, method, path string, body object) {
		t.Helper()
		if got := s.Must(400, "badRequest", method, path, body)["message"].(string); !strings.Contains(got, what) {
			t.Errorf("%s %s: %q", method, path, got)
		}
	}
	says("32 levels", "POST", "/share-backups", backup(object{"a": nested}))
	says("could not be found", "POST", "/share-backups", backup(object{"a": shallow, "b": strings.Repeat("[{", 100)}))
	says("128 entries", "POST", "/share-backups", backup(entries("k", 129)))
	says("could not be found", "POST", "/share-backups", backup(entries("k", 128)))
	says("128 entries", "POST", "/shares", object{"share": object{"share_proto": "NFS", "size": 1, "metadata": entries("k", 129)}})
	says("128 entries", "POST", "/types", object{"share_type": object{"name": "n", "extra_specs": entries("k", 129)}})
	s.Must(200, "metadata", "POST", "/shares/"+share+"/metadata", object{"metadata": entries("a", 100)})
	says("128 entries", "POST", "/shares/"+share+"/metadata", object{"metadata": entries("b", 29)})
	s.Must(200, "metadata", "POST", "/shares/"+share+"/metadata", object{"metadata": entries("b", 28)})
}

func TestAnswersAreNotKeptByCachesNorTakenForSomethingElse(t *testing.T) {
	s := serve.Start(t)
	r, err := http.NewRequestWithContext(t.Context(), "GET", s.URL+"/v2/shares", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Auth-Token", "admin:admin")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.Header.Get("Cache-Control") != "no-store" || resp.Header.Get("X-Content-Type-Options") != "nosniff" {
		t.Error(resp.Header)
	}
}

func TestOneProjectsManyBackupsDoNotMakeAnotherWait(t *testing.T) {
	for _, trees := range []int{1, 2} {
		t.Run(fmt.Sprint(trees, " at a time"), func(t *testing.T) {
			c, err := serve.Config(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			c.Workers.Trees, c.Workers.TreesPerProject = trees, 1
			begun, letGo := make(chan struct{}, 100), make(chan struct{})
			s := serve.StartWith(t, c, server.WithStep(func(ctx context.Context, name string) error {
				if name != "create_backup: opened" {
					return nil
				}
				begun <- struct{}{}
				select {
				case <-letGo:
				case <-ctx.Done():
				}
				return ctx.Err()
			}))
			many := 20 / trees
			ask := func(c *serve.Client) string {
				share := c.NewShare("docs")
				return c.Must(202, "share_backup", "POST", "/share-backups", object{"share_backup": object{"share_id": share}})["id"].(string)
			}
			greedy, modest := by(s, "ann:greedy"), by(s, "bob:modest")
			greedy.Must(200, "quota_set", "PUT", "/quota-sets/greedy", object{"quota_set": object{"backups": many}})
			for range many {
				ask(greedy)
			}
			<-begun
			one := ask(modest)
			if trees > 1 {
				<-begun // the other place is the modest one's, whatever waits
				if status := modest.Must(200, "share_backup", "GET", "/share-backups/"+one, nil); status["host"] == nil {
					t.Error("the place was given to the greedy one")
				}
			}
			close(letGo)
			modest.AtRest("/share-backups/"+one, "share_backup", "available")
			_, answer := greedy.Do("GET", "/share-backups?status=creating", nil)
			if left := len(answer["share_backups"].([]any)); left < many/2 {
				t.Errorf("when the modest one's is made, only %d of the greedy one's %d are not", left, many)
			}
		})
	}
}

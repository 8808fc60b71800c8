package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"abaca/internal/test/postgres"
)

// asProgram is set in the environment where this test binary is to be the program itself.
const asProgram = "TEST_RUNS_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	os.Exit(postgres.Main(m))
}

// A shell runs the program as a process, with a data directory and local users.
type shell struct {
	t   *testing.T
	env []string
	dir string
}

func newShell(t *testing.T) *shell {
	t.Helper()
	s := &shell{t: t, dir: filepath.Join(t.TempDir(), "data")}
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "OS_") && !strings.HasPrefix(v, "ABACA_") {
			s.env = append(s.env, v)
		}
	}
	s.set(asProgram+"=1", "ABACA_AUTH_STRATEGY=local", "ABACA_DATA_DIR="+s.dir, "ABACA_LISTEN=127.0.0.1:0")
	return s
}

func (s *shell) set(variables ...string) { s.env = append(s.env, variables...) }

func (s *shell) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Env = s.env
	return cmd
}

// run runs the program to its end.
func (s *shell) run(args ...string) (stdout, stderr string, code int) {
	s.t.Helper()
	var out, diagnostics bytes.Buffer
	cmd := s.command(s.t.Context(), args...)
	cmd.Stdout, cmd.Stderr = &out, &diagnostics
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		s.t.Fatal(err)
	}
	return out.String(), diagnostics.String(), cmd.ProcessState.ExitCode()
}

// token adds a user and returns the last line of what that prints.
func (s *shell) token(args ...string) string {
	s.t.Helper()
	out, diagnostics, code := s.run(append([]string{"user", "add"}, args...)...)
	if code != 0 {
		s.t.Fatalf("user add %v: %s", args, diagnostics)
	}
	lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	return lines[len(lines)-1]
}

// serve runs the server until the test ends and returns its endpoint and how it welcomes.
func (s *shell) serve() (endpoint, welcome string) {
	s.t.Helper()
	cmd := s.command(context.Background(), "serve")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			s.t.Errorf("serve: %v", err)
		}
	})
	r := bufio.NewReader(out)
	for !strings.HasSuffix(welcome, "\n\n") || strings.Count(welcome, "\n\n") < 2 {
		line, err := r.ReadString('\n')
		if err != nil {
			s.t.Fatalf("serve printed %q: %v", welcome, err)
		}
		welcome += line
	}
	go io.Copy(io.Discard, r)
	return regexp.MustCompile(`http://\S+`).FindString(welcome), welcome
}

// status asks for the shares.
func (s *shell) status(endpoint string, credentials func(*http.Request)) int {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), "GET", endpoint+"/shares", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	credentials(r)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == 401 && resp.Header.Get("WWW-Authenticate") != `Basic realm="abaca", charset="UTF-8"` {
		s.t.Errorf("401 with %v", resp.Header)
	}
	return resp.StatusCode
}

func header(token string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set("X-Auth-Token", token) }
}

func TestAUserWhoIsAddedWhileTheServerRunsGetsIn(t *testing.T) {
	s := newShell(t)
	endpoint, welcome := s.serve()
	if !strings.Contains(welcome, "user add NAME --project PROJECT --role member") || !strings.Contains(welcome, "admin_token") ||
		strings.Contains(welcome, "administrator") {
		t.Errorf("it welcomes with %s", welcome)
	}
	if code := s.status(endpoint, func(*http.Request) {}); code != 401 {
		t.Errorf("before: %d", code)
	}
	ann := s.token("ann", "--project", "p1", "--role", "member")
	basic := func(name, token string) func(*http.Request) {
		return func(r *http.Request) { r.SetBasicAuth(name, token) }
	}
	for name, test := range map[string]struct {
		credentials func(*http.Request)
		status      int
	}{
		"X-Auth-Token": {header(ann), 200}, "Basic": {basic("ann", ann), 200}, "Basic as another": {basic("bob", ann), 401},
		"none": {func(*http.Request) {}, 401}, "another token": {header("x" + ann), 401},
	} {
		if code := s.status(endpoint, test.credentials); code != test.status {
			t.Errorf("%s: %d, want %d", name, code, test.status)
		}
	}
	s.set("ABACA_ENDPOINT=" + endpoint)
	if _, diagnostics, code := s.run("share", "list"); code != 1 || !strings.Contains(diagnostics, "HTTP 401") ||
		!strings.Contains(diagnostics, "ABACA_TOKEN") || strings.Count(diagnostics, "\n") != 1 {
		t.Errorf("without a token: %d, %s", code, diagnostics)
	}
	s.set("ABACA_TOKEN=" + ann)
	if _, diagnostics, code := s.run("share", "list"); code != 0 {
		t.Errorf("with a token: %d, %s", code, diagnostics)
	}
	second := s.token("ann", "--expires", "90d")
	id := strings.Split(ann, "_")[1]
	for _, step := range []struct {
		args          []string
		first, second int
	}{
		{[]string{"user", "revoke", "ann", id}, 401, 200},
		{[]string{"user", "remove", "ann"}, 401, 401},
	} {
		if _, diagnostics, code := s.run(step.args...); code != 0 {
			t.Fatalf("%v: %s", step.args, diagnostics)
		}
		if first, other := s.status(endpoint, header(ann)), s.status(endpoint, header(second)); first != step.first || other != step.second {
			t.Errorf("after %v: %d and %d", step.args, first, other)
		}
	}
}

func TestUsersAreListedWithoutTheirSecrets(t *testing.T) {
	s := newShell(t)
	if out, _, code := s.run("user", "list", "-o", "json"); out != "[]\n" || code != 0 {
		t.Errorf("without users: %d, %q", code, out)
	}
	if _, err := os.Stat(s.dir); !os.IsNotExist(err) {
		t.Errorf("listing made %s: %v", s.dir, err)
	}
	token := s.token("ann", "--project", "p1", "--role", "member,auditor", "--expires", "2099-01-01")
	if _, diagnostics, code := s.run("user", "revoke", "ann", token); code != 1 || strings.Contains(diagnostics, token) {
		t.Errorf("%d, %s", code, diagnostics)
	}
	out, _, _ := s.run("user", "list", "-o", "json")
	u := decode[[]object](t, out)[0]
	made := u["tokens"].([]any)[0].(object)
	if u["name"] != "ann" || u["project"] != "p1" || len(u["roles"].([]any)) != 2 || len(made) != 3 ||
		made["expires"] != "2099-01-01T00:00:00Z" || !strings.Contains(token, made["id"].(string)) {
		t.Errorf("%s", out)
	}
	table, _, _ := s.run("user", "list")
	config, _, _ := s.run("config")
	for _, printed := range []string{out, table, config} {
		if strings.Contains(printed, strings.Split(token, "_")[2]) || strings.Contains(printed, "hash") {
			t.Errorf("it prints %s", printed)
		}
	}
	if !regexp.MustCompile(`(?m)^ann +p1 +member, auditor +\w{10} +\S+ \S+ +2099-01-01 00:00:00$`).MatchString(table) {
		t.Errorf("%s", table)
	}
	if _, _, code := s.run("user", "revoke", "ann"); code != 0 {
		t.Error(code)
	}
	if table, _, _ = s.run("user", "list"); !regexp.MustCompile(`(?m)^ann +p1 +member, auditor +- +- +-$`).MatchString(table) {
		t.Errorf("%s", table)
	}
}

func TestTheServerRefusesAUsersFileThatOthersCanRead(t *testing.T) {
	s := newShell(t)
	s.token("ann", "--project", "p1", "--role", "member")
	if err := os.Chmod(filepath.Join(s.dir, "users.yaml"), 0o640); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"serve"}, {"user", "add", "ann"}, {"user", "list"}} {
		want := 1
		if args[0] == "serve" {
			want = 2
		}
		out, diagnostics, code := s.run(args...)
		if code != want || !strings.Contains(diagnostics, "0600") || strings.Count(diagnostics, "\n") != 1 || out != "" {
			t.Errorf("%v: %d, %q, %q", args, code, out, diagnostics)
		}
	}
}

func TestNoFlagTakesASecret(t *testing.T) {
	for _, args := range [][]string{{"serve"}, {"config"}, {"user", "add"}, {"user", "revoke"}, {"share", "list"}, {"backup", "list"}, {"verify"}} {
		cmd, _, err := newRootCommand().Find(args)
		if err != nil {
			t.Fatal(err)
		}
		for _, word := range []string{"token", "password", "secret", "key", "user"} {
			if cmd.Flags().Lookup(word) != nil || cmd.InheritedFlags().Lookup(word) != nil {
				t.Errorf("%v takes --%s", args, word)
			}
		}
	}
}

func TestExpiries(t *testing.T) {
	now := time.Date(2026, 2, 27, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]string{
		"90d": "2026-05-28T12:00:00Z", "12h": "2026-02-28T00:00:00Z", "2027-01-31": "2027-01-31T00:00:00Z",
		"2027-01-31T18:00:00+02:00": "2027-01-31T16:00:00Z", "never": "0001-01-01T00:00:00Z",
		"": "", "0d": "", "-1d": "", "1.5d": "", "99999999d": "", "-3h": "", "2026-02-27": "", "2026-02-30": "", "tomorrow": "", "d": "", "90": "",
	} {
		got, err := parseExpiry(text, now)
		if (err == nil) != (want != "") || err == nil && got.Format(time.RFC3339) != want {
			t.Errorf("%q: %v, %v, want %s", text, got, err, want)
		}
	}
}

func TestUserCompletions(t *testing.T) {
	s := newShell(t)
	token := s.token("ann", "--project", "p1", "--role", "member")
	for line, want := range map[string]string{"user remove ": "ann", "user revoke ann ": strings.Split(token, "_")[1]} {
		out, _, _ := s.run(append([]string{"__complete"}, strings.Split(line, " ")...)...)
		if !slices.ContainsFunc(strings.Split(out, "\n"), func(l string) bool { return strings.HasPrefix(l, want+"\t") }) {
			t.Errorf("%s: %s", line, out)
		}
	}
}

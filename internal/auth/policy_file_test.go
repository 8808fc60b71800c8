package auth

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"abaca"
)

// write puts a policy file that only its owner can change into a directory of its own.
func write(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// quiet is for logs that nobody reads.
var quiet = slog.New(slog.DiscardHandler)

func TestPolicyFilesThatAreRefusedSayWhyAndWhere(t *testing.T) {
	for name, test := range map[string]struct{ text, says string }{
		"a misspelt rule":                        {"share:get: '@'\nshare_bakcup:create: '@'", `:2: the rule "share_bakcup:create" is unknown, and no other refers to it; did you mean "share_backup:create"?`},
		"a rule in another case":                 {"Share_Backup:Create: '@'", `:1: the rule "Share_Backup:Create" is unknown`},
		"a rule with a space behind it":          {"'share:get ': '@'", `did you mean "share:get"?`},
		"a rule of nothing like it":              {"frobnicate: '@'", `:1: the rule "frobnicate" is unknown, and no other refers to it`},
		"a rule of that Manila's other groups":   {"share_network:crate: '@'", `did you mean "share_network:create"?`},
		"a rule of an idle group without action": {"share_network: '@'", "is unknown"},
		"a reference to nothing":                 {"share:get: rule:projct-reader", `:1: the rule "share:get" refers to a rule "projct-reader", which there is not; did you mean "project-reader"?`},
		"a reference with a percent sign":        {"share:get: rule:%(project_id)s", "which there is not"},
		"a rule that refers to itself":           {"share:get: rule:share:get", `:1: the rule "share:get" refers to itself: share:get, share:get`},
		"two that refer to each other":           {"a: rule:b\nb: not rule:a", "refers to itself: a, b, a"},
		"a circle through a default":             {"\nproject-reader: rule:share:get", `:2: the rule "project-reader" refers to itself`},
		"an administrator by being one":          {"context_is_admin: rule:admin_api", `:1: the rule "context_is_admin" asks for is_admin, which it decides`},
		"another server":                         {"share:get: http://example.org/%(user_id)s", "the policy asks no other server"},
		"another server, safely":                 {"share:get: '@ or https://example.org/'", "the policy asks no other server"},
		"a misspelt kind":                        {"share:get: rol:admin", `has "rol:admin", but nothing named "rol" is known of a caller`},
		"a credential that is not known":         {"share:get: not user_domain_id:guests", `nothing named "user_domain_id" is known`},
		"a thing's unknown property":             {"share:get: not project_id:%(proj)s", `has "%(proj)s", but nothing named so is known of a thing`},
		"an is_admin in lower case":              {"share:get: not is_admin:true", "is_admin is True or False"},
		"a blank rule":                           {"share:get: '  '", "is blank"},
		"a syntax error":                         {"share:get: >-\n  role:a\n  role:b", `:1: the rule "share:get" makes no sense at "role:b"`},
		"a parenthesis too many":                 {"share:get: (role:a))", "makes no sense"},
		"an open parenthesis":                    {"share:get: (role:a", "lacks a closing parenthesis"},
		"an operator at the end":                 {"share:get: role:a or", "ends where a check must follow"},
		"a word without a colon":                 {"share:get: admin", `has "admin", which is no check`},
		"a kind without a match":                 {"share:get: 'role:'", `has "role:", which is no check`},
		"a NUL":                                  {`share:get: "role:a\0 or @"`, "control character"},
		"an escape":                              {`share:get: "role:\e[31m"`, "control character"},
		"nothing for a value":                    {"share:get:", `:1: the rule "share:get" must be a string in quotes`},
		"an exclamation mark that is a tag":      {"share:get: !", "must be a string in quotes"},
		"an at sign without quotes":              {"share:get: @", ":1: "},
		"a boolean":                              {"share:get: true", "must be a string"},
		"a number":                               {"share:get: 1", "must be a string"},
		"a mapping":                              {"share:get: {role: admin}", "must be a string"},
		"a binary":                               {"share:get: !!binary QA==", "must be a string"},
		"lists too deep":                         {"share:get: [[[role:admin]]]", "something else than lists of checks"},
		"an expression in a list":                {"share:get: [[role:a or role:b]]", "something else than lists of checks"},
		"a number for a name":                    {"1: '@'", "a rule's name must be a string"},
		"a null for a name":                      {"~: '@'", "a rule's name must be a string"},
		"a list for a name":                      {"? [a]\n: '@'", "a rule's name must be a string"},
		"the same rule twice":                    {"share:get: '!'\n\nshare:get: '@'", `:3: the rule "share:get" stands in line 1 already`},
		"the same rule twice by an escape":       {"share:get: '!'\n\"share\\x3aget\": '@'", "stands in line 1 already"},
		"merged mappings":                        {"a: &a {share:get: '@'}\n<<: *a", "must be a string"},
		"an alias of a list":                     {"share:get: &x [role:a]\nshare:delete: *x", "must be a string"},
		"a list":                                 {"- share:get", ":1: rules are written as name: check"},
		"text":                                   {"share:get", ":1: rules are written as name: check"},
		"two documents":                          {"share:get: '@'\n---\nshare:delete: '@'", ":2: there is more than one document"},
		"a tab":                                  {"share:get:\n\t'@'", ":2: "},
		"an open quote":                          {"share:get: 'role:admin", ":1: "},
		"Latin-1":                                {"share:get: 'role:caf\xe9'", "is not UTF-8"},
		"UTF-16":                                 {"\xff\xfes\x00", "is not UTF-8"},
		"a NUL byte":                             {"share:get: '@'\x00", "control characters"},
		"deep YAML":                              {strings.Repeat("[", 20_000), ":1: "},
		"deep parentheses":                       {"share:get: '" + strings.Repeat("(", 50_000) + "@'", "is nested more than 100 deep"},
		"deep nots":                              {"share:get: '" + strings.Repeat("not ", 50_000) + "@'", "is nested more than 100 deep"},
		"a bomb of aliases":                      {"a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nd: [*c,*c]", `:1: the rule "a" is a list of something else`},
		"more than can be meant":                 {"# " + strings.Repeat("x", maxPolicyFile), "is longer than"},
	} {
		t.Run(name, func(t *testing.T) {
			path := write(t, test.text)
			_, err := OpenPolicy(path, true, quiet)
			if err == nil || !strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), path) || strings.ContainsAny(err.Error(), "\n\x1b\x00") {
				t.Errorf("%v, want one line that says %q", err, test.says)
			}
		})
	}
}

func TestPolicyFilesThatAreTaken(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":                     "",
		"a comment":                   "# share:get: '!'\n",
		"an empty mapping":            "{}",
		"an empty document":           "---\n...\n",
		"a null":                      "~",
		"JSON":                        `{"share:get": "rule:project-reader", "default": ""}`,
		"a mark of the byte order":    "\ufeffshare:get: rule:project-reader",
		"Windows' line ends":          "share:get: rule:project-reader\r\nshare:delete: '!'\r\n",
		"a rule that is idle here":    "share_network:create: '!'\nqos_type:update: role:admin",
		"every base rule":             "admin_or_owner: '!'\ndefault: '!'\nowner-user: '@'\ncontext_is_host_admin: '!'",
		"a rule of the operator's":    "share:get: rule:my_support or rule:project-reader\nmy_support: role:support",
		"an alias":                    "share:get: &who rule:project-reader\nshare:delete: *who",
		"folded text":                 "share:get: >\n  (rule:context_is_admin)\n  or rule:project-reader",
		"many alternatives":           "share:get: rule:project-reader" + strings.Repeat(" or role:x", 5_000),
		"nesting up to the limit":     "share:get: '" + strings.Repeat("(", 100) + "rule:project-reader" + strings.Repeat(")", 100) + "'",
		"parentheses beside another":  "share:get: '@" + strings.Repeat(" and (not (@ and !))", 300) + "'",
		"a chain of rules":            chain(3_000),
		"rules that double each time": doubling(60),
	} {
		t.Run(name, func(t *testing.T) {
			f, err := OpenPolicy(write(t, text), true, quiet)
			if err != nil {
				t.Fatalf("%.300v", err)
			}
			reader := abaca.Caller{User: "u", Project: "p", Roles: []string{"reader"}}
			if !f.Current().Allows("share:get", reader, Owner{Project: "p", User: "u"}) {
				t.Error("a reader may not show a share")
			}
			if f.Current().Allows("share:delete", reader, Owner{Project: "q", User: "v"}) {
				t.Error("a reader may delete another project's share")
			}
		})
	}
}

// chain is rules that each refer to the next.
func chain(n int) string {
	var b strings.Builder
	b.WriteString("share:get: rule:r0\n")
	for i := range n {
		fmt.Fprintf(&b, "r%d: rule:r%d\n", i, i+1)
	}
	fmt.Fprintf(&b, "r%d: rule:project-reader\n", n)
	return b.String()
}

// doubling is rules that each refer to the next twice; who followed every reference would never be done.
func doubling(n int) string {
	var b strings.Builder
	b.WriteString("share:get: rule:r0 or rule:project-reader\n")
	for i := range n {
		fmt.Fprintf(&b, "r%d: rule:r%d or rule:r%d\n", i, i+1, i+1)
	}
	fmt.Fprintf(&b, "r%d: '!'\n", n)
	return b.String()
}

func TestPolicyFilesThatOthersCouldChangeAreRefused(t *testing.T) {
	path := write(t, "")
	for mode, ok := range map[os.FileMode]bool{0o600: true, 0o644: true, 0o440: true, 0o664: false, 0o606: false, 0o620: false, 0o602: false} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenPolicy(path, true, quiet); (err == nil) != ok {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(path, 12345, 12345); err != nil {
		t.Skipf("without root nothing can be given to another user: %v", err)
	}
	if _, err := OpenPolicy(path, true, quiet); err == nil || !strings.Contains(err.Error(), "12345") {
		t.Errorf("another user's: %v", err)
	}
}

func TestAPolicyFileIsAFile(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	broken := filepath.Join(dir, "broken")
	if err := os.Symlink("nowhere", broken); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, pipe, broken, "/dev/zero"} {
		if _, err := OpenPolicy(path, false, quiet); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", path, err)
		}
	}
	missing := filepath.Join(dir, "missing")
	if _, err := OpenPolicy(missing, true, quiet); err == nil {
		t.Error("a file that was named and is missing is passed over")
	}
	if _, err := OpenPolicy(missing, false, quiet); err != nil {
		t.Errorf("a missing file that need not be there: %v", err)
	}
}

func TestAChangedPolicyFileIsFollowedAndABrokenOneIsNot(t *testing.T) {
	var log strings.Builder
	path := write(t, "")
	f, err := OpenPolicy(path, true, slog.New(slog.NewTextHandler(io.Writer(&log), nil)))
	if err != nil {
		t.Fatal(err)
	}
	reader := abaca.Caller{User: "u", Project: "p", Roles: []string{"reader"}}
	for _, step := range []struct {
		text     string // "-" removes the file
		looks    int
		allowed  bool
		says     string
		complain int // how often the log has
	}{
		{"share:get: '!'", 1, true, "", 0}, // it may be half written
		{"share:get: '!'", 3, false, "is in force", 1},
		{"share:get: '!", 4, false, "is not used", 1},
		{"share:gte: '@'", 4, false, "is not used", 2},
		{"-", 4, false, "cannot be found", 1},
		{"", 3, true, "is in force", 2},
	} {
		if step.text == "-" {
			err = os.Remove(path)
		} else {
			draft := write(t, step.text)
			err = os.Rename(draft, path)
		}
		if err != nil {
			t.Fatal(err)
		}
		for range step.looks {
			f.look()
		}
		if got := f.Current().Allows("share:get", reader, Owner{Project: "p"}); got != step.allowed {
			t.Errorf("after %q a reader is allowed: %v", step.text, got)
		}
		if step.says != "" && strings.Count(log.String(), step.says) != step.complain {
			t.Errorf("after %q the log has\n%s", step.text, &log)
		}
	}
}

// FuzzPolicy looks for files that are not answered with a policy or with one line.
func FuzzPolicy(f *testing.F) {
	for _, text := range []string{"", "share:get: '@'", "a: &a [x]\nb: *a", "share:get: not (role:a and rule:b)\nb: ''", `{"share:get": [["role:%(project_id)s"]]}`,
		"share:get: \"'x':%(user_id)s%%\"", "? x\n: y", "- a", "<<: {a: b}", "share:get: !!str 1", "--- a\n--- b", "%YAML 1.1\n---\na: b"} {
		f.Add(text)
	}
	caller := abaca.Caller{User: "u", Project: "p", Roles: []string{"reader"}}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := makePolicy([]byte(text))
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\x00\x1b") {
				t.Errorf("%q is answered with %q", text, err)
			}
			return
		}
		for _, r := range p.Rules() {
			p.Allows(r.Name, caller, Owner{Project: "p"})
		}
	})
}

func TestTheReadmesPolicyIsTaken(t *testing.T) {
	page, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "## Say who may do what")
	_, rest, _ = strings.Cut(rest, "```yaml\n")
	text, _, found := strings.Cut(rest, "```")
	if !found || !strings.Contains(text, "share_backup:reset_status") {
		t.Fatalf("the page has no policy, but %q", text)
	}
	f, err := OpenPolicy(write(t, text), true, quiet)
	if err != nil {
		t.Fatal(err)
	}
	support := abaca.Caller{User: "u", Project: "p", Roles: []string{"support"}}
	for project, want := range map[abaca.ProjectID]bool{"p": true, "q": false} {
		if got := f.Current().Allows("share_backup:reset_status", support, Owner{Project: project, User: "v"}); got != want {
			t.Errorf("support resets a backup of project %s: %v", project, got)
		}
	}
}

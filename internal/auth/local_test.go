package auth

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"abaca"
)

// A desk is a users file, and a Local that reads it.
type desk struct {
	*UserFile
	*Local
	t   testing.TB
	now time.Time
}

// newDesk has users ann and bob of p1 and p2, with a token each.
func newDesk(t testing.TB) (d *desk, ann, bob string) {
	t.Helper()
	d = &desk{t: t, now: time.Now()}
	clock := func() time.Time { return d.now }
	d.UserFile = &UserFile{Path: filepath.Join(t.TempDir(), "users.yaml"), Now: clock, Reserved: []string{"shares"}}
	ann, bob = d.add("ann", "p1", "member"), d.add("bob", "p2", "reader")
	var err error
	if d.Local, err = OpenLocal(d.Path, clock, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	return d, ann, bob
}

func (d *desk) add(name, project string, roles ...string) (token string) {
	d.t.Helper()
	token, _, err := d.Add(d.t.Context(), User{Name: name, Project: abaca.ProjectID(project), Roles: roles}, time.Time{})
	if err != nil {
		d.t.Fatal(err)
	}
	return token
}

// asking is a request with these headers, in pairs; "Basic" stands for a name and a password.
func asking(headers ...string) *http.Request {
	r := httptest.NewRequest("GET", "/v2/shares", nil)
	r.RemoteAddr = "192.0.2.1:4711"
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Basic" {
			name, password, _ := strings.Cut(headers[i+1], ":")
			r.SetBasicAuth(name, password)
			continue
		}
		r.Header.Add(headers[i], headers[i+1])
	}
	return r
}

// as names who a request is from: the user, or the status of the refusal.
func (d *desk) as(r *http.Request) string {
	c, err := d.Authenticate(r)
	if challenge, ok := errors.AsType[*Challenge](err); ok {
		return fmt.Sprint(challenge.Status)
	}
	if err != nil {
		return map[abaca.Fault]string{abaca.Unavailable: "503", abaca.Forbidden: "403"}[abaca.FaultOf(err)]
	}
	return c.User
}

func TestATokenNamesItsUserInEitherHeader(t *testing.T) {
	d, ann, bob := newDesk(t)
	for _, test := range []struct {
		name    string
		headers []string
		as      string
	}{
		{"in X-Auth-Token", []string{"X-Auth-Token", ann}, "ann"},
		{"as the password of Basic", []string{"Basic", "ann:" + ann}, "ann"},
		{"in both", []string{"X-Auth-Token", ann, "Basic", "ann:" + ann}, "ann"},
		{"of two users", []string{"X-Auth-Token", ann, "Basic", "bob:" + bob}, "401"},
		{"with the name of another", []string{"Basic", "bob:" + ann}, "401"},
		{"with the name in other letters", []string{"Basic", "Ann:" + ann}, "401"},
		{"with no name", []string{"Basic", ":" + ann}, "401"},
		{"good in one header and wrong in the other", []string{"X-Auth-Token", ann, "Basic", "ann:wrong"}, "401"},
		{"wrong in one header and good in the other", []string{"X-Auth-Token", "wrong", "Basic", "ann:" + ann}, "401"},
		{"none", nil, "401"},
		{"empty", []string{"X-Auth-Token", ""}, "401"},
		{"of no authentication", []string{"X-Auth-Token", "admin:admin"}, "401"},
		{"in small letters", []string{"X-Auth-Token", strings.ToLower(ann)}, "401"},
		{"with one letter more", []string{"X-Auth-Token", ann + "A"}, "401"},
		{"with one letter less", []string{"X-Auth-Token", ann[:len(ann)-1]}, "401"},
		{"with another's id", []string{"X-Auth-Token", bob[:17] + ann[17:]}, "401"},
		{"its hash", []string{"X-Auth-Token", fmt.Sprintf("%x", digestOf(ann))}, "401"},
		{"very long", []string{"X-Auth-Token", ann + strings.Repeat("A", 100_000)}, "401"},
		{"two of the same header", []string{"X-Auth-Token", ann, "X-Auth-Token", ann}, "401"},
		{"two of the same header with an empty one", []string{"X-Auth-Token", "", "X-Auth-Token", ann}, "401"},
		{"as a bearer's", []string{"Authorization", "Bearer " + ann}, "401"},
		{"beside a bearer's", []string{"X-Auth-Token", ann, "Authorization", "Bearer x"}, "401"},
		{"two of Basic", []string{"Basic", "ann:" + ann, "Authorization", "Basic x"}, "401"},
		{"with headers that claim more", []string{"X-Auth-Token", bob, "X-Roles", "admin", "X-Project-Id", "p1", "X-User-Id", "ann"}, "bob"},
	} {
		t.Run(test.name, func(t *testing.T) {
			d.brake = newBrake(time.Now) // each is a first attempt
			if got := d.as(asking(test.headers...)); got != test.as {
				t.Errorf("the request is %s's, want %s", got, test.as)
			}
		})
	}
	c, err := d.Authenticate(asking("X-Auth-Token", bob))
	if err != nil || c.Project != "p2" || !slices.Equal(c.Roles, []string{"reader"}) || c.Admin {
		t.Errorf("%+v, %v", c, err)
	}
	if c, err = d.Authenticate(asking("X-Auth-Token", ann)); err != nil || !slices.Equal(c.Roles, []string{"reader", "member"}) {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestTheAnswerTellsNobodyWhichUsersThereAre(t *testing.T) {
	d, ann, bob := newDesk(t)
	wrong := ann[:18] + strings.Repeat("A", 51)
	if tokenID(wrong) != tokenID(ann) {
		t.Fatalf("%s is not written as a token", wrong)
	}
	answers := map[string]bool{}
	for _, headers := range [][]string{
		{"X-Auth-Token", wrong}, {"X-Auth-Token", "abaca_aaaaaaaaaa_" + wrong[17:]}, {"X-Auth-Token", "nonsense"},
		{"Basic", "ann:" + wrong}, {"Basic", "nobody:" + wrong}, {"Basic", "nobody:" + ann}, {"Basic", "ann:" + bob}, {"Basic", "nobody:x"},
	} {
		d.brake = newBrake(time.Now)
		_, err := d.Authenticate(asking(headers...))
		c, ok := errors.AsType[*Challenge](err)
		if !ok || c.Header.Get("WWW-Authenticate") != `Basic realm="abaca", charset="UTF-8"` {
			t.Fatalf("%v: %v", headers, err)
		}
		text, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		answers[string(text)] = true
	}
	if len(answers) != 1 {
		t.Errorf("there are several answers: %v", answers)
	}
}

func TestTokensEndWhenTheyExpireAndWhenTheyAreRevoked(t *testing.T) {
	d, ann, bob := newDesk(t)
	short, u, err := d.Add(t.Context(), User{Name: "ann"}, d.now.Add(time.Hour))
	if err != nil || len(u.Tokens) != 2 || short == ann {
		t.Fatalf("%+v, %v", u, err)
	}
	expect := func(when string, wanted ...string) {
		t.Helper()
		for i, token := range []string{ann, short, bob} {
			d.brake = newBrake(time.Now)
			if got := d.as(asking("X-Auth-Token", token)); got != wanted[i] {
				t.Errorf("%s token %d is %s's, want %s", when, i, got, wanted[i])
			}
		}
	}
	expect("at first", "ann", "ann", "bob")
	d.now = d.now.Add(time.Hour - time.Second)
	expect("a second before", "ann", "ann", "bob")
	d.now = d.now.Add(time.Second)
	expect("after an hour", "ann", "401", "bob")
	d.now = d.now.Add(-time.Hour)
	if n, err := d.Revoke(t.Context(), "ann", tokenID(ann)); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	expect("with the first revoked", "401", "ann", "bob")
	if n, err := d.Revoke(t.Context(), "ann", ""); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	expect("with all of ann's revoked", "401", "401", "bob")
	if u, err := d.Remove(t.Context(), "bob"); err != nil || u.Name != "bob" {
		t.Fatal(u, err)
	}
	expect("with bob removed", "401", "401", "401")
}

func TestAUsersFileThatCannotBeTrustedLetsNobodyIn(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("NOT TESTED: files of other owners take root")
	}
	type trap struct {
		name, says string
		set        func(path string) error
	}
	traps := []trap{
		{"its group may read it", "0600", func(p string) error { return os.Chmod(p, 0o640) }},
		{"others may read it", "0600", func(p string) error { return os.Chmod(p, 0o604) }},
		{"others may write it", "0600", func(p string) error { return os.Chmod(p, 0o602) }},
		{"it is a symbolic link", "symbolic link", func(p string) error {
			return errors.Join(os.Rename(p, p+".kept"), os.Symlink(p+".kept", p))
		}},
		{"it is a link to nothing", "symbolic link", func(p string) error { return errors.Join(os.Remove(p), os.Symlink("/nothing", p)) }},
		{"it is a pipe", "regular file", func(p string) error { return errors.Join(os.Remove(p), syscall.Mkfifo(p, 0o600)) }},
		{"it is a directory", "regular file", func(p string) error { return errors.Join(os.Remove(p), os.Mkdir(p, 0o700)) }},
	}
	if os.Geteuid() == 0 {
		traps = append(traps, trap{"it is somebody else's", "belongs to", func(p string) error { return os.Chown(p, 65534, 65534) }})
	}
	write := func(text string) func(string) error {
		return func(p string) error { return os.WriteFile(p, []byte(text), 0o600) }
	}
	token := "tokens: [{id: aaaaaaaaaa, hash: " + strings.Repeat("ab", 32) + ", created: 2026-01-01T00:00:00Z}]"
	user := "{name: ann, project: p1, roles: [admin], " + token + "}"
	for says, text := range map[string]string{
		"yaml":             "users: [",
		"not found":        "users: [{name: ann, project: p1, admin: true}]",
		"already defined":  "users: [{name: ann, name: bob, project: p1}]",
		"two users":        "users: [" + user + ", {name: ann, project: p2}]",
		"id":               "users: [" + user + ", " + strings.Replace(user, "ann", "bob", 1) + "]",
		"no hash":          "users: [{name: ann, project: p1, tokens: [{id: aaaaaaaaaa}]}]",
		"64 hexadecimal":   "users: [{name: ann, project: p1, tokens: [{id: aaaaaaaaaa, hash: abc}]}]",
		"a user's name":    "users: [{name: 'a:b', project: p1}]",
		"a project":        "users: [{name: ann, project: ../p1}]",
		"without a proj":   "users: [{name: ann, roles: [admin]}]",
		"a role":           "users: [{name: ann, project: p1, roles: [Admin]}]",
		"after its end":    "users: []\n---\nusers: [" + user + "]",
		"cannot unmarshal": "- ann",
	} {
		traps = append(traps, trap{"it says " + text, says, write(text)})
	}
	for _, trap := range traps {
		t.Run(trap.name, func(t *testing.T) {
			d, ann, _ := newDesk(t)
			if got := d.as(asking("X-Auth-Token", ann)); got != "ann" {
				t.Fatal(got)
			}
			text, err := os.ReadFile(d.Path)
			if err != nil {
				t.Fatal(err)
			}
			if err := trap.set(d.Path); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if got := d.as(asking("X-Auth-Token", ann)); got != "503" {
					t.Errorf("the request is %s's", got)
				}
			}
			_, err = OpenLocal(d.Path, time.Now, slog.New(slog.DiscardHandler))
			if err == nil || !strings.Contains(err.Error(), trap.says) || !strings.Contains(err.Error(), d.Path) || strings.Contains(err.Error(), "\n") {
				t.Errorf("a start fails with %v, want one line with %q", err, trap.says)
			}
			if err := errors.Join(os.Rename(d.Path, d.Path+".trap"), os.WriteFile(d.Path, text, 0o600)); err != nil {
				t.Fatal(err)
			}
			if got := d.as(asking("X-Auth-Token", ann)); got != "ann" {
				t.Errorf("after it has been mended the request is %s's", got)
			}
		})
	}
}

func TestAUsersFileThatIsGoneHasNoUsers(t *testing.T) {
	d, ann, _ := newDesk(t)
	if err := os.Remove(d.Path); err != nil {
		t.Fatal(err)
	}
	if got := d.as(asking("X-Auth-Token", ann)); got != "401" {
		t.Errorf("the request is %s's", got)
	}
	if got := d.as(asking("X-Auth-Token", d.add("eve", "p1", "reader"))); got != "eve" {
		t.Errorf("the request is %s's", got)
	}
}

func TestAPageOfAnotherSiteCannotUseWhatABrowserRemembers(t *testing.T) {
	d, ann, _ := newDesk(t)
	for _, test := range []struct{ method, site, as string }{
		{"POST", "cross-site", "403"}, {"POST", "same-site", "403"}, {"DELETE", "cross-site", "403"},
		{"POST", "same-origin", "ann"}, {"POST", "", "ann"}, {"GET", "cross-site", "ann"},
	} {
		r := asking("Basic", "ann:"+ann)
		r.Method = test.method
		if test.site != "" {
			r.Header.Set("Sec-Fetch-Site", test.site)
		}
		if got := d.as(r); got != test.as {
			t.Errorf("%s from %q is %s's, want %s", test.method, test.site, got, test.as)
		}
	}
}

func TestAFileThatHasJustChangedIsReadAgainWhateverItsTimesSay(t *testing.T) {
	d, ann, _ := newDesk(t)
	text, err := os.ReadFile(d.Path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		name := []string{"eve", "zoe"}[i%2] // of one length, in the same inode, most often within a tick of coarse clocks
		written := time.Now()
		if err := os.WriteFile(d.Path, []byte(strings.Replace(string(text), "name: ann", "name: "+name, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := d.as(asking("X-Auth-Token", ann)); got != name {
			t.Fatalf("after %d changes the token is %s's, want %s", i, got, name)
		}
		if d.settled && time.Since(written) < settling {
			t.Fatal("its times are trusted already") // what clocks that are fine enough hide, this shows
		}
	}
}

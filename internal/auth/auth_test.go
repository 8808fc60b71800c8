package auth

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"abaca"
)

func TestNoneTrustsTokens(t *testing.T) {
	for _, test := range []struct {
		token, user, project string
		status               int // of the challenge, 0 for none
	}{
		{"notused", "admin", "admin", 0},
		{"demo:fb7b73da55ed48caa8d16d5750211f81", "demo", "fb7b73da55ed48caa8d16d5750211f81", 0},
		{"demo:../../etc", "", "", 401},
		{"demo:.hidden", "", "", 401},
		{":", "", "", 401},
		{"a:b:c", "", "", 401},
		{"demo:a\x00b", "", "", 401},
		{"", "", "", 204},
	} {
		t.Run(test.token, func(t *testing.T) {
			r := httptest.NewRequest("GET", "http://127.0.0.1:8786/v2/shares", nil)
			r.Header["X-Auth-Token"] = []string{test.token}
			c, err := None{}.Authenticate(r)
			challenge, challenged := errors.AsType[*Challenge](err)
			switch {
			case test.status == 0 && (err != nil || c.User != test.user || string(c.Project) != test.project || !slices.Contains(c.Roles, "admin")):
				t.Errorf("%+v, %v", c, err)
			case test.status != 0 && (!challenged || challenge.Status != test.status):
				t.Errorf("%+v, %v", c, err)
			}
		})
	}
}

func TestNoneAnswersToAddressesOnly(t *testing.T) {
	for host, ok := range map[string]bool{
		"127.0.0.1:8786": true, "localhost:8786": true, "LOCALHOST": true, "[::1]:8786": true, "10.0.0.1": true,
		"evil.example:8786": false, "localhost.evil.example": false, "127.0.0.1.evil.example:1": false, "": false,
	} {
		r := httptest.NewRequest("GET", "/v2/shares", nil)
		r.Host = host
		r.Header.Set("X-Auth-Token", "t")
		if _, err := (None{}).Authenticate(r); (err == nil) != ok {
			t.Errorf("%q: %v", host, err)
		}
		if _, err := (None{AnyName: true}).Authenticate(r); err != nil {
			t.Errorf("%q, any name allowed: %v", host, err)
		}
	}
}

func TestWithoutATokenManilasAnswerNamesOneToUse(t *testing.T) {
	r := httptest.NewRequest("GET", "http://127.0.0.1:8786/v2/shares", nil)
	r.Header.Set("X-Auth-User", "demo")
	_, err := None{}.Authenticate(r)
	c, ok := errors.AsType[*Challenge](err)
	if !ok || c.Header.Get("X-Auth-Token") != "demo:admin" || c.Header.Get("X-Server-Management-Url") != "http://127.0.0.1:8786/v2/shares" {
		t.Errorf("%+v", c)
	}
	if http.StatusText(c.Status) == "" {
		t.Error("no status")
	}
}

func TestRolesAllowWhatManilasDefaultsAllow(t *testing.T) {
	policy := DefaultPolicy()
	for _, test := range []struct {
		rule    string
		allowed []string
	}{
		{"share_backup:create", []string{"member", "manager", "admin"}},
		{"share_backup:get", []string{"reader", "member", "manager", "admin"}},
		{"share_backup:get_all_project", []string{"admin"}},
		{"share_backup:reset_status", []string{"admin"}},
		{"share:manage", []string{"admin"}},
		{"no:such_rule", nil},
	} {
		for _, role := range []string{"", "banana", "reader", "member", "manager", "admin"} {
			want := false
			for _, a := range test.allowed {
				want = want || a == role
			}
			caller := abaca.Caller{User: "u", Project: "p", Roles: WithImplied(role)}
			if got := policy.Allows(test.rule, caller, Owner{Project: "p"}); got != want {
				t.Errorf("%s with role %q: %v", test.rule, role, got)
			}
			if got := policy.Allows(test.rule, caller, Owner{Project: "q"}); got != (want && role == "admin") {
				t.Errorf("%s with role %q in another project: %v", test.rule, role, got)
			}
			caller.Project = ""
			if got := policy.Allows(test.rule, caller, Owner{}); got != (want && role == "admin") {
				t.Errorf("%s with role %q in no project, of nobody's things: %v", test.rule, role, got)
			}
		}
	}
}

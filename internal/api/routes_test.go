package api

import (
	"strings"
	"testing"

	"abaca"
	"abaca/internal/auth"
)

func TestEveryRouteNeedsARoleThatSomebodyHas(t *testing.T) {
	admin := abaca.Caller{Roles: []string{"admin", "manager", "member", "reader"}}
	policy := auth.DefaultPolicy()
	for _, r := range table {
		if !policy.Allows(r.rule, admin, auth.Owner{}) {
			t.Errorf("%s %s %s: no policy %s", r.method, r.path, r.action, r.rule)
		}
		if policy.Allows(r.rule, abaca.Caller{}, auth.Owner{}) {
			t.Errorf("%s %s %s is open to callers without a role", r.method, r.path, r.action)
		}
	}
}

func TestEveryRuleOfOursIsAskedSomewhere(t *testing.T) {
	asked := Asked()
	for _, r := range auth.DefaultPolicy().Rules() {
		if len(asked[r.Name]) == 0 && !strings.HasPrefix(r.Name, "project-") {
			t.Errorf("nothing asks for %s", r.Name)
		}
		delete(asked, r.Name)
	}
	for rule, places := range asked {
		t.Errorf("%s ask for %s, which there is not", places, rule)
	}
}

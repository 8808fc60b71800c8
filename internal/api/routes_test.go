package api

import (
	"testing"

	"abaca"
	"abaca/internal/auth"
)

func TestEveryRouteNeedsARoleThatSomebodyHas(t *testing.T) {
	admin := abaca.Caller{Roles: []string{"admin"}}
	for _, r := range table {
		if !auth.DefaultPolicy.Allows(r.rule, admin) {
			t.Errorf("%s %s %s: no policy %s", r.method, r.path, r.action, r.rule)
		}
		if auth.DefaultPolicy.Allows(r.rule, abaca.Caller{}) {
			t.Errorf("%s %s %s is open to callers without a role", r.method, r.path, r.action)
		}
	}
}

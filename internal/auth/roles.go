package auth

import "slices"

// ladder is Keystone's roles by default, each of which implies those before it.
var ladder = []string{"reader", "member", "manager", "admin"}

// WithImplied returns the roles together with those they imply, for strategies whose callers have not got them from Keystone.
func WithImplied(roles ...string) []string {
	top := -1
	for _, r := range roles {
		top = max(top, slices.Index(ladder, r))
	}
	all := slices.Clone(ladder[:top+1])
	for _, r := range roles {
		if !slices.Contains(all, r) {
			all = append(all, r)
		}
	}
	return all
}

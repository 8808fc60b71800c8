package abaca

import "slices"

// A Caller is who makes a request, as the identity service vouches for.
type Caller struct {
	User    string
	Project ProjectID
	Roles   []string
}

// Admin reports whether the caller may see and change every project's things.
func (c Caller) Admin() bool { return c.Has("admin") }

// Has reports whether the caller has the role, or one that implies it as Keystone's defaults do:
// admin implies manager, manager implies member, member implies reader.
func (c Caller) Has(role string) bool {
	ladder := []string{"reader", "member", "manager", "admin"}
	at := slices.Index(ladder, role)
	if at < 0 {
		return slices.Contains(c.Roles, role)
	}
	return slices.ContainsFunc(ladder[at:], func(r string) bool { return slices.Contains(c.Roles, r) })
}

// Scope returns the project whose things the caller may see: empty, which is every project's, for an administrator.
func (c Caller) Scope() ProjectID {
	if c.Admin() {
		return ""
	}
	return c.Project
}

package abaca

// A Caller is who makes a request, as the identity service vouches for.
type Caller struct {
	User    string
	Project ProjectID
	Roles   []string // all of them, those that others imply included
	Admin   bool     // whether the policy lets the caller see and change every project's things
	Request string   // the id of the request
}

// Scope returns the project whose things the caller may see: empty, which is every project's, for an administrator.
func (c Caller) Scope() ProjectID {
	if c.Admin {
		return ""
	}
	return c.Project
}

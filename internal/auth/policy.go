package auth

import (
	"slices"
	"strings"

	goslo "github.com/databus23/goslo.policy"

	"abaca"
)

// A Policy says who may do what, by rules in the language of oslo.policy. What it has no rule for is denied. It never changes.
//
// That a member sees only their own project's things is not decided here but by every query's scope.
type Policy struct {
	rules    map[string]Rule
	checks   []check             // which goslo asks for by their index
	refers   map[string][]string // by rule, the rules that it refers to
	enforcer *goslo.Enforcer
}

// A Rule is who may do one thing, or a part that other rules refer to.
type Rule struct {
	Name  string
	Check string // what must hold, in oslo.policy's language
	About string // what the rule is for, of rules that this program has by default
	Where string // file:line; empty for a default
}

// An Owner is whose the thing is that a rule is asked about. What is empty belongs to nobody, and no check of it holds.
type Owner struct {
	Project abaca.ProjectID
	User    string
}

// Administrator is the rule of those who may see and change every project's things.
const Administrator = "context_is_admin"

// DefaultPolicy returns the policy of somebody who has written none.
func DefaultPolicy() *Policy {
	p, err := newPolicy(nil)
	if err != nil {
		panic(err) // a table of ours
	}
	return p
}

// Current returns the policy itself: a policy that is followed by nobody is always the current one.
func (p *Policy) Current() *Policy { return p }

// Rules returns the rules that are in force, by name: those that something is asked of and those that they refer to.
func (p *Policy) Rules() []Rule {
	inForce := map[string]bool{}
	for _, r := range defaults {
		p.reach(r.Name, inForce)
	}
	var list []Rule
	for name := range inForce {
		list = append(list, p.rules[name])
	}
	slices.SortFunc(list, func(a, b Rule) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// reach adds a rule and those that it refers to.
func (p *Policy) reach(name string, reached map[string]bool) {
	if reached[name] {
		return
	}
	reached[name] = true
	for _, next := range p.refers[name] {
		p.reach(next, reached)
	}
}

// Has reports whether there is a rule of this name.
func (p *Policy) Has(rule string) bool {
	_, ok := p.rules[rule]
	return ok
}

// Suggest returns the name among the rules that is most like this one, empty where none is like it.
func (p *Policy) Suggest(name string) string { return nearest(name, p.rules) }

// Allows reports whether the caller may do what the rule names to a thing of this owner. Caller.Admin must be what Allows says
// of the rule Administrator, since checks can ask for it.
func (p *Policy) Allows(rule string, caller abaca.Caller, owner Owner) bool {
	return p.enforcer.Enforce(rule, goslo.Context{Auth: credentials(caller), Roles: caller.Roles, Request: target(owner)})
}

// credentials are what a check can compare of a caller, under all the names that oslo.policy and Manila have had for it.
func credentials(c abaca.Caller) map[string]string {
	admin := "False"
	if c.Admin {
		admin = "True"
	}
	return map[string]string{
		"user_id": c.User, "user": c.User,
		"project_id": string(c.Project), "project": string(c.Project), "tenant_id": string(c.Project), "tenant": string(c.Project),
		"is_admin": admin,
		// Every caller has a project, and so is scoped to nothing else; None is how oslo.policy writes that.
		"system_scope": "None", "domain_id": "None",
	}
}

// target is what a check can compare of a thing.
func target(o Owner) map[string]string {
	t := map[string]string{}
	for key, value := range map[string]string{
		"project_id": string(o.Project), "tenant_id": string(o.Project), "target.project_id": string(o.Project),
		"target.tenant_id": string(o.Project), "user_id": o.User, "target.user_id": o.User,
	} {
		if value != "" {
			t[key] = value
		}
	}
	return t
}

package server

import (
	"fmt"
	"log/slog"
	"path/filepath"

	"abaca"
	"abaca/internal/api"
	"abaca/internal/auth"
)

const policyName = "policy.yaml"

// policy reads the policy that the configuration names. Its errors are SettingErrors.
func (c *Config) policy(log *slog.Logger) (*auth.PolicyFile, error) {
	path, required := c.Auth.PolicyFile, true
	if path == "" {
		path, required = filepath.Join(c.DataDir, policyName), false
	}
	f, err := auth.OpenPolicy(path, required, log)
	if err != nil {
		return nil, SettingError{err}
	}
	return f, nil
}

// A Rule is one of the policy's that is in force.
type Rule struct {
	auth.Rule
	Asked []string // the requests that it is asked at, as method and path; empty where only other rules refer to it
}

// Rules returns the rules that are in force, by name. A file that cannot be used is a SettingError.
func (c *Config) Rules() ([]Rule, error) {
	p, err := c.policy(slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	asked := api.Asked()
	var rules []Rule
	for _, r := range p.Current().Rules() {
		rules = append(rules, Rule{Rule: r, Asked: asked[r.Name]})
	}
	return rules, nil
}

// May reports whether the policy lets a caller do what a rule names to a thing of this owner. That the caller could not see the thing is
// no matter of the policy. Roles imply others as the server itself has it; Keystone names in its tokens those that it has imply another.
// A file that cannot be used and a rule that there is not are SettingErrors.
func (c *Config) May(rule string, caller abaca.Caller, project abaca.ProjectID, user string) (bool, error) {
	f, err := c.policy(slog.New(slog.DiscardHandler))
	if err != nil {
		return false, err
	}
	p := f.Current()
	if !p.Has(rule) {
		return false, SettingError{fmt.Errorf("there is no rule %q%s", rule, auth.DidYouMean(p.Suggest(rule)))}
	}
	if c.Auth.Strategy != "keystone" {
		caller.Roles = auth.WithImplied(caller.Roles...)
	}
	own := auth.Owner{Project: caller.Project, User: caller.User}
	caller.Admin = p.Allows(auth.Administrator, caller, own)
	// As for a request: first of the caller's own things, then of this one.
	return p.Allows(rule, caller, own) && p.Allows(rule, caller, auth.Owner{Project: project, User: user}), nil
}

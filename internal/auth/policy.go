package auth

import (
	"slices"

	"abaca"
)

// A Policy says who may do what. What it does not name is denied.
//
// That a member sees only their own project's things is not decided here but by every query's scope.
type Policy struct {
	roles map[string]string // by rule
}

// An Owner is whose the thing is that a rule is asked about.
type Owner struct {
	Project abaca.ProjectID
	User    string
}

// Administrator is the rule of those who may see and change every project's things.
const Administrator = "context_is_admin"

// DefaultPolicy returns the policy of somebody who has written none.
func DefaultPolicy() *Policy { return &Policy{roles: defaultRules} }

// defaultRules are Manila's defaults without the deprecated ones, which let anybody in a project do everything.
var defaultRules = map[string]string{
	Administrator: "admin",

	"share_backup:create":          "member",
	"share_backup:get":             "reader",
	"share_backup:get_all":         "reader",
	"share_backup:get_all_project": "admin",
	"share_backup:restore":         "member",
	"share_backup:update":          "member",
	"share_backup:delete":          "member",
	"share_backup:reset_status":    "admin",

	"share:create":                "member",
	"share:create_public_share":   "admin",
	"share:set_public_share":      "admin",
	"share:get":                   "reader",
	"share:get_all":               "reader",
	"share:list_all_projects":     "admin",
	"share:update":                "member",
	"share:delete":                "member",
	"share:force_delete":          "admin",
	"share:reset_status":          "admin",
	"share:manage":                "admin",
	"share:unmanage":              "admin",
	"share:get_share_metadata":    "reader",
	"share:update_share_metadata": "member",
	"share:delete_share_metadata": "member",

	"share_export_location:index": "reader",
	"share_export_location:show":  "reader",

	"share_replica:get_all": "reader",

	"share_type:create":  "admin",
	"share_type:show":    "reader",
	"share_type:index":   "reader",
	"share_type:default": "reader",
	"share_type:delete":  "admin",

	"share_types_extra_spec:index": "admin",

	"share_snapshot:create":                "member",
	"share_snapshot:get_snapshot":          "reader",
	"share_snapshot:get_all":               "reader",
	"share_snapshot:list_all_projects":     "admin",
	"share_snapshot:delete":                "member",
	"share_snapshot:reset_status":          "admin",
	"share_snapshot_export_location:index": "reader",

	"quota_set:show":         "reader",
	"quota_set:update":       "admin",
	"quota_set:delete":       "admin",
	"quota_class_set:show":   "reader",
	"quota_class_set:update": "admin",

	"limits:index":            "reader",
	"availability_zone:index": "reader",
	"service:index":           "admin",
	"message:get":             "reader",
	"message:get_all":         "reader",
	"message:delete":          "member",
	"extensions:index":        "reader",
}

// Allows reports whether the caller may do what the rule names to a thing of this owner.
func (p *Policy) Allows(rule string, caller abaca.Caller, _ Owner) bool {
	role, ok := p.roles[rule]
	return ok && slices.Contains(caller.Roles, role)
}

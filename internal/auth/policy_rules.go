package auth

import "strings"

// Who may do most things, as Manila writes it.
const (
	adminOnly   = "rule:context_is_admin"
	adminMember = "(rule:context_is_admin) or (rule:project-member)"
	adminReader = "(rule:context_is_admin) or (rule:project-reader)"
)

// bases are the rules of Manila's that others refer to. Nothing is asked of them but who is an administrator.
var bases = []Rule{
	{Name: Administrator, Check: "role:admin", About: "who sees and changes every project's things; what is_admin:True stands for"},
	{Name: "context_is_host_admin", Check: "role:admin and project_id:%(project_id)s"},
	{Name: "project-admin", Check: "role:admin and project_id:%(project_id)s", About: "administrators of the thing's project"},
	{Name: "project-member", Check: "role:member and project_id:%(project_id)s", About: "members of the thing's project"},
	{Name: "project-reader", Check: "role:reader and project_id:%(project_id)s", About: "readers of the thing's project"},
	{Name: "owner-user", Check: "user_id:%(user_id)s and project_id:%(project_id)s", About: "who made the thing"},
	{Name: "admin_or_service_api", Check: "role:admin or role:service"},
	{Name: "admin_or_owner", Check: "is_admin:True or project_id:%(project_id)s", About: "anyone in the thing's project"},
	{Name: "admin_or_owner_user", Check: "is_admin:True or project_id:%(project_id)s and user_id:%(user_id)s"},
	{Name: "default", Check: "rule:admin_or_owner"},
	{Name: "admin_api", Check: "is_admin:True"},
}

// defaults are the rules that something is asked of, by Manila's names and with its defaults, but for the deprecated ones: those
// let anybody in a project do everything. The last two are this program's; Manila asks no rule there.
var defaults = []Rule{
	{Name: Administrator, Check: bases[0].Check, About: bases[0].About},

	{Name: "share_backup:create", Check: adminMember, About: "back up a share"},
	{Name: "share_backup:get", Check: adminReader, About: "show a backup"},
	{Name: "share_backup:get_all", Check: adminReader, About: "list backups"},
	{Name: "share_backup:get_all_project", Check: adminOnly, About: "list all projects' backups"},
	{Name: "share_backup:restore", Check: adminMember, About: "restore a backup; asked of the share that is written to as well"},
	{Name: "share_backup:update", Check: adminMember, About: "rename a backup"},
	{Name: "share_backup:delete", Check: adminMember, About: "delete a backup"},
	{Name: "share_backup:reset_status", Check: adminOnly, About: "write a backup's status by hand"},

	{Name: "share:create", Check: adminMember, About: "make a share"},
	{Name: "share:create_public_share", Check: adminOnly, About: "make a share that every project can see"},
	{Name: "share:set_public_share", Check: adminOnly, About: "let every project see a share"},
	{Name: "share:get", Check: adminReader, About: "show a share; a public one's owner does not matter"},
	{Name: "share:get_all", Check: adminReader, About: "list shares"},
	{Name: "share:list_all_projects", Check: adminOnly, About: "list all projects' shares"},
	{Name: "share:list_by_host", Check: adminOnly, About: "list shares by their back end"},
	{Name: "share:update", Check: adminMember, About: "rename a share"},
	{Name: "share:delete", Check: adminMember, About: "delete a share"},
	{Name: "share:force_delete", Check: adminOnly, About: "delete a share in any status"},
	{Name: "share:reset_status", Check: adminOnly, About: "write a share's status by hand"},
	{Name: "share:manage", Check: adminOnly, About: "make a directory that exists a share"},
	{Name: "share:unmanage", Check: adminOnly, About: "forget a share and leave its files"},
	{Name: "share:get_share_metadata", Check: adminReader, About: "show a share's metadata"},
	{Name: "share:update_share_metadata", Check: adminMember, About: "change a share's metadata"},
	{Name: "share:delete_share_metadata", Check: adminMember, About: "remove a share's metadata"},
	{Name: "share_export_location:index", Check: adminReader, About: "list where a share is exported"},
	{Name: "share_export_location:show", Check: adminReader, About: "show where a share is exported"},
	{Name: "share_replica:get_all", Check: adminReader, About: "list share replicas, of which there are none"},

	{Name: "share_type:create", Check: adminOnly, About: "make a share type"},
	{Name: "share_type:show", Check: adminReader, About: "show a share type"},
	{Name: "share_type:index", Check: adminReader, About: "list share types"},
	{Name: "share_type:default", Check: adminReader, About: "show the default share type"},
	{Name: "share_type:delete", Check: adminOnly, About: "delete a share type"},
	{Name: "share_types_extra_spec:index", Check: adminOnly, About: "list all extra specs of a share type"},

	{Name: "share:create_snapshot", Check: adminMember, About: "make a snapshot of a share"},
	{Name: "share:delete_snapshot", Check: adminMember, About: "delete a snapshot"},
	{Name: "share_snapshot:get_snapshot", Check: adminReader, About: "show a snapshot; asked as well where a share is made from one"},
	{Name: "share_snapshot:get_all_snapshots", Check: adminReader, About: "list snapshots"},
	{Name: "share_snapshot:list_all_projects", Check: adminOnly, About: "list all projects' snapshots"},
	{Name: "share_snapshot:reset_status", Check: adminOnly, About: "write a snapshot's status by hand"},
	{Name: "share_snapshot_export_location:index", Check: adminReader, About: "list where a snapshot is exported, which is nowhere"},

	{Name: "quota_set:show", Check: adminReader, About: "show a project's quotas"},
	{Name: "quota_set:update", Check: adminOnly, About: "set a project's quotas"},
	{Name: "quota_set:delete", Check: adminOnly, About: "give a project the default quotas"},
	{Name: "quota_class_set:show", Check: adminReader, About: "show the default quotas"},
	{Name: "quota_class_set:update", Check: adminOnly, About: "set the default quotas"},

	{Name: "availability_zone:index", Check: adminReader, About: "list availability zones"},
	{Name: "service:index", Check: adminOnly, About: "list services"},
	{Name: "service:update", Check: adminOnly, About: "have workers and back ends take nothing new, or work again"},
	{Name: "message:get", Check: adminReader, About: "show a message"},
	{Name: "message:get_all", Check: adminReader, About: "list messages"},
	{Name: "message:delete", Check: adminMember, About: "delete a message"},

	{Name: "limits:index", Check: adminReader, About: "show the caller's own quotas and what is used"},
	{Name: "extensions:index", Check: adminReader, About: "list extensions, of which there are none"},
}

// idle are Manila's other rules, of things that there are none of here. A policy file may have them, as a Manila's has; nothing is
// asked of them.
var idle = map[string]string{
	"scheduler_stats": "pools:index pools:detail",
	"share": `soft_delete restore list_by_share_server_id access_get access_get_all extend force_extend
		extend_beyond_max_share_size_spec shrink migration_start migration_complete migration_cancel migration_get_progress
		reset_task_state revert_to_snapshot allow_access deny_access list_shares_in_deferred_deletion_states snapshot_update
		update_admin_only_metadata`,
	"share_instance_export_location": "index show",
	"share_type":                     "update list_project_access add_project_access remove_project_access",
	"share_types_extra_spec":         "create show update delete",
	"share_snapshot": `force_delete manage_snapshot unmanage_snapshot access_list allow_access deny_access update_metadata delete_metadata
		get_metadata list_snapshots_in_deferred_deletion_states`,
	"share_snapshot_export_location":          "show",
	"share_snapshot_instance":                 "show index detail reset_status",
	"share_snapshot_instance_export_location": "index show",
	"share_server": `index show details delete manage_share_server unmanage_share_server reset_status share_server_migration_start
		share_server_migration_check share_server_migration_complete share_server_migration_cancel
		share_server_migration_get_progress share_server_reset_task_state`,
	"service":                "ensure_shares",
	"resource_lock":          "get get_all get_all_projects create update delete bypass_locked_show_action",
	"share_group_types_spec": "create index show update delete",
	"share_group_type":       "create index show default delete list_project_access add_project_access remove_project_access",
	"share_group_snapshot":   "create get get_all update delete force_delete reset_status",
	"share_group":            "create get get_all update delete force_delete reset_status",
	"share_replica": `create show delete force_delete promote resync reset_replica_state reset_status update_metadata delete_metadata
		get_metadata`,
	"share_replica_export_location": "index show",
	"share_network": `create show index detail update delete add_security_service add_security_service_check remove_security_service
		update_security_service update_security_service_check reset_status get_all_share_networks subnet_create_check
		show_network_details`,
	"share_network_subnet":  "create delete show index update_metadata delete_metadata get_metadata",
	"security_service":      "create show detail index update delete get_all_security_services",
	"share_export_location": "update_metadata delete_metadata get_metadata update_admin_only_metadata",
	"share_instance":        "index show force_delete reset_status",
	"share_access_rule":     "get index update",
	"share_access_metadata": "update delete",
	"share_transfer":        "get_all get_all_tenant create get accept delete",
	"qos_type":              "create update show index delete",
	"qos_type_specs":        "create index show update delete",
}

// isIdle reports whether Manila has a rule of this name that nothing is asked of here.
func isIdle(name string) bool {
	group, action, _ := strings.Cut(name, ":")
	for known := range strings.FieldsSeq(idle[group]) {
		if action == known {
			return true
		}
	}
	return false
}

// idleNames are the names of all idle rules.
func idleNames() (names []string) {
	for group, actions := range idle {
		for action := range strings.FieldsSeq(actions) {
			names = append(names, group+":"+action)
		}
	}
	return names
}

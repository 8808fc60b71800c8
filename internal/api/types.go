package api

import (
	"encoding/json"
	"net/http"
	"slices"
	"unicode/utf8"

	"abaca"
)

// tenantSpecs are the extra specs that are no secret of the administrators.
var tenantSpecs = []string{
	"driver_handles_share_servers", "snapshot_support", "create_share_from_snapshot_support", "revert_to_snapshot_support",
	"replication_type", "mount_snapshot_support", "mount_point_name_support", "snapshot_inherit_share_access_support",
	"availability_zones", "encryption_support", "provisioning:max_share_size", "provisioning:min_share_size",
	"provisioning:max_share_extend_size", "provisioning:mount_point_prefix", "default_qos_type",
}

// shownSpecs are those that tenants always see, false where they are not set, each since a version.
var shownSpecs = map[string]microversion{
	"snapshot_support": 2, "create_share_from_snapshot_support": 24, "revert_to_snapshot_support": 27, "mount_snapshot_support": 32,
	"snapshot_inherit_share_access_support": 99,
}

func (q *request) typeView(t abaca.ShareType) object {
	specs := object{}
	for k, v := range t.Specs {
		if q.caller.Admin || slices.Contains(tenantSpecs, k) && q.version >= shownSpecs[k] {
			specs[k] = v
		}
	}
	if !q.caller.Admin {
		for k, since := range shownSpecs {
			if _, set := specs[k]; !set && q.version >= since {
				specs[k] = false
			}
		}
	}
	access := "share_type_access:is_public"
	if q.version < 7 {
		access = "os-share-type-access:is_public"
	}
	v := object{
		"id": t.ID, "name": t.Name, "extra_specs": specs, access: t.Public,
		"required_extra_specs": object{"driver_handles_share_servers": t.Specs["driver_handles_share_servers"]},
	}
	if q.version >= 41 {
		v["description"] = t.Description
	}
	if q.version >= 46 {
		v["is_default"] = t.Name == q.Manager.DefaultType
	}
	return v
}

// oneType answers under the name of today and under the one from before shares left the volume service.
func (q *request) oneType(t abaca.ShareType, err error) (int, any, error) {
	if err != nil {
		return 0, nil, err
	}
	v := q.typeView(t)
	return http.StatusOK, object{"share_type": v, "volume_type": v}, nil
}

func (q *request) typesByID() (map[abaca.ShareTypeID]abaca.ShareType, error) {
	list, err := q.DB.ShareTypes(q.Context(), nil)
	byID := make(map[abaca.ShareTypeID]abaca.ShareType, len(list))
	for _, t := range list {
		byID[t.ID] = t
	}
	return byID, err
}

func listTypes(q *request) (int, any, error) {
	public := new(bool)
	*public = true
	if v, ok := q.query("is_public"); ok && q.caller.Admin {
		yes, known := truth(v)
		switch {
		case known:
			*public = yes
		case v == "all" || v == "none" || v == "None":
			public = nil
		default:
			return 0, nil, abaca.Errorf(abaca.Invalid, "is_public is true, false or all.")
		}
	}
	list, err := q.DB.ShareTypes(q.Context(), public)
	if err != nil {
		return 0, nil, err
	}
	views := make([]object, len(list))
	for i, t := range list {
		views[i] = q.typeView(t)
	}
	return http.StatusOK, object{"share_types": views, "volume_types": views}, nil
}

func showDefaultType(q *request) (int, any, error) {
	t, err := q.DB.ShareTypeNamed(q.Context(), q.Manager.DefaultType, !q.caller.Admin)
	return q.oneType(t, err)
}

func (q *request) typeID() abaca.ShareTypeID { return abaca.ShareTypeID(q.pathValue("id")) }

func showType(q *request) (int, any, error) {
	return q.oneType(q.shareType())
}

func deleteType(q *request) (int, any, error) {
	if _, err := q.shareType(); err != nil {
		return 0, nil, err
	}
	return http.StatusAccepted, nil, q.Manager.DeleteShareType(q.Context(), q.typeID())
}

func listSpecs(q *request) (int, any, error) {
	t, err := q.shareType()
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, object{"extra_specs": t.Specs}, nil
}

func createType(q *request) (int, any, error) {
	body, _, err := q.decode()
	if err != nil {
		return 0, nil, err
	}
	outer, _ := body.(object)
	key, _ := firstOf(outer, "share_type", "volume_type")
	o, ok := outer[key].(object)
	if !ok {
		// Unlike for everything else, upstream's answer to a wrong wrapper is 400 here.
		return 0, nil, abaca.Errorf(abaca.Invalid, "The request's body needs an object %q.", "share_type")
	}
	t := abaca.ShareType{Public: true, Specs: map[string]string{}}
	if t.Name, ok = o["name"].(string); !ok || t.Name == "" || utf8.RuneCountInString(t.Name) > maxText {
		return 0, nil, abaca.Errorf(abaca.Invalid, "A share type's name has 1 to %d characters.", maxText)
	}
	if t.Description, err = optionalText(o, "description"); err != nil {
		return 0, nil, err
	}
	access, given := firstOf(o, "share_type_access:is_public", "os-share-type-access:is_public")
	if given {
		if t.Public, ok = truth(o[access]); !ok {
			return 0, nil, abaca.Errorf(abaca.Invalid, "%s must be a boolean.", access)
		}
	}
	if t.Specs, err = extraSpecs(o["extra_specs"]); err != nil {
		return 0, nil, err
	}
	t, err = q.Manager.CreateShareType(q.Context(), t)
	if err == nil {
		q.made(string(t.ID), "")
	}
	return q.oneType(t, err)
}

// extraSpecs reads a share type's specs. Booleans are kept as upstream keeps them, as the words True and False.
func extraSpecs(v any) (map[string]string, error) {
	specs := map[string]string{}
	o, ok := v.(object)
	if !ok && v != nil {
		return nil, abaca.Errorf(abaca.Invalid, "extra_specs must be an object.")
	}
	if len(o) > maxEntries {
		return nil, tooMany("extra_specs", maxEntries)
	}
	for key, value := range o {
		switch value := value.(type) {
		case string:
			specs[key] = value
		case bool:
			specs[key] = "False"
			if value {
				specs[key] = "True"
			}
		case json.Number:
			specs[key] = value.String()
		default:
			return nil, abaca.Errorf(abaca.Invalid, "The extra spec %q must be a string.", key)
		}
		if key == "" || utf8.RuneCountInString(key) > maxText || utf8.RuneCountInString(specs[key]) > maxText {
			return nil, abaca.Errorf(abaca.Invalid, "The extra spec %.20q has a key or value of 0 or more than %d characters.", key, maxText)
		}
	}
	if _, ok := truth(specs["driver_handles_share_servers"]); !ok {
		return nil, abaca.Errorf(abaca.Invalid, "The extra spec driver_handles_share_servers is needed, a boolean.")
	}
	return specs, nil
}

package api

import (
	"net/http"
	"strings"

	"github.com/google/uuid"

	"abaca"
	"abaca/internal/db"
	"abaca/internal/manager"
)

// zoneID belongs to the availability zone's name once and for all.
func zoneID(name string) string {
	return uuid.NewSHA1(uuid.NameSpaceURL, []byte("zone:"+name)).String()
}

func listZones(q *request) (int, any, error) {
	return http.StatusOK, object{"availability_zones": []object{
		{"id": zoneID(q.Manager.Zone), "name": q.Manager.Zone, "created_at": timestamp(q.Manager.Started), "updated_at": nil},
	}}, nil
}

// listServices shows the workers and the back ends as the services that a Manila deployment would have.
func listServices(q *request) (int, any, error) {
	services, err := q.DB.Services(q.Context())
	if err != nil {
		return 0, nil, err
	}
	list := []object{}
	for _, s := range services {
		v := q.service(s)
		if q.asksFor(v, "host", "binary", "zone", "state", "status") {
			list = append(list, v)
		}
	}
	return http.StatusOK, object{"services": list}, nil
}

func (q *request) service(s db.Service) object {
	v := object{
		"id": s.ID, "binary": manager.BinaryData, "host": s.Name, "zone": q.Manager.Zone, "status": "enabled", "state": "down",
		"updated_at": timestamp(s.BeatenAt),
	}
	if s.Kind == db.ServiceBackend {
		v["binary"], v["host"] = manager.BinaryShare, manager.HostOf(s.Name)
	}
	if s.Disabled {
		v["status"] = "disabled"
	}
	if s.UpUntil.After(q.Manager.Now()) {
		v["state"] = "up"
	}
	q.addReason(v, s.Reason)
	return v
}

// addReason adds what newer versions show of a service.
func (q *request) addReason(v object, reason *string) {
	if q.version >= 83 {
		v["disabled_reason"] = reason
	}
	if q.version >= 86 {
		v["ensuring"] = false
	}
}

// asksFor reports whether an object has the values that the query names for these keys.
func (q *request) asksFor(v object, keys ...string) bool {
	for _, key := range keys {
		if want, ok := q.query(key); ok && want != v[key] {
			return false
		}
	}
	return true
}

func enableService(q *request) (int, any, error) { return q.switchService(false) }

func disableService(q *request) (int, any, error) { return q.switchService(true) }

// switchService reads which service is meant, by its binary and host; to disable it there may be a reason.
func (q *request) switchService(disabled bool) (int, any, error) {
	body, _, err := q.decode()
	if err != nil {
		return 0, nil, err
	}
	o, _ := body.(object)
	host, hasHost := o["host"].(string)
	binary, hasBinary := o["binary"].(string)
	if !hasHost || !hasBinary {
		return 0, nil, abaca.Errorf(abaca.Invalid, "A service is named by its host and binary.")
	}
	reason, err := optionalText(o, "disabled_reason")
	if err != nil {
		return 0, nil, err
	}
	switch {
	case !disabled || reason == nil || strings.TrimSpace(*reason) == "":
		reason = nil
	case q.version < 83:
		return 0, nil, abaca.Errorf(abaca.Invalid, "disabled_reason can be given from version 2.83 on.")
	default:
		*reason = strings.TrimSpace(*reason)
	}
	if err := q.Manager.SwitchService(q.Context(), binary, host, disabled, reason); err != nil {
		return 0, nil, err
	}
	v := object{"host": host, "binary": binary, "status": "enabled"}
	if disabled {
		v["status"] = "disabled"
	}
	q.addReason(v, reason)
	return http.StatusOK, v, nil
}

func noExtensions(*request) (int, any, error) {
	return http.StatusOK, object{"extensions": []object{}}, nil
}

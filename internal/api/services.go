package api

import (
	"net/http"

	"github.com/google/uuid"

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

// listServices shows the services that a Manila deployment of these back ends would have.
func listServices(q *request) (int, any, error) {
	list := []object{}
	add := func(binary, host string) {
		v := object{
			"id": len(list) + 1, "binary": binary, "host": host, "zone": q.Manager.Zone, "status": "enabled", "state": "up",
			"updated_at": timestamp(q.Manager.Started),
		}
		if q.version >= 83 {
			v["disabled_reason"] = nil
		}
		if q.version >= 86 {
			v["ensuring"] = false
		}
		for _, key := range []string{"host", "binary", "zone", "state", "status"} {
			if want, ok := q.query(key); ok && want != v[key] {
				return
			}
		}
		list = append(list, v)
	}
	add("manila-data", q.Manager.Host)
	for _, name := range q.Manager.BackendNames() {
		add("manila-share", manager.HostOf(name))
	}
	return http.StatusOK, object{"services": list}, nil
}

func noExtensions(*request) (int, any, error) {
	return http.StatusOK, object{"extensions": []object{}}, nil
}

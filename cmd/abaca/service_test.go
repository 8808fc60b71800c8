package main

import (
	"strings"
	"testing"
)

func TestServicesAreSeenAndSwitched(t *testing.T) {
	h := open(t)
	worker := h.Config.Host
	var list []object
	h.json(&list, "service", "list")
	if len(list) != 2 || list[0]["host"] != worker || list[0]["state"] != "up" || list[1]["host"] != "abaca@local" {
		t.Fatalf("the services are %v", list)
	}
	var answer object
	h.json(&answer, "service", "disable", worker, "--reason", "new disks")
	if answer["status"] != "disabled" || answer["binary"] != "manila-data" {
		t.Errorf("the answer is %v", answer)
	}
	h.json(&list, "service", "list", "--status", "disabled")
	if len(list) != 1 || list[0]["disabled_reason"] != "new disks" {
		t.Errorf("disabled are %v", list)
	}
	if out, _, err := h.run(t.Context(), "service", "list"); err != nil || !strings.Contains(out, "new disks") || !strings.Contains(out, "disabled") {
		t.Errorf("the table is %q, %v", out, err)
	}
	// What a disabled worker is asked to do waits; enabled again it does it.
	h.must("share", "create", "nfs", "1", "--name", "papers")
	h.must("service", "enable", worker)
	h.json(&answer, "service", "disable", "abaca@local")
	if answer["binary"] != "manila-share" {
		t.Errorf("the answer is %v", answer)
	}
	h.must("service", "enable", "abaca@local")
	h.must("backup", "create", h.settled("papers"), "--wait")
	if _, _, err := h.run(t.Context(), "service", "disable", "nowhere"); err == nil || !strings.Contains(err.Error(), "could not be found") {
		t.Errorf("an unknown service: %v", err)
	}
}

// settled waits until a share is available and returns its id.
func (h *house) settled(name string) (id string) {
	h.t.Helper()
	var share object
	h.json(&share, "share", "show", name)
	id = share["id"].(string)
	h.AtRest("/shares/"+id, "share", "available")
	return id
}

package main

import (
	"strings"
	"testing"
)

func TestRepositoriesAreListedAndMeasuredBesideARunningServer(t *testing.T) {
	h := withBackups(t)
	data := []string{"--data-dir", h.Config.DataDir}
	if out := h.must(append([]string{"repository", "list"}, data...)...); !strings.Contains(out, "admin    2        0") {
		t.Errorf("listed is\n%s", out)
	}
	h.must("backup", "create", "papers", "--name", "again", "--wait")
	var stats []object
	h.json(&stats, append([]string{"repository", "stats", "--project", "admin"}, data...)...)
	const mib = 1 << 20
	if s := stats[0]; len(stats) != 1 || s["backups"] != 3.0 || s["logical_bytes"] != float64(2*mib+len("la la")) ||
		s["unique_bytes"].(float64) < mib || s["unique_bytes"].(float64) > 1.1*mib || s["stored_bytes"].(float64) > 1.1*mib ||
		s["reclaimable_bytes"].(float64) > 0.1*mib {
		t.Errorf("measured is %v", stats)
	}
	if out := h.must(append([]string{"repository", "stats"}, data...)...); !strings.Contains(out, "2.0 MiB") || len(strings.Split(out, "\n")) != 3 {
		t.Errorf("measured is\n%s", out)
	}
	h.refused("nothing is saved", append([]string{"repository", "stats", "--project", "nobody"}, data...)...)
}

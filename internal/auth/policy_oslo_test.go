package auth

import (
	"bufio"
	"encoding/json"
	"os"
	"testing"

	"abaca"
)

// TestDecisionsAreThoseOfOsloPolicy compares with what testdata/oslo.py has had the real one decide. What that takes for nonsense,
// and denies without a word, is refused here.
func TestDecisionsAreThoseOfOsloPolicy(t *testing.T) {
	f, err := os.Open("testdata/oslo.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	next := func(into any) bool {
		if !lines.Scan() {
			return false
		}
		if err := json.Unmarshal(lines.Bytes(), into); err != nil {
			t.Fatalf("%s: %v", lines.Bytes(), err)
		}
		return true
	}
	var world struct {
		Callers []struct {
			User, Project string
			Roles         []string
			Admin         bool
		}
		Owners []struct{ User, Project string }
		Rules  map[string]any
	}
	next(&world)
	decisions, malformed := 0, 0
	for {
		var c struct {
			Asked     any
			Decisions string
			Malformed bool
		}
		if !next(&c) {
			break
		}
		world.Rules["share_backup:create"] = c.Asked
		world.Rules["share:extend"] = "rule:admins and rule:open and rule:closed" // what nothing refers to would be refused
		data, err := json.Marshal(world.Rules)
		if err != nil {
			t.Fatal(err)
		}
		p, err := makePolicy(data)
		if c.Malformed {
			if malformed++; err == nil {
				t.Errorf("%q is taken", c.Asked)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", c.Asked, err)
			continue
		}
		var got []byte
		for _, by := range world.Callers {
			for _, of := range world.Owners {
				caller := abaca.Caller{User: by.User, Project: abaca.ProjectID(by.Project), Roles: by.Roles, Admin: by.Admin}
				digit := byte('0')
				if p.Allows("share_backup:create", caller, Owner{Project: abaca.ProjectID(of.Project), User: of.User}) {
					digit = '1'
				}
				got = append(got, digit)
			}
		}
		decisions += len(got)
		if string(got) != c.Decisions {
			t.Errorf("%q is decided %s, want %s", c.Asked, got, c.Decisions)
		}
	}
	if lines.Err() != nil || decisions < 5000 || malformed < 20 {
		t.Errorf("%d decisions were compared and %d rules were malformed: %v", decisions, malformed, lines.Err())
	}
}

// makePolicy makes a policy of a file's content.
func makePolicy(data []byte) (*Policy, error) {
	rules, err := parsePolicy("policy.yaml", data)
	if err != nil {
		return nil, err
	}
	return newPolicy(rules)
}

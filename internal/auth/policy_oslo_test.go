package auth

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strings"
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
	type example struct {
		Asked     any
		Decisions string
		Malformed bool
	}
	examples, malformed := map[string]example{}, 0
	var all []string
	for {
		var e example
		if !next(&e) {
			break
		}
		if e.Malformed {
			malformed++
			if data, _ := json.Marshal(map[string]any{"share:get": e.Asked}); refused(data) == nil {
				t.Errorf("%q is taken", e.Asked)
			}
			continue
		}
		name := fmt.Sprintf("example-%d", len(examples))
		examples[name], world.Rules[name] = e, e.Asked
		all = append(all, "rule:"+name)
	}
	// What nothing refers to would be refused.
	world.Rules["share:extend"] = "rule:admins and rule:open and rule:closed and " + strings.Join(all, " and ")
	data, err := json.Marshal(world.Rules)
	if err != nil {
		t.Fatal(err)
	}
	p, err := makePolicy(data)
	if err != nil {
		t.Fatal(err)
	}
	decisions := 0
	for name, e := range examples {
		var got []byte
		for _, by := range world.Callers {
			for _, of := range world.Owners {
				caller := abaca.Caller{User: by.User, Project: abaca.ProjectID(by.Project), Roles: by.Roles, Admin: by.Admin}
				digit := byte('0')
				if p.Allows(name, caller, Owner{Project: abaca.ProjectID(of.Project), User: of.User}) {
					digit = '1'
				}
				got = append(got, digit)
			}
		}
		decisions += len(got)
		if string(got) != e.Decisions {
			t.Errorf("%q is decided %s, want %s", e.Asked, got, e.Decisions)
		}
	}
	if lines.Err() != nil || decisions < 5000 || malformed < 20 {
		t.Errorf("%d decisions were compared and %d rules were malformed: %v", decisions, malformed, lines.Err())
	}
}

func refused(data []byte) error {
	_, err := makePolicy(data)
	return err
}

// makePolicy makes a policy of a file's content.
func makePolicy(data []byte) (*Policy, error) {
	rules, err := parsePolicy("policy.yaml", data)
	if err != nil {
		return nil, err
	}
	return newPolicy(rules)
}

package auth

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	goslo "github.com/databus23/goslo.policy"
)

// compile hands all rules to goslo.
func (p *Policy) compile() (err error) {
	expressions := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(p.rules)) {
		if expressions[name], err = p.expression(name, p.rules[name].Check); err != nil {
			return p.wrong(name, "%s", err)
		}
	}
	if p.enforcer, err = goslo.NewEnforcer(expressions); err != nil {
		return fmt.Errorf("compile the policy: %w", err) // what it takes has been made sure of
	}
	for _, c := range p.checks {
		if c.kind == kindRule {
			p.refers[c.of] = append(p.refers[c.of], c.match.text())
		}
	}
	p.enforcer.AddCheck(kindCheck, func(ctx goslo.Context, _, index string) bool {
		i, err := strconv.Atoi(index)
		return err == nil && p.checks[i].holds(ctx)
	})
	return nil
}

// acyclic refuses rules that refer to themselves, and a rule for administrators that asks whether the caller is one.
func (p *Policy) acyclic() error {
	const open, done = 1, 2
	state := map[string]int{}
	var path []string // from the first rule to the one that is looked at, each of which refers to the next
	var visit func(rule string) error
	visit = func(rule string) error {
		switch state[rule] {
		case done:
			return nil
		case open:
			circle := path[slices.Index(path, rule):]
			return p.wrong(p.written(circle...), "refers to itself: %s", strings.Join(append(circle, rule), ", "))
		}
		path, state[rule] = append(path, rule), open
		for _, next := range p.refers[rule] {
			if err := visit(next); err != nil {
				return err
			}
		}
		path, state[rule] = path[:len(path)-1], done
		return nil
	}
	for _, rule := range slices.Sorted(maps.Keys(p.rules)) {
		if err := visit(rule); err != nil {
			return err
		}
	}
	asked := map[string]bool{}
	p.reach(Administrator, asked)
	for _, c := range p.checks {
		if c.kind == "is_admin" && asked[c.of] {
			return p.wrong(p.written(Administrator, c.of), "asks for is_admin, which it decides")
		}
	}
	return nil
}

// written returns the first of these rules that stands in a file.
func (p *Policy) written(rules ...string) string {
	for _, r := range rules {
		if p.rules[r].Where != "" {
			return r
		}
	}
	return rules[0]
}

// nearest returns the name that goes on where this one ends or, without any, differs least from it, if that is little.
func nearest(name string, rules map[string]Rule, more ...string) (best string) {
	least := 1 + len(name)/4
	for _, known := range slices.Concat(slices.Sorted(maps.Keys(rules)), more) {
		if len(name) > 3 && strings.HasPrefix(known, name) && known != name {
			return known
		}
		if d := distance(strings.ToLower(strings.TrimSpace(name)), strings.ToLower(known), least); d < least && known != name {
			best, least = known, d
		}
	}
	return best
}

// distance returns how many letters must be put in, left out or replaced to make one word of the other, most where that is more.
func distance(a, b string, most int) int {
	if len(a)-len(b) > most || len(b)-len(a) > most {
		return most
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}

// DidYouMean ends an error about a name with the one that was perhaps meant, empty for none.
func DidYouMean(name string) string {
	if name == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", name)
}

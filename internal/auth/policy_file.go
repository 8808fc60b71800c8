package auth

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// maxPolicyFile is how long a policy file may be, in bytes; one with every rule of Manila's and their comments has a tenth of that.
const maxPolicyFile = 1 << 20

// readPolicy makes the policy of a file. Its errors are one line and begin with file:line where they are about a line.
func readPolicy(path string) (*Policy, version, error) {
	data, info, err := readPolicyFile(path)
	if err != nil {
		return nil, version{}, fmt.Errorf("policy file: %w", err)
	}
	rules, err := parsePolicy(path, data)
	if err != nil {
		return nil, version{}, err
	}
	p, err := newPolicy(rules)
	return p, versionOf(info), err
}

// readPolicyFile reads a file that nobody but this user and root can write. Opening a pipe does not wait for who writes into it.
func readPolicyFile(path string) ([]byte, os.FileInfo, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	switch {
	case !info.Mode().IsRegular():
		return nil, nil, fmt.Errorf("%s is no regular file", path)
	case info.Mode().Perm()&0o022 != 0:
		return nil, nil, fmt.Errorf("%s can be written by others; chmod go-w %[1]s", path)
	}
	if err := ownedBy(path, info, os.Geteuid()); err != nil {
		return nil, nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxPolicyFile+1))
	if err != nil {
		return nil, nil, err
	}
	if len(data) > maxPolicyFile {
		return nil, nil, fmt.Errorf("%s is longer than %d bytes", path, maxPolicyFile)
	}
	return data, info, nil
}

// yamlError is how package yaml begins its errors.
var yamlError = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// parsePolicy reads rules from YAML, of which JSON is a part. Comments alone are no rules.
func parsePolicy(path string, data []byte) (rules []Rule, err error) {
	at := func(line int, format string, args ...any) error {
		return fmt.Errorf("%s:%d: %s", path, line, fmt.Sprintf(format, args...))
	}
	if !utf8.Valid(data) {
		return nil, fmt.Errorf("the policy file %s is not UTF-8", path)
	}
	var document yaml.Node
	d := yaml.NewDecoder(bytes.NewReader(data))
	if err := d.Decode(&document); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		line := "1"
		if m := yamlError.FindStringSubmatch(err.Error()); m != nil && m[1] != "" {
			line = m[1]
		}
		return nil, fmt.Errorf("%s:%s: %s", path, line, strings.Join(strings.Fields(yamlError.ReplaceAllString(err.Error(), "")), " "))
	}
	var another yaml.Node
	if err := d.Decode(&another); !errors.Is(err, io.EOF) {
		return nil, at(max(another.Line, 1), "there is more than one document")
	}
	top := document.Content[0]
	if top.Kind == yaml.ScalarNode && top.Tag == "!!null" {
		return nil, nil
	}
	if top.Kind != yaml.MappingNode {
		return nil, at(top.Line, "rules are written as name: check")
	}
	lines := map[string]int{}
	for i := 0; i < len(top.Content); i += 2 {
		key, value := top.Content[i], top.Content[i+1]
		if key.Kind != yaml.ScalarNode || key.Tag != "!!str" {
			return nil, at(key.Line, "a rule's name must be a string")
		}
		if before, again := lines[key.Value]; again {
			return nil, at(key.Line, "the rule %q stands in line %d already", key.Value, before)
		}
		lines[key.Value] = key.Line
		text, err := checkString(value)
		if err != nil {
			return nil, at(value.Line, "the rule %q %s", key.Value, err)
		}
		rules = append(rules, Rule{Name: key.Value, Check: text, Where: fmt.Sprintf("%s:%d", path, key.Line)})
	}
	return rules, nil
}

// checkString returns a rule's check string. The old form, a list of lists of checks, is a sum of products.
func checkString(n *yaml.Node) (string, error) {
	if n.Kind == yaml.AliasNode && n.Alias.Kind == yaml.ScalarNode {
		n = n.Alias
	}
	switch {
	case n.Kind == yaml.ScalarNode && n.Tag == "!!str":
		return n.Value, nil
	case n.Kind == yaml.SequenceNode:
		return sumOfProducts(n.Content)
	}
	return "", errors.New(`must be a string in quotes; "@" allows everyone, "!" nobody`)
}

func sumOfProducts(list []*yaml.Node) (string, error) {
	if len(list) == 0 {
		return "@", nil
	}
	var sum []string
	for _, n := range list {
		factors := n.Content
		if n.Kind != yaml.SequenceNode {
			factors = []*yaml.Node{n}
		}
		var product []string
		for _, f := range factors {
			if f.Kind != yaml.ScalarNode || f.Tag != "!!str" || f.Value != "@" && f.Value != "!" && !isCheck(f.Value) {
				return "", errors.New("is a list of something else than lists of checks")
			}
			product = append(product, f.Value)
		}
		if len(product) > 0 {
			sum = append(sum, "("+strings.Join(product, " and ")+")")
		}
	}
	if len(sum) == 0 {
		return "!", nil
	}
	return strings.Join(sum, " or "), nil
}

// isCheck reports whether text is one check and nothing else.
func isCheck(text string) bool {
	_, err := parseCheck(text)
	return err == nil && len(strings.Fields(text)) == 1 && strings.Trim(text, "()") == text
}

// newPolicy makes a policy of the defaults and of what overrides them.
func newPolicy(rules []Rule) (*Policy, error) {
	p := &Policy{rules: map[string]Rule{}, refers: map[string][]string{}}
	for _, r := range slices.Concat(bases, defaults) {
		p.rules[r.Name] = r
	}
	byDefault := maps.Clone(p.rules)
	for _, r := range rules {
		r.About = byDefault[r.Name].About
		p.rules[r.Name] = r
	}
	if err := p.compile(); err != nil {
		return nil, err
	}
	referred := map[string]bool{}
	for _, rule := range slices.Sorted(maps.Keys(p.refers)) {
		for _, next := range p.refers[rule] {
			referred[next] = true
			if _, ok := p.rules[next]; !ok {
				return nil, p.wrong(rule, "refers to a rule %q, which there is not%s", next, DidYouMean(nearest(next, p.rules)))
			}
		}
	}
	for _, r := range rules {
		if _, known := byDefault[r.Name]; !known && !isIdle(r.Name) && !referred[r.Name] {
			return nil, p.wrong(r.Name, "is unknown, and no other refers to it%s", DidYouMean(nearest(r.Name, byDefault, idleNames()...)))
		}
	}
	return p, p.acyclic()
}

func (p *Policy) wrong(rule, format string, args ...any) error {
	return fmt.Errorf("%s: the rule %q %s", p.rules[rule].Where, rule, fmt.Sprintf(format, args...))
}

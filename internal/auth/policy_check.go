package auth

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode"

	goslo "github.com/databus23/goslo.policy"

	"abaca"
)

// goslo.policy is given the and, or, not and parentheses of a rule, and what stands between them as numbers, each of a check that
// is read and decided here. Its own lexer would take no colon in a match, as in rule:share:get, no AND, and no text around a
// %(variable)s; it would take a blank rule for one that allows everything; and after a syntax error it leaves a goroutine behind.
const kindCheck = "check"

// The kinds of checks that compare no credential of that name.
const (
	kindRule    = "rule"
	kindRole    = "role"
	kindRoles   = "roles" // the list of roles, in which oslo.policy finds any credential that is a list; case matters
	kindLiteral = "literal"
)

// A check is one comparison of a rule.
type check struct {
	of      string // the rule that it is part of
	kind    string
	literal string // of kindLiteral: what is compared with match
	match   template
}

// maxNesting is how many parentheses and nots may be open at a time, which bounds the stack that a decision takes.
const maxNesting = 100

// expression translates a rule's check string for goslo, and appends its checks to those of the policy.
func (p *Policy) expression(rule, text string) (string, error) {
	if text == "" {
		return "@", nil
	}
	if strings.IndexFunc(text, func(r rune) bool { return unicode.IsControl(r) && !unicode.IsSpace(r) }) >= 0 {
		return "", errors.New("has a control character")
	}
	e := expression{}
	for word := range strings.FieldsSeq(text) {
		inner := strings.TrimLeft(word, "(")
		e.add(strings.Repeat("(", len(word)-len(inner)))
		bare := strings.TrimRight(inner, ")")
		switch lower := strings.ToLower(bare); {
		case bare == "":
		case lower == "and", lower == "or", lower == "not":
			e.add(lower)
		case bare == "@", bare == "!":
			e.add(bare)
		default:
			c, err := parseCheck(bare)
			if err != nil {
				return "", err
			}
			c.of = rule
			e.add(fmt.Sprintf("%s:%d", kindCheck, len(p.checks)))
			p.checks = append(p.checks, c)
		}
		e.add(strings.Repeat(")", len(inner)-len(bare)))
		if e.wrong != "" {
			return "", fmt.Errorf("%s at %q", e.wrong, word)
		}
	}
	switch {
	case e.words == nil:
		return "", errors.New(`is blank; "@" allows everyone, "!" nobody`)
	case !e.operand:
		return "", errors.New("ends where a check must follow")
	case len(e.open) > 0:
		return "", errors.New("lacks a closing parenthesis")
	}
	return strings.Join(e.words, " "), nil
}

// An expression is put together from words that can follow one another.
type expression struct {
	words   []string
	operand bool  // whether what stands so far is complete but for open parentheses
	open    []int // the open parentheses: how many nots stand before each
	nots    int   // that stand before what comes next
	depth   int
	wrong   string
}

// add takes parentheses of one kind, an operator or a check.
func (e *expression) add(word string) {
	if word == "" || e.wrong != "" {
		return
	}
	fits := false
	switch {
	case word[0] == '(':
		fits = !e.operand
		for range word {
			e.open, e.nots = append(e.open, e.nots), 0
		}
		e.depth += len(word)
	case word[0] == ')':
		if fits = e.operand && len(word) <= len(e.open); fits {
			rest := len(e.open) - len(word)
			for _, nots := range e.open[rest:] {
				e.depth -= 1 + nots
			}
			e.open = e.open[:rest]
		}
	case word == "not":
		fits = !e.operand
		e.nots, e.depth = e.nots+1, e.depth+1
	case word == "and", word == "or":
		fits, e.operand = e.operand, false
	default:
		fits, e.operand = !e.operand, true
		e.nots, e.depth = 0, e.depth-e.nots
	}
	if !fits {
		e.wrong = "makes no sense"
	} else if e.depth > maxNesting {
		e.wrong = fmt.Sprintf("is nested more than %d deep", maxNesting)
	}
	e.words = append(e.words, word)
}

// integers are those of Python's that it writes as they are read.
var integers = regexp.MustCompile(`^(-?[1-9][0-9]*|0)$`)

// parseCheck reads kind:match. A kind is rule, role, a credential or a literal.
func parseCheck(text string) (c check, err error) {
	kind, match, ok := strings.Cut(text, ":")
	if !ok || kind == "" || match == "" {
		return c, fmt.Errorf("has %q, which is no check of the form kind:match", text)
	}
	c.kind = kind
	if kind == kindRule {
		c.match = template{{constant: match}}
		return c, nil
	}
	if c.match, err = parseTemplate(match); err != nil {
		return c, err
	}
	_, credential := credentials(abaca.Caller{})[kind]
	quoted := len(kind) >= 2 && (kind[0] == '\'' || kind[0] == '"') && kind[len(kind)-1] == kind[0] && !strings.ContainsAny(kind[1:len(kind)-1], `'"\`)
	switch {
	case kind == "is_admin" && match != "True" && match != "False":
		return c, fmt.Errorf("has %q, but is_admin is True or False", text)
	case kind == kindRole, kind == kindRoles, credential:
	case quoted:
		c.kind, c.literal = kindLiteral, kind[1:len(kind)-1]
	case kind == "True", kind == "False", kind == "None", integers.MatchString(kind):
		c.kind, c.literal = kindLiteral, kind
	case kind == "http", kind == "https":
		return c, fmt.Errorf("has %q, but the policy asks no other server", text)
	default:
		known := slices.Sorted(maps.Keys(credentials(abaca.Caller{})))
		return c, fmt.Errorf("has %q, but nothing named %.50q is known of a caller; there are %s", text, kind, strings.Join(append(known, kindRole), ", "))
	}
	return c, nil
}

// A template is text with variables, each the name of what is known of a thing.
type template []part

// A part of a template is a constant or a variable.
type part struct{ constant, variable string }

var variable = regexp.MustCompile(`^%\(([^()]*)\)s`)

// parseTemplate reads what Python's operator % takes, as far as it makes text: %(name)s, and %% for a percent sign.
func parseTemplate(text string) (t template, err error) {
	known := target(Owner{Project: "p", User: "u"})
	for text != "" {
		constant, _, found := strings.Cut(text, "%")
		if constant != "" {
			t = append(t, part{constant: constant})
		}
		if !found {
			return t, nil
		}
		text = text[len(constant):]
		if rest, ok := strings.CutPrefix(text, "%%"); ok {
			t, text = append(t, part{constant: "%"}), rest
			continue
		}
		m := variable.FindStringSubmatch(text)
		if m == nil {
			return nil, fmt.Errorf("has %q, where only %%(name)s and %%%% can follow", text)
		}
		if _, ok := known[m[1]]; !ok {
			return nil, fmt.Errorf("has %q, but nothing named so is known of a thing; there are %s", m[0], strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		}
		t, text = append(t, part{variable: m[1]}), text[len(m[0]):]
	}
	return t, nil
}

// expand puts in what is known of the thing; it fails where that is nothing.
func (t template) expand(thing map[string]string) (string, bool) {
	var b strings.Builder
	for _, p := range t {
		value := p.constant
		if p.variable != "" {
			var known bool
			if value, known = thing[p.variable]; !known {
				return "", false
			}
		}
		b.WriteString(value)
	}
	return b.String(), true
}

// text is that of a template without variables.
func (t template) text() string {
	s, _ := t.expand(nil)
	return s
}

// holds decides a check. What is not known of the caller or of the thing makes it false.
func (c check) holds(ctx goslo.Context) bool {
	if c.kind == kindRule {
		return decide(ctx, c.match.text())
	}
	match, ok := c.match.expand(ctx.Request)
	if !ok {
		return false
	}
	switch c.kind {
	case kindRole:
		return slices.ContainsFunc(ctx.Roles, func(r string) bool { return lower(r) == lower(match) })
	case kindRoles:
		return slices.Contains(ctx.Roles, match)
	case kindLiteral:
		return c.literal == match
	}
	has := ctx.Auth[c.kind]
	return has != "" && has == match
}

// decide decides another rule, once for each question: rules that refer to one another twice would double the work at every step.
// What was decided is noted with the thing, under a key that no variable can have.
func decide(ctx goslo.Context, rule string) bool {
	key := kindRule + " " + rule
	if _, decided := ctx.Request[key]; !decided {
		ctx.Request[key] = "no"
		if goslo.RuleCheck(ctx, kindRule, rule) {
			ctx.Request[key] = "yes"
		}
	}
	return ctx.Request[key] == "yes"
}

// lower is Python's lower-casing: Go's would make an i of the Turkish capital I with its dot, and so one role of another.
func lower(s string) string { return strings.ToLower(strings.ReplaceAll(s, "İ", "i̇")) }

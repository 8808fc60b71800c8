package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"abaca"
)

// A Page says which part of a list is wanted and in which order. The zero value is the whole list, newest first.
type Page struct {
	SortKey   string // as the API spells it; empty is created_at
	Ascending bool
	Limited   bool // whether Limit applies
	Limit     int
	Marker    string // the id of the last row of the page before
	Offset    int    // rows to pass over; a Marker makes it moot, since links to the next page carry both
}

// A condition is a list of predicates that all must hold. Their parameters are written as question marks.
type condition struct {
	predicates []string
	args       []any
	scope      string          // the one of them that says which rows the project sees
	project    abaca.ProjectID // empty for everybody's rows
	alike      []string        // columns that are the same in all rows
}

func (c *condition) and(predicate string, args ...any) {
	c.predicates = append(c.predicates, predicate)
	c.args = append(c.args, args...)
}

// equal adds "column = value" where a value is given.
func equal[T ~string](c *condition, column string, value *T) {
	if value != nil {
		c.and(column+" = ?", string(*value))
		c.alike = append(c.alike, column)
	}
}

// like adds "what an expression of lower-case letters gives contains value", without regard to case in ASCII, where a value is given.
func (c *condition) like(lower string, value *string) {
	if value == nil {
		return
	}
	c.and(lower+` LIKE ? ESCAPE '\'`, "%"+escapeLike(lowerASCII(*value))+"%")
}

// lowerASCII is what lower() is in SQL: other letters than those of ASCII stay as they are.
func lowerASCII(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}, s)
}

// escapeLike makes every character of s stand for itself in a LIKE pattern.
func escapeLike(s string) string {
	return strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(s)
}

func (c *condition) inProject(project abaca.ProjectID) {
	if c.within("project_id = ?", project); project != "" {
		c.alike = append(c.alike, "project_id")
	}
}

// within adds a predicate of which rows a project sees. An empty project sees all.
func (c *condition) within(scope string, project abaca.ProjectID) {
	if c.scope, c.project = scope, project; project != "" {
		c.and(scope, string(project))
	}
}

// where returns the condition as a WHERE clause with its parameters numbered.
func (c *condition) where() string {
	if len(c.predicates) == 0 {
		return ""
	}
	return " WHERE " + numbered(strings.Join(c.predicates, " AND "))
}

func numbered(sql string) string {
	var b strings.Builder
	n := 0
	for _, r := range sql {
		if r != '?' {
			b.WriteRune(r)
			continue
		}
		n++
		b.WriteString("$" + strconv.Itoa(n))
	}
	return b.String()
}

// A TextFilter says which names and descriptions are meant: exactly, or those that contain something.
type TextFilter struct{ Name, Description, NameLike, DescriptionLike *string }

func (f TextFilter) on(c *condition) {
	if equal(c, "display_name", f.Name); f.Name != nil {
		key := lowerASCII(*f.Name)
		equal(c, "name_key", &key) // follows from the name, and has an index
	}
	equal(c, "display_description", f.Description)
	if c.like("name_key", f.NameLike); f.NameLike != nil && *f.NameLike == "" {
		c.and("display_name IS NOT NULL") // as no name has the key of an empty one
	}
	c.like("lower(display_description)", f.DescriptionLike)
}

// A table is what a list is read from.
type table[T any] struct {
	name    string
	what    string // how a message calls one row
	columns string
	scan    func(scanner) (T, error)
	sort    map[string]string // the API's sort keys and their expressions, none of which is ever NULL
}

// list reads one page. It seeks to the marker by (sort expression, id), so that no page costs more than the first. What an
// offset passes over is counted through first, in the index alone where that has all that the condition asks.
func (t *table[T]) list(ctx context.Context, q querier, c condition, p Page) ([]T, error) {
	if p.SortKey == "" {
		p.SortKey = "created_at"
	}
	expr, ok := t.sort[p.SortKey]
	if !ok {
		return nil, abaca.Errorf(abaca.Invalid, "Cannot sort by %q.", p.SortKey)
	}
	direction, beyond := " DESC", "<"
	if p.Ascending {
		direction, beyond = " ASC", ">"
	}
	order := " ORDER BY " + expr + direction + ", id" + direction
	byID := expr == "id" || slices.Contains(c.alike, expr) // which databases do not see for themselves
	if byID {
		order = " ORDER BY id" + direction
	}
	if p.Marker != "" || p.Offset > 0 {
		at, id, err := t.mark(ctx, q, c, expr, order, p)
		switch {
		case err != nil:
			return nil, err
		case id == "":
			return []T{}, nil
		case byID:
			c.and("id "+beyond+" ?", id)
		default:
			c.and("("+expr+", id) "+beyond+" (?, ?)", at, id)
		}
	}
	query := "SELECT " + t.columns + " FROM " + t.name + c.where() + order
	if p.Limited {
		query += fmt.Sprintf(" LIMIT %d", p.Limit)
	}
	rows, err := all(ctx, q, t.scan, query, c.args...)
	if err != nil {
		return nil, fmt.Errorf("list %ss: %w", t.what, err)
	}
	return rows, nil
}

// mark returns the last row before the page, by what it is sorted by and its id: the marker, or the last that the offset passes over. The id is
// empty where the offset passes over all.
func (t *table[T]) mark(ctx context.Context, q querier, c condition, expr, order string, p Page) (at any, id string, err error) {
	end := ""
	if p.Marker != "" {
		var marked condition
		marked.and("id = ?", p.Marker)
		marked.within(c.scope, c.project)
		c = marked
	} else {
		end = order + fmt.Sprintf(" LIMIT 1 OFFSET %d", p.Offset-1)
	}
	err = q.QueryRowContext(ctx, "SELECT "+expr+", id FROM "+t.name+c.where()+end, c.args...).Scan(&at, &id)
	switch {
	case errors.Is(err, sql.ErrNoRows) && p.Marker != "":
		return nil, "", abaca.Errorf(abaca.Invalid, "The marker %q is not in the list.", p.Marker)
	case errors.Is(err, sql.ErrNoRows):
		return nil, "", nil
	case err != nil:
		return nil, "", fmt.Errorf("find the beginning of a page: %w", err)
	}
	return at, id, nil
}

// count returns how many rows satisfy the condition.
func (t *table[T]) count(ctx context.Context, q querier, c condition) (n int, err error) {
	if err := q.QueryRowContext(ctx, "SELECT count(*) FROM "+t.name+c.where(), c.args...).Scan(&n); err != nil {
		return 0, fmt.Errorf("count %ss: %w", t.what, err)
	}
	return n, nil
}

// get reads the row with this id, if the project may see it; an empty project sees all.
func (t *table[T]) get(ctx context.Context, q querier, id string, project abaca.ProjectID) (T, error) {
	return t.getWhere(ctx, q, id, "project_id = ?", project)
}

// getWhere is get for a project that sees other rows than its own.
func (t *table[T]) getWhere(ctx context.Context, q querier, id, scope string, project abaca.ProjectID) (T, error) {
	var c condition
	c.and("id = ?", id)
	c.within(scope, project)
	return one(q.QueryRowContext(ctx, "SELECT "+t.columns+" FROM "+t.name+c.where(), c.args...), t.scan, t.what, id)
}

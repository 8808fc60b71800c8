package api

import (
	"math"
	"math/big"
	"net/url"
	"strings"

	"abaca"
	"abaca/internal/db"
)

// maxPage is the most rows that a request with a limit gets; without a limit there is no bound, as upstream.
const maxPage = 1000

// page reads which part of a list is asked for.
func (q *request) page() (p db.Page, err error) {
	if v, ok := q.query("limit"); ok {
		p.Limited = true
		if p.Limit, err = whole("limit", v); err != nil {
			return p, err
		}
		p.Limit = min(p.Limit, maxPage)
	}
	if v, ok := q.query("offset"); ok {
		if p.Offset, err = whole("offset", v); err != nil {
			return p, err
		}
		if p.Offset > math.MaxInt32 {
			return p, abaca.Errorf(abaca.Invalid, "The offset %s is too large.", v)
		}
	}
	p.Marker, _ = q.query("marker")
	p.SortKey, _ = q.query("sort_key")
	dir, _ := q.query("sort_dir")
	switch strings.ToLower(dir) {
	case "", "desc":
	case "asc":
		p.Ascending = true
	default:
		return p, abaca.Errorf(abaca.Invalid, "The sort direction %q is neither asc nor desc.", dir)
	}
	return p, nil
}

// whole reads an integer from 0 up; what is too large for the machine comes out as large as can be.
func whole(name, v string) (int, error) {
	n, ok := new(big.Int).SetString(strings.TrimSpace(v), 10)
	if !ok || len(v) > 100 || n.Sign() < 0 {
		return 0, abaca.Errorf(abaca.Invalid, "The %s %q is not an integer of 0 or more.", name, v)
	}
	if !n.IsInt64() || n.Int64() > math.MaxInt32+1 {
		return math.MaxInt32 + 1, nil
	}
	return int(n.Int64()), nil
}

// next returns links to the following page. As upstream there is one whenever the page is full; the last page may so be an
// empty one, which has none.
func (q *request) next(collection string, p db.Page, rows int, last string) []object {
	v, _ := q.query("limit")
	if n, err := whole("limit", v); err != nil || n == 0 || n != rows {
		return nil
	}
	var params []string
	for param := range strings.SplitSeq(q.URL.RawQuery, "&") {
		if name, _, _ := strings.Cut(param, "="); name != "marker" && param != "" {
			params = append(params, param)
		}
	}
	params = append(params, "marker="+url.QueryEscape(last))
	return []object{{"rel": "next", "href": q.baseURL(q.Request) + q.prefix + "/" + collection + "?" + strings.Join(params, "&")}}
}

// links are those of a single resource.
func (q *request) links(collection, id string) []object {
	base := q.baseURL(q.Request)
	return []object{
		{"rel": "self", "href": base + q.prefix + "/" + collection + "/" + id},
		{"rel": "bookmark", "href": base + strings.TrimPrefix(q.prefix, "/v2") + "/" + collection + "/" + id},
	}
}

// texts reads the filters on names and descriptions, which all lists have, under either of the names that clients use.
func (q *request) texts() db.TextFilter {
	return db.TextFilter{
		Name: q.param("name", "display_name"), Description: q.param("description", "display_description"),
		NameLike: q.param("name~", "display_name~"), DescriptionLike: q.param("description~", "display_description~"),
	}
}

// everywhere reports whether the list is asked for across projects by a caller who may; the words for it are looked at in turn.
func (q *request) everywhere(rule string) bool {
	for _, key := range []string{"all_tenants", "all_projects"} {
		if v, ok := q.query(key); ok && v != "" {
			if yes, known := truth(v); (yes || !known) && q.may(rule) {
				return true
			}
		}
	}
	return false
}

// listScope is the project whose things are listed.
func (q *request) listScope(rule string) abaca.ProjectID {
	if q.everywhere(rule) {
		return ""
	}
	return q.caller.Project
}

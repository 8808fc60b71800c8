package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// secrets are things that are not to be seen by a member of project demo.
var secrets = []string{"a_others", "ab_others", "as_others", "b_others", "n_others", "m_others", "t_private", "s_alt", "s_alt2", "b_alt", "s_adm", "b_adm"}

// betrays returns the name or id of another project's thing in an answer, but for what the request named itself.
func (w *world) betrays(answer, request string) string {
	for _, name := range secrets {
		for _, mark := range []string{w.ids[name], `"` + name + `"`} {
			if strings.Contains(answer, mark) && !strings.Contains(request, strings.Trim(mark, `"`)) {
				return name
			}
		}
	}
	if p := w.ids["p_alt"]; strings.Count(answer, p) > strings.Count(answer, "a_public")+strings.Count(answer, "s_altpub")+strings.Count(request, p) {
		return "project alt's id"
	}
	return ""
}

// attempt sends a request to the handler itself, since net/http would refuse some of them on their way.
func (w *world) attempt(method, target string, header http.Header, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, "/", strings.NewReader(body))
	r.Method = method
	u, err := url.ParseRequestURI(target)
	if err != nil {
		u = &url.URL{Path: target}
	}
	r.URL, r.RequestURI, r.Host = u, target, "127.0.0.1"
	r.Header = http.Header{
		"X-Auth-Token": {"member"}, "X-Openstack-Manila-Api-Version": {"2.99"}, "X-Openstack-Manila-Api-Experimental": {"true"},
		"Content-Type": {"application/json"},
	}
	for name, values := range header {
		r.Header[name] = values
	}
	a := httptest.NewRecorder()
	w.Config.Handler.ServeHTTP(a, r)
	return a
}

func TestHeadersMakeNobodySomebodyElse(t *testing.T) {
	blank := accessWorld(t)
	w := blank.accessCopy(t)
	identity := http.Header{
		"X-Roles": {"admin"}, "X-Role": {"admin"}, "X-Project-Id": {w.ids["p_alt"]}, "X-Tenant-Id": {w.ids["p_alt"]}, "X-Tenant": {w.ids["p_alt"]},
		"X-User-Id": {"alt"}, "X-User": {"alt"}, "X-Is-Admin-Project": {"True"}, "X-Identity-Status": {"Confirmed"}, "X-Service-Token": {"admin"},
		"X-Service-Roles": {"admin,service"}, "X-Service-Identity-Status": {"Confirmed"}, "Openstack-System-Scope": {"all"}, "X-Auth-User": {"admin"},
		"X-Auth-Project-Id": {w.ids["p_alt"]}, "X-Storage-Token": {"admin"}, "X-Subject-Token": {"admin"}, "X-Forwarded-For": {"127.0.0.1"},
		"X-Forwarded-User": {"admin"}, "X-Remote-User": {"admin"}, "Remote_user": {"admin"}, "X_roles": {"admin"}, "Cookie": {"X-Auth-Token=admin; token=admin"},
	}
	override := http.Header{"X-Http-Method-Override": {"DELETE"}, "X-Http-Method": {"DELETE"}, "X-Method-Override": {"DELETE"}}
	theirs, ours := "/v2/share-backups/"+w.ids["b_others"], "/v2/share-backups/"+w.ids["b_own"]
	for _, test := range []struct {
		name           string
		method, target string
		header         http.Header
		status         int
	}{
		{"an identity of a middleware's", "GET", theirs, identity, 404},
		{"the same, on a list", "GET", "/v2/share-backups/detail?all_tenants=1", identity, 200},
		{"the same, for what administrators may", "GET", "/v2/services", identity, 403},
		{"an identity and no token", "GET", ours, merge(identity, http.Header{"X-Auth-Token": nil}), 401},
		{"an identity and a wrong token", "GET", ours, merge(identity, http.Header{"X-Auth-Token": {"garbage"}}), 401},
		{"a second token", "GET", theirs, http.Header{"X-Auth-Token": {"member", "admin"}}, 404},
		{"two tokens in one", "GET", theirs, http.Header{"X-Auth-Token": {"member,admin"}}, 401},
		{"a token in another case", "GET", theirs, http.Header{"X-Auth-Token": {"ADMIN"}}, 401},
		{"a token with a space", "GET", theirs, http.Header{"X-Auth-Token": {" admin"}}, 401},
		{"a token in the query", "GET", "/v2/services?X-Auth-Token=admin&token=admin", nil, 403},
		{"another method in a header", "GET", ours, override, 200},
		{"another method in the query", "GET", ours + "?_method=DELETE&method=DELETE", nil, 200},
		{"a POST that would be a DELETE", "POST", ours, override, 404},
		{"a method in small letters", "delete", ours, nil, 404},
		{"an older version beside", "GET", theirs, http.Header{"X-Openstack-Manila-Api-Version": {"2.99", "2.0"}}, 404},
		{"two versions in one", "GET", ours, http.Header{"X-Openstack-Manila-Api-Version": {"2.99,2.0"}}, 400},
		{"another service's version", "GET", ours, http.Header{"Openstack-Api-Version": {"shared-file-system 9.99"}}, 200},
	} {
		before := w.version()
		a := w.attempt(test.method, test.target, test.header, "")
		if leak := w.betrays(a.Body.String(), test.target); a.Code != test.status || leak != "" || w.version() != before {
			t.Errorf("%s: %d, want %d; betrays %q: %.300s", test.name, a.Code, test.status, leak, a.Body)
		}
	}
}

func merge(headers ...http.Header) http.Header {
	all := http.Header{}
	for _, h := range headers {
		for name, values := range h {
			all[name] = values
		}
	}
	return all
}

func TestPathsLeadNowhereElse(t *testing.T) {
	blank := accessWorld(t)
	w := blank.accessCopy(t)
	demo, alt, own, theirs := w.ids["p_demo"], w.ids["p_alt"], w.ids["b_own"], w.ids["b_others"]
	for target, status := range map[string]int{
		"/v2/" + demo + "/share-backups/" + own:                          200,
		"/v2/" + demo + "/share-backups/" + theirs:                       404,
		"/v2/" + alt + "/share-backups/" + theirs:                        400,
		"/v2/" + alt + "/share-backups/" + own:                           400,
		"/v2/" + alt + "/share-backups":                                  400,
		"/v2/" + strings.ToUpper(demo) + "/share-backups":                404,
		"/v2/" + strings.ToUpper(alt) + "/share-backups":                 404,
		"/v2/" + demo + "/" + alt + "/share-backups":                     404,
		"/v2/" + demo + "/" + demo + "/share-backups":                    404,
		"/v2/" + demo + "/../" + alt + "/share-backups":                  404,
		"/v2/" + demo + "/..%2f" + alt + "/share-backups":                404,
		"/v2/%2e%2e/v2/share-backups":                                    404,
		"/v2/" + demo + "%2fshare-backups":                               404,
		"/v2/" + demo + "%252fshare-backups":                             404,
		"/v2/" + "%" + fmt.Sprintf("%x", demo[0]) + demo[1:] + "/shares": 200, // a URL may be written so
		"/v2/" + demo + ".json/shares":                                   404,
		"/v2/" + demo + "/shares/":                                       404,
		"/v2//" + demo + "/shares":                                       404,
		"/v2/" + demo + "//shares":                                       404,
		"/v2/./shares":                                                   404,
		"/v2/shares/.":                                                   404,
		"/v2/shares/..":                                                  404,
		"/v2/shares/%00":                                                 404,
		"/v2/shares/%ff":                                                 404,
		"/v2/shares/" + w.ids["a_others"] + "%00":                        404,
		"/v2/shares/" + strings.ToUpper(w.ids["a_own"]):                  404,
		"/v2/shares/{" + w.ids["a_own"] + "}":                            404,
		"/v2/shares/" + strings.ReplaceAll(w.ids["a_own"], "-", ""):      404,
		"/v2/share-backups/" + own + "%20":                               404,
		"/v2/share-backups/" + own + ";x=" + theirs:                      404,
		"/v2/share-backups/" + own + "%3fall_tenants=1":                  404,
		"/v2/share-backups/" + own + "," + theirs:                        404,
		"/v2/share-backups/" + own + "/../" + theirs:                     404,
		"/v2/share-backups/%25":                                          404,
		"/v2/share-backups/'%20OR%201=1%20--":                            404,
		"/v2/Share-Backups/" + own:                                       404,
		"/v2/SHARES":                                                     404,
		"/V2/shares":                                                     404,
		"/v2.0/shares":                                                   404,
		"/v1/" + demo + "/shares":                                        404,
		"/v2/quota-sets/" + alt:                                          403,
		"/v2/quota-sets/" + strings.ToUpper(demo):                        403,
		"/v2/quota-sets/%2a":                                             403,
		"/v2/quota-sets/" + demo + "/../" + alt:                          404,
		"/v2/shares/" + w.ids["a_others"] + "/export_locations":          404,
		"/v2/shares/" + w.ids["a_own"] + "/export_locations/" + w.locations["a_others"]:    404,
		"/v2/shares/" + w.ids["a_public"] + "/export_locations/" + w.locations["a_others"]: 404,
	} {
		a := w.attempt("GET", target, nil, "")
		if leak := w.betrays(a.Body.String(), target); a.Code != status || leak != "" {
			t.Errorf("%s: %d, want %d; betrays %q: %.300s", target, a.Code, status, leak, a.Body)
		}
	}
}

func TestQueriesShowNothingOfOthers(t *testing.T) {
	blank := accessWorld(t)
	w := blank.accessCopy(t)
	many := "?all_tenants=1"
	for i := range 700 { // what is much longer is refused unread
		many += fmt.Sprintf("&k%d=%d", i, i)
	}
	values := []string{"1", "True", "all", "-1", "", "'", "admin", w.ids["p_alt"], "%00", "%ff"}
	keys := []string{"all_tenants", "all_projects", "All_Tenants", "project_id", "tenant_id", "user_id", "host", "topic", "id", "is_admin", "marker", "sort_key",
		"share_server_id", "share_type_id", "metadata", "is_public", "with_count", "limit", "offset", "name~", "display_name~", "description~", "status",
		"export_location_id", "export_location_path", "share_instance_id", "resource_id", "created_since"}
	for _, list := range []string{"/share-backups", "/share-backups/detail", "/shares", "/shares/detail", "/snapshots", "/snapshots/detail", "/messages", "/types"} {
		queries := []string{many, "?" + strings.Repeat("all_tenants=1&", 500), "?all_tenants=0&all_projects=1", "?name~=%25", "?display_name~=_", "?marker=" + w.ids["a_others"],
			"?marker=" + w.ids["b_others"] + "&all_tenants=1", "?limit=1&offset=2147483647&all_tenants=1", "?project_id=" + w.ids["p_alt"] + "&all_tenants=1"}
		for _, key := range keys {
			for _, value := range values {
				queries = append(queries, "?all_tenants=1&"+key+"="+value)
			}
		}
		for _, dir := range []string{"asc", "desc"} {
			for _, key := range []string{"host", "topic", "project_id", "user_id", "status", "id", "size", "ref", "fail_reason", "lease_owner", "path", "1", "id;--"} {
				queries = append(queries, "?all_tenants=1&sort_dir="+dir+"&sort_key="+url.QueryEscape(key))
			}
		}
		for _, query := range queries {
			a := w.attempt("GET", "/v2"+list+query, nil, "")
			leak := w.betrays(a.Body.String(), query)
			if a.Code != 200 && a.Code != 400 || leak != "" {
				t.Errorf("%s%.200s: %d, betrays %q: %.300s", list, query, a.Code, leak, a.Body)
			}
			var body struct {
				Count *int
				Items []json.RawMessage `json:"shares"`
			}
			if json.Unmarshal(a.Body.Bytes(), &body) == nil && body.Count != nil && *body.Count > 14 {
				t.Errorf("%s%.200s counts %d shares", list, query, *body.Count)
			}
		}
	}
}

// A filter that cannot be read, passed over, would show everything instead of what was asked for.
func TestFiltersAreTakenAsTheyStandHoweverTheyAreWritten(t *testing.T) {
	w := accessWorld(t).accessCopy(t)
	for name, written := range map[string][]string{
		"100%": {"100%", "100%25"}, "a;b": {"a;b", "a%3Bb", "a%3bb"}, "%zz ü": {"%zz+%c3%bc", "%zz%20ü"}, "%2": {"%2"}, "50%;": {"50%;"},
	} {
		body, err := json.Marshal(map[string]any{"share": map[string]any{"share_proto": "NFS", "size": 1, "name": name}})
		if err != nil {
			t.Fatal(err)
		}
		if a := w.attempt("POST", "/v2/shares", nil, string(body)); a.Code != http.StatusOK {
			t.Fatalf("%d: %s", a.Code, a.Body)
		}
		for _, value := range written {
			a := w.attempt("GET", "/v2/shares?name="+value, nil, "")
			var found struct{ Shares []struct{ Name string } }
			if err := json.Unmarshal(a.Body.Bytes(), &found); err != nil || len(found.Shares) != 1 || found.Shares[0].Name != name {
				t.Errorf("name=%s finds %+v, %v, want %q", value, found.Shares, err, name)
			}
		}
	}
}

func TestBodiesDoNothingToOthers(t *testing.T) {
	blank := accessWorld(t)
	w := blank.accessCopy(t)
	theirs, ours := w.ids["a_others"], w.ids["a_own"]
	deep := strings.Repeat(`{"share_backup":`, 5_000) + "1" + strings.Repeat("}", 5_000)
	for _, test := range []struct{ name, method, path, body string }{
		{"another's share after ours", "POST", "/share-backups", `{"share_backup": {"share_id": "` + ours + `", "share_id": "` + theirs + `"}}`},
		{"another's share in a second wrapper", "POST", "/share-backups", `{"share_backup": {"share_id": "` + ours + `"}, "share_backup": {"share_id": "` + theirs + `"}}`},
		{"another's share in capitals", "POST", "/share-backups", `{"share_backup": {"share_id": "` + strings.ToUpper(theirs) + `"}}`},
		{"a list of shares", "POST", "/share-backups", `{"share_backup": {"share_id": ["` + ours + `", "` + theirs + `"]}}`},
		{"a pattern", "POST", "/share-backups", `{"share_backup": {"share_id": "%"}}`},
		{"a NUL behind it", "POST", "/share-backups", `{"share_backup": {"share_id": "` + theirs + `\u0000"}}`},
		{"half of a surrogate", "POST", "/share-backups", `{"share_backup": {"share_id": "\ud800"}}`},
		{"a number for an id", "POST", "/share-backups", `{"share_backup": {"share_id": 1e400}}`},
		{"invalid UTF-8", "POST", "/share-backups", "{\"share_backup\": {\"share_id\": \"" + theirs + "\xff\"}}"},
		{"deep nesting", "POST", "/share-backups", deep},
		{"deeper than a decoder goes", "POST", "/share-backups", strings.Repeat("[", 100_000)},
		{"too much", "POST", "/share-backups", `{"share_backup": {"share_id": "` + theirs + `", "name": "` + strings.Repeat("x", 200_000) + `"}}`},
		{"a brace too many", "PUT", "/shares/" + ours, `{"share": {"display_name": "x"}}}`},
		{"a bracket too many", "POST", "/share-backups/" + w.ids["b_own"] + "/action", `{"restore": null}]`},
		{"two JSON values", "POST", "/share-backups", `{} {"share_backup": {"share_id": "` + theirs + `"}}`},
		{"another's snapshot", "POST", "/snapshots", `{"snapshot": {"share_id": "` + theirs + `", "force": true}}`},
		{"a share from another's snapshot", "POST", "/shares", `{"share": {"share_proto": "NFS", "size": 1, "snapshot_id": "` + w.ids["n_others"] + `"}}`},
		{"a share of a hidden type", "POST", "/shares", `{"share": {"share_proto": "NFS", "size": 1, "volume_type": "hidden"}}`},
		{"a restore over another's share", "POST", "/share-backups/" + w.ids["b_own"] + "/action", `{"restore": "` + theirs + `"}`},
		{"a restore over a public share", "POST", "/share-backups/" + w.ids["b_own"] + "/action", `{"restore": "` + w.ids["a_public"] + `"}`},
		{"a second target", "POST", "/share-backups/" + w.ids["b_own"] + "/action", `{"restore": "` + theirs + `", "restore": "` + theirs + `"}`},
		{"two actions", "POST", "/share-backups/" + w.ids["b_own"] + "/action", `{"restore": "` + theirs + `", "reset_status": {"status": "error"}}`},
		{"an action that is hidden by case", "POST", "/share-backups/" + w.ids["b_own"] + "/action", `{"RESET_STATUS": {"status": "error"}}`},
		{"an action of volumes", "POST", "/share-backups/" + w.ids["b_own"] + "/action", `{"os-reset_status": {"status": "error"}}`},
		{"a backup given away", "PUT", "/share-backups/" + w.ids["b_others"], `{"share_backup": {"name": "x", "project_id": "` + w.ids["p_demo"] + `"}}`},
		{"another's quota", "PUT", "/quota-sets/" + w.ids["p_alt"], `{"quota_set": {"backups": -1}}`},
		{"another's quota by ours", "PUT", "/quota-sets/" + w.ids["p_demo"], `{"quota_set": {"backups": -1, "tenant_id": "` + w.ids["p_alt"] + `"}}`},
		{"another's metadata", "POST", "/shares/" + theirs + "/metadata", `{"metadata": {"a": "b"}}`},
		{"a public share's metadata", "PUT", "/shares/" + w.ids["a_public"] + "/metadata", `{"metadata": {}}`},
		{"another's share made public", "PUT", "/shares/" + theirs, `{"share": {"is_public": true, "display_name": "x"}}`},
		{"another's message", "DELETE", "/messages/" + w.ids["m_others"], ""},
	} {
		before, statuses := w.version(), w.statuses()
		a := w.attempt(test.method, "/v2"+test.path, nil, test.body)
		changed := w.version() != before
		if strings.HasPrefix(test.name, "a restore over") { // a refused target leaves a message to who named it, and nothing else
			changed = w.statuses() != statuses
		}
		if leak := w.betrays(a.Body.String(), test.path+test.body); a.Code < 400 || a.Code >= 500 || leak != "" || changed {
			t.Errorf("%s: %d, betrays %q, changed %v: %.300s", test.name, a.Code, leak, changed, a.Body)
		}
	}
	// What a request says of a thing's owner is passed over, not obeyed.
	for _, body := range []string{
		`{"share_backup": {"name": "x", "project_id": "` + w.ids["p_alt"] + `", "user_id": "alt", "id": "` + w.ids["b_others"] + `", "share_id": "` + theirs + `"}}`,
	} {
		a := w.attempt("PUT", "/v2/share-backups/"+w.ids["b_own"], nil, body)
		if again := w.attempt("GET", "/v2/share-backups/"+w.ids["b_own"], nil, ""); a.Code != 200 || again.Code != 200 || !strings.Contains(again.Body.String(), w.ids["ab_own"]) {
			t.Errorf("%s: %d, and then %d: %s", body, a.Code, again.Code, again.Body)
		}
	}
}

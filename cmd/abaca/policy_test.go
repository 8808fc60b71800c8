package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// policyIn runs "abaca policy" on a data directory with this policy file; without a text there is none.
func policyIn(t *testing.T, text string, args ...string) (stdout string, err error) {
	t.Helper()
	dir := t.TempDir()
	if text != "" {
		if err := os.WriteFile(filepath.Join(dir, "policy.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	h := &house{t: t}
	stdout, _, err = h.run(t.Context(), append(append([]string{"policy"}, args...), "--data-dir", dir)...)
	return stdout, err
}

func TestPolicyCheckAnswersByTheFile(t *testing.T) {
	const file = `
"share_backup:reset_status": "rule:my_support and project_id:%(project_id)s"
my_support: role:support or role:helpdesk
"share_backup:delete": "user_id:%(user_id)s"
context_is_admin: role:cloud_admin`
	for _, test := range []struct {
		file, args string
		code       int
		says       string // of the answer or the error
	}{
		{"", "share_backup:create --role member", 0, "yes"},
		{"", "share_backup:create --role reader", 1, "no, share_backup:create does not allow it"},
		{"", "share_backup:create --role Member", 0, "yes"},
		{"", "share_backup:create", 1, "no"},
		{"", "share_backup:get --role member", 0, "yes"},
		{"", "share_backup:get --role admin --owner-project q", 0, "yes"},
		{"", "share_backup:reset_status --role support", 1, "no"},
		{"", "share_backup:reset_status --role admin --owner-project q", 0, "yes"},
		{"", "share_backup:delete --role member --owner-project q", 1, "no"},
		{file, "share_backup:reset_status --role helpdesk", 0, "yes"},
		{file, "share_backup:reset_status --role helpdesk --project p --owner-project p", 0, "yes"},
		{file, "share_backup:reset_status --role helpdesk --project p --owner-project q", 1, "no"},
		{file, "share_backup:reset_status --role admin", 1, "no"},
		{file, "share_backup:delete --user ann --owner-user ann", 0, "yes"},
		{file, "share_backup:delete --user ann --owner-user ben --role cloud_admin", 1, "no"},
		{file, "share_backup:get --role cloud_admin --owner-project q", 0, "yes"},
		{file, "share_backup:get --role x,reader", 0, "yes"},
		{file, "my_support --role support", 0, "yes"},
		{file, "share_backup:reset --role support", 2, `did you mean "share_backup:reset_status"?`},
		{file, "share_network:create --role admin", 2, `there is no rule "share_network:create"`},
		{file, "", 2, "missing RULE"},
		{file, "share_backup:get another", 2, "one argument too many"},
		{"share:get: role:", "share_backup:get --role reader", 2, "policy.yaml:1: "},
	} {
		out, err := policyIn(t, test.file, append([]string{"check"}, strings.Fields(test.args)...)...)
		if err != nil {
			if out != "" || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: output %q and error %q", test.args, out, err)
			}
			out = err.Error()
		}
		if exitCode(err) != test.code || !strings.Contains(out, test.says) {
			t.Errorf("abaca policy check %s: exit code %d and %q, want %d and %q", test.args, exitCode(err), out, test.code, test.says)
		}
	}
}

func TestPolicyListShowsWhatIsInForceAndWhereFrom(t *testing.T) {
	out, err := policyIn(t, "\n\"share:get\": \"role:helpdesk\"\n", "list", "-o", "json")
	if err != nil {
		t.Fatal(err)
	}
	rules := map[string]ruleItem{}
	for _, r := range decode[[]ruleItem](t, out) {
		rules[r.Rule] = r
		if r.Description == "" {
			t.Errorf("%s is not described", r.Rule)
		}
	}
	get, reset := rules["share:get"], rules["share_backup:reset_status"]
	if get.Check != "role:helpdesk" || !strings.HasSuffix(get.From, "/policy.yaml:2") || len(get.Asked) != 1 || get.Asked[0] != "GET /shares/{id}" {
		t.Errorf("%+v", get)
	}
	if reset.Check != "rule:context_is_admin" || reset.From != "default" || len(reset.Asked) != 1 || reset.Asked[0] != "POST /share-backups/{id}/action reset_status" {
		t.Errorf("%+v", reset)
	}
	if len(rules["project-reader"].Asked) != 0 || len(rules["share:create_public_share"].Asked) == 0 {
		t.Errorf("%+v", rules)
	}
	if out, err = policyIn(t, "", "list"); err != nil || !strings.HasPrefix(out, "RULE ") || !strings.Contains(out, "\nshare_backup:restore ") {
		t.Errorf("%v\n%s", err, out)
	}
	if _, err = policyIn(t, "share:gte: '@'", "list"); exitCode(err) != 2 {
		t.Errorf("a wrong file: %v", err)
	}
}

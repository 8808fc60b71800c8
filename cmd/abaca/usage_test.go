package main

import (
	"bytes"
	"strings"
	"testing"
)

// Nothing listens at this endpoint: a command line that is wrong must be refused before anyone is asked.
const nowhere = "http://127.0.0.1:1"

func TestExitCodes(t *testing.T) {
	tests := []struct {
		line string
		code int
		says string
	}{
		{"", 2, "a command is missing, one of backup, "},
		{"frob", 2, `there is no command "frob"`},
		{"share", 2, "share: a command is missing, one of create, delete, list, manage, show"},
		{"share frob", 2, `share: there is no command "frob"`},
		{"share lst", 2, `did you mean "list"?`},
		{"backup create", 2, "backup create: missing SHARE"},
		{"backup create a b", 2, `"b" is one argument too many`},
		{"backup list extra", 2, `"extra" is one argument too many`},
		{"backup list --frob", 2, "backup list: unknown flag: --frob"},
		{"backup list --limit many", 2, "invalid argument"},
		{"backup list --limit 0", 2, "want 1 or more"},
		{"backup list --limit -3", 2, "want 1 or more"},
		{"backup list --sort name:up", 2, "want KEY, KEY:asc or KEY:desc"},
		{"backup list -o xml", 2, "want one of table, json"},
		{"backup create a --backup-option novalue", 2, "want KEY=VALUE"},
		{"backup set a", 2, "nothing to change"},
		{"backup set a --name b --no-name", 2, "exclude each other"},
		{"backup set a --status fine", 2, "want one of available"},
		{"backup delete", 2, "missing BACKUP..."},
		{"backup restore", 2, "missing BACKUP"},
		{"share create NFS", 2, "missing SIZE"},
		{"share create NFS big", 2, "want whole GiB"},
		{"share create NFS 0", 2, "want whole GiB"},
		{"share manage a b", 2, "missing PATH"},
		{"share show", 2, "missing SHARE"},
		{"share list --endpoint localhost:1", 1, "not an http or https URL"},
		{"share list --endpoint " + nowhere, 1, "asking " + nowhere},
		{"verify --share 10", 2, "want a percentage such as 10%"},
		{"verify --share 0%", 2, "want a percentage such as 10%"},
		{"verify --share 101%", 2, "want a percentage such as 10%"},
		{"verify --share nan%", 2, "want a percentage such as 10%"},
		{"verify --share docs", 2, "want a percentage such as 10%"},
		{"verify --last --share 10%", 2, "exclude each other"},
		{"verify --listen 127.0.0.1:1", 2, "unknown flag: --listen"},
		{"verify --config /missing", 2, "configuration file"},
		{"verify --data-dir /missing", 1, "there is no data in /missing"},
		{"migrate extra", 2, `"extra" is one argument too many`},
		{"migrate --data-dir /missing", 1, "there is no data in /missing"},
		{"migrate --status --data-dir /missing", 1, "there is no data in /missing"},
		{"user", 2, "user: a command is missing, one of add, list, remove, revoke"},
		{"user add", 2, "user add: missing NAME"},
		{"user add a:b --project p --role member", 2, "cannot be a user's name"},
		{"user add a --project ../p --role member", 2, "cannot be a project"},
		{"user add a --project p --role Member", 2, "cannot be a role"},
		{"user add a --expires yesterday", 2, "want a time to come"},
		{"user revoke", 2, "user revoke: missing NAME"},
		{"user revoke a b c", 2, `"b" is one argument too many`},
		{"user list -o xml", 2, "want one of table, json"},
		{"user remove nobody --data-dir /missing", 1, "users file"},
		{"share list --help", 0, ""},
	}
	for _, test := range tests {
		t.Run("abaca "+test.line, func(t *testing.T) {
			t.Setenv("ABACA_ENDPOINT", nowhere)
			root := newRootCommand()
			root.SetArgs(strings.Fields(test.line))
			var out bytes.Buffer
			root.SetOut(&out)
			root.SetErr(&out)
			err := root.ExecuteContext(t.Context())
			if got := exitCode(err); got != test.code {
				t.Fatalf("exit code %d, want %d: %v", got, test.code, err)
			}
			if err != nil && (!strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "\n")) {
				t.Errorf("error %q, want one line that says %q", err, test.says)
			}
			if err != nil && out.Len() > 0 {
				t.Errorf("it printed %q besides", out.String())
			}
		})
	}
}

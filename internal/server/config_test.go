package server

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

func TestSettingsComeFromFileThenEnvironmentThenFlags(t *testing.T) {
	path := filepath.Join(t.TempDir(), "abaca.yaml")
	write(t, path, "listen: 127.0.0.1:1\ndata_dir: /from/file\nworkers: {trees: 7, lease: 1m}\nquotas: {backups: 3}\nverify: {share_per_day: 1}\n"+
		"backends: [{name: nfs, driver: directory, path: /srv/nfs}]\n")
	c, err := Load(path, []string{"ABACA_DATA_DIR=/from/environment", "ABACA_WORKERS_OTHERS=9", "ABACA_SHARE_PROTOCOLS=[NFS]",
		"ABACA_ENDPOINT=http://the/client's", "HOME=/"}, map[string]any{"listen": "127.0.0.1:2"})
	if err != nil {
		t.Fatal(err)
	}
	if c.Listen != "127.0.0.1:2" || c.DataDir != "/from/environment" || c.Workers.Trees != 7 || c.Workers.Others != 9 ||
		c.Workers.Lease != time.Minute || c.Quotas["backups"] != 3 || c.Quotas["shares"] != 50 || c.Verify.SharePerDay != 1 ||
		len(c.ShareProtocols) != 1 || len(c.Backends) != 1 || c.Backends[0].Path != "/srv/nfs" {
		t.Errorf("%+v", c)
	}
}

func TestWrongConfigurationsAreRefusedInOneLine(t *testing.T) {
	for _, test := range []struct{ yaml, says string }{
		{"listenn: 127.0.0.1:1", "listenn"},
		{"workers: {tree: 1}", "tree"},
		{"workers: {trees: 0}", "1 at least"},
		{"workers: {trees: many}", "trees"},
		{"workers: {lease: 1}", "lease"},
		{"workers: {lease: 1s}", "4s at least"},
		{"engine: {free_within: 59s}", "from 1m"},
		{"engine: {free_within: soon}", "free_within"},
		{"listen: nowhere", "host:port"},
		{"listen: 127.0.0.1:70000", "host:port"},
		{"listen: 0.0.0.0:8786", "let_anyone_be_admin"},
		{"listen: ':8786'", "let_anyone_be_admin"},
		{"listen: '[::]:8786'", "let_anyone_be_admin"},
		{"listen: example.org:8786", "let_anyone_be_admin"},
		{"auth: {strategy: magic}", "magic"},
		{"auth: {strategy: keystone}", "auth.keystone.auth_url"},
		{"auth: {strategy: keystone, keystone: {auth_url: 'http://a:b@c', username: u, password: p}}", "auth.keystone.auth_url"},
		{"auth: {strategy: keystone, keystone: {auth_url: 'http://c?d', username: u, password: p}}", "auth.keystone.auth_url"},
		{"auth: {strategy: keystone, keystone: {auth_url: 'ldap://c', username: u, password: p}}", "auth.keystone.auth_url"},
		{"auth: {strategy: keystone, keystone: {auth_url: 'http://c', password: p}}", "one of the two"},
		{"auth: {strategy: keystone, keystone: {auth_url: 'http://c', username: u, application_credential_id: i, password: p}}", "one of the two"},
		{"auth: {strategy: keystone, keystone: {auth_url: 'http://c', username: u}}", "password"},
		{"auth: {strategy: keystone, keystone: {auth_url: 'http://c', username: u, password: p, password_file: f}}", "exclude"},
		{"auth: {strategy: keystone, keystone: {auth_url: 'http://c', application_credential_id: i}}", "application_credential_secret"},
		{"auth: {strategy: keystone, keystone: {auth_url: 'http://c', username: u, password: 12345678}}", "quotes"},
		{"auth: {strategy: keystone, keystone: {auth_url: 'http://c', username: u, password: p, cache: 61s}}", "from 0 to 1m0s"},
		{"auth: {strategy: keystone, keystone: {auth_url: 'http://c', username: u, password: p, timeout: 0s}}", "100ms"},
		{"auth: {strategy: keystone, keystone: {auth_url: 'http://c', username: u, password: p, www_authenticate_uri: 'http://a\"b'}}", "www_auth"},
		{"auth: {keystone: {memcached_servers: a}}", "memcached_servers"},
		{"database: 12345678", "quotes"},
		{"tls: {cert_file: a}", "key_file"},
		{"backends: [{name: a, driver: directory}]", "path is needed"},
		{"backends: [{name: a, driver: tape, path: /a}]", "tape"},
		{"backends: [{name: 'a#b', driver: directory, path: /a}]", "not a name"},
		{"backends: [{name: a, driver: directory, path: /a, colour: red}]", "colour"},
		{"backends: [{name: a, driver: directory, path: /a}, {name: a, driver: directory, path: /b}]", "two named a"},
		{"backends: [{name: a, driver: directory, path: /a}, {name: b, driver: directory, path: /a/b}]", "overlap"},
		{"verify: {share_per_day: -0.1}", "from 0 to 1"},
		{"verify: {share_per_day: 4}", "from 0 to 1"},
		{"verify: {share_per_day: .nan}", "from 0 to 1"},
		{"verify: {share_per_day: 4%}", "share_per_day"},
		{"quotas: {cakes: 3}", "cakes"},
		{"quotas: {backups: -2}", "-2"},
		{"master_key: abc", "64 hexadecimal digits"},
		{"metrics: {listen: 9786}", "listen"},
		{"metrics: {listen: nowhere}", "metrics.listen"},
		{"drain: -1s", "from 0"},
		{"drain: 1h", "from 0"},
		{"log: {level: loud}", "loud"},
		{"log: {format: xml}", "xml"},
		{"database: /var/lib/abaca.db", "database: a database is named by postgres://user@host/name"},
		{"database: 'postgres://abaca@db:many/abaca'", "database: "},
		{"workers: {trees_per_project: -1}", "trees_per_project"},
		{"- a\n- b", "configuration file"},
	} {
		t.Run(test.yaml, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "abaca.yaml")
			write(t, path, test.yaml)
			_, err := Load(path, nil, nil)
			if err == nil || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "12345678") {
				t.Errorf("%v", err)
			}
		})
	}
	if _, err := Load("", []string{"ABACA_LISTENN=1"}, nil); err == nil || !strings.Contains(err.Error(), "ABACA_LISTENN") {
		t.Error(err)
	}
	if _, err := Load("", []string{"OTEL_TRACES_EXPORTER=carrier-pigeon"}, nil); err == nil || !strings.Contains(err.Error(), "carrier-pigeon") {
		t.Error(err)
	}
	if _, err := Load(filepath.Join(t.TempDir(), "missing"), nil, nil); err == nil {
		t.Error("a missing file was not missed")
	}
}

func TestOneProjectGetsHalfOfTheTreesUnlessToldOtherwise(t *testing.T) {
	for _, test := range []struct {
		environ []string
		want    int
	}{
		{[]string{"ABACA_AUTH_STRATEGY=local"}, 1},
		{[]string{"ABACA_AUTH_STRATEGY=local", "ABACA_WORKERS_TREES=1"}, 1},
		{[]string{"ABACA_AUTH_STRATEGY=local", "ABACA_WORKERS_TREES=7"}, 4},
		{[]string{"ABACA_AUTH_STRATEGY=local", "ABACA_WORKERS_TREES_PER_PROJECT=0"}, 0},
		{[]string{"ABACA_WORKERS_TREES_PER_PROJECT=5"}, 5},
		{nil, 0}, // everybody is of one project
	} {
		if c, err := Load("", test.environ, nil); err != nil || c.Workers.TreesPerProject != test.want {
			t.Errorf("%v: %d, want %d, %v", test.environ, c.Workers.TreesPerProject, test.want, err)
		}
	}
}

func TestLoopbackNeedsNoPermissionAndElsewherePlainWordsOrUsersGiveIt(t *testing.T) {
	for _, listen := range []string{"127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1"} {
		if _, err := Load("", nil, map[string]any{"listen": listen}); err != nil {
			t.Errorf("%s: %v", listen, err)
		}
	}
	for setting, value := range map[string]any{"auth.let_anyone_be_admin": true, "auth.strategy": "local"} {
		if _, err := Load("", nil, map[string]any{"listen": "0.0.0.0:1", setting: value}); err != nil {
			t.Error(err)
		}
	}
}

func TestSecretsAreNeverPrinted(t *testing.T) {
	key := strings.Repeat("5e", keyLength)
	c, err := Load("", []string{"ABACA_MASTER_KEY=" + key}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.masterKey(false); err != nil || len(got) != keyLength {
		t.Fatalf("the key is not in force: %d bytes, %v", len(got), err)
	}
	printed := printYAML(t, c)
	if strings.Contains(printed, key) || !strings.Contains(printed, "********") {
		t.Errorf("printed as %s", printed)
	}
	if _, err := Load("", []string{"ABACA_MASTER_KEY={" + key}, nil); err == nil || strings.Contains(err.Error(), key) {
		t.Errorf("a malformed variable is reported as %v", err)
	}
}

func TestSecretsInTheEnvironmentAreTakenAsTheyStand(t *testing.T) {
	for _, password := range []string{"12345678", "{[", "'quoted'", "a: b # c", "yes", ""} {
		c, err := Load("", []string{"ABACA_AUTH_KEYSTONE_PASSWORD=" + password}, nil)
		if err != nil || string(c.Auth.Keystone.Password) != password {
			t.Errorf("%q: %v", password, err)
		}
	}
}

func TestTheMasterKeyIsMadeOnceForItsOwnerAlone(t *testing.T) {
	c := Config{DataDir: t.TempDir()}
	c.MasterKeyFile = filepath.Join(c.DataDir, "master.key")
	key, err := c.masterKey(false)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(c.MasterKeyFile); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	again, err := c.masterKey(false)
	if err != nil || string(again) != string(key) {
		t.Errorf("the second start has another key: %v", err)
	}
	if err := os.Chmod(c.MasterKeyFile, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := c.masterKey(false); err == nil || !strings.Contains(err.Error(), "0600") {
		t.Errorf("a key that others can read is used: %v", err)
	}
	if err := os.Remove(c.MasterKeyFile); err != nil {
		t.Fatal(err)
	}
	if _, err := c.masterKey(true); err == nil || !strings.Contains(err.Error(), "missing") {
		t.Errorf("a new key was made for old data: %v", err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func printYAML(t *testing.T, c Config) string {
	t.Helper()
	b, err := yaml.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

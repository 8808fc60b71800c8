package server

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// secretKey must not be seen anywhere.
const secretKey = "never-to-be-seen"

var credentialsInEnvironment = []string{"AWS_ACCESS_KEY_ID=me", "AWS_SECRET_ACCESS_KEY=" + secretKey, "AWS_SESSION_TOKEN=" + secretKey + "-token"}

func load(t *testing.T, text string, environ ...string) (Config, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "abaca.yaml")
	write(t, path, "data_dir: "+t.TempDir()+"\n"+text)
	c, err := Load(path, environ, nil)
	if err != nil && (strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), secretKey)) {
		t.Errorf("the error is %q", err)
	}
	return c, err
}

func TestWhereRepositoriesAreIsRefusedInOneLineWhereItMakesNoSense(t *testing.T) {
	for _, test := range []struct{ yaml, says string }{
		{"repository: /srv/backups", "neither empty"},
		{"repository: file://host/srv", "neither empty"},
		{"repository: file:srv", "neither empty"},
		{"repository: 'ftp://host/x'", "neither empty"},
		{"repository: 's3://me:" + secretKey + "@bucket/x'", "neither empty"},
		{"repository: 's3:///x'", "bucket"},
		{"repository: 's3://Bucket_1/x'", "bucket"},
		{"s3: {endpoint: example.org}", "not s3://"},
		{"s3: {colour: red}", "colour"},
		{"repository: s3://backups\ns3: {endpoint: 'http://example.org'}", "plain_http"},
		{"repository: s3://backups\ns3: {endpoint: 'http://10.0.0.1:9000'}", "plain_http"},
		{"repository: s3://backups\ns3: {endpoint: 'https://example.org/path'}", "s3.endpoint"},
		{"repository: s3://backups\ns3: {endpoint: 'https://me:" + secretKey + "@example.org'}", "s3.endpoint"},
		{"repository: s3://backups\ns3: {endpoint: 'ftp://example.org'}", "s3.endpoint"},
	} {
		if _, err := load(t, test.yaml, credentialsInEnvironment...); err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v", test.yaml, err)
		}
	}
}

func TestRepositoriesAreWhereTheConfigurationSays(t *testing.T) {
	shared := t.TempDir()
	for _, test := range []struct{ yaml, root, bucket string }{
		{"", "repository", ""},
		{"repository: file://" + shared, shared, ""},
		{"repository: s3://backups", "connections", "https s3.amazonaws.com s3://backups/"},
		{"repository: s3://backups/a/b/\ns3: {endpoint: 'minio.example.org:9000'}", "connections", "https minio.example.org:9000 s3://backups/a/b/"},
		{"repository: s3://backups\ns3: {endpoint: 'https://example.org/'}", "connections", "https example.org s3://backups/"},
		{"repository: s3://backups\ns3: {endpoint: 'http://127.0.0.1:9000'}", "connections", "http 127.0.0.1:9000 s3://backups/"},
		{"repository: s3://backups\ns3: {endpoint: 'http://example.org', plain_http: true}", "connections", "http example.org s3://backups/"},
	} {
		c, err := load(t, test.yaml, credentialsInEnvironment...)
		if err != nil {
			t.Errorf("%s: %v", test.yaml, err)
			continue
		}
		root, bucket, err := c.place()
		if want := test.root; err != nil || root != want && root != filepath.Join(c.DataDir, want) {
			t.Errorf("%s: %s, %v", test.yaml, root, err)
		}
		got := ""
		if bucket != nil {
			scheme := map[bool]string{true: "http", false: "https"}[bucket.PlainHTTP]
			got = fmt.Sprint(scheme, " ", bucket.Endpoint, " ", bucket)
			if bucket.SecretAccessKey != secretKey || bucket.AccessKeyID != "me" || bucket.SessionToken != secretKey+"-token" {
				t.Errorf("%s: other credentials", test.yaml)
			}
		}
		if got != test.bucket {
			t.Errorf("%s: %q instead of %q", test.yaml, got, test.bucket)
		}
	}
}

func TestADirectoryOfRepositoriesThatIsMissingIsNotMade(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "not-mounted")
	c, err := load(t, "repository: file://"+missing)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.place(); err == nil || !strings.Contains(err.Error(), missing) {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(missing); err == nil {
		t.Error("it was made")
	}
}

func TestCredentialsAreReadFromAFileThatOthersCannotReadAndPrintedNowhere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "credentials")
	write(t, path, "[other]\naws_access_key_id = somebody\n\n[default]\n# mine\naws_access_key_id = me\naws_secret_access_key="+secretKey+"\n")
	text := "repository: s3://backups/x\ns3: {credentials_file: " + path + "}"
	c, err := load(t, text, "AWS_ACCESS_KEY_ID=another", "AWS_SECRET_ACCESS_KEY=another")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.place(); err == nil || !strings.Contains(err.Error(), "0600") {
		t.Errorf("a file that a group can read: %v", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	_, bucket, err := c.place()
	if err != nil || bucket.AccessKeyID != "me" || bucket.SecretAccessKey != secretKey || bucket.SessionToken != "" {
		t.Errorf("other credentials: %v", err)
	}
	write(t, path, "[other]\naws_access_key_id = me\naws_secret_access_key="+secretKey+"\n")
	if _, _, err := c.place(); err == nil || !strings.Contains(err.Error(), path+" has no aws_access_key_id") || strings.Contains(err.Error(), secretKey) {
		t.Errorf("a file without the section: %v", err)
	}
	c, err = load(t, "repository: s3://backups/x", credentialsInEnvironment...)
	if err != nil {
		t.Fatal(err)
	}
	printed, err := yaml.Marshal(c)
	if err != nil || strings.Contains(string(printed), secretKey) {
		t.Errorf("the configuration is printed with the credentials, %v", err)
	}
	if c, err = load(t, "repository: s3://backups/x"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.place(); err == nil || !strings.Contains(err.Error(), "no credentials") {
		t.Errorf("without credentials: %v", err)
	}
}

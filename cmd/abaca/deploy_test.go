package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// deploy is the directory with what the program is installed by.
const deploy = "../../deploy"

// A composition is what a test reads of a compose file.
type composition struct {
	Services map[string]struct {
		Image       string
		Environment map[string]string
		Secrets     []string
		Volumes     []string
		CapAdd      []string `yaml:"cap_add"`
	}
	Secrets map[string]struct{ File string }
	Volumes map[string]any
}

func readComposition(t *testing.T) (c composition) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(deploy, "compose.yaml"))
	if err == nil {
		err = yaml.Unmarshal(text, &c)
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestTheConfigurationsThatAreDeployedAreAccepted(t *testing.T) {
	single := told(t, "config", "--config", filepath.Join(deploy, "abaca.yaml"))
	if !strings.Contains(single, "data_dir: /var/lib/abaca\n") || !strings.Contains(single, "strategy: local\n") {
		t.Errorf("of the service:\n%s", single)
	}
	c, hosts := readComposition(t), []string{}
	for name, service := range c.Services {
		if service.Image != "abaca" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			for variable, value := range service.Environment {
				t.Setenv(variable, value)
			}
			got := told(t, "config", "--config", filepath.Join(deploy, "cluster.yaml"))
			hosts = append(hosts, service.Environment["ABACA_HOST"])
			role := "role: " + strings.TrimRight(name, "0123456789") + "\n"
			if !strings.Contains(got, "\nhost: "+name+"\n") || !strings.Contains(got, role) {
				t.Errorf("it is configured as\n%s", got)
			}
		})
	}
	slices.Sort(hosts)
	if want := []string{"api1", "api2", "worker1", "worker2", "worker3"}; !slices.Equal(hosts, want) {
		t.Errorf("the processes are %v", hosts)
	}
}

func TestWhatTheContainersAreGivenIsWhatTheyName(t *testing.T) {
	c := readComposition(t)
	cluster, err := os.ReadFile(filepath.Join(deploy, "cluster.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	inFile := regexp.MustCompile(`/run/secrets/([a-z0-9_]+)`)
	for name, service := range c.Services {
		needed := []string{}
		for _, value := range service.Environment {
			needed = append(needed, value)
		}
		if service.Image == "abaca" {
			needed = append(needed, string(cluster))
		}
		for _, match := range inFile.FindAllStringSubmatch(strings.Join(needed, "\n"), -1) {
			if !slices.Contains(service.Secrets, match[1]) {
				t.Errorf("%s is not given the secret %s", name, match[1])
			}
		}
		for _, volume := range service.Volumes {
			source, _, _ := strings.Cut(volume, ":")
			if _, named := c.Volumes[source]; !named {
				if _, err := os.Stat(filepath.Join(deploy, source)); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
	}
}

func TestSecretsAreMadeOnceAndForTheirOwnerAlone(t *testing.T) {
	dir := t.TempDir()
	script, err := os.ReadFile(filepath.Join(deploy, "secrets.sh"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "secrets.sh")
	if err := os.WriteFile(path, script, 0o700); err != nil {
		t.Fatal(err)
	}
	read := func() map[string][]byte {
		if out, err := exec.Command(path).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		texts := map[string][]byte{}
		for name, secret := range readComposition(t).Secrets {
			at := filepath.Join(dir, secret.File)
			info, err := os.Stat(at)
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode().Perm() != 0o600 {
				t.Errorf("%s has the mode %o", name, info.Mode().Perm())
			}
			if texts[name], err = os.ReadFile(at); err != nil {
				t.Fatal(err)
			}
		}
		return texts
	}
	first, second := read(), read()
	for name := range first {
		if len(first[name]) == 0 || !bytes.Equal(first[name], second[name]) {
			t.Errorf("%s is %d bytes long, and another the second time: %t", name, len(first[name]), !bytes.Equal(first[name], second[name]))
		}
	}
	if !regexp.MustCompile(`^[0-9a-f]{64}\n$`).Match(first["master_key"]) {
		t.Error("the master key is no master key")
	}
	if !bytes.Contains(first["pgpass"], first["postgres_password"]) {
		t.Error("the password file has another password than PostgreSQL")
	}
}

func TestTheServiceAndTheContainersThatWorkKeepTheSameCapabilities(t *testing.T) {
	unit, err := os.ReadFile(filepath.Join(deploy, "abaca.service"))
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(string(unit), "\nCapabilityBoundingSet=")
	list, _, _ = strings.Cut(list, "\n")
	kept := strings.Fields(strings.ReplaceAll(list, "CAP_", ""))
	if len(kept) == 0 {
		t.Fatal("the service keeps no capabilities")
	}
	for name, service := range readComposition(t).Services {
		if service.Image != "abaca" {
			continue
		}
		want := kept
		if service.Environment["ABACA_ROLE"] == "api" { // without it root reads no secret of mode 0600 that is not root's
			want = []string{"DAC_READ_SEARCH"}
		}
		if !slices.Equal(service.CapAdd, want) {
			t.Errorf("%s keeps %v, not %v", name, service.CapAdd, want)
		}
	}
}

func TestWhatOnlyAnswersHasNothingOfTheWork(t *testing.T) {
	for name, service := range readComposition(t).Services {
		if service.Environment["ABACA_ROLE"] != "api" {
			continue
		}
		if slices.Contains(service.Secrets, "master_key") || slices.Contains(service.Secrets, "s3_credentials") {
			t.Errorf("%s is given %v", name, service.Secrets)
		}
		for _, volume := range service.Volumes {
			if strings.HasPrefix(volume, "shares:") {
				t.Errorf("%s is given the shares", name)
			}
		}
	}
}

func TestSystemdTakesTheService(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skipf("NOT TESTED: %v", err)
	}
	unit, err := os.ReadFile(filepath.Join(deploy, "abaca.service"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "abaca.service")
	unit = bytes.Replace(unit, []byte("/usr/local/bin/abaca "), []byte(os.Args[0]+" "), 1) // which need not be installed
	if err := os.WriteFile(path, unit, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("systemd-analyze", "verify", path).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v: %s", err, out)
	}
}

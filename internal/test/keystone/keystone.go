// Package keystone gives tests a real Keystone on the loopback address; test/keystone/cloud.py tells who lives there.
package keystone

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/applicationcredentials"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/roles"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/users"
)

// Password is everybody's.
const Password = "secret"

// A Keystone is running, unless it has been stopped or frozen.
type Keystone struct {
	URL     string // ends in /v3; the same after a restart
	Expired string // a token of anna's in project alpha that has run out

	t         testing.TB
	directory string
	command   *exec.Cmd
	input     io.Closer
	token     string            // an administrator's, once there is one
	ids       map[string]string // of users, projects and roles that have been asked for, by kind and name
}

// Start serves a Keystone until the test ends. Where that takes something that is missing, the test is skipped, or fails in CI (the
// environment variable CI is set).
func Start(t testing.TB) *Keystone {
	t.Helper()
	k := &Keystone{t: t, directory: filepath.Join(t.TempDir(), "keystone"), ids: map[string]string{}}
	k.start("0")
	t.Cleanup(k.Stop)
	token, err := os.ReadFile(filepath.Join(k.directory, "expired-token"))
	if err != nil {
		t.Fatal(err)
	}
	k.Expired = string(token)
	return k
}

func (k *Keystone) start(port string) {
	k.t.Helper()
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		k.t.Fatal(err)
	}
	command := exec.Command(filepath.Join(strings.TrimSpace(string(root)), "test/keystone/run"), k.directory, port)
	var said bytes.Buffer
	command.Stderr = &said
	input, err := command.StdinPipe()
	if err != nil {
		k.t.Fatal(err)
	}
	output, err := command.StdoutPipe()
	if err != nil {
		k.t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		k.t.Fatal(err)
	}
	line, err := bufio.NewReader(output).ReadString('\n')
	if err != nil {
		leaveOut := k.t.Skipf
		if os.Getenv("CI") != "" {
			leaveOut = k.t.Fatalf
		}
		leaveOut("NOT TESTED: there is no Keystone: %v: %s", command.Wait(), said.Bytes())
	}
	k.URL, k.command, k.input = strings.TrimSpace(line), command, input
}

// Stop ends Keystone as a crash of its machine would.
func (k *Keystone) Stop() {
	if k.command == nil {
		return
	}
	k.Thaw()
	k.input.Close()
	k.command.Wait() // its error says that it was killed
	k.command = nil
}

// Restart starts a stopped Keystone again, where it was.
func (k *Keystone) Restart() {
	k.t.Helper()
	u, err := url.Parse(k.URL)
	if err != nil {
		k.t.Fatal(err)
	}
	k.start(u.Port())
}

// Freeze has Keystone take connections and answer none.
func (k *Keystone) Freeze() { k.signal(syscall.SIGSTOP) }

// Thaw ends what Freeze began.
func (k *Keystone) Thaw() { k.signal(syscall.SIGCONT) }

func (k *Keystone) signal(s syscall.Signal) {
	if err := k.command.Process.Signal(s); err != nil {
		k.t.Error(err)
	}
}

// Token logs a user in with this scope, nil for none.
func (k *Keystone) Token(user string, scope *gophercloud.AuthScope) string {
	k.t.Helper()
	return k.issue(&gophercloud.AuthOptions{Username: user, Password: Password, DomainID: "default", Scope: scope})
}

// CredentialToken logs in with an application credential.
func (k *Keystone) CredentialToken(id, secret string) string {
	k.t.Helper()
	return k.issue(&gophercloud.AuthOptions{ApplicationCredentialID: id, ApplicationCredentialSecret: secret})
}

func (k *Keystone) issue(options *gophercloud.AuthOptions) string {
	k.t.Helper()
	token, err := tokens.Create(k.context(), k.client(""), options).ExtractTokenID()
	if err != nil {
		k.t.Fatal(err)
	}
	return token
}

// System is the scope of the whole system.
func System() *gophercloud.AuthScope { return &gophercloud.AuthScope{System: true} }

// Domain is the scope of everybody's domain.
func Domain() *gophercloud.AuthScope { return &gophercloud.AuthScope{DomainID: "default"} }

// Project is the scope of a project.
func Project(name string) *gophercloud.AuthScope {
	return &gophercloud.AuthScope{ProjectName: name, DomainID: "default"}
}

// Revoke makes a token invalid, as logging out does.
func (k *Keystone) Revoke(token string) {
	k.t.Helper()
	if err := tokens.Revoke(k.context(), k.admin(), token).Err; err != nil {
		k.t.Fatal(err)
	}
}

// Assign gives a user a role in a project.
func (k *Keystone) Assign(role, user, project string) {
	k.t.Helper()
	options := roles.AssignOpts{UserID: k.User(user), ProjectID: k.Project(project)}
	if err := roles.Assign(k.context(), k.admin(), k.id("roles", role), options).ExtractErr(); err != nil {
		k.t.Fatal(err)
	}
}

// Unassign takes a role in a project from a user.
func (k *Keystone) Unassign(role, user, project string) {
	k.t.Helper()
	options := roles.UnassignOpts{UserID: k.User(user), ProjectID: k.Project(project)}
	if err := roles.Unassign(k.context(), k.admin(), k.id("roles", role), options).ExtractErr(); err != nil {
		k.t.Fatal(err)
	}
}

// SetPassword changes a user's password, which ends the tokens that the user has.
func (k *Keystone) SetPassword(user, password string) {
	k.t.Helper()
	if _, err := users.Update(k.context(), k.admin(), k.User(user), users.UpdateOpts{Password: password}).Extract(); err != nil {
		k.t.Fatal(err)
	}
}

// ApplicationCredential makes one of a user in a project, for these requests alone if there are any: a service, a method and a path each.
func (k *Keystone) ApplicationCredential(user, project string, rules ...[3]string) (id, secret string) {
	k.t.Helper()
	client := k.client(k.Token(user, Project(project)))
	options := applicationcredentials.CreateOpts{Name: fmt.Sprintf("made in a test for %v", rules)}
	for _, r := range rules {
		options.AccessRules = append(options.AccessRules, applicationcredentials.AccessRule{Service: r[0], Method: r[1], Path: r[2]})
	}
	made, err := applicationcredentials.Create(k.context(), client, k.User(user), options).Extract()
	if err != nil {
		k.t.Fatal(err)
	}
	return made.ID, made.Secret
}

// User returns a user's id.
func (k *Keystone) User(name string) string { return k.id("users", name) }

// Project returns a project's id.
func (k *Keystone) Project(name string) string { return k.id("projects", name) }

func (k *Keystone) id(kind, name string) string {
	k.t.Helper()
	if id := k.ids[kind+name]; id != "" {
		return id
	}
	var answer map[string]any
	admin := k.admin()
	if _, err := admin.Get(k.context(), admin.ServiceURL(kind)+"?name="+url.QueryEscape(name), &answer, nil); err != nil {
		k.t.Fatal(err)
	}
	found, _ := answer[kind].([]any)
	if len(found) != 1 {
		k.t.Fatalf("%d %s named %s", len(found), kind, name)
	}
	k.ids[kind+name] = found[0].(map[string]any)["id"].(string)
	return k.ids[kind+name]
}

func (k *Keystone) admin() *gophercloud.ServiceClient {
	k.t.Helper()
	if k.token == "" {
		k.token = k.Token("admin", Project("admin"))
	}
	return k.client(k.token)
}

func (k *Keystone) client(token string) *gophercloud.ServiceClient {
	return &gophercloud.ServiceClient{ProviderClient: &gophercloud.ProviderClient{TokenID: token}, Endpoint: k.URL + "/", Type: "identity"}
}

// context is that of requests which clean up, too.
func (k *Keystone) context() context.Context { return context.WithoutCancel(k.t.Context()) }

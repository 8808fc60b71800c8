// Package postgres gives tests databases of a PostgreSQL of their own, which nobody else can reach.
package postgres

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A Cluster is a running PostgreSQL. Its default collation is that of a language, so that whatever leaves the order of text to the
// database is found out.
type Cluster struct {
	dir     string // of its data, its socket and its log
	bin     string
	run     *syscall.Credential // whom it runs as; nil for the test's own user
	process *exec.Cmd
	ended   chan error
	removed func() error // removes dir, once nothing is in it any more
}

// Main is for TestMain: it runs the tests and then stops the cluster that they have shared, if any of them has asked for one.
func Main(m *testing.M) int {
	code := m.Run()
	if shared.cluster != nil {
		shared.cluster.remove()
	}
	return code
}

// shared is the cluster of a test binary.
var shared struct {
	once    sync.Once
	cluster *Cluster
	err     error
}

// New returns the URL of an empty database. Where there is no PostgreSQL the test is skipped, or fails in CI (the environment
// variable CI is set).
func New(t testing.TB) string {
	t.Helper()
	return For(t, t.TempDir())
}

// For is New for the database that belongs to a directory: the same one each time.
func For(t testing.TB, dir string) string {
	t.Helper()
	shared.once.Do(func() { shared.cluster, shared.err = start() })
	if shared.err != nil {
		missing(t, shared.err)
	}
	return shared.cluster.Database(t, dir)
}

// Start starts a cluster of the test's own, which it may stop and start.
func Start(t testing.TB) *Cluster {
	t.Helper()
	c, err := start()
	if err != nil {
		missing(t, err)
	}
	t.Cleanup(c.remove)
	return c
}

func missing(t testing.TB, err error) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(err)
	}
	t.Skipf("NOT TESTED: %v", err)
}

// Copy returns the URL of a database that has what another of New's has, which nobody may have open.
func Copy(t testing.TB, url string) string {
	t.Helper()
	_, after, _ := strings.Cut(url, "@/")
	original, _, _ := strings.Cut(after, "?")
	return shared.cluster.create(t, t.TempDir(), " TEMPLATE "+original)
}

// Database returns the URL of the database that belongs to a name, making it where it does not exist.
func (c *Cluster) Database(t testing.TB, name string) string {
	t.Helper()
	return c.create(t, name, "")
}

func (c *Cluster) create(t testing.TB, name, options string) string {
	t.Helper()
	sum := sha256.Sum256([]byte(name))
	database := "t" + hex.EncodeToString(sum[:8])
	out, err := exec.Command(filepath.Join(c.bin, "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", c.url("postgres"), "-c",
		"CREATE DATABASE "+database+options).CombinedOutput()
	if err != nil && !bytes.Contains(out, []byte("already exists")) {
		t.Fatalf("%v: %s", err, out)
	}
	return c.url(database)
}

func (c *Cluster) url(database string) string {
	return "postgres://postgres:secret@/" + database + "?host=" + c.dir + "&sslmode=disable"
}

// start makes a cluster in a new directory and starts it.
func start() (*Cluster, error) {
	bin, err := programs()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "pg") // short: the path of a socket has a limit of some hundred bytes
	if err != nil {
		return nil, err
	}
	c := &Cluster{dir: dir, bin: bin}
	if c.removed, err = removal(dir); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if os.Geteuid() == 0 { // as whom PostgreSQL refuses to run
		if c.run, err = unprivileged(); err == nil {
			err = os.Chown(dir, int(c.run.Uid), int(c.run.Gid))
		}
	}
	if err == nil {
		err = c.initialize()
	}
	if err == nil {
		err = c.up()
	}
	if err != nil {
		return nil, errors.Join(err, c.removed())
	}
	return c, nil
}

// removal has a directory removed when it is called or when the test dies, whichever comes first, by a process that waits for that.
func removal(dir string) (func() error, error) {
	const script = `cat; for try in 1 2 3 4 5 6 7 8 9 10; do rm -rf "$0" && exit; sleep 1; done; exit 1`
	waits := exec.Command("sh", "-c", script, dir)
	waits.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // what ends the test at the terminal is not to end this too
	stdin, err := waits.StdinPipe()
	if err == nil {
		err = waits.Start()
	}
	if err != nil {
		return nil, err
	}
	return func() error { return errors.Join(stdin.Close(), waits.Wait()) }, nil
}

// programs finds where initdb, postgres and psql are: of the path, or where Debian keeps them.
func programs() (string, error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if path, err := exec.LookPath("initdb"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			found = append(found, path)
		}
	}
	if len(found) == 0 {
		return "", errors.New("there is no PostgreSQL (initdb)")
	}
	return filepath.Dir(slices.Max(found)), nil
}

func unprivileged() (*syscall.Credential, error) {
	u, err := user.Lookup("nobody")
	if err != nil {
		return nil, err
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, err
}

func (c *Cluster) command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(c.bin, program), args...)
	cmd.Dir = c.dir
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.run}
	return cmd
}

func (c *Cluster) initialize() error {
	args := []string{"-D", "data", "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--no-sync"}
	language := []string{"--locale-provider=icu", "--icu-locale=en-US"}
	out, err := c.command("initdb", append(args, language...)...).CombinedOutput()
	if err != nil && bytes.Contains(out, []byte("ICU is not supported")) {
		out, err = c.command("initdb", append(args, "--locale=C.UTF-8")...).CombinedOutput()
	}
	if err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	return nil
}

// up starts the server and waits until it answers. The kernel ends it should the test die.
func (c *Cluster) up() error {
	log, err := os.OpenFile(filepath.Join(c.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	c.process = c.command("postgres", "-D", "data", "-k", c.dir, "-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=200")
	c.process.Stdout, c.process.Stderr = log, log
	c.process.SysProcAttr.Pdeathsig = syscall.SIGQUIT
	c.ended = make(chan error, 1)
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // with whose end the kernel takes the test to have died
		err := c.process.Start()
		started <- err
		if err == nil {
			c.ended <- c.process.Wait()
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		select {
		case err := <-c.ended:
			text, _ := os.ReadFile(log.Name())
			return fmt.Errorf("postgres has ended: %w: %s", err, text)
		default:
		}
		// The last line says whether the server takes connections yet; its first line is its process's id.
		state, _ := os.ReadFile(filepath.Join(c.dir, "data", "postmaster.pid"))
		lines := strings.Split(string(state), "\n")
		if len(lines) > 7 && lines[0] == strconv.Itoa(c.process.Process.Pid) && strings.TrimSpace(lines[7]) == "ready" {
			break
		}
	}
	return nil
}

// Stop ends the server at once, as a crash would.
func (c *Cluster) Stop() {
	c.process.Process.Signal(syscall.SIGQUIT)
	<-c.ended
}

// Restart starts the server after Stop.
func (c *Cluster) Restart(t testing.TB) {
	t.Helper()
	if err := c.up(); err != nil {
		t.Fatal(err)
	}
}

func (c *Cluster) remove() {
	if c.process.ProcessState == nil {
		c.Stop()
	}
	c.removed()
}

// Package s3 runs a real S3 server for tests: versitygw on a directory of its own, on the loopback.
package s3

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// version is of the server; server/go.mod pins the same.
const version = "v1.8.0"

// Name is the one bucket that every server has.
const Name = "backups"

// A Server runs until the test ends.
type Server struct {
	Endpoint  string // host:port
	CA        []byte // of its certificate, in PEM; nil without TLS
	AccessKey string
	SecretKey string
	Dir       string // what the bucket holds, an object a file

	run     func() *exec.Cmd // makes the command that serves what there is
	probe   string           // a URL that it answers at; empty with TLS
	process *os.Process
	ended   chan struct{}
}

// Start runs a server without TLS. Where it cannot be built the test is skipped, or fails in CI.
func Start(t testing.TB) *Server {
	t.Helper()
	return start(t, false)
}

// StartTLS runs a server with a certificate of its own.
func StartTLS(t testing.TB) *Server {
	t.Helper()
	return start(t, true)
}

// Pause has the server answer nothing until Resume.
func (s *Server) Pause(t testing.TB) {
	t.Helper()
	must(t, s.process.Signal(syscall.SIGSTOP))
	err := error(unix.EINTR)
	for errors.Is(err, unix.EINTR) { // its threads stop one after the other, and the last could still answer
		err = unix.Waitid(unix.P_PID, s.process.Pid, nil, unix.WSTOPPED, nil)
	}
	must(t, err)
	t.Cleanup(func() { _ = s.process.Signal(syscall.SIGCONT) })
}

// Resume has a paused server go on.
func (s *Server) Resume(t testing.TB) {
	t.Helper()
	must(t, s.process.Signal(syscall.SIGCONT))
}

func start(t testing.TB, secure bool) *Server {
	t.Helper()
	binary := build(t)
	root := t.TempDir()
	s := &Server{AccessKey: rand.Text(), SecretKey: rand.Text(), Dir: filepath.Join(root, "data", Name)}
	must(t, os.MkdirAll(s.Dir, 0o700))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	s.Endpoint = listener.Addr().String()
	must(t, listener.Close()) // the server can only be told a port
	args := []string{"--port", s.Endpoint, "--quiet", "--keep-alive"}
	probe := "http://" + s.Endpoint
	if secure {
		s.CA = certificate(t, root)
		args = append(args, "--cert", filepath.Join(root, "cert.pem"), "--key", filepath.Join(root, "key.pem"))
		probe = "" // a connection says enough
	}
	args = append(args, "posix", "--sidecar", filepath.Join(root, "sidecar"), filepath.Join(root, "data"))
	must(t, os.Mkdir(filepath.Join(root, "sidecar"), 0o700))
	s.run = func() *exec.Cmd {
		cmd := exec.Command(binary, args...)
		cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+s.AccessKey, "ROOT_SECRET_KEY="+s.SecretKey)
		cmd.Dir = root
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		return cmd
	}
	s.probe = probe
	s.Restart(t)
	t.Cleanup(s.Stop)
	return s
}

// Stop ends the server at once, as a crash would.
func (s *Server) Stop() {
	_ = s.process.Kill()
	<-s.ended
}

// Restart starts the server after Stop, at the same address and with what it held.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	var output strings.Builder
	cmd := s.run()
	cmd.Stdout, cmd.Stderr = &output, &output
	must(t, cmd.Start())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = cmd.Wait() }()
	s.process, s.ended = cmd.Process, ended
	await(t, s.Endpoint, s.probe, ended, &output)
}

// await returns when the server answers.
func await(t testing.TB, address, probe string, ended <-chan struct{}, output fmt.Stringer) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			t.Fatalf("the S3 server ended: %s", output)
		case <-ctx.Done():
			t.Fatal("the S3 server does not answer")
		case <-tick.C:
		}
		if probe == "" {
			if c, err := new(net.Dialer).DialContext(ctx, "tcp", address); err == nil {
				c.Close()
				return
			}
			continue
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, probe, nil)
		must(t, err)
		if resp, err := http.DefaultClient.Do(req); err == nil {
			resp.Body.Close()
			return
		}
	}
}

// build returns the server's program, which is built once for a machine.
func build(t testing.TB) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	must(t, err)
	dir := filepath.Join(cache, "abaca-test")
	path := filepath.Join(dir, "versitygw-"+version)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	must(t, os.MkdirAll(dir, 0o700))
	module, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "abaca").Output()
	must(t, err)
	draft := fmt.Sprintf("%s.%d", path, os.Getpid())
	out, err := exec.CommandContext(t.Context(), "go", "build", "-C", filepath.Join(strings.TrimSpace(string(module)), "internal/test/s3/server"),
		"-mod=mod", "-o", draft, "github.com/versity/versitygw/cmd/versitygw").CombinedOutput()
	if err == nil {
		must(t, os.Rename(draft, path))
		return path
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("building an S3 server: %v: %s", err, out)
	}
	t.Skipf("SKIPPED: an S3 server cannot be built: %v: %s", err, out)
	return ""
}

// certificate makes a certificate for the loopback, which verifies itself.
func certificate(t testing.TB, dir string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "S3 for tests"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	public := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})
	must(t, os.WriteFile(filepath.Join(dir, "cert.pem"), public, 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "key.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
	return public
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

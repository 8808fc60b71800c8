package server_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"abaca/internal/server"
	"abaca/internal/test/serve"
)

// certify writes a new certificate for 127.0.0.1 and its key.
func certify(t *testing.T, certFile, keyFile string, serial int64) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestARenewedCertificateIsTakenUpAndABrokenOneIsNot(t *testing.T) {
	dir := t.TempDir()
	c, err := serve.Config(dir)
	if err != nil {
		t.Fatal(err)
	}
	c.TLS.CertFile, c.TLS.KeyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	roots := x509.NewCertPool()
	roots.AddCert(certify(t, c.TLS.CertFile, c.TLS.KeyFile, 1))
	s := serve.StartWith(t, c)
	if !strings.HasPrefix(s.Endpoint(), "https://127.0.0.1:") {
		t.Fatal(s.Endpoint())
	}
	serves := func(serial int64) {
		t.Helper()
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}}
		defer client.CloseIdleConnections()
		resp, err := client.Get(strings.TrimSuffix(s.Endpoint(), "/v2") + "/") // unlike the healthcheck it waits for no worker
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := resp.TLS.PeerCertificates[0].SerialNumber.Int64(); got != serial || resp.StatusCode != http.StatusMultipleChoices {
			t.Errorf("certificate %d, want %d; %d", got, serial, resp.StatusCode)
		}
		if resp.ProtoMajor != 1 { // in HTTP/2 one of the connections that are counted makes any number of requests at a time
			t.Errorf("the server speaks HTTP/%d", resp.ProtoMajor)
		}
	}
	serves(1)
	if resp, err := http.Get(strings.Replace(s.Endpoint(), "https:", "http:", 1) + "/"); err == nil && resp.StatusCode != 400 {
		t.Errorf("plain HTTP is answered with %d", resp.StatusCode)
	}
	roots.AddCert(certify(t, c.TLS.CertFile, c.TLS.KeyFile, 2))
	serves(2)
	whole, err := os.ReadFile(c.TLS.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(c.TLS.KeyFile, whole[:len(whole)/2], 0o600); err != nil { // somebody is writing it
		t.Fatal(err)
	}
	serves(2)
	if err := os.Remove(c.TLS.CertFile); err != nil {
		t.Fatal(err)
	}
	serves(2)
	roots.AddCert(certify(t, c.TLS.CertFile, c.TLS.KeyFile, 3))
	serves(3)
}

func TestAServerDoesNotStartWithoutTheCertificateItWasGiven(t *testing.T) {
	for name, spoil := range map[string]func(cert, key string) error{
		"no key":                     func(_, key string) error { return os.Remove(key) },
		"no certificate":             func(cert, _ string) error { return os.Remove(cert) },
		"a key that others can read": func(_, key string) error { return os.Chmod(key, 0o644) },
		"another's key":              func(_, key string) error { certify(t, filepath.Join(t.TempDir(), "c"), key, 2); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			c, err := serve.Config(dir)
			if err != nil {
				t.Fatal(err)
			}
			c.TLS.CertFile, c.TLS.KeyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
			certify(t, c.TLS.CertFile, c.TLS.KeyFile, 1)
			if err := spoil(c.TLS.CertFile, c.TLS.KeyFile); err != nil {
				t.Fatal(err)
			}
			_, err = server.Open(t.Context(), c, slog.New(slog.DiscardHandler))
			if _, ok := errors.AsType[server.SettingError](err); !ok {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestTokensInTheClearAreWarnedOfOnce(t *testing.T) {
	for _, test := range []struct {
		listen, strategy string
		warnings         int
	}{
		{"127.0.0.1:0", "local", 0}, {"0.0.0.0:0", "local", 1}, {"0.0.0.0:0", "none", 0},
	} {
		c, err := server.Load("", nil, map[string]any{
			"data_dir": t.TempDir(), "listen": test.listen, "auth.strategy": test.strategy, "auth.let_anyone_be_admin": true,
		})
		if err != nil {
			t.Fatal(err)
		}
		var said bytes.Buffer
		s, err := server.Open(context.Background(), c, slog.New(slog.NewTextHandler(&said, nil)))
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
		if n := strings.Count(said.String(), "in the clear"); n != test.warnings {
			t.Errorf("%+v: %s", test, said.String())
		}
	}
}

func TestLinksNameTheProxyOnlyWhereTheConfigurationTrustsIt(t *testing.T) {
	for _, test := range []struct {
		trust       bool
		proto, host string
		want        string // empty: our own address
	}{
		{false, "https", "shares.example.org", ""},
		{true, "https", "shares.example.org", "https://shares.example.org"},
		{true, "https", "shares.example.org:8443", "https://shares.example.org:8443"},
		{true, "https", "[2001:db8::1]:8443", "https://[2001:db8::1]:8443"},
		{true, "", "", ""},
		{true, "javascript", "evil.example/path", ""},
		{true, "", "evil.example, shares.example.org", ""},
		{true, "", `evil"example`, ""},
	} {
		c, err := serve.Config(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		c.TrustProxyHeaders = test.trust
		s := serve.StartWith(t, c)
		own := strings.TrimSuffix(s.Endpoint(), "/v2")
		if test.want == "" {
			test.want = own
		}
		_, body := get(t, own+"/", http.Header{"X-Forwarded-Proto": {test.proto}, "X-Forwarded-Host": {test.host}})
		if !strings.Contains(body, `"`+test.want+`/v2/"`) {
			t.Errorf("%+v: %s", test, body)
		}
		s.Stop()
	}
}

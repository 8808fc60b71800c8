package server

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"
)

func (c *Config) checkTLS() error {
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		return errors.New("tls: cert_file and key_file are of no use without each other")
	}
	return nil
}

// tls returns nil where the server is to speak plain HTTP.
func (c *Config) tls(log *slog.Logger) (*tls.Config, error) {
	if c.TLS.CertFile == "" {
		return nil, nil
	}
	k := &keyPair{certFile: c.TLS.CertFile, keyFile: c.TLS.KeyFile, log: log}
	if err := k.reload(); err != nil {
		return nil, SettingError{fmt.Errorf("tls: %w", err)}
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: k.get}, nil
}

// A keyPair is the server's certificate and its key, read anew when the files have changed.
type keyPair struct {
	certFile, keyFile string
	log               *slog.Logger

	mu     sync.Mutex
	pair   *tls.Certificate
	loaded stamp  // of the files that pair was read from
	told   string // to the log, of files that could not be used
}

// A stamp tells a pair of files from those that take their place.
type stamp struct {
	cert, key         time.Time
	certSize, keySize int64
}

// get goes on with the old pair where the new one is not complete or not readable.
func (k *keyPair) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	err := k.reload()
	if err == nil {
		k.told = ""
	} else if k.told != err.Error() {
		k.told = err.Error()
		k.log.Error("the certificate cannot be read again; the old one stays in use", "error", err)
	}
	return k.pair, nil
}

func (k *keyPair) reload() error {
	cert, err := os.Open(k.certFile)
	if err != nil {
		return err
	}
	defer cert.Close()
	key, err := openPrivate(k.keyFile)
	if err != nil {
		return err
	}
	defer key.Close()
	certInfo, err := cert.Stat()
	if err != nil {
		return err
	}
	keyInfo, err := key.Stat()
	if err != nil {
		return err
	}
	s := stamp{certInfo.ModTime(), keyInfo.ModTime(), certInfo.Size(), keyInfo.Size()}
	if k.pair != nil && s == k.loaded {
		return nil
	}
	certText, err := io.ReadAll(cert)
	if err != nil {
		return err
	}
	keyText, err := io.ReadAll(key)
	if err != nil {
		return err
	}
	pair, err := tls.X509KeyPair(certText, keyText)
	if err != nil {
		return err
	}
	k.pair, k.loaded = &pair, s
	return nil
}

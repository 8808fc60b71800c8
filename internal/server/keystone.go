package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"time"

	"abaca/internal/api"
	"abaca/internal/auth"
)

// A KeystoneConfig says how Keystone is asked for callers. Its settings are called as in the keystone_authtoken section of
// OpenStack's services, where there is one that means the same.
type KeystoneConfig struct {
	URL        string `koanf:"auth_url" yaml:"auth_url"`
	Advertised string `koanf:"www_authenticate_uri" yaml:"www_authenticate_uri"` // what callers without a token are told; empty: auth_url

	Username          string `koanf:"username" yaml:"username"`
	Password          Secret `koanf:"password" yaml:"password"`
	PasswordFile      string `koanf:"password_file" yaml:"password_file"`
	UserDomainName    string `koanf:"user_domain_name" yaml:"user_domain_name"`
	UserDomainID      string `koanf:"user_domain_id" yaml:"user_domain_id"` // given, the name is not looked at
	ProjectName       string `koanf:"project_name" yaml:"project_name"`
	ProjectDomainName string `koanf:"project_domain_name" yaml:"project_domain_name"`
	ProjectDomainID   string `koanf:"project_domain_id" yaml:"project_domain_id"`

	CredentialID         string `koanf:"application_credential_id" yaml:"application_credential_id"` // instead of a user
	CredentialSecret     Secret `koanf:"application_credential_secret" yaml:"application_credential_secret"`
	CredentialSecretFile string `koanf:"application_credential_secret_file" yaml:"application_credential_secret_file"`

	CAFile  string        `koanf:"ca_file" yaml:"ca_file"` // PEM; empty: the system's certificates
	Cache   time.Duration `koanf:"cache" yaml:"cache"`     // how long an answer is used again, and a revoked token works on
	Timeout time.Duration `koanf:"timeout" yaml:"timeout"`
}

// keystoneDefaults are those of [KeystoneConfig].
var keystoneDefaults = map[string]any{
	"auth_url": "", "www_authenticate_uri": "",
	"username": "", "password": "", "password_file": "", "user_domain_name": "Default", "user_domain_id": "",
	"project_name": "service", "project_domain_name": "Default", "project_domain_id": "",
	"application_credential_id": "", "application_credential_secret": "", "application_credential_secret_file": "",
	"ca_file": "", "cache": "30s", "timeout": "5s",
}

// longestCache is within what a revoked token must have stopped working.
const longestCache = time.Minute

func (k *KeystoneConfig) check() error {
	secret, name := string(k.Password)+k.PasswordFile, "password"
	if k.CredentialID != "" {
		secret, name = string(k.CredentialSecret)+k.CredentialSecretFile, "application_credential_secret"
	}
	switch {
	case !isURL(k.URL):
		return errors.New("auth_url: an http or https URL without query, user and password is needed")
	case k.Advertised != "" && !isURL(k.Advertised):
		return errors.New("www_authenticate_uri: this is no http or https URL without query, user and password")
	case (k.Username == "") == (k.CredentialID == ""):
		return errors.New("username or auth.keystone.application_credential_id: one of the two is needed")
	case secret == "":
		return fmt.Errorf("%s or auth.keystone.%[1]s_file is needed", name)
	case k.Password != "" && k.PasswordFile != "" || k.CredentialSecret != "" && k.CredentialSecretFile != "":
		return fmt.Errorf("%s and auth.keystone.%[1]s_file exclude each other", name)
	case k.Username != "" && k.ProjectName == "":
		return errors.New("project_name is needed")
	case k.Cache < 0 || k.Cache > longestCache:
		return fmt.Errorf("cache: %v is not from 0 to %v", k.Cache, longestCache)
	case k.Timeout < 100*time.Millisecond || k.Timeout > time.Minute:
		return fmt.Errorf("timeout: %v is not from 100ms to 1m", k.Timeout)
	}
	return nil
}

// isURL leaves out what does not belong into a header or a log.
func isURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.User == nil && u.RawQuery == "" && u.Fragment == "" &&
		!strings.ContainsAny(text, "\"\\ ")
}

// open tells the log whether Keystone can be asked; where it cannot, the server starts all the same.
func (k *KeystoneConfig) open(ctx context.Context, log *slog.Logger, now func() time.Time) (api.Authenticator, error) {
	login := auth.Login{
		Username: k.Username, UserDomainID: k.UserDomainID, UserDomainName: k.UserDomainName,
		ProjectName: k.ProjectName, ProjectDomainID: k.ProjectDomainID, ProjectDomainName: k.ProjectDomainName,
		Secret: secretOf(k.Password, k.PasswordFile),
	}
	if login.UserDomainID != "" {
		login.UserDomainName = "" // Keystone takes one of the two
	}
	if login.ProjectDomainID != "" {
		login.ProjectDomainName = ""
	}
	if k.CredentialID != "" {
		login = auth.Login{CredentialID: k.CredentialID, Secret: secretOf(k.CredentialSecret, k.CredentialSecretFile)}
	}
	if _, err := login.Secret(); err != nil {
		return nil, err
	}
	var roots []byte
	if k.CAFile != "" {
		var err error
		if roots, err = os.ReadFile(k.CAFile); err != nil {
			return nil, fmt.Errorf("auth.keystone.ca_file: %w", err)
		}
	}
	keystone, err := auth.NewKeystone(auth.KeystoneConfig{
		URL: k.URL, Advertised: k.Advertised, Login: login, Roots: roots, Cache: k.Cache, Timeout: k.Timeout, Log: log, Now: now,
	})
	if err != nil {
		return nil, fmt.Errorf("auth.keystone: %w", err)
	}
	keystone.LogIn(ctx)
	return keystone, nil
}

// secretOf returns what reads a secret anew each time, so that one that was replaced in its file needs no restart.
func secretOf(value Secret, path string) func() (string, error) {
	if path == "" {
		return func() (string, error) { return string(value), nil }
	}
	return func() (string, error) {
		f, err := openPrivate(path)
		if err != nil {
			return "", err
		}
		defer f.Close()
		text, err := io.ReadAll(io.LimitReader(f, 64<<10))
		if err != nil {
			return "", err
		}
		if secret := strings.TrimRight(string(text), "\r\n"); secret != "" {
			return secret, nil
		}
		return "", fmt.Errorf("%s is empty", path)
	}
}

// openPrivate opens a file with a secret that its owner and group alone may read: services are given theirs by a group of their own.
func openPrivate(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.Mode().Perm()&0o007 != 0 {
		err = fmt.Errorf("%s can be read by everybody; its mode must be 0640 at most", path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

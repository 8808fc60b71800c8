package server

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"abaca/internal/engine"
)

// An S3Config says how the server of an s3:// repository is reached. Its credentials are in the environment, in AWS_ACCESS_KEY_ID,
// AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, or in a file; they are no settings, so that nothing prints them.
type S3Config struct {
	Endpoint        string `koanf:"endpoint" yaml:"endpoint"` // host[:port] or URL; empty: Amazon's
	Region          string `koanf:"region" yaml:"region"`
	CAFile          string `koanf:"ca_file" yaml:"ca_file"`                   // certificates that the server's is verified by instead of the system's
	CredentialsFile string `koanf:"credentials_file" yaml:"credentials_file"` // in the format of AWS, of which the section "default" is read
	PlainHTTP       bool   `koanf:"plain_http" yaml:"plain_http"`             // allows an endpoint http:// beyond loopback

	variable func(name string) string // of the environment
}

// bucketName is what all S3 servers take for a name.
var bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)

// checkRepository refuses what place could make nothing of.
func (c *Config) checkRepository() error {
	u, err := url.Parse(c.Repository)
	if err != nil || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return errors.New("repository: neither empty nor file:///path nor s3://bucket/prefix") // without the value: credentials may be in it
	}
	switch {
	case u.Scheme == "s3":
		if !bucketName.MatchString(u.Host) {
			return fmt.Errorf("repository: %q is not the name of a bucket", u.Host)
		}
		_, _, err := c.S3.endpoint()
		return err
	case c.S3.Endpoint != "" || c.S3.Region != "" || c.S3.CAFile != "" || c.S3.CredentialsFile != "" || c.S3.PlainHTTP:
		return errors.New("s3: the repository is not s3://bucket/prefix")
	case c.Repository == "":
		return nil
	case u.Scheme != "file" || u.Host != "" || !filepath.IsAbs(u.Path):
		return fmt.Errorf("repository: %q is neither empty nor file:///path nor s3://bucket/prefix", c.Repository)
	}
	return nil
}

// endpoint returns where the S3 server is, and whether it is reached without TLS.
func (s *S3Config) endpoint() (host string, plain bool, err error) {
	text := s.Endpoint
	switch {
	case text == "":
		return "s3.amazonaws.com", false, nil
	case !strings.Contains(text, "://"):
		text = "https://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil || u.Scheme != "https" && u.Scheme != "http" {
		return "", false, errors.New("s3.endpoint: neither host[:port] nor http(s)://host[:port]")
	}
	if plain = u.Scheme == "http"; plain && !isLoopback(u.Hostname()) && !s.PlainHTTP {
		return "", false, fmt.Errorf("s3.endpoint: without TLS whoever is on the way to %s can take backups away; s3.plain_http: true allows that", u.Host)
	}
	return u.Host, plain, nil
}

// place returns where the engine keeps its repositories.
func (c *Config) place() (root string, bucket *engine.Bucket, err error) {
	u, err := url.Parse(c.Repository)
	if err != nil {
		return "", nil, errors.New("repository: not a URL")
	}
	switch u.Scheme {
	case "":
		return filepath.Join(c.DataDir, repositoryName), nil, nil
	case "file":
		// It is not made: where a mount is missing, that would put backups on the disk beneath.
		if info, err := os.Stat(u.Path); err != nil {
			return "", nil, fmt.Errorf("repository: %w", err)
		} else if !info.IsDir() {
			return "", nil, fmt.Errorf("repository: %s is not a directory", u.Path)
		}
		return u.Path, nil, nil
	}
	bucket, err = c.S3.bucket(u.Host, u.Path)
	return filepath.Join(c.DataDir, connections), bucket, err
}

func (s *S3Config) bucket(name, path string) (*engine.Bucket, error) {
	host, plain, err := s.endpoint()
	if err != nil {
		return nil, err
	}
	b := &engine.Bucket{Endpoint: host, Region: s.Region, Name: name, PlainHTTP: plain}
	if prefix := strings.Trim(path, "/"); prefix != "" {
		b.Prefix = prefix + "/"
	}
	if s.CAFile != "" {
		if b.RootCA, err = os.ReadFile(s.CAFile); err != nil {
			return nil, fmt.Errorf("s3.ca_file: %w", err)
		}
	}
	values, err := s.credentials()
	if err != nil {
		return nil, err
	}
	b.AccessKeyID, b.SecretAccessKey, b.SessionToken = values["aws_access_key_id"], values["aws_secret_access_key"], values["aws_session_token"]
	switch {
	case b.AccessKeyID != "" && b.SecretAccessKey != "":
	case s.CredentialsFile != "":
		return nil, fmt.Errorf("s3.credentials_file: %s has no aws_access_key_id and aws_secret_access_key in its section [default]", s.CredentialsFile)
	default:
		return nil, errors.New("s3: there are no credentials: neither AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY nor s3.credentials_file")
	}
	return b, nil
}

// credentials reads the file if one is named, else the environment.
func (s *S3Config) credentials() (map[string]string, error) {
	values := map[string]string{}
	if s.CredentialsFile == "" {
		for _, name := range []string{"aws_access_key_id", "aws_secret_access_key", "aws_session_token"} {
			values[name] = s.variable(strings.ToUpper(name))
		}
		return values, nil
	}
	info, err := os.Stat(s.CredentialsFile)
	if err != nil {
		return nil, fmt.Errorf("s3.credentials_file: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("s3.credentials_file: %s can be read by others; its mode must be 0600", s.CredentialsFile)
	}
	text, err := os.ReadFile(s.CredentialsFile)
	if err != nil {
		return nil, fmt.Errorf("s3.credentials_file: %w", err)
	}
	section := "default" // also of a file without sections
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		name, value, ok := strings.Cut(line, "=")
		switch {
		case strings.HasPrefix(line, "["):
			section = strings.TrimSpace(strings.Trim(line, "[]"))
		case ok && section == "default" && !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, ";"):
			values[strings.ToLower(strings.TrimSpace(name))] = strings.TrimSpace(value)
		}
	}
	return values, nil
}

// lookIn returns how a variable is looked up in an environment.
func lookIn(environ []string) func(name string) string {
	return func(name string) string {
		for _, entry := range environ {
			if value, ok := strings.CutPrefix(entry, name+"="); ok {
				return value
			}
		}
		return ""
	}
}

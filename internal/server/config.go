package server

import (
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/go-viper/mapstructure/v2"
	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/v2"
	yamltext "go.yaml.in/yaml/v3"

	"abaca"
	"abaca/internal/db"
	"abaca/internal/trace"
)

// A Secret prints as asterisks, so that it cannot slip into a log or an error.
type Secret string

func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "********"
}

// MarshalYAML hides the secret where the configuration is printed.
func (s Secret) MarshalYAML() (any, error) { return s.String(), nil }

// A DatabaseURL prints without its password.
type DatabaseURL string

func (u DatabaseURL) String() string { return db.Redacted(string(u)) }

// MarshalYAML hides the password where the configuration is printed.
func (u DatabaseURL) MarshalYAML() (any, error) { return u.String(), nil }

// A Config is everything that an operator can decide. Its keys are those of the configuration file.
type Config struct {
	Role          string      `koanf:"role" yaml:"role"` // api, worker or all
	Listen        string      `koanf:"listen" yaml:"listen"`
	DataDir       string      `koanf:"data_dir" yaml:"data_dir"`
	Database      DatabaseURL `koanf:"database" yaml:"database"`               // postgres://…; empty: SQLite in the data directory
	MasterKey     Secret      `koanf:"master_key" yaml:"master_key"`           // 64 hexadecimal digits; empty: kept in the file master.key
	MasterKeyFile string      `koanf:"master_key_file" yaml:"master_key_file"` // empty: master.key in the data directory, made where it is missing
	// A file of keys that are still accepted while the master key is being changed; empty: master_key_file with .previous added.
	MasterKeyPrevious string `koanf:"master_key_previous" yaml:"master_key_previous"`
	ExportHost        string `koanf:"export_host" yaml:"export_host"`
	Host              string `koanf:"host" yaml:"host"` // this worker's name; no other worker on the same database may have it

	Auth struct {
		Strategy         string         `koanf:"strategy" yaml:"strategy"`
		LetAnyoneBeAdmin bool           `koanf:"let_anyone_be_admin" yaml:"let_anyone_be_admin"`
		UsersFile        string         `koanf:"users_file" yaml:"users_file"`   // of strategy local; empty: users.yaml in the data directory
		PolicyFile       string         `koanf:"policy_file" yaml:"policy_file"` // empty: policy.yaml in the data directory, where it exists
		Keystone         KeystoneConfig `koanf:"keystone" yaml:"keystone"`
	} `koanf:"auth" yaml:"auth"`

	TLS struct {
		CertFile string `koanf:"cert_file" yaml:"cert_file"` // PEM, with intermediate certificates; both empty: plain HTTP
		KeyFile  string `koanf:"key_file" yaml:"key_file"`
	} `koanf:"tls" yaml:"tls"`
	TrustProxyHeaders bool     `koanf:"trust_proxy_headers" yaml:"trust_proxy_headers"` // X-Forwarded-Proto and X-Forwarded-Host name us in links
	Repository        string   `koanf:"repository" yaml:"repository"`                   // empty: in the data directory; file:///path, or s3://bucket/prefix
	S3                S3Config `koanf:"s3" yaml:"s3"`

	Backends       []BackendConfig `koanf:"backends" yaml:"backends"` // the first is where shares go by default
	Zone           string          `koanf:"availability_zone" yaml:"availability_zone"`
	DefaultType    string          `koanf:"default_share_type" yaml:"default_share_type"`
	ShareProtocols []string        `koanf:"share_protocols" yaml:"share_protocols"`
	DataProtocols  []string        `koanf:"backup_protocols" yaml:"backup_protocols"` // of which shares may be backed up without backup_options
	Quotas         map[string]int  `koanf:"quotas" yaml:"quotas"`

	Workers struct {
		Trees           int           `koanf:"trees" yaml:"trees"`                         // backups, restores and snapshots at a time
		TreesPerProject int           `koanf:"trees_per_project" yaml:"trees_per_project"` // of them, for one project; 0 for any number; unset: half, with auth.strategy none any
		Others          int           `koanf:"others" yaml:"others"`
		Lease           time.Duration `koanf:"lease" yaml:"lease"`
		Tries           int           `koanf:"tries" yaml:"tries"`
		Backoff         time.Duration `koanf:"backoff" yaml:"backoff"`
	} `koanf:"workers" yaml:"workers"`

	Engine struct {
		Dense      bool          `koanf:"dense" yaml:"dense"`
		Checkpoint time.Duration `koanf:"checkpoint" yaml:"checkpoint"`   // a fifteenth of free_within at most
		FreeWithin time.Duration `koanf:"free_within" yaml:"free_within"` // how long after a deletion at most the space is free that nothing else needs
	} `koanf:"engine" yaml:"engine"`

	Verify struct {
		SharePerDay float64 `koanf:"share_per_day" yaml:"share_per_day"` // of each project's saved data; 0.04 is all of it in 25 days, 0 none
	} `koanf:"verify" yaml:"verify"`

	Metrics struct {
		Listen string `koanf:"listen" yaml:"listen"` // host:port, for /metrics and /healthcheck in the clear; empty: on the API's listener, for this machine alone
	} `koanf:"metrics" yaml:"metrics"`
	Drain time.Duration `koanf:"drain" yaml:"drain"` // how long /healthcheck says DRAINING at the end before requests are refused

	Log struct {
		Level  string `koanf:"level" yaml:"level"`
		Format string `koanf:"format" yaml:"format"`
		Audit  string `koanf:"audit" yaml:"audit"` // a file, stderr or off; empty: audit.log in the data directory
	} `koanf:"log" yaml:"log"`
	traces bool // whether OTEL_* variables ask for traces

	keepsPrevious bool // whether an operator looks after the file of previous keys
}

// A BackendConfig describes one back end.
type BackendConfig struct {
	Name   string `koanf:"name" yaml:"name"`
	Driver string `koanf:"driver" yaml:"driver"`
	Path   string `koanf:"path" yaml:"path"`
}

// defaults is the configuration of somebody who has none. An empty host, back end list or export host is filled in later.
func defaults() map[string]any {
	quotas := map[string]any{}
	for r, limit := range abaca.DefaultLimits {
		quotas[string(r)] = limit
	}
	return map[string]any{
		"role": roleAll, "listen": "127.0.0.1:8786", "data_dir": "abaca-data", "database": "", "master_key": "", "master_key_file": "", "master_key_previous": "",
		"export_host": "127.0.0.1", "host": "",
		"auth.strategy": "none", "auth.let_anyone_be_admin": false, "auth.users_file": "", "auth.policy_file": "",
		"auth.keystone": keystoneDefaults,
		"tls.cert_file": "", "tls.key_file": "", "trust_proxy_headers": false,
		"repository": "", "s3.endpoint": "", "s3.region": "", "s3.ca_file": "", "s3.credentials_file": "", "s3.plain_http": false,
		"backends": []any{}, "availability_zone": "nova", "default_share_type": "default",
		"share_protocols": []any{"NFS", "CIFS", "CEPHFS"}, "backup_protocols": []any{"NFS", "CEPHFS"}, "quotas": quotas,
		"workers.trees": 2, "workers.others": 4, "workers.lease": "30s", "workers.tries": 3, "workers.backoff": "2s",
		"engine.dense": false, "engine.checkpoint": "5m", "engine.free_within": "24h",
		"verify.share_per_day": 0.04,
		"metrics.listen":       "", "drain": "0s",
		"log.level": "info", "log.format": "text", "log.audit": "",
	}
}

// clientVariables are ABACA_* variables of the client commands, which the server leaves alone.
var clientVariables = []string{"ABACA_ENDPOINT", "ABACA_TOKEN"}

// Load puts together the configuration: the defaults, then the file if one is named, then ABACA_* variables (ABACA_AUTH_STRATEGY
// for auth.strategy; lists and maps as YAML), then settings given on the command line. Unknown keys are errors.
func Load(path string, environ []string, settings map[string]any) (Config, error) {
	k := koanf.New(".")
	if err := k.Load(confmap.Provider(defaults(), "."), nil); err != nil {
		return Config{}, err
	}
	variables, secrets := map[string]string{}, secretKeys("", reflect.TypeFor[Config]())
	for _, key := range append(k.Keys(), "quotas", "workers.trees_per_project") {
		variables["ABACA_"+strings.ToUpper(strings.ReplaceAll(key, ".", "_"))] = key
	}
	if path != "" {
		if err := k.Load(file.Provider(path), yaml.Parser()); err != nil {
			return Config{}, fmt.Errorf("configuration file %s: %s", path, oneLine(err))
		}
	}
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, "ABACA_") || slices.Contains(clientVariables, name) {
			continue
		}
		key, known := variables[name]
		if !known {
			return Config{}, fmt.Errorf("the environment variable %s names no setting", name)
		}
		var v any = value
		if !secrets[key] {
			if err := yamltext.Unmarshal([]byte(value), &v); err != nil {
				return Config{}, fmt.Errorf("the environment variable %s is not YAML", name)
			}
		}
		if err := k.Load(confmap.Provider(map[string]any{key: v}, "."), nil); err != nil {
			return Config{}, err
		}
	}
	if err := k.Load(confmap.Provider(settings, "."), nil); err != nil {
		return Config{}, err
	}
	var c Config
	err := k.UnmarshalWithConf("", &c, koanf.UnmarshalConf{DecoderConfig: &mapstructure.DecoderConfig{
		Result: &c, ErrorUnused: true, WeaklyTypedInput: false, TagName: "koanf",
		DecodeHook: mapstructure.ComposeDecodeHookFunc(mapstructure.StringToTimeDurationHookFunc(), textOnly),
	}})
	if err != nil {
		return Config{}, fmt.Errorf("configuration: %s", oneLine(err))
	}
	c.S3.variable = lookIn(environ)
	if !k.Exists("workers.trees_per_project") && c.Auth.Strategy != "none" { // without authentication there is one project to speak of
		c.Workers.TreesPerProject = (c.Workers.Trees + 1) / 2 // so that what one project waits for never fills all places
	}
	if err := c.complete(); err != nil {
		return Config{}, fmt.Errorf("configuration: %s", oneLine(err))
	}
	if c.traces, err = trace.Wanted(lookup(environ)); err != nil {
		return Config{}, err
	}
	return c, nil
}

// secretKeys returns the settings that hold secrets. Their variables are taken as they stand: a password may look like anything.
func secretKeys(prefix string, t reflect.Type) map[string]bool {
	keys := map[string]bool{}
	for _, f := range reflect.VisibleFields(t) {
		switch key := prefix + f.Tag.Get("koanf"); {
		case f.Type == reflect.TypeFor[Secret](), f.Type == reflect.TypeFor[DatabaseURL]():
			keys[key] = true
		case f.Type.Kind() == reflect.Struct:
			maps.Copy(keys, secretKeys(key+".", f.Type))
		}
	}
	return keys
}

// textOnly refuses a secret that YAML takes for a number or more, whose value an error would show.
func textOnly(from, to reflect.Type, value any) (any, error) {
	if (to == reflect.TypeFor[Secret]() || to == reflect.TypeFor[DatabaseURL]()) && from.Kind() != reflect.String {
		return nil, errors.New("a secret has to be text, so it may need quotes")
	}
	return value, nil
}

// oneLine folds the lists that parsers make of their errors.
func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

// complete fills in what depends on the machine or on other settings, and checks the whole.
func (c *Config) complete() (err error) {
	if c.DataDir, err = filepath.Abs(c.DataDir); err != nil {
		return err
	}
	if err := c.checkRole(); err != nil {
		return err
	}
	if c.MasterKeyFile == "" && c.MasterKey == "" && c.works() {
		c.MasterKeyFile = filepath.Join(c.DataDir, "master.key")
	}
	c.keepsPrevious = c.MasterKeyPrevious != ""
	if c.MasterKeyPrevious == "" && c.MasterKeyFile != "" {
		c.MasterKeyPrevious = c.MasterKeyFile + ".previous"
	}
	switch c.Log.Audit {
	case auditOff, auditStderr:
	case "":
		c.Log.Audit = filepath.Join(c.DataDir, auditName)
	default:
		if c.Log.Audit, err = filepath.Abs(c.Log.Audit); err != nil {
			return err
		}
	}
	if c.Auth.UsersFile == "" {
		c.Auth.UsersFile = filepath.Join(c.DataDir, "users.yaml")
	}
	if c.Auth.UsersFile, err = filepath.Abs(c.Auth.UsersFile); err != nil {
		return err
	}
	if c.Auth.PolicyFile != "" {
		if c.Auth.PolicyFile, err = filepath.Abs(c.Auth.PolicyFile); err != nil {
			return err
		}
	}
	if c.Host == "" {
		if c.Host, err = os.Hostname(); err != nil {
			return fmt.Errorf("host: %w", err)
		}
	}
	if len(c.Backends) == 0 && c.works() {
		c.Backends = []BackendConfig{{Name: "local", Driver: "directory", Path: filepath.Join(c.DataDir, "shares")}}
	}
	return errors.Join(c.checkListen(), c.checkDatabase(), c.checkAuth(), c.checkTLS(), c.checkMetrics(), c.checkRepository(), c.checkBackends(),
		c.checkWorkers(), c.checkEngine(), c.checkVerify(), c.checkQuotas(), c.checkKey(), c.checkLog())
}

// checkListen refuses to let everybody on a network be an administrator unless the configuration says so in plain words.
func (c *Config) checkListen() error {
	host, err := hostOf(c.Listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	if c.Auth.Strategy == "none" && !isLoopback(host) && !c.Auth.LetAnyoneBeAdmin {
		return fmt.Errorf("listen: %s can be reached from other machines, and with auth.strategy none whoever reaches it is an administrator; "+
			"auth.let_anyone_be_admin: true allows that", c.Listen)
	}
	return nil
}

// onLoopback reports whether this machine alone can reach the server.
func (c *Config) onLoopback() bool {
	host, _, _ := net.SplitHostPort(c.Listen) // which has been checked
	return isLoopback(host)
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

var backendName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

func (c *Config) checkBackends() error {
	paths := map[string]string{}
	for i, b := range c.Backends {
		switch abs, err := filepath.Abs(b.Path); {
		case err != nil:
			return fmt.Errorf("backends: %w", err)
		case !backendName.MatchString(b.Name):
			return fmt.Errorf("backends: %q is not a name of letters, digits, dots, hyphens and underscores", b.Name)
		case b.Driver != "directory" && b.Driver != "btrfs":
			return fmt.Errorf("backends: %s: %q is not a driver; there are directory and btrfs", b.Name, b.Driver)
		case b.Path == "":
			return fmt.Errorf("backends: %s: a path is needed", b.Name)
		default:
			c.Backends[i].Path = abs
			for path, name := range paths {
				if name == b.Name {
					return fmt.Errorf("backends: there are two named %s", name)
				}
				if strings.HasPrefix(path+"/", abs+"/") || strings.HasPrefix(abs+"/", path+"/") {
					return fmt.Errorf("backends: the paths of %s and %s overlap", name, b.Name)
				}
			}
			paths[abs] = b.Name
		}
	}
	return nil
}

func (c *Config) checkWorkers() error {
	w := c.Workers
	if w.Trees < 1 || w.Others < 1 || w.Tries < 1 {
		return errors.New("workers: trees, others and tries must be 1 at least")
	}
	if w.TreesPerProject < 0 {
		return errors.New("workers: trees_per_project must not be negative")
	}
	if w.Lease < 4*time.Second || w.Backoff < 0 {
		return errors.New("workers: the lease must be 4s at least, and the backoff not negative")
	}
	return nil
}

func (c *Config) checkEngine() error {
	if within := c.Engine.FreeWithin; within < time.Minute || within > 30*24*time.Hour {
		return fmt.Errorf("engine.free_within: %v is not from 1m to 720h", within)
	}
	return nil
}

func (c *Config) checkVerify() error {
	if share := c.Verify.SharePerDay; !(share >= 0 && share <= 1) { // which NaN is not either
		return fmt.Errorf("verify.share_per_day: %v is not from 0 to 1", share)
	}
	return nil
}

func (c *Config) checkQuotas() error {
	for name, limit := range c.Quotas {
		if _, known := abaca.DefaultLimits[abaca.Resource(name)]; !known || limit < abaca.Unlimited {
			return fmt.Errorf("quotas: %s: %d is not a limit that can be set", name, limit)
		}
	}
	return nil
}

func (c *Config) checkLog() error {
	if _, err := c.level(); err != nil {
		return fmt.Errorf("log.level: %q is not debug, info, warn or error", c.Log.Level)
	}
	if c.Log.Format != "text" && c.Log.Format != "json" {
		return fmt.Errorf("log.format: %q is not text or json", c.Log.Format)
	}
	return nil
}

func (c *Config) checkKey() error {
	if c.MasterKey == "" {
		return nil
	}
	if c.MasterKeyFile != "" {
		return errors.New("master_key and master_key_file exclude each other")
	}
	_, err := parseKey(string(c.MasterKey))
	return err
}

func parseKey(text string) ([]byte, error) {
	key, err := hex.DecodeString(strings.TrimSpace(text))
	if err != nil || len(key) != keyLength {
		return nil, fmt.Errorf("the master key is not %d hexadecimal digits", 2*keyLength)
	}
	return key, nil
}

func (c *Config) checkDatabase() error {
	if c.Database == "" {
		return nil
	}
	if err := db.CheckURL(string(c.Database)); err != nil {
		return fmt.Errorf("database: %w", err)
	}
	return nil
}

// database is where the rows are, as package db takes it.
func (c *Config) database() string {
	if c.Database != "" {
		return string(c.Database)
	}
	return filepath.Join(c.DataDir, databaseName)
}

package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/config"
	"github.com/gophercloud/gophercloud/v2/openstack/config/clouds"
)

// DefaultEndpoint is where "abaca serve" listens unless it is told otherwise.
const DefaultEndpoint = "http://127.0.0.1:8786/v2"

// Options say which server to talk to. There is no field for a secret: those come from the environment or from
// clouds.yaml, never from a command line, which every user of a machine can read.
type Options struct {
	// Endpoint is the server's URL with or without its "/v2"; when it is set, Keystone is not asked.
	Endpoint string
	// Cloud is the name of an entry of clouds.yaml.
	Cloud string
	// Getenv reads the environment; os.Getenv when nil.
	Getenv func(string) string
}

// Connect finds the server, gets a token where one is needed and agrees on a microversion.
// What names the server is looked for in this order: Options.Endpoint, ABACA_ENDPOINT, OS_ENDPOINT with an OS_AUTH_TYPE
// that needs no Keystone, Options.Cloud, OS_CLOUD, OS_AUTH_URL, DefaultEndpoint.
func Connect(ctx context.Context, o Options) (*Client, error) {
	env := environment(o.Getenv)
	if env == nil {
		env = os.Getenv
	}
	service, err := o.service(ctx, env)
	if err != nil {
		return nil, err
	}
	c := &Client{service: service}
	if err := c.negotiate(ctx); err != nil {
		return nil, fmt.Errorf("asking %s for its API version: %w", service.Endpoint, err)
	}
	return c, nil
}

func (o Options) service(ctx context.Context, env environment) (*gophercloud.ServiceClient, error) {
	endpoint := env.first("OS_SHARED_FILE_SYSTEM_ENDPOINT_OVERRIDE", "OS_ENDPOINT_OVERRIDE")
	cloud := o.Cloud
	if cloud == "" {
		cloud = env("OS_CLOUD")
	}
	switch {
	case o.Endpoint != "":
		return direct(o.Endpoint, env)
	case env("ABACA_ENDPOINT") != "":
		return direct(env("ABACA_ENDPOINT"), env)
	case env.withoutKeystone() && o.Cloud == "":
		return direct(env("OS_ENDPOINT"), env)
	case cloud != "":
		auth, where, tlsConfig, err := clouds.Parse(clouds.WithCloudName(cloud))
		if err != nil {
			return nil, fmt.Errorf("reading clouds.yaml: %w", err)
		}
		return keystone(ctx, auth, where, tlsConfig, endpoint)
	case env("OS_AUTH_URL") != "":
		tlsConfig, err := env.tls()
		if err != nil {
			return nil, err
		}
		return keystone(ctx, env.auth(), env.where(), tlsConfig, endpoint)
	default:
		return direct(DefaultEndpoint, env)
	}
}

// anyToken is sent where nobody gave one: servers without authentication take any, but want to see one.
const anyToken = "none"

// direct is a service without Keystone: the token is sent as it stands.
func direct(endpoint string, env environment) (*gophercloud.ServiceClient, error) {
	root, err := serviceRoot(endpoint)
	if err != nil {
		return nil, err
	}
	tlsConfig, err := env.tls()
	if err != nil {
		return nil, err
	}
	provider := &gophercloud.ProviderClient{HTTPClient: httpClient(tlsConfig)}
	token := env.first("ABACA_TOKEN", "OS_TOKEN")
	if token == "" {
		token = anyToken
	}
	provider.SetToken(token)
	return &gophercloud.ServiceClient{ProviderClient: provider, Endpoint: root, Type: "shared-file-system"}, nil
}

// keystone logs in and finds the service in the catalog, unless an endpoint overrides what the catalog says.
func keystone(ctx context.Context, auth gophercloud.AuthOptions, where gophercloud.EndpointOpts, tlsConfig *tls.Config,
	endpoint string) (*gophercloud.ServiceClient, error) {
	auth.AllowReauth = auth.TokenID == "" // a wait may outlast a token
	provider, err := config.NewProviderClient(ctx, auth, config.WithHTTPClient(httpClient(tlsConfig)))
	if err != nil {
		return nil, fmt.Errorf("logging in at %s: %w", auth.IdentityEndpoint, fault(err))
	}
	if endpoint != "" {
		root, err := serviceRoot(endpoint)
		if err != nil {
			return nil, err
		}
		return &gophercloud.ServiceClient{ProviderClient: provider, Endpoint: root, Type: "shared-file-system"}, nil
	}
	service, err := openstack.NewSharedFileSystemV2(provider, where)
	if err != nil {
		return nil, fmt.Errorf("finding the shared file system service in the catalog: %w", err)
	}
	return service, nil
}

// httpClient follows no redirect to another host: it would be given the token.
func httpClient(tlsConfig *tls.Config) http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = tlsConfig
	return http.Client{
		Transport: transport,
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if r.URL.Host != via[0].URL.Host || len(via) > 3 {
				return http.ErrUseLastResponse
			}
			return nil
		},
	}
}

// serviceRoot returns the endpoint with its "/v2", which people leave out, and a closing slash, which gophercloud wants.
func serviceRoot(endpoint string) (string, error) {
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return "", fmt.Errorf("endpoint %q is not an http or https URL", endpoint)
	}
	if p := strings.Trim(u.Path, "/"); p == "" {
		u.Path = "/v2"
	}
	return strings.TrimRight(u.String(), "/") + "/", nil
}

// An environment holds the OS_* variables. gophercloud's own reader knows neither user and project domains
// nor tokens, which every openrc file has, so they are read here.
type environment func(string) string

func (env environment) first(names ...string) string {
	for _, name := range names {
		if v := env(name); v != "" {
			return v
		}
	}
	return ""
}

func (env environment) withoutKeystone() bool {
	switch env("OS_AUTH_TYPE") {
	case "none", "noauth", "admin_token":
		return env("OS_ENDPOINT") != ""
	}
	return false
}

func (env environment) auth() gophercloud.AuthOptions {
	auth := gophercloud.AuthOptions{
		IdentityEndpoint:            env("OS_AUTH_URL"),
		UserID:                      env.first("OS_USER_ID", "OS_USERID"),
		Username:                    env("OS_USERNAME"),
		Password:                    env("OS_PASSWORD"),
		Passcode:                    env("OS_PASSCODE"),
		DomainID:                    env.first("OS_USER_DOMAIN_ID", "OS_DOMAIN_ID"),
		DomainName:                  env.first("OS_USER_DOMAIN_NAME", "OS_DOMAIN_NAME"),
		ApplicationCredentialID:     env("OS_APPLICATION_CREDENTIAL_ID"),
		ApplicationCredentialName:   env("OS_APPLICATION_CREDENTIAL_NAME"),
		ApplicationCredentialSecret: env("OS_APPLICATION_CREDENTIAL_SECRET"),
	}
	if auth.DomainID != "" || auth.UserID != "" {
		auth.DomainName = "" // Keystone takes one of the two, and none beside a user's id
	}
	if auth.Password == "" && auth.ApplicationCredentialSecret == "" {
		auth.TokenID = env("OS_TOKEN")
	}
	auth.Scope = env.scope()
	return auth
}

// scope returns nil for an application credential, which carries its own project.
func (env environment) scope() *gophercloud.AuthScope {
	if env.first("OS_APPLICATION_CREDENTIAL_ID", "OS_APPLICATION_CREDENTIAL_NAME") != "" {
		return nil
	}
	if id := env.first("OS_PROJECT_ID", "OS_TENANT_ID"); id != "" {
		return &gophercloud.AuthScope{ProjectID: id}
	}
	if name := env.first("OS_PROJECT_NAME", "OS_TENANT_NAME"); name != "" {
		scope := &gophercloud.AuthScope{ProjectName: name, DomainID: env.first("OS_PROJECT_DOMAIN_ID", "OS_DOMAIN_ID")}
		if scope.DomainID == "" {
			scope.DomainName = env.first("OS_PROJECT_DOMAIN_NAME", "OS_DOMAIN_NAME")
		}
		return scope
	}
	if env("OS_SYSTEM_SCOPE") == "all" {
		return &gophercloud.AuthScope{System: true}
	}
	return nil
}

func (env environment) where() gophercloud.EndpointOpts {
	where := gophercloud.EndpointOpts{Region: env("OS_REGION_NAME"), Availability: gophercloud.AvailabilityPublic}
	switch strings.TrimSuffix(env.first("OS_INTERFACE", "OS_ENDPOINT_TYPE"), "URL") {
	case "internal":
		where.Availability = gophercloud.AvailabilityInternal
	case "admin":
		where.Availability = gophercloud.AvailabilityAdmin
	}
	return where
}

// tls returns nil where the system's certificates are good enough.
func (env environment) tls() (*tls.Config, error) {
	insecure, _ := strconv.ParseBool(env("OS_INSECURE"))
	file := env("OS_CACERT")
	if !insecure && file == "" {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: insecure} //nolint:gosec // G402: only where OS_INSECURE asks for it
	if file != "" {
		pem, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("reading the certificates of OS_CACERT: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, errors.New("the file of OS_CACERT holds no certificate")
		}
	}
	return c, nil
}

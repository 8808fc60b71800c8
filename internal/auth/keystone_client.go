package auth

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"
)

// A Login is the server's own account at Keystone: a user with a password and a project, or an application credential.
type Login struct {
	Username, UserDomainID, UserDomainName          string
	ProjectName, ProjectDomainID, ProjectDomainName string
	CredentialID                                    string
	Secret                                          func() (string, error) // the password or the credential's secret, read for each login
}

func (l Login) options(secret string) *gophercloud.AuthOptions {
	if l.CredentialID != "" {
		return &gophercloud.AuthOptions{ApplicationCredentialID: l.CredentialID, ApplicationCredentialSecret: secret}
	}
	return &gophercloud.AuthOptions{
		Username: l.Username, Password: secret, DomainID: l.UserDomainID, DomainName: l.UserDomainName,
		Scope: &gophercloud.AuthScope{ProjectName: l.ProjectName, DomainID: l.ProjectDomainID, DomainName: l.ProjectDomainName},
	}
}

// identity asks Keystone. Its token is renewed when Keystone does not take it any more, by one of those who notice.
type identity struct {
	login   Login
	service *gophercloud.ServiceClient // with the server's token
	nobody  *gophercloud.ServiceClient // without; for getting one
	now     func() time.Time

	mu     sync.Mutex
	failed error // why the last login was refused
	again  time.Time
}

// pause is how long after a refused login no other is tried: many wrong passwords in a row lock an account.
const pause = 5 * time.Second

// longestAnswer bounds what is read of an answer, in bytes. A token's roles are few, and the catalog is not asked for.
const longestAnswer = 1 << 20

func newIdentity(c KeystoneConfig) (*identity, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	transport.MaxIdleConnsPerHost = atATime
	if c.Roots != nil {
		transport.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(c.Roots) {
			return nil, errors.New("there is no certificate among those to trust Keystone by")
		}
	}
	client := http.Client{
		Transport:     short{transport},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // others must not see tokens
	}
	base := strings.TrimSuffix(strings.TrimRight(c.URL, "/"), "/v3") + "/v3/"
	provider := func() *gophercloud.ServiceClient {
		p := &gophercloud.ProviderClient{HTTPClient: client}
		p.UserAgent.Prepend("abaca")
		p.UseTokenLock()
		return &gophercloud.ServiceClient{ProviderClient: p, Endpoint: base, Type: "identity"}
	}
	i := &identity{login: c.Login, service: provider(), nobody: provider(), now: c.Now}
	i.service.ReauthFunc = i.renew
	return i, nil
}

// short cuts answers off that no Keystone gives.
type short struct{ http.RoundTripper }

func (s short) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := s.RoundTripper.RoundTrip(r)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, longestAnswer), resp.Body}
	}
	return resp, err
}

func (i *identity) logIn(ctx context.Context) error {
	return explain(i.service.Reauthenticate(ctx, ""))
}

// renew gets a new token; gophercloud calls it once for all who need one.
func (i *identity) renew(ctx context.Context) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.now().Before(i.again) {
		return i.failed
	}
	secret, err := i.login.Secret()
	if err == nil {
		err = i.service.SetTokenAndAuthResult(tokens.Create(ctx, i.nobody, i.login.options(secret)))
	}
	if err == nil {
		return nil
	}
	code, refused := errors.AsType[gophercloud.ErrUnexpectedResponseCode](err)
	err = fmt.Errorf("logging in with the server's own credentials: %w", explain(err))
	if refused && code.Actual < http.StatusInternalServerError {
		i.failed, i.again = err, i.now().Add(pause)
	}
	return err
}

// A description is what Keystone says of a token.
type description struct {
	Expires time.Time `json:"expires_at"`
	User    struct {
		ID string `json:"id"`
	} `json:"user"`
	Project struct {
		ID string `json:"id"`
	} `json:"project"`
	Roles []struct {
		Name string `json:"name"`
	} `json:"roles"`
}

// errNoSuchToken says that Keystone has been asked and does not know the token, or not any more.
var errNoSuchToken = errors.New("Keystone does not know the token")

// validate returns what Keystone says of a token: errNoSuchToken where it has no good word for it, and any other error where
// it could not be asked.
func (i *identity) validate(ctx context.Context, token string) (description, error) {
	var result tokens.GetResult
	_, err := i.service.Get(ctx, i.service.ServiceURL("auth", "tokens")+"?nocatalog", &result.Body, &gophercloud.RequestOpts{
		MoreHeaders: map[string]string{"X-Subject-Token": token}, OkCodes: []int{http.StatusOK, http.StatusNonAuthoritativeInfo},
	})
	if code, ok := errors.AsType[gophercloud.ErrUnexpectedResponseCode](err); ok && code.Actual == http.StatusNotFound && keystones(code.Body) != "" {
		return description{}, errNoSuchToken
	}
	if err != nil {
		return description{}, explain(err)
	}
	var d description
	if err := result.ExtractInto(&d); err != nil || d.User.ID == "" || d.Expires.IsZero() {
		return description{}, errors.New("the answer does not describe a token")
	}
	return d, nil
}

// keystones returns the message of an error of Keystone's; a proxy in front of it words its own differently.
func keystones(body []byte) string {
	var answer struct {
		Error struct {
			Code    int    `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	}
	if json.NewDecoder(bytes.NewReader(body)).Decode(&answer) != nil || answer.Error.Code == 0 {
		return ""
	}
	return answer.Error.Message
}

// explain makes one line of an error for the log. Bodies that are not Keystone's are left out: whoever wrote them may have
// repeated what was sent.
func explain(err error) error {
	if e, ok := errors.AsType[*gophercloud.ErrUnableToReauthenticate](err); ok {
		return e.ErrReauth
	}
	if e, ok := errors.AsType[*gophercloud.ErrErrorAfterReauthentication](err); ok {
		err = e.ErrOriginal
	}
	code, ok := errors.AsType[gophercloud.ErrUnexpectedResponseCode](err)
	if !ok {
		return err
	}
	path := code.URL
	if u, err := url.Parse(code.URL); err == nil {
		path = u.Path
	}
	return fmt.Errorf("%s %s is answered with %d: %.300q", code.Method, path, code.Actual, keystones(code.Body))
}

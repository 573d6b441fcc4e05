package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/remotes/docker/auth"
	"github.com/docker/docker/api/types/registry"
)

// tokenLife is taken for a token that does not say how long it lives; the token specification's default.
const tokenLife = 60 * time.Second

var errNoBasicAuth = errors.New("no basic auth credentials")

// authorizer answers a registry's challenges with one user's credentials, for its scopes. Credentials go to the
// registry itself (basic) and to the token server its challenge names (bearer), nowhere else.
type authorizer struct {
	client *http.Client
	creds  registry.AuthConfig
	scope  []string // "repository:library/busybox:pull"; empty: what the registry names, as login wants
	agent  string

	mu        sync.Mutex
	challenge *auth.Challenge // nil: the registry wants nothing
	token     string
	expires   time.Time
	// refresh is the identity token a login got.
	refresh string
	offline bool
}

// challenged takes the challenges of a 401 answer. It tells whether there is one that can be answered now and could
// not before, so that trying again makes sense.
func (a *authorizer) challenged(resp *http.Response) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range auth.ParseAuthHeader(resp.Header) {
		if c.Scheme != auth.BearerAuth && c.Scheme != auth.BasicAuth {
			continue
		}
		again := a.challenge == nil || a.challenge.Scheme != c.Scheme || c.Scheme == auth.BearerAuth
		a.challenge, a.token = &c, ""
		return again
	}
	return false
}

// authorize adds what the registry wants to a request.
func (a *authorizer) authorize(req *http.Request) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.challenge == nil:
		return nil
	case a.challenge.Scheme == auth.BasicAuth:
		if a.creds.Username == "" || a.creds.Password == "" {
			return errNoBasicAuth
		}
		req.SetBasicAuth(a.creds.Username, a.creds.Password)
		return nil
	case a.creds.RegistryToken != "":
		req.Header.Set("Authorization", "Bearer "+a.creds.RegistryToken)
		return nil
	}
	if a.token == "" || time.Now().After(a.expires) {
		if err := a.fetchLocked(req.Context()); err != nil {
			return err
		}
	}
	req.Header.Set("Authorization", "Bearer "+a.token)
	return nil
}

// with is an authorizer for one more scope.
func (a *authorizer) with(scope string) *authorizer {
	a.mu.Lock()
	defer a.mu.Unlock()
	return &authorizer{client: a.client, creds: a.creds, agent: a.agent, challenge: a.challenge, scope: append(slices.Clone(a.scope), scope)}
}

// tokenAnswer is the token server's, of both its protocols.
type tokenAnswer struct {
	Token        string `json:"token"`
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
	ExpiresIn    int    `json:"expires_in"`
}

func (a *authorizer) fetchLocked(ctx context.Context) error {
	req, err := a.tokenRequest(ctx)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", a.agent)
	resp, err := a.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return answerError(resp) // about the request that needs the token: the error will name that one
	}
	var t tokenAnswer
	if err := json.NewDecoder(limited(resp.Body)).Decode(&t); err != nil {
		return fmt.Errorf("unable to decode token response: %w", err)
	}
	if a.token = t.Token; a.token == "" {
		a.token = t.AccessToken
	}
	if a.token == "" {
		return errors.New("authorization server did not include a token in the response")
	}
	life := time.Duration(t.ExpiresIn) * time.Second
	a.expires = time.Now().Add(max(life, tokenLife) - tokenLife/6)
	a.refresh = t.RefreshToken
	return nil
}

// tokenRequest asks with the identity token by POST, as OAuth2 has it, and with a user's password (or nobody's) by GET.
func (a *authorizer) tokenRequest(ctx context.Context) (*http.Request, error) {
	realm, err := url.Parse(a.challenge.Parameters["realm"])
	if err != nil || realm.Host == "" || (realm.Scheme != "http" && realm.Scheme != "https") {
		return nil, fmt.Errorf("invalid token auth challenge realm: %q", a.challenge.Parameters["realm"])
	}
	q := realm.Query()
	q.Set("service", a.challenge.Parameters["service"])
	for _, s := range a.scopes() {
		q.Add("scope", s)
	}
	if a.creds.IdentityToken != "" {
		return oauthRequest(ctx, realm, q, a.creds.IdentityToken)
	}
	if a.creds.Username != "" {
		q.Set("account", a.creds.Username)
	}
	if a.offline {
		q.Set("offline_token", "true")
		q.Set("client_id", "docker")
	}
	realm.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, realm.String(), http.NoBody)
	if err == nil && a.creds.Username != "" {
		req.SetBasicAuth(a.creds.Username, a.creds.Password)
	}
	return req, err
}

func (a *authorizer) scopes() []string {
	if len(a.scope) > 0 {
		return a.scope
	}
	return strings.Fields(a.challenge.Parameters["scope"])
}

func oauthRequest(ctx context.Context, realm *url.URL, q url.Values, identity string) (*http.Request, error) {
	q.Set("scope", strings.Join(q["scope"], " "))
	q.Set("grant_type", "refresh_token")
	q.Set("refresh_token", identity)
	q.Set("client_id", "docker")
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, realm.String(), strings.NewReader(q.Encode()))
	if err == nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return req, err
}

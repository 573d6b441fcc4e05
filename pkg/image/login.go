package image

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/registry"
)

// Login checks credentials with the registry they are for and returns the identity token it gave, if any. What a token
// server refused is of class errdefs.ErrUnauthenticated; a registry's own refusal has no class, as Docker has none for it.
// Nothing is kept.
func (s *Store) Login(ctx context.Context, creds *registry.AuthConfig) (token string, err error) {
	domain, err := loginDomain(creds.ServerAddress)
	if err != nil {
		return "", err
	}
	all, err := s.endpoints(ctx, domain)
	if err != nil {
		return "", err
	}
	for _, e := range all {
		if e.mirror {
			continue
		}
		token, err = s.loginAt(ctx, e, creds)
		if err == nil || final(err) || gaveUp(ctx, err) {
			break // a registry that answered is not asked again in plain http
		}
	}
	return token, err
}

// loginDomain is the registry's name in an address as docker login sends it.
func loginDomain(address string) (string, error) {
	if address == "" {
		return hubDomain, nil
	}
	if !strings.Contains(address, "://") {
		address = "https://" + address
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return "", errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("unable to parse server address: %q", address))
	}
	return u.Host, nil
}

func (s *Store) loginAt(ctx context.Context, e *endpoint, creds *registry.AuthConfig) (string, error) {
	name, err := reference.WithName("login/login") // no repository is touched
	if err != nil {
		return "", err
	}
	r := s.repository(e, name, creds, "")
	defer r.Close()
	r.auth.scope, r.auth.offline = nil, true
	if err := r.ping(ctx); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.base.String()+"/v2/", http.NoBody)
	if err != nil {
		return "", err
	}
	resp, err := r.do(req)
	if err != nil {
		return "", loginError(err)
	}
	defer drain(resp)
	if resp.StatusCode != http.StatusOK {
		return "", &statusError{resp.StatusCode, fmt.Sprintf("login attempt to %s failed with status: %s", req.URL, resp.Status)}
	}
	return r.auth.refresh, nil
}

func loginError(err error) error {
	if said := (*registryError)(nil); errors.As(err, &said) && said.Code == codeUnauthorized {
		return &classed{err, errdefs.ErrUnauthenticated}
	}
	return err
}

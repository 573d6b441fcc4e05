package image_test

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/registry"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/nereid-paas/nereid/pkg/image"
	"github.com/nereid-paas/nereid/pkg/image/imagetest"
)

func TestPullWithBasicAuth(t *testing.T) {
	cases := []struct {
		name string
		auth *registry.AuthConfig
		err  string
	}{
		{"right", &registry.AuthConfig{Username: "ann", Password: "secret"}, ""},
		{"wrong", &registry.AuthConfig{Username: "ann", Password: "guess"}, "unauthorized: authentication required"},
		{"none", nil, `Head "http://HOST/v2/app/manifests/latest": no basic auth credentials`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			ref := r.pushed("app", twoLayers(t))
			r.registry.RequireBasic("ann", "secret")
			r.auth = c.auth
			_, err := r.pull(ref)
			if c.err == "" {
				assert.NilError(t, err)
				return
			}
			assert.Error(t, err, strings.ReplaceAll(c.err, "HOST", r.registry.Host()))
			assert.Equal(t, len(r.lines()), 0)
			assert.Equal(t, r.leases(), 0)
		})
	}
}

func TestPullWithToken(t *testing.T) {
	cases := []struct {
		name  string
		repo  string
		auth  *registry.AuthConfig
		asked string
		err   string
		class func(error) bool
	}{
		{name: "password", repo: "app", auth: &registry.AuthConfig{Username: "ann", Password: "secret"},
			asked: "GET account=ann&scope=repository%3Aapp%3Apull&service=test"},
		{name: "identity token", repo: "app", auth: &registry.AuthConfig{IdentityToken: "me"},
			asked: "POST client_id=docker&grant_type=refresh_token&refresh_token=me&scope=repository%3Aapp%3Apull&service=test"},
		{name: "registry token", repo: "app", auth: &registry.AuthConfig{RegistryToken: "given"}},
		{name: "public", repo: "public", asked: "GET scope=repository%3Apublic%3Apull&service=test"},
		{name: "nobody", repo: "app", class: errdefs.IsNotFound,
			asked: "GET scope=repository%3Aapp%3Apull&service=test",
			err:   "pull access denied for HOST/app, repository does not exist or may require 'docker login': denied: requested access to the resource is denied"},
		{name: "wrong password", repo: "app", auth: &registry.AuthConfig{Username: "ann", Password: "guess"},
			asked: "GET account=ann&scope=repository%3Aapp%3Apull&service=test",
			err:   "unauthorized: incorrect username or password"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			ref := r.pushed(c.repo, twoLayers(t))
			tokens := &imagetest.TokenServer{User: "ann", Password: "secret", Identity: "me", Public: "public"}
			r.registry.RequireToken(t, tokens)
			r.auth = c.auth
			_, err := r.pull(ref)
			if c.asked != "" {
				assert.Equal(t, tokens.Asked[0], c.asked)
			} else {
				assert.Equal(t, len(tokens.Asked), 0)
			}
			if c.err == "" {
				assert.NilError(t, err)
				assert.Check(t, len(tokens.Asked) <= 1, "one token does for all: %v", tokens.Asked)
				return
			}
			assert.ErrorContains(t, err, strings.ReplaceAll(c.err, "HOST", r.registry.Host()))
			if c.class != nil {
				assert.Check(t, c.class(err), "%v", err)
			}
		})
	}
}

// Credentials must not follow a redirect to where blobs are stored.
func TestRedirectedBlobsGetNoCredentials(t *testing.T) {
	r := newRig(t)
	img := twoLayers(t)
	ref := r.pushed("app", img)
	seen := make(chan string, 8)
	store := imagetest.NewRegistry(t)
	imagetest.Push(t, store.Host()+"/app", img)
	store.Intercept(func(w http.ResponseWriter, req *http.Request, next http.Handler) {
		seen <- req.Header.Get("Authorization")
		next.ServeHTTP(w, req)
	})
	r.registry.Intercept(func(w http.ResponseWriter, req *http.Request, next http.Handler) {
		if _, _, ok := req.BasicAuth(); !ok {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if strings.Contains(req.URL.Path, "/blobs/") {
			// Another name for the same machine: another host, as far as credentials go.
			http.Redirect(w, req, strings.Replace(store.URL, "127.0.0.1", "localhost", 1)+req.URL.Path, http.StatusTemporaryRedirect)
			return
		}
		next.ServeHTTP(w, req)
	})
	r.auth = &registry.AuthConfig{Username: "ann", Password: "secret"}
	_, err := r.pull(ref)
	assert.NilError(t, err)
	close(seen)
	n := 0
	for got := range seen {
		assert.Equal(t, got, "")
		n++
	}
	assert.Equal(t, n, 3)
}

func TestTLS(t *testing.T) {
	img := twoLayers(t)
	plain := imagetest.NewRegistry(t)
	imagetest.Push(t, plain.Host()+"/app", img)
	secure := httptest.NewTLSServer(plain.Config.Handler)
	t.Cleanup(secure.Close)
	host := strings.TrimPrefix(secure.URL, "https://")

	t.Run("loopback is trusted without a certificate", func(t *testing.T) {
		r := newRig(t)
		_, err := r.pull(host + "/app")
		assert.NilError(t, err)
	})
	t.Run("another host is not", func(t *testing.T) {
		r := newRig(t)
		_, err := r.pull(viaName(t, r, host) + "/app")
		assert.Check(t, is.ErrorContains(err, "x509: "))
	})
	t.Run("it is with its certificate", func(t *testing.T) {
		certs := t.TempDir()
		r := newRig(t, func(c *image.Config) { c.Certs = certs })
		name := viaName(t, r, host)
		dir := filepath.Join(certs, name)
		assert.NilError(t, os.MkdirAll(dir, 0o755))
		ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})
		assert.NilError(t, os.WriteFile(filepath.Join(dir, "ca.crt"), ca, 0o644))
		_, err := r.pull(name + "/app")
		assert.NilError(t, err)
	})
	t.Run("or when it is said to be insecure", func(t *testing.T) {
		r := newRig(t, func(c *image.Config) { c.Insecure = []string{"example.com"} })
		_, err := r.pull(viaName(t, r, host) + "/app")
		assert.NilError(t, err)
	})
	t.Run("and never in plain http", func(t *testing.T) {
		r := newRig(t)
		_, err := r.pull(viaName(t, r, plain.Host()) + "/app")
		assert.Check(t, is.ErrorContains(err, "server gave HTTP response to HTTPS client"))
	})
}

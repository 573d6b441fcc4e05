package imagetest

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
)

// Registry is a registry on loopback. Its Intercept sees every request first.
type Registry struct {
	*httptest.Server

	mu        sync.Mutex
	intercept func(w http.ResponseWriter, r *http.Request, next http.Handler)
	requests  []string
}

// NewRegistry starts one for the test, in plain http.
func NewRegistry(t testing.TB) *Registry {
	t.Helper()
	r := &Registry{}
	inner := ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		r.requests = append(r.requests, req.Method+" "+req.URL.Path)
		f := r.intercept
		r.mu.Unlock()
		if f == nil {
			inner.ServeHTTP(w, req)
			return
		}
		f(w, req, inner)
	}))
	t.Cleanup(r.Close)
	return r
}

// Host is host:port, as references have it.
func (r *Registry) Host() string { return strings.TrimPrefix(r.URL, "http://") }

// Intercept has f answer from now on; nil: nobody. f passes on to next what it does not answer itself.
func (r *Registry) Intercept(f func(w http.ResponseWriter, r *http.Request, next http.Handler)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.intercept = f
}

// Requests counts those whose "METHOD path" contains a text, since the registry was made.
func (r *Registry) Requests(containing string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, q := range r.requests {
		if strings.Contains(q, containing) {
			n++
		}
	}
	return n
}

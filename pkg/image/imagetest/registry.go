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
	apart     map[string]bool // "repository blob" that are there; nil: what one repository has, all have
}

// NewRegistry starts one for the test, in plain http.
func NewRegistry(t testing.TB) *Registry {
	t.Helper()
	r := &Registry{}
	shared := ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))
	inner := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if !r.answeredApart(w, req) {
			shared.ServeHTTP(w, req)
		}
	})
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

// KeepApart has each repository know only the blobs that are sent to it or mounted in it from now on.
func (r *Registry) KeepApart() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.apart = map[string]bool{}
}

// answeredApart answers what a repository must not tell of another's blobs, and mounts.
func (r *Registry) answeredApart(w http.ResponseWriter, req *http.Request) bool {
	repo, blob, ok := strings.Cut(strings.TrimPrefix(req.URL.Path, "/v2/"), "/blobs/")
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.apart == nil || !ok {
		return false
	}
	q := req.URL.Query()
	switch {
	case req.Method == http.MethodPut:
		r.apart[repo+" "+q.Get("digest")] = true
	case req.Method == http.MethodPost && r.apart[q.Get("from")+" "+q.Get("mount")]:
		r.apart[repo+" "+q.Get("mount")] = true
		w.WriteHeader(http.StatusCreated)
		return true
	case (req.Method == http.MethodHead || req.Method == http.MethodGet) && !r.apart[repo+" "+blob]:
		refuse(w, http.StatusNotFound, "BLOB_UNKNOWN", "blob unknown to registry")
		return true
	}
	return false
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

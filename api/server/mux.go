package server

import (
	"net/http"
	"path"
	"regexp"
	"strings"

	"github.com/gorilla/mux"

	"github.com/nereid-paas/nereid/api/answer"
	"github.com/nereid-paas/nereid/api/router"
)

// versioned matches a path with an API version before it.
var versioned = regexp.MustCompile(`^/v([0-9.]+)(/.*)$`)

// newMux finds the handler of a request: a router for each method, over paths without their version, so that a
// request is matched against the routes it could mean and no others.
func (s *Server) newMux(routes []router.Route) http.Handler {
	byMethod := map[string]*mux.Router{}
	for _, rt := range routes {
		m, ok := byMethod[rt.Method]
		if !ok {
			m = mux.NewRouter().SkipClean(true)
			m.NotFoundHandler = http.HandlerFunc(notFound)
			byMethod[rt.Method] = m
		}
		m.Path(rt.Path).Handler(s.handler(rt))
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if redirected(w, r) {
			return
		}
		m, ok := byMethod[r.Method]
		if !ok {
			notFound(w, r) // for a method no route has, too: Docker never answers 405
			return
		}
		m.ServeHTTP(w, withoutVersion(r))
	})
}

func notFound(w http.ResponseWriter, _ *http.Request) {
	answer.Error(w, http.StatusNotFound, "page not found")
}

// withoutVersion moves the version from the path to the context.
func withoutVersion(r *http.Request) *http.Request {
	m := versioned.FindStringSubmatch(r.URL.Path)
	if m == nil {
		return r
	}
	u := *r.URL
	u.Path, u.RawPath = m[2], ""
	short := r.WithContext(withAsked(r.Context(), m[1]))
	short.URL = &u // RequestURI keeps what the client wrote, for whom it is forwarded to
	return short
}

// redirected sends a client with dots or doubled slashes in its path to the clean one.
func redirected(w http.ResponseWriter, r *http.Request) bool {
	clean := cleanPath(r.URL.Path)
	if clean == r.URL.Path {
		return false
	}
	u := *r.URL
	u.Path, u.RawPath = clean, ""
	w.Header().Set("Location", u.String())
	w.WriteHeader(http.StatusMovedPermanently)
	return true
}

func cleanPath(p string) string {
	if p == "" {
		return "/"
	}
	if p[0] != '/' {
		p = "/" + p
	}
	clean := path.Clean(p)
	if strings.HasSuffix(p, "/") && clean != "/" {
		clean += "/"
	}
	return clean
}

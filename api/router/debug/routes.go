// Package debug routes Go's profiles of the daemon itself, where Docker has them.
package debug

import (
	"net/http"
	"net/http/pprof"

	"github.com/containerd/errdefs"
	"github.com/gorilla/mux"

	"github.com/nereid-paas/nereid/api/router"
	"github.com/nereid-paas/nereid/pkg/nereid"
)

// Routes of the profiles, as net/http/pprof describes them.
func Routes() []router.Route {
	return []router.Route{
		router.Get("/debug/pprof/", profile(pprof.Index)),
		router.Get("/debug/pprof/cmdline", profile(pprof.Cmdline)),
		router.Get("/debug/pprof/profile", profile(pprof.Profile)).Lasting(),
		router.Get("/debug/pprof/symbol", profile(pprof.Symbol)),
		router.Get("/debug/pprof/trace", profile(pprof.Trace)).Lasting(),
		router.Get("/debug/pprof/{name}", named),
	}
}

// profile keeps other accounts out: a profile tells of everybody's.
func profile(h http.HandlerFunc) router.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		if nereid.AccountFrom(r.Context()) != nereid.Admin {
			return errdefs.ErrPermissionDenied.WithMessage("profiles are the administrator's")
		}
		h(w, r)
		return nil
	}
}

func named(w http.ResponseWriter, r *http.Request) error {
	return profile(pprof.Handler(mux.Vars(r)["name"]).ServeHTTP)(w, r)
}

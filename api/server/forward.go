package server

import (
	"context"
	"net/http"

	"github.com/gorilla/mux"

	"github.com/nereid-paas/nereid/api/router"
	"github.com/nereid-paas/nereid/pkg/nereid"
)

// Locator finds the one host that can answer for a thing.
type Locator interface {
	// Owner of the thing, or home when it is this host. A thing that does not exist is home, where the backend says so
	// in Docker's words. The context carries the account.
	Owner(ctx context.Context, kind router.Kind, ref string) (owner nereid.Host, home bool, err error)
}

// Forwarder sends a request as it came to another host, hijacked connection included.
type Forwarder interface {
	Locator
	Forward(w http.ResponseWriter, r *http.Request, to nereid.Host) error
}

// home is the Forwarder of a fleet of one.
type home struct{}

func (home) Owner(context.Context, router.Kind, string) (nereid.Host, bool, error) {
	return "", true, nil
}

func (home) Forward(http.ResponseWriter, *http.Request, nereid.Host) error {
	panic("server: nothing is elsewhere")
}

// forwarding is the only place where a request could go to another host.
func (s *Server) forwarding(rt router.Route, next router.Handler) router.Handler {
	if rt.Owned == "" {
		return next
	}
	return func(w http.ResponseWriter, r *http.Request) error {
		if rt.When != nil && !rt.When(r) {
			return next(w, r)
		}
		ref := mux.Vars(r)["name"]
		if rt.Ref != nil {
			ref = rt.Ref(r)
		}
		owner, here, err := s.cfg.Forwarder.Owner(r.Context(), rt.Owned, ref)
		if err != nil {
			return err
		}
		if here {
			return next(w, r)
		}
		return s.cfg.Forwarder.Forward(w, r, owner)
	}
}

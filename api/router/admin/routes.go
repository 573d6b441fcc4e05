package admin

import (
	"fmt"
	"net/http"

	"github.com/containerd/errdefs"
	"github.com/gorilla/mux"

	"github.com/nereid-paas/nereid/api/answer"
	"github.com/nereid-paas/nereid/api/request"
	"github.com/nereid-paas/nereid/api/router"
	"github.com/nereid-paas/nereid/pkg/nereid"
)

type handlers struct {
	hosts  Hosts
	system System
}

// Routes of hosts and of the daemon itself.
func Routes(hosts Hosts, system System) []router.Route {
	h := handlers{hosts, system}
	routes := []router.Route{
		router.Get(nereid.AdminPrefix+"/version", h.version),
		router.Get(nereid.AdminPrefix+"/hosts", h.list),
		router.Get(nereid.AdminPrefix+"/hosts/{name}", h.inspect),
		router.Post(nereid.AdminPrefix+"/hosts/{name}/label", h.label),
		router.Post(nereid.AdminPrefix+"/hosts/{name}/drain", h.drain),
		router.Post(nereid.AdminPrefix+"/hosts/{name}/resume", h.resume),
		router.Delete(nereid.AdminPrefix+"/hosts/{name}", h.remove),
		router.Post(nereid.AdminPrefix+"/tokens", h.token),
	}
	for i := range routes {
		routes[i].Handler = administrators(routes[i].Handler)
	}
	return routes
}

// administrators keeps other accounts out: who makes tokens owns the fleet.
func administrators(next router.Handler) router.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		if a := nereid.AccountFrom(r.Context()); a != nereid.Admin {
			return errdefs.ErrPermissionDenied.WithMessage(fmt.Sprintf("account %s does not administer the fleet", a))
		}
		return next(w, r)
	}
}

// version answers without the state, as Docker's does.
func (h handlers) version(w http.ResponseWriter, r *http.Request) error {
	v := h.system.Version(r.Context())
	return answer.JSON(w, http.StatusOK, nereid.DaemonVersion{
		Host: h.hosts.Self(), Version: v.Version, APIVersion: v.APIVersion, Commit: v.GitCommit, Built: v.BuildTime,
	})
}

func (h handlers) list(w http.ResponseWriter, r *http.Request) error {
	hosts, err := h.hosts.List(r.Context())
	if err != nil {
		return err
	}
	return answer.JSON(w, http.StatusOK, hosts)
}

func (h handlers) inspect(w http.ResponseWriter, r *http.Request) error {
	host, err := h.hosts.Inspect(r.Context(), hostIn(r))
	if err != nil {
		return err
	}
	return answer.JSON(w, http.StatusOK, host)
}

func hostIn(r *http.Request) nereid.Host { return nereid.Host(mux.Vars(r)["name"]) }

func (h handlers) label(w http.ResponseWriter, r *http.Request) error {
	var req nereid.LabelRequest
	if err := request.JSON(r, &req); err != nil {
		return err
	}
	host, err := h.hosts.Label(r.Context(), hostIn(r), req.Labels)
	if err != nil {
		return err
	}
	return answer.JSON(w, http.StatusOK, host)
}

func (h handlers) drain(w http.ResponseWriter, r *http.Request) error {
	d, err := h.hosts.Drain(r.Context(), hostIn(r))
	if err != nil {
		return err
	}
	return answer.JSON(w, http.StatusOK, d)
}

func (h handlers) resume(w http.ResponseWriter, r *http.Request) error {
	if err := h.hosts.Resume(r.Context(), hostIn(r)); err != nil {
		return err
	}
	return answer.Nothing(w)
}

func (h handlers) remove(w http.ResponseWriter, r *http.Request) error {
	if err := h.hosts.Remove(r.Context(), hostIn(r), r.URL.Query().Get("force") == "true"); err != nil {
		return err
	}
	return answer.Nothing(w)
}

func (h handlers) token(w http.ResponseWriter, r *http.Request) error {
	var req nereid.TokenRequest
	if err := request.JSON(r, &req); err != nil {
		return err
	}
	t, err := h.hosts.Token(r.Context(), req.Server, req.Life, req.Rotate)
	if err != nil {
		return err
	}
	return answer.JSON(w, http.StatusOK, t)
}

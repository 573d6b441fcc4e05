package admin

import (
	"net/http"

	"github.com/gorilla/mux"

	"github.com/nereid-paas/nereid/api/answer"
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
	return []router.Route{
		router.Get(nereid.AdminPrefix+"/version", h.version),
		router.Get(nereid.AdminPrefix+"/hosts", h.list),
		router.Get(nereid.AdminPrefix+"/hosts/{name}", h.inspect),
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
	host, err := h.hosts.Inspect(r.Context(), nereid.Host(mux.Vars(r)["name"]))
	if err != nil {
		return err
	}
	return answer.JSON(w, http.StatusOK, host)
}

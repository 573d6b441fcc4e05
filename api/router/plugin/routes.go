// Package plugin answers what the Engine API says about plugins: there are none, and none can be installed.
package plugin

import (
	"fmt"
	"net/http"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types"

	"github.com/nereid-paas/nereid/api/answer"
	"github.com/nereid-paas/nereid/api/request"
	"github.com/nereid-paas/nereid/api/router"
)

// Routes of plugins.
func Routes() []router.Route {
	return []router.Route{
		router.Get("/plugins", list),
		router.Get("/plugins/{name:.*}/json", notFound),
		router.Get("/plugins/privileges", refuse),

		router.Delete("/plugins/{name:.*}", notFound),

		router.Post("/plugins/{name:.*}/enable", notFound),
		router.Post("/plugins/{name:.*}/disable", notFound),
		router.Post("/plugins/pull", refuse),
		router.Post("/plugins/{name:.*}/push", notFound),
		router.Post("/plugins/{name:.*}/upgrade", notFound),
		router.Post("/plugins/{name:.*}/set", notFound),
		router.Post("/plugins/create", refuse),
	}
}

func list(w http.ResponseWriter, r *http.Request) error {
	if err := request.Parse(r); err != nil {
		return err
	}
	f, err := request.Filters(r)
	if err != nil {
		return err
	}
	if err := f.Validate(map[string]bool{"enabled": true, "capability": true}); err != nil {
		return err
	}
	if _, err := f.GetBoolOrDefault("enabled", true); err != nil {
		return err
	}
	return answer.JSON(w, http.StatusOK, types.PluginsListResponse{})
}

func notFound(_ http.ResponseWriter, r *http.Request) error {
	return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("plugin %q not found", request.Name(r)))
}

func refuse(http.ResponseWriter, *http.Request) error {
	return errdefs.ErrPermissionDenied.WithMessage("managed plugins are not supported")
}

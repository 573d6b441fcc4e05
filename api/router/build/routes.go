// Package build answers what the Engine API says about builds: this engine has no builder yet, and says so.
package build

import (
	"net/http"
	"strconv"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/build"

	"github.com/nereid-paas/nereid/api/answer"
	"github.com/nereid-paas/nereid/api/compat"
	"github.com/nereid-paas/nereid/api/request"
	"github.com/nereid-paas/nereid/api/router"
)

// Routes of builds.
func Routes() []router.Route {
	return []router.Route{
		router.Post("/build", refuse).OwnedBy(router.Build),
		router.Post("/build/prune", prune),
		router.Post("/build/cancel", cancel).OwnedBy(router.Build).Naming(buildID),
		router.Post("/session", refuse).OwnedBy(router.Build),
		router.Post("/grpc", refuse).OwnedBy(router.Build),
	}
}

func refuse(http.ResponseWriter, *http.Request) error {
	return errdefs.ErrNotImplemented.WithMessage("building images is not supported by this engine: build elsewhere, for example with a docker-container buildx builder, and load or pull the result")
}

// prune checks what it is asked as a builder would; there is no cache to prune.
func prune(w http.ResponseWriter, r *http.Request) error {
	if err := request.Parse(r); err != nil {
		return err
	}
	if _, err := request.Filters(r); err != nil {
		return err
	}
	sizes := []string{"keep-storage"}
	if compat.From(r.Context()) >= 48 {
		sizes = []string{"reserved-space", "keep-storage", "max-used-space", "min-free-space"}
	}
	for _, name := range sizes {
		s := r.Form.Get(name)
		if _, err := strconv.Atoi(s); s != "" && err != nil {
			return errdefs.ErrInvalidArgument.WithMessage(name + " is in bytes and expects an integer, got " + s + ": " + err.Error())
		}
	}
	return answer.JSON(w, http.StatusOK, &build.CachePruneReport{})
}

func cancel(_ http.ResponseWriter, r *http.Request) error {
	if err := request.Parse(r); err != nil {
		return err
	}
	if r.Form.Get("id") == "" {
		return errdefs.ErrInvalidArgument.WithMessage("build ID not provided")
	}
	return nil // a build that is not there is cancelled
}

func buildID(r *http.Request) string { return r.URL.Query().Get("id") }

package volume

import (
	"context"
	"fmt"
	"net/http"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/volume"

	"github.com/nereid-paas/nereid/api/answer"
	"github.com/nereid-paas/nereid/api/compat"
	"github.com/nereid-paas/nereid/api/request"
	"github.com/nereid-paas/nereid/api/router"
)

type handlers struct{ backend Backend }

// Routes of volumes.
func Routes(b Backend) []router.Route {
	h := handlers{b}
	return []router.Route{
		router.Get("/volumes", h.list),
		router.Get("/volumes/{name:.*}", h.inspect),

		router.Post("/volumes/create", h.create),
		router.Post("/volumes/prune", h.prune),

		router.Put("/volumes/{name:.*}", h.update),

		router.Delete("/volumes/{name:.*}", h.remove).OwnedBy(router.Volume),
	}
}

func (h handlers) list(w http.ResponseWriter, r *http.Request) error {
	if err := request.Parse(r); err != nil {
		return err
	}
	f, err := request.Filters(r)
	if err != nil {
		return fmt.Errorf("error reading volume filters: %w", err)
	}
	list, err := h.backend.List(r.Context(), f)
	if err != nil {
		return err
	}
	return answer.JSON(w, http.StatusOK, list)
}

func (h handlers) inspect(w http.ResponseWriter, r *http.Request) error {
	v, err := h.backend.Inspect(r.Context(), request.Name(r))
	if err != nil {
		return err
	}
	return answer.JSON(w, http.StatusOK, v)
}

func (h handlers) create(w http.ResponseWriter, r *http.Request) error {
	if err := request.Parse(r); err != nil {
		return err
	}
	var opts volume.CreateOptions
	if err := request.JSON(r, &opts); err != nil {
		return err
	}
	if opts.ClusterVolumeSpec != nil && compat.From(r.Context()) >= 42 {
		return errdefs.ErrUnavailable.WithMessage(router.NotASwarmManager)
	}
	v, err := h.backend.Create(r.Context(), opts)
	if err != nil {
		return err
	}
	return answer.JSON(w, http.StatusCreated, v)
}

// update is for cluster volumes, which an engine outside a swarm has none of.
func (h handlers) update(http.ResponseWriter, *http.Request) error {
	return errdefs.ErrUnavailable.WithMessage("volume update only valid for cluster volumes, but swarm is unavailable")
}

func (h handlers) remove(w http.ResponseWriter, r *http.Request) error {
	if err := request.Parse(r); err != nil {
		return err
	}
	if err := h.backend.Remove(context.WithoutCancel(r.Context()), request.Name(r), request.Bool(r, "force")); err != nil {
		return err
	}
	return answer.Nothing(w)
}

func (h handlers) prune(w http.ResponseWriter, r *http.Request) error {
	if err := request.Parse(r); err != nil {
		return err
	}
	f, err := request.Filters(r)
	if err != nil {
		return err
	}
	compat.VolumePrune(compat.From(r.Context()), f)
	report, err := h.backend.Prune(r.Context(), f)
	if err != nil {
		return err
	}
	return answer.JSON(w, http.StatusOK, report)
}

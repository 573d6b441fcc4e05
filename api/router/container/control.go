package container

import (
	"context"
	"net/http"

	"github.com/docker/docker/api/types/container"

	"github.com/nereid-paas/nereid/api/answer"
	"github.com/nereid-paas/nereid/api/compat"
	"github.com/nereid-paas/nereid/api/request"
)

func (h handlers) pause(w http.ResponseWriter, r *http.Request) error {
	return verb(w, r, h.backend.Pause)
}

func (h handlers) unpause(w http.ResponseWriter, r *http.Request) error {
	return verb(w, r, h.backend.Unpause)
}

func (h handlers) rename(w http.ResponseWriter, r *http.Request) error {
	return verb(w, r, func(ctx context.Context, ref string) error {
		return h.backend.Rename(ctx, ref, r.Form.Get("name"))
	})
}

func (h handlers) update(w http.ResponseWriter, r *http.Request) error {
	if err := request.Parse(r); err != nil {
		return err
	}
	var cfg container.UpdateConfig
	if err := request.JSON(r, &cfg); err != nil {
		return err
	}
	compat.Update(compat.From(r.Context()), &cfg)
	if cfg.PidsLimit != nil && *cfg.PidsLimit <= 0 {
		cfg.PidsLimit = new(int64) // 0 and all negative values take the limit away
	}
	resp, err := h.backend.Update(lasting(r), request.Name(r), cfg)
	if err != nil {
		return err
	}
	return answer.JSON(w, http.StatusOK, resp)
}

func (h handlers) resize(w http.ResponseWriter, r *http.Request) error {
	if err := request.Parse(r); err != nil {
		return err
	}
	height, width, err := request.Size(r)
	if err != nil {
		return err
	}
	return h.backend.Resize(r.Context(), request.Name(r), height, width)
}

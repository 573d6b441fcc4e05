package network

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/network"

	"github.com/nereid-paas/nereid/api/answer"
	"github.com/nereid-paas/nereid/api/compat"
	"github.com/nereid-paas/nereid/api/request"
	"github.com/nereid-paas/nereid/api/router"
)

type handlers struct{ backend Backend }

// Routes of networks.
func Routes(b Backend) []router.Route {
	h := handlers{b}
	return []router.Route{
		router.Get("/networks", h.list),
		router.Get("/networks/", h.list),
		router.Get("/networks/{name:.+}", h.inspect),

		router.Post("/networks/create", h.create),
		router.Post("/networks/{name:.*}/connect", h.connect).OwnedBy(router.Container).Naming(containerInBody),
		router.Post("/networks/{name:.*}/disconnect", h.disconnect).OwnedBy(router.Container).Naming(containerInBody),
		router.Post("/networks/prune", h.prune),

		router.Delete("/networks/{name:.*}", h.remove),
	}
}

// containerInBody looks whom a request to connect or disconnect is about, and leaves the body as it was.
func containerInBody(r *http.Request) string {
	raw, err := io.ReadAll(io.LimitReader(r.Body, request.MaxBody+1))
	r.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(raw), r.Body), r.Body}
	var about struct{ Container string }
	if err != nil || json.Unmarshal(raw, &about) != nil {
		return "" // for the handler to refuse
	}
	return about.Container
}

func (h handlers) list(w http.ResponseWriter, r *http.Request) error {
	if err := request.Parse(r); err != nil {
		return err
	}
	f, err := request.Filters(r)
	if err != nil {
		return err
	}
	if err := network.ValidateFilters(f); err != nil {
		return err
	}
	list, err := h.backend.List(r.Context(), f)
	if err != nil {
		return err
	}
	v := compat.From(r.Context())
	if compat.NetworkListInDetail(v) {
		list = h.detailed(r.Context(), list)
	}
	return answer.JSON(w, http.StatusOK, compat.NetworkList(v, list))
}

// detailed adds to each network of a list what only inspect says. One that is gone meanwhile stays as it was listed.
func (h handlers) detailed(ctx context.Context, list []network.Inspect) []network.Inspect {
	all := make([]network.Inspect, 0, len(list))
	for _, n := range list {
		if whole, err := h.backend.Inspect(ctx, n.ID, "", false); err == nil {
			n = *whole
		}
		all = append(all, n)
	}
	return all
}

func (h handlers) inspect(w http.ResponseWriter, r *http.Request) error {
	if err := request.Parse(r); err != nil {
		return err
	}
	verbose := false
	if s := r.Form.Get("verbose"); s != "" {
		var err error
		if verbose, err = strconv.ParseBool(s); err != nil {
			return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid value for verbose: %s: %v", s, err))
		}
	}
	n, err := h.backend.Inspect(r.Context(), request.Name(r), r.Form.Get("scope"), verbose)
	if err != nil {
		return err
	}
	return answer.JSON(w, http.StatusOK, compat.NetworkInspect(compat.From(r.Context()), *n))
}

func (h handlers) create(w http.ResponseWriter, r *http.Request) error {
	if err := request.Parse(r); err != nil {
		return err
	}
	var req network.CreateRequest
	if err := request.JSON(r, &req); err != nil {
		return err
	}
	compat.NetworkCreate(compat.From(r.Context()), &req)
	resp, err := h.backend.Create(r.Context(), req)
	if err != nil {
		return err
	}
	return answer.JSON(w, http.StatusCreated, resp)
}

func (h handlers) connect(_ http.ResponseWriter, r *http.Request) error {
	if err := request.Parse(r); err != nil {
		return err
	}
	var opts network.ConnectOptions
	if err := request.JSON(r, &opts); err != nil {
		return err
	}
	return h.backend.Connect(context.WithoutCancel(r.Context()), request.Name(r), opts)
}

func (h handlers) disconnect(_ http.ResponseWriter, r *http.Request) error {
	if err := request.Parse(r); err != nil {
		return err
	}
	var opts network.DisconnectOptions
	if err := request.JSON(r, &opts); err != nil {
		return err
	}
	return h.backend.Disconnect(context.WithoutCancel(r.Context()), request.Name(r), opts)
}

func (h handlers) remove(w http.ResponseWriter, r *http.Request) error {
	if err := request.Parse(r); err != nil {
		return err
	}
	if err := h.backend.Remove(context.WithoutCancel(r.Context()), request.Name(r)); err != nil {
		return err
	}
	return answer.Nothing(w)
}

func (h handlers) prune(w http.ResponseWriter, r *http.Request) error {
	return router.Prune(w, r, h.backend.Prune)
}

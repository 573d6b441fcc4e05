package system

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/registry"
	"github.com/docker/docker/api/types/swarm"

	"github.com/nereid-paas/nereid/api/answer"
	"github.com/nereid-paas/nereid/api/compat"
	"github.com/nereid-paas/nereid/api/request"
	"github.com/nereid-paas/nereid/api/router"
)

type handlers struct{ backend Backend }

// Routes of the engine as a whole.
func Routes(b Backend) []router.Route {
	h := handlers{b}
	return []router.Route{
		{Method: http.MethodOptions, Path: "/{anyroute:.*}", Handler: options},

		router.Get("/_ping", ping),
		router.Head("/_ping", ping),
		router.Get("/events", h.events).Lasting(),
		router.Get("/info", h.info),
		router.Get("/version", h.version),
		router.Get("/system/df", h.diskUsage),

		router.Post("/auth", h.auth).OfOthers(),
	}
}

func invalid(format string, args ...any) error {
	return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(format, args...))
}

func options(w http.ResponseWriter, _ *http.Request) error {
	w.WriteHeader(http.StatusOK)
	return nil
}

// ping answers without asking anybody: a client learns from its headers what it may expect.
func ping(w http.ResponseWriter, r *http.Request) error {
	h := w.Header()
	h.Set("Cache-Control", "no-cache, no-store, must-revalidate")
	h.Set("Pragma", "no-cache")
	h.Set("Builder-Version", "2")
	h.Set("Swarm", string(swarm.LocalNodeStateInactive))
	h.Set("Content-Type", "text/plain; charset=utf-8")
	if r.Method == http.MethodHead {
		h.Set("Content-Length", "0")
		return nil
	}
	_, err := io.WriteString(w, "OK")
	return err
}

func (h handlers) version(w http.ResponseWriter, r *http.Request) error {
	return answer.JSON(w, http.StatusOK, h.backend.Version(r.Context()))
}

func (h handlers) info(w http.ResponseWriter, r *http.Request) error {
	info, err := h.backend.Info(r.Context())
	if err != nil {
		return err
	}
	body, err := compat.Info(compat.From(r.Context()), info)
	if err != nil {
		return err
	}
	return answer.JSON(w, http.StatusOK, body)
}

func (h handlers) events(w http.ResponseWriter, r *http.Request) error {
	if err := request.Parse(r); err != nil {
		return err
	}
	since, until, err := period(r)
	if err != nil {
		return err
	}
	f, err := request.Filters(r)
	if err != nil {
		return err
	}
	messages, err := h.backend.Events(r.Context(), since, until, f)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	out := answer.NewStream(w)
	out.Start()
	enc, v := json.NewEncoder(out), compat.From(r.Context())
	for m, err := range messages {
		if err != nil {
			return err
		}
		if !compat.KnowsEvent(v, m) {
			continue
		}
		if err := enc.Encode(m); err != nil {
			return err
		}
	}
	return nil
}

// period reads which events are asked for.
func period(r *http.Request) (since, until time.Time, err error) {
	if since, err = request.Time(r.Form.Get("since")); err != nil {
		return since, until, err
	}
	if until, err = request.Time(r.Form.Get("until")); err != nil {
		return since, until, err
	}
	if !until.IsZero() && until.Before(since) {
		err = invalid("`since` time (%s) cannot be after `until` time (%s)", r.Form.Get("since"), r.Form.Get("until"))
	}
	return since, until, err
}

// auth checks credentials with their registry. They are neither stored nor logged.
func (h handlers) auth(w http.ResponseWriter, r *http.Request) error {
	var cfg registry.AuthConfig
	if err := json.NewDecoder(io.LimitReader(r.Body, request.MaxBody)).Decode(&cfg); err != nil {
		return err
	}
	status, token, err := h.backend.Login(r.Context(), &cfg)
	if err != nil {
		return err
	}
	return answer.JSON(w, http.StatusOK, &registry.AuthenticateOKBody{Status: status, IdentityToken: token})
}

package container

import (
	"encoding/json"
	"io"
	"net/http"

	"github.com/docker/docker/api/types/container"

	"github.com/nereid-paas/nereid/api/answer"
	"github.com/nereid-paas/nereid/api/compat"
	"github.com/nereid-paas/nereid/api/request"
	"github.com/nereid-paas/nereid/pkg/nereid"
)

func (h handlers) list(w http.ResponseWriter, r *http.Request) error {
	if err := request.Parse(r); err != nil {
		return err
	}
	f, err := request.Filters(r)
	if err != nil {
		return err
	}
	opts := container.ListOptions{
		All:     request.Bool(r, "all"),
		Size:    request.Bool(r, "size"),
		Since:   r.Form.Get("since"),
		Before:  r.Form.Get("before"),
		Filters: f,
	}
	limit, err := request.Int(r, "limit")
	if err != nil {
		return err
	}
	if limit != nil {
		opts.Limit = *limit
	}
	v := compat.From(r.Context())
	if compat.NewestContainerList(v) && !opts.Size {
		list, err := h.backend.ListJSON(r.Context(), opts)
		if err != nil {
			return err
		}
		return answer.EncodedJSON(w, http.StatusOK, list)
	}
	list, err := h.backend.List(r.Context(), opts)
	if err != nil {
		return err
	}
	return answer.JSON(w, http.StatusOK, compat.ContainerList(v, list))
}

func (h handlers) inspect(w http.ResponseWriter, r *http.Request) error {
	if err := request.Parse(r); err != nil {
		return err
	}
	c, node, err := h.backend.Inspect(r.Context(), request.Name(r), request.Bool(r, "size"))
	if err != nil {
		return err
	}
	return answer.JSON(w, http.StatusOK, inspected{compat.ContainerInspect(compat.From(r.Context()), c), node})
}

// inspected is an inspect answer with the host beside Docker's fields, where classic Swarm put it.
type inspected struct {
	compat.Inspected
	Node *nereid.Node `json:",omitempty"`
}

func (h handlers) top(w http.ResponseWriter, r *http.Request) error {
	if err := request.Parse(r); err != nil {
		return err
	}
	procs, err := h.backend.Top(r.Context(), request.Name(r), r.Form.Get("ps_args"))
	if err != nil {
		return err
	}
	return answer.JSON(w, http.StatusOK, procs)
}

func (h handlers) changes(w http.ResponseWriter, r *http.Request) error {
	changes, err := h.backend.Changes(r.Context(), request.Name(r))
	if err != nil {
		return err
	}
	return answer.JSON(w, http.StatusOK, changes) // null where nothing changed, as Docker's
}

func (h handlers) stats(w http.ResponseWriter, r *http.Request) error {
	if err := request.Parse(r); err != nil {
		return err
	}
	stream := request.BoolOr(r, "stream", true)
	oneShot := compat.From(r.Context()) >= 41 && request.Bool(r, "one-shot")
	samples, err := h.backend.Stats(r.Context(), request.Name(r), stream, oneShot)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	out := io.Writer(w)
	if stream {
		s := answer.NewStream(w)
		s.Start()
		out = s
	}
	enc := json.NewEncoder(out)
	for sample, err := range samples {
		if err != nil {
			return err
		}
		if err := enc.Encode(sample); err != nil {
			return err
		}
	}
	return nil
}

package container

import (
	"context"
	"fmt"
	"net/http"

	"github.com/docker/docker/api/types/backend"
	"github.com/docker/docker/api/types/container"

	"github.com/nereid-paas/nereid/api/answer"
	"github.com/nereid-paas/nereid/api/compat"
	"github.com/nereid-paas/nereid/api/request"
	"github.com/nereid-paas/nereid/api/router"
)

// lasting is the context of verbs that go on when the client has gone: a stop once asked for is not half a stop.
func lasting(r *http.Request) context.Context { return context.WithoutCancel(r.Context()) }

// verb runs a verb without a body or an answer.
func verb(w http.ResponseWriter, r *http.Request, do func(ctx context.Context, ref string) error) error {
	if err := request.Parse(r); err != nil {
		return err
	}
	if err := do(lasting(r), request.Name(r)); err != nil {
		return err
	}
	return answer.Nothing(w)
}

func (h handlers) start(w http.ResponseWriter, r *http.Request) error {
	// The shortest object with a field has seven characters. A length that is not known could be anything.
	if r.ContentLength > 7 || r.ContentLength == -1 {
		return invalid("starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24")
	}
	return verb(w, r, func(ctx context.Context, ref string) error {
		if r.Form.Get("checkpoint") != "" {
			return invalid("checkpoint is only supported in experimental mode")
		}
		return h.backend.Start(ctx, ref)
	})
}

func (h handlers) stop(w http.ResponseWriter, r *http.Request) error {
	return stopping(w, r, h.backend.Stop)
}

func (h handlers) restart(w http.ResponseWriter, r *http.Request) error {
	return stopping(w, r, h.backend.Restart)
}

func stopping(w http.ResponseWriter, r *http.Request, do func(context.Context, string, container.StopOptions) error) error {
	return verb(w, r, func(ctx context.Context, ref string) (err error) {
		opts := container.StopOptions{Signal: r.Form.Get("signal")}
		if opts.Timeout, err = request.Int(r, "t"); err != nil {
			return err
		}
		compat.Stop(compat.From(ctx), &opts)
		return do(ctx, ref, opts)
	})
}

func (h handlers) kill(w http.ResponseWriter, r *http.Request) error {
	return verb(w, r, func(ctx context.Context, ref string) error {
		if err := h.backend.Kill(ctx, ref, r.Form.Get("signal")); err != nil {
			return fmt.Errorf("cannot kill container: %s: %w", ref, err)
		}
		return nil
	})
}

func (h handlers) remove(w http.ResponseWriter, r *http.Request) error {
	return verb(w, r, func(ctx context.Context, ref string) error {
		return h.backend.Remove(ctx, ref, backend.ContainerRmConfig{
			ForceRemove:  request.Bool(r, "force"),
			RemoveVolume: request.Bool(r, "v"),
			RemoveLink:   request.Bool(r, "link"),
		})
	})
}

func (h handlers) prune(w http.ResponseWriter, r *http.Request) error {
	return router.Prune(w, r, h.backend.Prune)
}

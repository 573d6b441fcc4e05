package exec

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/pkg/stdcopy"

	"github.com/nereid-paas/nereid/api/answer"
	"github.com/nereid-paas/nereid/api/compat"
	"github.com/nereid-paas/nereid/api/request"
	"github.com/nereid-paas/nereid/api/router"
)

type handlers struct{ backend Backend }

// Routes of exec.
func Routes(b Backend) []router.Route {
	h := handlers{b}
	return []router.Route{
		router.Get("/exec/{name:.*}/json", h.inspect).OwnedBy(router.Exec),
		router.Post("/containers/{name:.*}/exec", h.create).OwnedBy(router.Container),
		router.Post("/exec/{name:.*}/start", h.start).OwnedBy(router.Exec),
		router.Post("/exec/{name:.*}/resize", h.resize).OwnedBy(router.Exec),
	}
}

func (h handlers) create(w http.ResponseWriter, r *http.Request) error {
	if err := request.Parse(r); err != nil {
		return err
	}
	var opts container.ExecOptions
	if err := request.JSON(r, &opts); err != nil {
		return err
	}
	if len(opts.Cmd) == 0 {
		return errdefs.ErrInvalidArgument.WithMessage("No exec command specified")
	}
	compat.ExecCreate(compat.From(r.Context()), &opts)
	id, err := h.backend.ExecCreate(r.Context(), request.Name(r), opts)
	if err != nil {
		return err
	}
	return answer.JSON(w, http.StatusCreated, &container.ExecCreateResponse{ID: id})
}

func (h handlers) inspect(w http.ResponseWriter, r *http.Request) error {
	e, err := h.backend.ExecInspect(r.Context(), request.Name(r))
	if err != nil {
		return err
	}
	return answer.JSON(w, http.StatusOK, e)
}

func (h handlers) resize(w http.ResponseWriter, r *http.Request) error {
	if err := request.Parse(r); err != nil {
		return err
	}
	height, width, err := request.Size(r)
	if err != nil {
		return err
	}
	return h.backend.ExecResize(r.Context(), request.Name(r), height, width)
}

func (h handlers) start(w http.ResponseWriter, r *http.Request) error {
	if err := request.Parse(r); err != nil {
		return err
	}
	var opts container.ExecStartOptions
	if err := request.JSON(r, &opts); err != nil {
		return err
	}
	compat.ExecStart(compat.From(r.Context()), &opts)
	if opts.Detach {
		// The client does not wait: its going must not undo the start.
		return h.backend.ExecStart(context.WithoutCancel(r.Context()), request.Name(r), opts, nil)
	}
	s := &session{w: w, r: r, tty: opts.Tty}
	err := h.backend.ExecStart(r.Context(), request.Name(r), opts, s.open)
	if s.conn == nil {
		return err
	}
	s.close(err)
	return nil
}

// session is the connection of one exec with its client attached.
type session struct {
	w              http.ResponseWriter
	r              *http.Request
	tty            bool
	conn           *answer.Conn
	stdout, stderr io.Writer
}

func (s *session) open() (io.ReadCloser, io.Writer, io.Writer, error) {
	conn, err := answer.Upgrade(s.w, s.r, !s.tty)
	if err != nil {
		return nil, nil, nil, err
	}
	s.conn, s.stdout = conn, conn
	if !s.tty {
		s.stdout, s.stderr = stdcopy.NewStdWriter(conn, stdcopy.Stdout), stdcopy.NewStdWriter(conn, stdcopy.Stderr)
	}
	return conn.Stdin(), s.stdout, s.stderr, nil
}

func (s *session) close(err error) {
	if err != nil {
		_, _ = fmt.Fprintf(s.stdout, "%v\r\n", err)
	}
	s.conn.Finish(s.r.Context())
}

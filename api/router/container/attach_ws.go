package container

import (
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/docker/docker/api/types/backend"
	"golang.org/x/net/websocket"

	"github.com/nereid-paas/nereid/api/compat"
	"github.com/nereid-paas/nereid/api/request"
)

// socket is a websocket attachment: opened by the backend when it has found the container in order, and served by a
// goroutine of its own until the attachment ends.
type socket struct {
	w      http.ResponseWriter
	r      *http.Request
	done   chan struct{} // closed when the attachment has ended
	served chan struct{} // closed when nobody uses the connection any more; nil before open
}

func (h handlers) attachWS(w http.ResponseWriter, r *http.Request) error {
	if err := request.Parse(r); err != nil {
		return err
	}
	if r.ProtoMajor > 1 {
		return invalid("error attaching to container %s, hijack connection missing", request.Name(r))
	}
	cfg := backend.ContainerAttachConfig{
		UseStdin: true, UseStdout: true, UseStderr: true,
		Logs:       request.Bool(r, "logs"),
		Stream:     request.Bool(r, "stream"),
		DetachKeys: r.Form.Get("detachKeys"),
	}
	if compat.From(r.Context()) >= 42 {
		cfg.UseStdin, cfg.UseStdout, cfg.UseStderr = request.Bool(r, "stdin"), request.Bool(r, "stdout"), request.Bool(r, "stderr")
	}
	s := &socket{w: w, r: r, done: make(chan struct{})}
	cfg.GetStreams = s.open
	err := h.backend.Attach(r.Context(), request.Name(r), &cfg)
	close(s.done)
	if s.served != nil {
		<-s.served
		return nil // the handshake was the answer, whatever came of it
	}
	return err
}

var errHandshake = errors.New("the websocket handshake failed")

func (s *socket) open(_ bool, _ func()) (io.ReadCloser, io.Writer, io.Writer, error) {
	conns := make(chan *websocket.Conn)
	s.served = make(chan struct{})
	go s.serve(conns)
	select {
	case conn := <-conns:
		if compat.From(s.r.Context()) >= 28 {
			conn.PayloadType = websocket.BinaryFrame
		}
		return conn, conn, conn, nil
	case <-s.served:
		return nil, nil, nil, fmt.Errorf("attaching to container %s: %w", request.Name(s.r), errHandshake)
	}
}

// serve shakes hands and keeps the connection until the attachment ends. The library panics where it cannot take the
// connection over; that must end this attachment only.
func (s *socket) serve(conns chan<- *websocket.Conn) {
	defer close(s.served)
	defer func() { _ = recover() }()
	srv := websocket.Server{Handler: func(conn *websocket.Conn) {
		select {
		case conns <- conn:
			<-s.done
		case <-s.done:
		}
	}}
	srv.ServeHTTP(s.w, s.r)
}

package container

import (
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/backend"
	"github.com/docker/docker/pkg/stdcopy"

	"github.com/nereid-paas/nereid/api/answer"
	"github.com/nereid-paas/nereid/api/request"
)

// attachment is one attach request's connection.
type attachment struct {
	w           http.ResponseWriter
	r           *http.Request
	conn        *answer.Conn
	multiplexed bool
	unwatch     func()
}

func (h handlers) attach(w http.ResponseWriter, r *http.Request) error {
	if err := request.Parse(r); err != nil {
		return err
	}
	if r.ProtoMajor > 1 {
		return invalid("error attaching to container %s, hijack connection missing", request.Name(r))
	}
	a := &attachment{w: w, r: r}
	err := h.backend.Attach(r.Context(), request.Name(r), &backend.ContainerAttachConfig{
		GetStreams: a.open,
		UseStdin:   request.Bool(r, "stdin"),
		UseStdout:  request.Bool(r, "stdout"),
		UseStderr:  request.Bool(r, "stderr"),
		Logs:       request.Bool(r, "logs"),
		Stream:     request.Bool(r, "stream"),
		DetachKeys: r.Form.Get("detachKeys"),
		MuxStreams: true,
	})
	if a.conn == nil {
		return refuse(w, err)
	}
	a.close(err)
	return nil
}

// refuse answers an attach that did not come about: as text, which is how Docker answers here.
func refuse(w http.ResponseWriter, err error) error {
	if err == nil {
		err = errors.New("the attachment ended before it began")
	}
	w.Header().Set("Content-Type", types.MediaTypeRawStream)
	w.Header().Set("Connection", "close")
	w.WriteHeader(answer.Status(err))
	_, _ = fmt.Fprintf(w, "%v\r\n", err)
	return nil
}

// open takes the connection over. Reading stdin and writing output end independently: closing the reader leaves the
// output open.
func (a *attachment) open(multiplexed bool, cancel func()) (io.ReadCloser, io.Writer, io.Writer, error) {
	conn, err := answer.Upgrade(a.w, a.r, multiplexed)
	if err != nil {
		return nil, nil, nil, err
	}
	a.conn, a.multiplexed = conn, multiplexed
	a.unwatch = func() {}
	if cancel != nil {
		if a.unwatch, err = conn.OnHangup(cancel); err != nil {
			a.unwatch = func() {}
			return nil, nil, nil, err
		}
	}
	return conn.Stdin(), conn, conn, nil
}

// close ends the connection, with the error as its last output where there is one.
func (a *attachment) close(err error) {
	defer a.unwatch()
	if err != nil {
		out := io.Writer(a.conn)
		if a.multiplexed {
			out = stdcopy.NewStdWriter(a.conn, stdcopy.Stdout)
		}
		_, _ = fmt.Fprintln(out, "Error attaching:", err)
	}
	a.conn.Finish(a.r.Context())
}

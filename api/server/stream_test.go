package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/backend"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	"golang.org/x/net/websocket"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"
)

const (
	rawStream = "application/vnd.docker.raw-stream"
	muxStream = "application/vnd.docker.multiplexed-stream"
)

// echo is a container that sends its stdin back, and its last words when stdin has ended.
func echo(multiplexed bool) func(context.Context, *backend.ContainerAttachConfig) error {
	return func(_ context.Context, cfg *backend.ContainerAttachConfig) error {
		in, out, _, err := cfg.GetStreams(multiplexed && cfg.MuxStreams, func() {})
		if err != nil {
			return err
		}
		defer in.Close()
		if _, err := io.Copy(out, in); err != nil {
			return err
		}
		_, err = io.WriteString(out, "bye")
		return err
	}
}

func TestAttachTakesTheConnectionOver(t *testing.T) {
	for name, tc := range map[string]struct {
		path, header string
		multiplexed  bool
		code         int
		contentType  string
	}{
		"multiplexed upgrade":     {"/containers/x/attach?stream=1", "Upgrade: tcp\nConnection: Upgrade\n", true, 101, muxStream},
		"tty upgrade":             {"/v1.51/containers/x/attach?stream=1", "Upgrade: tcp\nConnection: Upgrade\n", false, 101, rawStream},
		"before 1.42":             {"/v1.41/containers/x/attach?stream=1", "Upgrade: tcp\nConnection: Upgrade\n", true, 101, rawStream},
		"without upgrade":         {"/containers/x/attach?stream=1", "", true, 200, rawStream},
		"without upgrade and tty": {"/v1.24/containers/x/attach?stream=1", "", false, 200, rawStream},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakes()
			f.containers.attach = echo(tc.multiplexed)
			path, _ := serve(t, f.config())
			conn := dial(t, path)
			// "early" travels with the header: it must reach the container.
			resp, buf := send(t, conn, "POST "+tc.path+" HTTP/1.1\nHost: d\n"+tc.header+"\nearly")
			assert.Equal(t, resp.StatusCode, tc.code)
			assert.Equal(t, resp.Header.Get("Content-Type"), tc.contentType)
			assert.Equal(t, resp.Header.Get("Api-Version"), "1.51")
			if tc.code == 101 {
				assert.Equal(t, resp.Status, "101 UPGRADED")
				assert.Equal(t, resp.Header.Get("Upgrade"), "tcp")
			}
			early := make([]byte, 5)
			_, err := io.ReadFull(buf, early)
			assert.NilError(t, err)
			assert.Equal(t, string(early), "early")
			_, err = io.WriteString(conn, "late")
			assert.NilError(t, err)
			assert.NilError(t, conn.CloseWrite()) // our side ends; the container's goes on
			assert.Equal(t, string(readAll(t, buf)), "latebye")
		})
	}
}

func TestAttachRefusedAnswersAsText(t *testing.T) {
	f := newFakes()
	f.containers.attach = func(context.Context, *backend.ContainerAttachConfig) error {
		return errdefs.ErrNotFound.WithMessage("No such container: x")
	}
	path, _ := serve(t, f.config())
	resp, _ := send(t, dial(t, path), "POST /containers/x/attach?stream=1 HTTP/1.1\nHost: d\nUpgrade: tcp\nConnection: Upgrade\n\n")
	assert.Equal(t, resp.StatusCode, http.StatusNotFound)
	assert.Equal(t, resp.Header.Get("Content-Type"), rawStream)
	assert.Equal(t, string(readAll(t, resp.Body)), "No such container: x\r\n")
}

func TestAttachErrorAfterTheUpgradeIsOutput(t *testing.T) {
	f := newFakes()
	f.containers.attach = func(_ context.Context, cfg *backend.ContainerAttachConfig) error {
		_, _, _, err := cfg.GetStreams(true, nil)
		assert.Check(t, err)
		return errors.New("no log")
	}
	path, _ := serve(t, f.config())
	conn := dial(t, path)
	_, buf := send(t, conn, "POST /containers/x/attach?logs=1 HTTP/1.1\nHost: d\nUpgrade: tcp\nConnection: Upgrade\n\n")
	assert.NilError(t, conn.CloseWrite())
	assert.DeepEqual(t, readAll(t, buf), frame(1, "Error attaching: no log\n"))
}

func TestPanicAfterTheUpgradeClosesTheConnection(t *testing.T) {
	f := newFakes()
	f.containers.attach = func(_ context.Context, cfg *backend.ContainerAttachConfig) error {
		_, _, _, err := cfg.GetStreams(true, func() {})
		assert.Check(t, err)
		panic("boom")
	}
	path, _ := serve(t, f.config())
	_, buf := send(t, dial(t, path), "POST /containers/x/attach?stream=1 HTTP/1.1\nHost: d\nUpgrade: tcp\nConnection: Upgrade\n\n")
	assert.Equal(t, len(readAll(t, buf)), 0)
	resp, _ := send(t, dial(t, path), "GET /_ping HTTP/1.1\nHost: d\n\n")
	assert.Equal(t, resp.StatusCode, http.StatusOK)
}

// A client without stdin is known to have gone only by its connection.
func TestAttachIsToldThatTheClientHungUp(t *testing.T) {
	gone, halfClosed := make(chan struct{}), make(chan struct{})
	f := newFakes()
	f.containers.attach = func(ctx context.Context, cfg *backend.ContainerAttachConfig) error {
		in, _, _, err := cfg.GetStreams(false, func() { close(gone) })
		assert.Check(t, err)
		_, err = in.Read(make([]byte, 1))
		assert.Check(t, cmp.ErrorIs(err, io.EOF))
		select {
		case <-gone:
			t.Error("a half-close is no hang-up")
		default:
		}
		close(halfClosed)
		select {
		case <-gone:
			return nil
		case <-ctx.Done():
			return errors.New("nobody told")
		}
	}
	path, stop := serve(t, f.config())
	conn := dial(t, path)
	send(t, conn, "POST /containers/x/attach?stream=1 HTTP/1.1\nHost: d\nUpgrade: tcp\nConnection: Upgrade\n\n")
	assert.NilError(t, conn.CloseWrite())
	<-halfClosed
	assert.NilError(t, conn.Close())
	<-gone
	stop()
}

func TestStopClosesWhatWasTakenOver(t *testing.T) {
	f, attached := newFakes(), make(chan struct{})
	f.containers.attach = func(ctx context.Context, cfg *backend.ContainerAttachConfig) error {
		in, _, _, err := cfg.GetStreams(false, func() {})
		assert.Check(t, err)
		close(attached)
		_, err = io.Copy(io.Discard, in) // until the connection is closed
		return err
	}
	path, stop := serve(t, f.config())
	_, buf := send(t, dial(t, path), "POST /containers/x/attach?stream=1 HTTP/1.1\nHost: d\nUpgrade: tcp\nConnection: Upgrade\n\n")
	<-attached
	stop()
	_, err := buf.ReadByte()
	assert.Assert(t, err != nil)
}

func TestExecStreams(t *testing.T) {
	for name, tc := range map[string]struct {
		path, body  string
		contentType string
		want        []byte
	}{
		"plain":       {"/exec/e/start", `{}`, muxStream, append(frame(1, "in"), frame(2, "err")...)},
		"tty":         {"/exec/e/start", `{"Tty":true}`, rawStream, []byte("in")},
		"before 1.42": {"/v1.41/exec/e/start", `{}`, rawStream, append(frame(1, "in"), frame(2, "err")...)},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakes()
			f.exec.start = func(_ context.Context, opts container.ExecStartOptions, streams func() (io.ReadCloser, io.Writer, io.Writer, error)) error {
				in, out, errOut, err := streams()
				if err != nil {
					return err
				}
				text, err := io.ReadAll(in)
				assert.Check(t, err)
				_, err = out.Write(text)
				assert.Check(t, err)
				if !opts.Tty {
					_, err = errOut.Write([]byte("err"))
				}
				return err
			}
			path, _ := serve(t, f.config())
			conn := dial(t, path)
			resp, buf := send(t, conn, fmt.Sprintf("POST %s HTTP/1.1\nHost: d\nContent-Type: application/json\nContent-Length: %d\nUpgrade: tcp\nConnection: Upgrade\n\n%sin", tc.path, len(tc.body), tc.body))
			assert.Equal(t, resp.StatusCode, 101)
			assert.Equal(t, resp.Header.Get("Content-Type"), tc.contentType)
			assert.NilError(t, conn.CloseWrite())
			assert.DeepEqual(t, readAll(t, buf), tc.want)
		})
	}
}

func TestExecErrors(t *testing.T) {
	f := newFakes()
	path, _ := serve(t, f.config())
	ask := func() (*http.Response, *bufio.Reader, *net.UnixConn) {
		conn := dial(t, path)
		resp, buf := send(t, conn, "POST /exec/e/start HTTP/1.1\nHost: d\nContent-Type: application/json\nContent-Length: 2\nUpgrade: tcp\nConnection: Upgrade\n\n{}")
		return resp, buf, conn
	}
	f.exec.start = func(context.Context, container.ExecStartOptions, func() (io.ReadCloser, io.Writer, io.Writer, error)) error {
		return errdefs.ErrConflict.WithMessage("exec command e has already run")
	}
	resp, _, _ := ask()
	assert.Equal(t, resp.StatusCode, http.StatusConflict)
	assert.Equal(t, string(readAll(t, resp.Body)), `{"message":"exec command e has already run"}`+"\n")

	f.exec.start = func(_ context.Context, _ container.ExecStartOptions, streams func() (io.ReadCloser, io.Writer, io.Writer, error)) error {
		_, _, _, err := streams()
		assert.Check(t, err)
		return errors.New("no such file")
	}
	_, buf, conn := ask()
	assert.NilError(t, conn.CloseWrite())
	assert.DeepEqual(t, readAll(t, buf), frame(1, "no such file\r\n"))
}

// The client of a detached exec goes at once; the start must not go with it.
func TestDetachedExecOutlivesItsClient(t *testing.T) {
	f := newFakes()
	f.exec.start = func(ctx context.Context, opts container.ExecStartOptions, streams func() (io.ReadCloser, io.Writer, io.Writer, error)) error {
		assert.Check(t, opts.Detach && streams == nil && ctx.Done() == nil)
		return nil
	}
	w := f.ask(t, "POST", "/exec/e/start", `{"Detach":true,"Tty":false}`)
	assert.Equal(t, w.Code, http.StatusOK)
	assert.Equal(t, w.Body.Len(), 0)
}

func TestWaitAnswersItsHeaderAtOnce(t *testing.T) {
	f := newFakes()
	answer := make(chan container.WaitResponse, 1)
	f.containers.wait = func(_ context.Context, cond container.WaitCondition) (<-chan container.WaitResponse, error) {
		assert.Check(t, cmp.Equal(cond, container.WaitConditionNextExit))
		return answer, nil
	}
	path, _ := serve(t, f.config())
	resp, _ := send(t, dial(t, path), "POST /containers/x/wait?condition=next-exit HTTP/1.1\nHost: d\nContent-Length: 0\n\n")
	assert.Equal(t, resp.StatusCode, http.StatusOK) // nothing has ended yet
	assert.Equal(t, resp.Header.Get("Content-Type"), "application/json")
	answer <- container.WaitResponse{StatusCode: 3}
	assert.Equal(t, string(readAll(t, resp.Body)), `{"StatusCode":3}`+"\n")
}

func TestWaitConditions(t *testing.T) {
	for path, want := range map[string]container.WaitCondition{
		"/containers/x/wait":                             container.WaitConditionNotRunning,
		"/containers/x/wait?condition=":                  container.WaitConditionNotRunning,
		"/containers/x/wait?condition=removed":           container.WaitConditionRemoved,
		"/v1.29/containers/x/wait?condition=removed":     container.WaitConditionNotRunning,
		"/v1.30/containers/x/wait?condition=not-running": container.WaitConditionNotRunning,
	} {
		f := newFakes()
		f.containers.wait = func(_ context.Context, cond container.WaitCondition) (<-chan container.WaitResponse, error) {
			assert.Check(t, cmp.Equal(cond, want), path)
			c := make(chan container.WaitResponse, 1)
			c <- container.WaitResponse{StatusCode: 1, Error: &container.WaitExitError{Message: "lost"}}
			return c, nil
		}
		w := f.ask(t, "POST", path, "")
		assert.Equal(t, w.Body.String(), `{"Error":{"Message":"lost"},"StatusCode":1}`+"\n")
		if want == container.WaitConditionRemoved { // older clients take no answer for the failure
			w = f.ask(t, "POST", "/v1.33"+path, "")
			assert.Equal(t, w.Body.Len(), 0)
		}
	}
	w := newFakes().ask(t, "POST", "/containers/x/wait?condition=sometime", "")
	assert.Equal(t, w.Code, http.StatusBadRequest)
	assert.Equal(t, message(t, w), `invalid condition: "sometime"`)
}

func logLines(msgs ...*backend.LogMessage) iter.Seq2[*backend.LogMessage, error] {
	return func(yield func(*backend.LogMessage, error) bool) {
		for _, m := range msgs {
			if !yield(m, nil) {
				return
			}
		}
		yield(nil, errors.New("disk on fire"))
	}
}

func TestLogs(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	msgs := logLines(
		&backend.LogMessage{Line: []byte("one\n"), Source: "stdout", Timestamp: at, Attrs: []backend.LogAttr{{Key: "z", Value: "a b"}, {Key: "a", Value: "1"}}},
		&backend.LogMessage{Line: []byte("two\n"), Source: "stderr", Timestamp: at},
	)
	const failed = "Error grabbing logs: disk on fire\n"
	for name, tc := range map[string]struct {
		path, contentType string
		tty               bool
		want              []byte
	}{
		"both":       {"/containers/x/logs?stdout=1&stderr=1", muxStream, false, join(frame(1, "one\n"), frame(2, "two\n"), frame(3, failed))},
		"followed":   {"/containers/x/logs?stdout=1&stderr=1&follow=1", muxStream, false, join(frame(1, "one\n"), frame(2, "two\n"), frame(3, failed))},
		"old":        {"/v1.41/containers/x/logs?stdout=1", rawStream, false, join(frame(1, "one\n"), frame(3, failed))},
		"tty":        {"/containers/x/logs?stdout=1", rawStream, true, []byte("one\n" + failed)},
		"timestamps": {"/containers/x/logs?stderr=1&timestamps=1", rawStream, true, []byte("2026-01-02T03:04:05.000006000Z two\n" + failed)},
		"details":    {"/containers/x/logs?stdout=1&details=1&timestamps=true", rawStream, true, []byte("2026-01-02T03:04:05.000006000Z a=1,z=a+b one\n" + failed)},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakes()
			f.containers.logs = func(context.Context, container.LogsOptions) (iter.Seq2[*backend.LogMessage, error], bool, error) {
				return msgs, tc.tty, nil
			}
			w := f.ask(t, "GET", tc.path, "")
			assert.Equal(t, w.Header().Get("Content-Type"), tc.contentType)
			assert.DeepEqual(t, w.Body.Bytes(), tc.want)
		})
	}
	w := newFakes().ask(t, "GET", "/containers/x/logs", "")
	assert.Equal(t, w.Code, http.StatusBadRequest)
	assert.Equal(t, message(t, w), "Bad parameters: you must choose at least one stream")
}

func join(parts ...[]byte) (all []byte) {
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

// forever yields the thing once for each tick, until the context ends.
func forever[T any](ctx context.Context, tick <-chan struct{}, thing T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for {
			select {
			case <-tick:
				if !yield(thing, nil) {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}
}

// Each thing that goes on for ever reaches the client one by one, and ends as soon as the server stops.
func TestLiveStreamsAreFlushedAndEnd(t *testing.T) {
	tick := make(chan struct{})
	f := newFakes()
	f.system.events = func(ctx context.Context, _, _ time.Time, _ filters.Args) (iter.Seq2[events.Message, error], error) {
		return forever(ctx, tick, events.Message{Type: "container", Action: "start"}), nil
	}
	f.containers.stats = func(ctx context.Context, stream, oneShot bool) (iter.Seq2[*container.StatsResponse, error], error) {
		assert.Check(t, stream && !oneShot)
		return forever(ctx, tick, &container.StatsResponse{Name: "/x"}), nil
	}
	f.containers.logs = func(ctx context.Context, _ container.LogsOptions) (iter.Seq2[*backend.LogMessage, error], bool, error) {
		return forever(ctx, tick, &backend.LogMessage{Line: []byte("x\n"), Source: "stdout"}), true, nil
	}
	for _, p := range []string{"/events", "/containers/x/stats", "/containers/x/logs?stdout=1&follow=1"} {
		t.Run(p, func(t *testing.T) {
			cfg := f.config()
			cfg.Drain = time.Minute // a live stream does not wait for it
			path, stop := serve(t, cfg)
			resp, _ := send(t, dial(t, path), "GET "+p+" HTTP/1.1\nHost: d\n\n")
			assert.Equal(t, resp.StatusCode, http.StatusOK)
			body := bufio.NewReader(resp.Body)
			for range 2 {
				tick <- struct{}{}
				line, err := body.ReadString('\n')
				assert.NilError(t, err)
				assert.Assert(t, len(line) > 1)
			}
			stop()
			assert.Equal(t, len(readAll(t, body)), 0)
		})
	}
}

// Half an archive must not look like a whole one.
func TestErrorInTheMiddleCutsTheAnswerOff(t *testing.T) {
	f := newFakes()
	f.containers.export = func(out io.Writer) error {
		_, _ = out.Write(make([]byte, 100_000))
		return errors.New("disk on fire")
	}
	path, _ := serve(t, f.config())
	resp, _ := send(t, dial(t, path), "GET /containers/x/export HTTP/1.1\nHost: d\n\n")
	assert.Equal(t, resp.StatusCode, http.StatusOK)
	_, err := io.ReadAll(resp.Body)
	assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
}

func TestAttachOverWebsocket(t *testing.T) {
	f := newFakes()
	f.containers.attach = func(ctx context.Context, cfg *backend.ContainerAttachConfig) error {
		assert.Check(t, !cfg.MuxStreams && cfg.UseStdin && !cfg.UseStderr)
		in, out, _, err := cfg.GetStreams(true, func() {})
		if err != nil {
			return err
		}
		buf := make([]byte, 2)
		if _, err := io.ReadFull(in, buf); err != nil {
			return err
		}
		_, err = out.Write(append(buf, '!'))
		return err
	}
	path, _ := serve(t, f.config())
	cfg, err := websocket.NewConfig("ws://d/v1.44/containers/x/attach/ws?stream=1&stdin=1&stdout=1", "http://d/")
	assert.NilError(t, err)
	ws, err := websocket.NewClient(cfg, dial(t, path))
	assert.NilError(t, err)
	_, err = ws.Write([]byte("hi"))
	assert.NilError(t, err)
	assert.Equal(t, string(readAll(t, ws)), "hi!")

	resp, _ := send(t, dial(t, path), "GET /containers/x/attach/ws?stdin=1 HTTP/1.1\nHost: d\n\n") // no handshake
	assert.Equal(t, resp.StatusCode, http.StatusBadRequest)

	f.containers.attach = func(context.Context, *backend.ContainerAttachConfig) error {
		return errdefs.ErrNotFound.WithMessage("No such container: x")
	}
	w := f.ask(t, "GET", "/containers/x/attach/ws", "")
	assert.Equal(t, w.Code, http.StatusNotFound)
	assert.Equal(t, message(t, w), "No such container: x")
}

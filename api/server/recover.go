package server

import (
	"bufio"
	"errors"
	"net"
	"net/http"
	"runtime/debug"

	"go.uber.org/zap"

	"github.com/nereid-paas/nereid/api/answer"
)

// recovered keeps a panic of a handler to its request: 500 where nothing was sent yet, a closed connection else.
func (s *Server) recovered(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.running.handlers.Add(1)
		defer s.running.handlers.Done()
		t := &tracked{ResponseWriter: w, running: s.running}
		defer t.done()
		defer func() {
			if p := recover(); p != nil {
				s.panicked(t, r, p)
			}
		}()
		next.ServeHTTP(t, r)
	})
}

func (s *Server) panicked(t *tracked, r *http.Request, p any) {
	if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(p) // asked for: the server closes the connection without a word
	}
	s.log.Error("panic in a request", zap.String("method", r.Method), zap.String("path", r.URL.Path), zap.Any("panic", p), zap.ByteString("stack", debug.Stack()))
	switch {
	case t.hijacked():
		_ = t.conn.Close()
	case t.status != 0:
		panic(http.ErrAbortHandler)
	default:
		answer.Error(t, http.StatusInternalServerError, "internal error: the request failed unexpectedly, see the daemon's log")
	}
}

// tracked remembers what became of an answer. One request's goroutines use it.
type tracked struct {
	http.ResponseWriter
	running *running
	status  int      // 0 until the header is sent
	conn    net.Conn // set when taken over
}

func (t *tracked) hijacked() bool { return t.conn != nil }

func (t *tracked) WriteHeader(code int) {
	if t.status == 0 {
		t.status = code
		t.ResponseWriter.WriteHeader(code)
	}
}

func (t *tracked) Write(p []byte) (int, error) {
	if t.status == 0 {
		t.status = http.StatusOK
	}
	return t.ResponseWriter.Write(p)
}

// FlushError sends what was written so far, and the header before it.
func (t *tracked) FlushError() error {
	if t.status == 0 {
		t.status = http.StatusOK
	}
	return http.NewResponseController(t.ResponseWriter).Flush()
}

// Flush is FlushError for those who know http.Flusher only.
func (t *tracked) Flush() { _ = t.FlushError() }

// Hijack hands the connection over, on which the first write is the head of the answer; the server closes it when it
// stops.
func (t *tracked) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(t.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	t.conn, t.status = alone(conn), http.StatusSwitchingProtocols
	t.running.took(t.conn)
	return t.conn, rw, nil
}

// Unwrap lets http.ResponseController find deadlines and full duplex.
func (t *tracked) Unwrap() http.ResponseWriter { return t.ResponseWriter }

func (t *tracked) done() {
	if t.conn != nil {
		t.running.forget(t.conn)
	}
}

package server

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"

	"github.com/nereid-paas/nereid/api/answer"
	"github.com/nereid-paas/nereid/api/router"
)

// Present knows whether this host knows all that the fleet has agreed on.
type Present interface {
	// Attempt is called for each request. Its context is the request's; catchUp, called after the request was refused,
	// tells whether it is worth a second try: nothing was changed on its behalf, and there was news.
	Attempt(ctx context.Context) (_ context.Context, catchUp func() bool)
}

// presented has a refusal rest on the present: what a client did at another endpoint a moment ago may not have come to
// this one yet, and the client must not hear that it is not there, or there still.
func (s *Server) presented(rt router.Route, next router.Handler) router.Handler {
	if s.cfg.Present == nil || rt.Foreign {
		return next
	}
	return func(w http.ResponseWriter, r *http.Request) error {
		ctx, catchUp := s.cfg.Present.Attempt(r.Context())
		body := &remembered{ReadCloser: r.Body}
		first := r.WithContext(ctx)
		first.Body = body
		err := next(w, first)
		if err == nil || !mayBeOld(err) || w.(*tracked).status != 0 || body.lost || !catchUp() {
			return err
		}
		second := r.WithContext(r.Context())
		second.Body = body.again()
		return next(w, second)
	}
}

// mayBeOld tells which refusals come of what a host knows.
func mayBeOld(err error) bool {
	return slices.Contains([]int{http.StatusForbidden, http.StatusNotFound, http.StatusConflict}, answer.Status(err))
}

// maxRemembered is ample for what describes a thing; what is longer is content.
const maxRemembered = 1 << 20

// remembered is a body that can be read again, unless it is long.
type remembered struct {
	io.ReadCloser
	read  bytes.Buffer
	ended error // nil: not yet
	lost  bool
}

// Read implements io.Reader.
func (b *remembered) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.lost = b.lost || b.read.Len()+n > maxRemembered; b.lost {
		b.read = bytes.Buffer{}
	} else {
		b.read.Write(p[:n])
	}
	if err != nil {
		b.ended = err
		b.lost = b.lost || !errors.Is(err, io.EOF)
	}
	return n, err
}

// again is the whole body, of which what was not read yet comes from the client.
func (b *remembered) again() io.ReadCloser {
	type body struct {
		io.Reader
		io.Closer
	}
	if b.ended != nil {
		return body{&b.read, b.ReadCloser}
	}
	return body{io.MultiReader(&b.read, b.ReadCloser), b.ReadCloser}
}

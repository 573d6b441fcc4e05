package server

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"runtime"
	"time"

	"go.uber.org/zap"

	"github.com/nereid-paas/nereid/api/answer"
	"github.com/nereid-paas/nereid/api/compat"
	"github.com/nereid-paas/nereid/api/router"
	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/trace"
)

// askedKey is where the version of the path waits for the version check.
type askedKey struct{}

func withAsked(ctx context.Context, version string) context.Context {
	return context.WithValue(ctx, askedKey{}, version)
}

func asked(r *http.Request) string {
	v, _ := r.Context().Value(askedKey{}).(string)
	return v
}

// handler wraps a route's handler in what every request goes through, in this order.
func (s *Server) handler(rt router.Route) http.Handler {
	h := s.presented(rt, s.forwarding(rt, rt.Handler))
	h = s.authenticated(h)
	h = s.versioned(h)
	if rt.Live {
		h = s.live(h)
	}
	return s.recovered(traced(rt, s.logged(h)))
}

// traced spans the request with its route's name.
func traced(rt router.Route, next http.Handler) http.Handler {
	name := rt.Method + " " + rt.Path
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, span := trace.Start(r.Context(), name)
		defer span.End()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// logged answers with the handler's error, and logs.
func (s *Server) logged(next router.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		started := time.Now()
		t := w.(*tracked)
		var err error
		defer func() {
			s.log.Debug("request", zap.String("method", r.Method), zap.String("uri", r.RequestURI),
				zap.Int("status", cmp.Or(t.status, http.StatusOK)), zap.Duration("took", time.Since(started)), zap.Error(err))
		}()
		if err = next(w, r); err != nil {
			s.fail(t, r, err)
		}
	}
}

// fail answers with an error, or, once the answer has begun, cuts it off: the client must not take half for whole.
func (s *Server) fail(t *tracked, r *http.Request, err error) {
	code := answer.Status(err)
	if code >= http.StatusInternalServerError && r.Context().Err() == nil {
		s.log.Error("request failed", zap.String("method", r.Method), zap.String("path", r.URL.Path), zap.Int("status", code), zap.Error(err))
	}
	switch {
	case t.hijacked():
	case t.status != 0:
		panic(http.ErrAbortHandler)
	case compat.TooOld(asked(r)): // such clients print the body as it is
		http.Error(t, err.Error(), code)
	default:
		t.Header().Del("Content-Encoding")
		answer.Error(t, code, err.Error())
	}
}

// live ends a stream that would last for ever when the server stops.
func (s *Server) live(next router.Handler) router.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(s.running.live, cancel)()
		return next(w, r.WithContext(ctx))
	}
}

// versioned tells the client what this engine speaks, and refuses versions that it does not.
func (s *Server) versioned(next router.Handler) router.Handler {
	server := fmt.Sprintf("Docker/%s (%s)", s.cfg.Version, runtime.GOOS)
	return func(w http.ResponseWriter, r *http.Request) error {
		h := w.Header()
		h.Set("Server", server)
		h.Set("Api-Version", compat.Max)
		h.Set("Ostype", runtime.GOOS)
		h.Set("Docker-Experimental", "false")
		v, err := compat.Parse(asked(r))
		if err != nil {
			return err
		}
		return next(w, r.WithContext(compat.With(r.Context(), v)))
	}
}

// Authenticator tells who asks. An error of class errdefs.ErrUnauthenticated refuses the request.
type Authenticator func(*http.Request) (nereid.Account, error)

// everybodyIsAdmin serves sockets that only the operators can open.
func everybodyIsAdmin(*http.Request) (nereid.Account, error) { return nereid.Admin, nil }

func (s *Server) authenticated(next router.Handler) router.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		account, err := s.cfg.Authenticator(r)
		if err != nil {
			return err
		}
		return next(w, r.WithContext(nereid.WithAccount(r.Context(), account)))
	}
}

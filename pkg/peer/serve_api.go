package peer

import (
	"context"
	"net/http"
	"strconv"

	"github.com/containerd/errdefs"
)

// InStep serves forwarded requests once this host shows what the host that sent them has seen, and says with the answer
// how far this one is then.
func InStep(next http.Handler, shown Shown) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if revision, err := strconv.ParseInt(r.Header.Get(revisionHeader), 10, 64); err == nil {
			ctx, cancel := context.WithTimeout(r.Context(), showTimeout)
			err := shown.WaitShown(ctx, revision)
			cancel()
			if err != nil {
				fail(w, errdefs.ErrUnavailable.WithMessage("this host does not hear of the state's changes now"))
				return
			}
		}
		s := &stamping{ResponseWriter: w, shown: shown}
		next.ServeHTTP(s, r)
		s.stamp() // an answer without a body begins when the handler is done
	})
}

// stamping adds the revision to an answer when it begins.
type stamping struct {
	http.ResponseWriter
	shown Shown
	begun bool
}

func (s *stamping) stamp() {
	if !s.begun {
		s.begun = true
		s.Header().Set(revisionHeader, strconv.FormatInt(s.shown.Shown(), 10))
	}
}

func (s *stamping) WriteHeader(code int) {
	s.stamp()
	s.ResponseWriter.WriteHeader(code)
}

func (s *stamping) Write(p []byte) (int, error) {
	if !s.begun {
		s.WriteHeader(http.StatusOK)
	}
	return s.ResponseWriter.Write(p)
}

// Unwrap gives http.ResponseController the rest.
func (s *stamping) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// Flush is for those who ask for a Flusher.
func (s *stamping) Flush() { _ = http.NewResponseController(s.ResponseWriter).Flush() }

package server

import (
	"bytes"
	"net/http"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

// A daemon that is not debugged shows no profiles, and one that is shows them to its administrators only.
func TestProfiles(t *testing.T) {
	f := newFakes()
	assert.Equal(t, f.ask(t, http.MethodGet, "/debug/pprof/heap", "").Code, http.StatusNotFound)

	cfg := f.config()
	cfg.Debug = true
	account := nereid.Admin
	cfg.Authenticator = func(*http.Request) (nereid.Account, error) { return account, nil }
	s := New(cfg)
	for _, path := range []string{"/debug/pprof/heap?gc=1", "/debug/pprof/goroutine", "/v1.51/debug/pprof/allocs"} {
		w := newRecorder()
		s.ServeHTTP(w, newRequest(http.MethodGet, path))
		assert.Equal(t, w.Code, http.StatusOK)
		assert.Assert(t, bytes.HasPrefix(w.Body.Bytes(), []byte{0x1f, 0x8b}), "%s is no profile", path)
	}
	account = "other"
	w := newRecorder()
	s.ServeHTTP(w, newRequest(http.MethodGet, "/debug/pprof/heap"))
	assert.Equal(t, w.Code, http.StatusForbidden)
}

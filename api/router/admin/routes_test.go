package admin

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types"
	"github.com/gorilla/mux"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

type fakeHosts struct {
	Hosts
	hosts []nereid.HostStatus
}

func (f fakeHosts) Self() nereid.Host { return "h1" }

func (f fakeHosts) List(context.Context) ([]nereid.HostStatus, error) { return f.hosts, nil }

func (f fakeHosts) Inspect(_ context.Context, name nereid.Host) (nereid.HostStatus, error) {
	for _, h := range f.hosts {
		if h.Name == name {
			return h, nil
		}
	}
	return nereid.HostStatus{}, errdefs.ErrNotFound
}

type fakeSystem struct{}

func (fakeSystem) Version(context.Context) types.Version {
	return types.Version{Version: "1.0", APIVersion: "1.51", GitCommit: "abc"}
}

// ask serves one request and returns the handler's error beside what it wrote.
func ask(t *testing.T, method, path string) (string, error) {
	t.Helper()
	return askAs(t, nereid.Admin, method, path)
}

func askAs(t *testing.T, a nereid.Account, method, path string) (string, error) {
	t.Helper()
	w := httptest.NewRecorder()
	err := errors.New("no such route")
	m := mux.NewRouter()
	for _, rt := range Routes(fakeHosts{hosts: []nereid.HostStatus{{Name: "h1", State: nereid.HostAlive}}}, fakeSystem{}) {
		m.Methods(rt.Method).Path(rt.Path).HandlerFunc(func(w2 http.ResponseWriter, r *http.Request) { err = rt.Handler(w2, r) })
	}
	r := httptest.NewRequest(method, path, nil)
	m.ServeHTTP(w, r.WithContext(nereid.WithAccount(r.Context(), a)))
	return w.Body.String(), err
}

func TestHosts(t *testing.T) {
	body, err := ask(t, "GET", "/nereid/v1/hosts/h1")
	assert.NilError(t, err)
	assert.Assert(t, len(body) > 0 && body[0] == '{', body)
	_, err = ask(t, "GET", "/nereid/v1/hosts/h2")
	assert.ErrorIs(t, err, errdefs.ErrNotFound)
	body, err = ask(t, "GET", "/nereid/v1/hosts")
	assert.NilError(t, err)
	assert.Assert(t, len(body) > 0 && body[0] == '[', body)
}

func TestOthersAreKeptOut(t *testing.T) {
	for _, path := range []string{"POST /nereid/v1/tokens", "GET /nereid/v1/hosts", "DELETE /nereid/v1/hosts/h1"} {
		method, path, _ := strings.Cut(path, " ")
		_, err := askAs(t, "alice", method, path)
		assert.ErrorIs(t, err, errdefs.ErrPermissionDenied)
	}
}

func TestVersion(t *testing.T) {
	body, err := ask(t, "GET", "/nereid/v1/version")
	assert.NilError(t, err)
	assert.Equal(t, body, `{"Host":"h1","Version":"1.0","APIVersion":"1.51","Commit":"abc"}`+"\n")
}

package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/backend"
	"github.com/docker/docker/api/types/container"
	dockersystem "github.com/docker/docker/api/types/system"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"

	"github.com/nereid-paas/nereid/api/router"
	"github.com/nereid-paas/nereid/pkg/nereid"
)

func TestPing(t *testing.T) {
	for _, path := range []string{"/_ping", "/v1.24/_ping", "/v1.51/_ping"} {
		for _, method := range []string{http.MethodHead, http.MethodGet} {
			w := newFakes().ask(t, method, path, "")
			assert.Equal(t, w.Code, http.StatusOK)
			for name, want := range map[string]string{
				"Api-Version": "1.51", "Ostype": "linux", "Builder-Version": "2", "Docker-Experimental": "false",
				"Swarm": "inactive", "Server": "Docker/28.5.2 (linux)", "Content-Type": "text/plain; charset=utf-8",
				"Cache-Control": "no-cache, no-store, must-revalidate", "Pragma": "no-cache",
			} {
				assert.Check(t, cmp.Equal(w.Header().Get(name), want), "%s %s %s", method, path, name)
			}
			body := "OK"
			if method == http.MethodHead {
				body = ""
			}
			assert.Equal(t, w.Body.String(), body)
		}
	}
}

func TestVersionsOutsideAreRefused(t *testing.T) {
	for version, want := range map[string]string{
		"1.52":   "client version 1.52 is too new. Maximum supported API version is 1.51",
		"2.0":    "client version 2.0 is too new. Maximum supported API version is 1.51",
		"1.51.1": "client version 1.51.1 is too new. Maximum supported API version is 1.51",
	} {
		w := newFakes().ask(t, http.MethodGet, "/v"+version+"/version", "")
		assert.Equal(t, w.Code, http.StatusBadRequest)
		assert.Equal(t, message(t, w), want)
		assert.Equal(t, w.Header().Get("Api-Version"), "1.51")
	}
	for _, version := range []string{"1.23", "0", "1", "..."} { // such clients print a body as it is
		w := newFakes().ask(t, http.MethodGet, "/v"+version+"/version", "")
		assert.Equal(t, w.Code, http.StatusBadRequest)
		assert.Equal(t, w.Header().Get("Content-Type"), "text/plain; charset=utf-8")
		assert.Equal(t, w.Body.String(), "client version "+version+" is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version\n")
	}
}

func TestWhatIsNotThere(t *testing.T) {
	for _, path := range []string{"/nothing", "/v1.51/nothing", "/v1.51", "/", "/vx/_ping", "/v9.9/nothing"} {
		w := newFakes().ask(t, http.MethodGet, path, "")
		assert.Check(t, cmp.Equal(w.Code, http.StatusNotFound), path)
		assert.Check(t, cmp.Equal(w.Body.String(), `{"message":"page not found"}`+"\n"), path)
	}
	for _, method := range []string{http.MethodDelete, http.MethodPatch, "BREW"} {
		w := newFakes().ask(t, method, "/version", "")
		assert.Check(t, cmp.Equal(w.Code, http.StatusNotFound), method)
	}
}

func TestUncleanPathsAreRedirected(t *testing.T) {
	w := newFakes().ask(t, http.MethodGet, "/v1.44//containers/../version?x=1", "")
	assert.Equal(t, w.Code, http.StatusMovedPermanently)
	assert.Equal(t, w.Header().Get("Location"), "/v1.44/version?x=1")
}

func TestOptions(t *testing.T) {
	w := newFakes().ask(t, http.MethodOptions, "/v1.44/anything/at/all", "")
	assert.Equal(t, w.Code, http.StatusOK)
	assert.Equal(t, w.Body.Len(), 0)
}

// custom has the shape of the engine's own errors: a class told by a method.
type custom struct{}

func (custom) Error() string { return "custom" }
func (custom) Conflict()     {}

func TestErrorsBecomeStatuses(t *testing.T) {
	for _, tc := range []struct {
		err  error
		code int
	}{
		{errdefs.ErrNotFound.WithMessage("No such container: x"), 404},
		{errdefs.ErrInvalidArgument, 400},
		{errdefs.ErrFailedPrecondition, 400},
		{errdefs.ErrOutOfRange, 400},
		{errdefs.ErrConflict, 409},
		{errdefs.ErrAlreadyExists, 409},
		{errdefs.ErrUnauthenticated, 401},
		{errdefs.ErrPermissionDenied, 403},
		{errdefs.ErrNotImplemented, 501},
		{errdefs.ErrUnavailable, 503},
		{errdefs.ErrInternal, 500},
		{errdefs.ErrDataLoss, 500},
		{errdefs.ErrAborted, 500},
		{errdefs.ErrResourceExhausted, 500},
		{context.DeadlineExceeded, 500},
		{context.Canceled, 500},
		{errors.New("anything <else> & \"quoted\""), 500},
		{custom{}, 409},
		{errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("the outer class counts: %v", errdefs.ErrNotFound)), 400},
		{fmt.Errorf("wrapped: %w", errdefs.ErrNotFound), 404},
		{errors.Join(errors.New("one"), fmt.Errorf("two: %w", errdefs.ErrConflict)), 409},
	} {
		f := newFakes()
		f.containers.verb = func(context.Context, string, string) error { return tc.err }
		w := f.ask(t, http.MethodPost, "/containers/x/start", "")
		assert.Check(t, cmp.Equal(w.Code, tc.code), tc.err.Error())
		assert.Check(t, cmp.Equal(message(t, w), tc.err.Error()))
	}
}

func TestNotModifiedHasNoBody(t *testing.T) {
	f := newFakes()
	f.containers.verb = func(context.Context, string, string) error { return errdefs.ErrNotModified }
	path, _ := serve(t, f.config())
	resp, _ := send(t, dial(t, path), "POST /containers/x/start HTTP/1.1\nHost: d\nContent-Length: 0\n\n")
	assert.Equal(t, resp.StatusCode, http.StatusNotModified)
	assert.Equal(t, len(readAll(t, resp.Body)), 0)
}

func TestErrorsAreNotEscapedForHTML(t *testing.T) {
	f := newFakes()
	f.containers.verb = func(context.Context, string, string) error { return errors.New("a <b> & c") }
	w := f.ask(t, http.MethodPost, "/containers/x/start", "")
	assert.Equal(t, w.Body.String(), `{"message":"a <b> & c"}`+"\n")
}

func TestPanicIsOneRequests(t *testing.T) {
	core, logs := observer.New(zapcore.ErrorLevel)
	f := newFakes()
	f.containers.verb = func(context.Context, string, string) error { panic("boom") }
	cfg := f.config()
	cfg.Log = zap.New(core)
	path, _ := serve(t, cfg)
	conn := dial(t, path)
	for range 2 { // on the same connection: the daemon lives
		resp, _ := send(t, conn, "POST /containers/x/start HTTP/1.1\nHost: d\nContent-Length: 0\n\n")
		assert.Equal(t, resp.StatusCode, http.StatusInternalServerError)
		var e struct{ Message string }
		assert.NilError(t, json.Unmarshal(readAll(t, resp.Body), &e))
		assert.Assert(t, cmp.Contains(e.Message, "internal error"))
	}
	assert.Equal(t, logs.FilterMessage("panic in a request").Len(), 2)
	entry := logs.All()[0].ContextMap()
	assert.Equal(t, entry["panic"], "boom")
	assert.Assert(t, cmp.Contains(fmt.Sprint(entry["stack"]), "server_test.go"))
}

// elsewhere is a fleet of two in which everything named "far" is on the other host.
type elsewhere struct{ asked []string }

func (e *elsewhere) Owner(ctx context.Context, k router.Kind, ref string) (nereid.Host, bool, error) {
	nereid.AccountFrom(ctx)
	e.asked = append(e.asked, string(k)+" "+ref)
	if ref == "lost" {
		return "", false, errdefs.ErrUnavailable.WithMessage("host h2 is not reachable")
	}
	return "h2", ref != "far", nil
}

func (e *elsewhere) Forward(w http.ResponseWriter, r *http.Request, to nereid.Host) error {
	_, _ = fmt.Fprintf(w, "%s %s to %s", r.Method, r.RequestURI, to)
	return nil
}

func TestOneForwardPoint(t *testing.T) {
	f, e := newFakes(), &elsewhere{}
	f.containers.verb = func(context.Context, string, string) error { return nil }
	f.containers.list = func(container.ListOptions) ([]*container.Summary, error) { return nil, nil }
	cfg := f.config()
	cfg.Forwarder = e
	ask := func(method, path string) (int, string) {
		t.Helper()
		w := newRecorder()
		New(cfg).ServeHTTP(w, newRequest(method, path))
		return w.Code, w.Body.String()
	}
	code, _ := ask("POST", "/containers/near/start")
	assert.Equal(t, code, http.StatusNoContent)
	code, body := ask("POST", "/v1.44/containers/far/stop?t=3")
	assert.Equal(t, code, http.StatusOK)
	assert.Equal(t, body, "POST /v1.44/containers/far/stop?t=3 to h2") // as it came
	code, body = ask("POST", "/commit?container=far&repo=x")
	assert.Equal(t, code, http.StatusOK)
	assert.Assert(t, cmp.Contains(body, "to h2"))
	code, body = ask("POST", "/containers/lost/start")
	assert.Equal(t, code, http.StatusServiceUnavailable)
	assert.Assert(t, cmp.Contains(body, "not reachable"))
	code, _ = ask("GET", "/containers/json")
	assert.Equal(t, code, http.StatusOK)
	assert.DeepEqual(t, e.asked, []string{"container near", "container far", "container far", "container lost"})
}

func TestWhoIsNotKnownIsRefused(t *testing.T) {
	cfg := newFakes().config()
	cfg.Authenticator = func(*http.Request) (nereid.Account, error) {
		return "", errdefs.ErrUnauthenticated.WithMessage("no certificate")
	}
	w := newRecorder()
	New(cfg).ServeHTTP(w, newRequest("GET", "/info"))
	assert.Equal(t, w.Code, http.StatusUnauthorized)
	assert.Equal(t, message(t, w), "no certificate")
}

func TestHTTP2WithoutTLS(t *testing.T) {
	path, _ := serve(t, newFakes().config())
	client := h2cClient(path)
	resp, err := client.Get("http://d/_ping")
	assert.NilError(t, err)
	defer resp.Body.Close()
	assert.Equal(t, resp.ProtoMajor, 2)
	assert.Equal(t, string(readAll(t, resp.Body)), "OK")
	resp, err = client.Post("http://d/containers/x/attach?stream=1", "text/plain", nil)
	assert.NilError(t, err)
	defer resp.Body.Close()
	assert.Equal(t, resp.StatusCode, http.StatusBadRequest) // such a connection cannot be taken over
	assert.Assert(t, cmp.Contains(string(readAll(t, resp.Body)), "hijack connection missing"))
}

func TestStopDrainsAndThenCutsOff(t *testing.T) {
	inside, release := make(chan struct{}), make(chan struct{})
	begun := func(drain time.Duration) (conn net.Conn, stopped chan struct{}) {
		f := newFakes()
		f.containers.verb = func(context.Context, string, string) error {
			inside <- struct{}{}
			<-release
			return nil
		}
		cfg := f.config()
		cfg.Drain = drain
		path, stop := serve(t, cfg)
		conn = dial(t, path)
		_, err := io.WriteString(conn, "POST /containers/x/start HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\r\n")
		assert.NilError(t, err)
		<-inside
		stopped = make(chan struct{})
		go func() { stop(); close(stopped) }()
		return conn, stopped
	}
	stuck, stopped := begun(10 * time.Millisecond)
	<-stopped // what never ends must not keep the daemon
	assert.Equal(t, len(readAll(t, stuck)), 0)
	quick, stopped := begun(time.Minute)
	close(release)
	assert.Assert(t, cmp.Contains(string(readAll(t, quick)), "204 No Content"))
	<-stopped
}

func TestVerbs(t *testing.T) {
	f := newFakes()
	var got string
	f.containers.verb = func(ctx context.Context, verb, ref string) error {
		assert.Check(t, ctx.Done() == nil) // they outlive the client
		got = verb + " of " + ref
		return nil
	}
	for path, want := range map[string]string{
		"/containers/a/kill?signal=INT":        "kill INT of a",
		"/containers/a/stop?signal=INT&t=3":    "stop INT of a",
		"/v1.41/containers/a/stop?signal=INT":  "stop  of a", // it had no signal then
		"/containers/some/name/start":          "start of some/name",
		"/v1.44/containers/%2Fa/start?x=%20":   "start of a",
		"/containers/a/start?checkpoint=":      "start of a",
		"/v1.24/containers/a/kill?signal=KILL": "kill KILL of a",
	} {
		w := f.ask(t, "POST", path, "")
		if w.Code == http.StatusMovedPermanently {
			continue // a doubled slash
		}
		assert.Check(t, cmp.Equal(w.Code, http.StatusNoContent), path)
		assert.Check(t, cmp.Equal(got, want), path)
	}
	f.containers.verb = func(context.Context, string, string) error {
		return errdefs.ErrNotFound.WithMessage("No such container: a")
	}
	w := f.ask(t, "POST", "/containers/a/kill", "")
	assert.Equal(t, w.Code, http.StatusNotFound)
	assert.Equal(t, message(t, w), "cannot kill container: a: No such container: a")
	w = f.ask(t, "POST", "/containers/a/start?checkpoint=c", "")
	assert.Equal(t, w.Code, http.StatusBadRequest)
}

func TestInfoDependsOnTheVersion(t *testing.T) {
	f := newFakes()
	f.system.info = func() *dockersystem.Info { return &dockersystem.Info{Name: "fleet"} }
	assert.Assert(t, cmp.Contains(f.ask(t, "GET", "/v1.49/info", "").Body.String(), "BridgeNfIptables"))
	assert.Assert(t, !strings.Contains(f.ask(t, "GET", "/v1.50/info", "").Body.String(), "BridgeNfIptables"))
}

// A client that sends nothing, or never all of a header, must not hold its connection for ever.
func TestSilentClientsAreCutOff(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 2)
	serving := func(header time.Duration) (path string) {
		path = shortDir(t) + "/s"
		l, err := Listen(t.Context(), "unix://"+path)
		assert.NilError(t, err)
		s := New(newFakes().config())
		s.header = header
		go func() { done <- s.Serve(ctx, l) }()
		return path
	}
	hasty := serving(50 * time.Millisecond)
	for _, start := range []string{"", "GE", "GET /_ping HTTP/1.1\r\n"} {
		conn := dial(t, hasty)
		_, _ = conn.Write([]byte(start)) // it may be closed already
		_, err := io.Copy(io.Discard, conn)
		assert.Assert(t, err == nil || errors.Is(err, syscall.ECONNRESET), "it is not closed: %v", err)
	}
	// One that speaks in time is served for as long as it likes.
	conn := dial(t, serving(time.Minute))
	for range 2 {
		resp, _ := send(t, conn, "GET /_ping HTTP/1.1\nHost: d\n\n")
		assert.Equal(t, resp.StatusCode, http.StatusOK)
	}
	cancel()
	assert.NilError(t, <-done)
	assert.NilError(t, <-done)
}

// lagging is a host that has not heard of the newest yet.
type lagging struct {
	news  bool
	asked int
}

func (l *lagging) Attempt(ctx context.Context) (context.Context, func() bool) {
	return ctx, func() bool { l.asked++; return l.news }
}

// A create at one endpoint right after a pull at another was answered "No such image", although it had been pulled.
func TestARefusalIsOfWhatIsKnownNow(t *testing.T) {
	missing := errdefs.ErrNotFound.WithMessage("No such image: new:latest")
	for _, c := range []struct {
		name         string
		body         string
		news         bool
		first        error
		code         int
		tried, asked int
	}{
		{"not there a moment ago", `{"Image":"new"}`, true, missing, http.StatusCreated, 2, 1},
		{"there a moment ago", `{"Image":"new"}`, true, errdefs.ErrConflict.WithMessage("the name is in use"), http.StatusCreated, 2, 1},
		{"not there", `{"Image":"new"}`, false, missing, http.StatusNotFound, 1, 1},
		{"not for what is known", `{"Image":"new"}`, true, errdefs.ErrUnavailable.WithMessage("later"), http.StatusServiceUnavailable, 1, 0},
		{"content", `{"Image":"new","Labels":{"x":"` + strings.Repeat("x", maxRemembered) + `"}}`, true, missing, http.StatusNotFound, 1, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, l, tried := newFakes(), &lagging{news: c.news}, 0
			f.containers.create = func(req backend.ContainerCreateConfig) (container.CreateResponse, error) {
				assert.Equal(t, req.Config.Image, "new")
				if tried++; tried == 1 {
					return container.CreateResponse{}, c.first
				}
				return container.CreateResponse{ID: "x"}, nil
			}
			cfg := f.config()
			cfg.Present = l
			w := newRecorder()
			r := httptest.NewRequest("POST", "/containers/create", strings.NewReader(c.body))
			r.Header.Set("Content-Type", "application/json")
			New(cfg).ServeHTTP(w, r)
			assert.Equal(t, w.Code, c.code, w.Body)
			assert.Equal(t, tried, c.tried)
			assert.Equal(t, l.asked, c.asked)
		})
	}
}

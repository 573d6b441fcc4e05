package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"iter"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/backend"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	dockersystem "github.com/docker/docker/api/types/system"
	"gotest.tools/v3/assert"

	containerrouter "github.com/nereid-paas/nereid/api/router/container"
	execrouter "github.com/nereid-paas/nereid/api/router/exec"
	imagerouter "github.com/nereid-paas/nereid/api/router/image"
	networkrouter "github.com/nereid-paas/nereid/api/router/network"
	systemrouter "github.com/nereid-paas/nereid/api/router/system"
	volumerouter "github.com/nereid-paas/nereid/api/router/volume"
	"github.com/nereid-paas/nereid/api/schema"
	"github.com/nereid-paas/nereid/pkg/nereid"
)

// The fakes embed the interface without a value: a call that a test did not arrange panics, and the test fails on the
// 500 it becomes. Every arranged call checks that the context carries the account.

type fakeContainers struct {
	containerrouter.Backend
	create func(backend.ContainerCreateConfig) (container.CreateResponse, error)
	verb   func(ctx context.Context, verb, ref string) error
	wait   func(ctx context.Context, cond container.WaitCondition) (<-chan container.WaitResponse, error)
	attach func(ctx context.Context, cfg *backend.ContainerAttachConfig) error
	logs   func(ctx context.Context, opts container.LogsOptions) (iter.Seq2[*backend.LogMessage, error], bool, error)
	list   func(opts container.ListOptions) ([]*container.Summary, error)
	stats  func(ctx context.Context, stream, oneShot bool) (iter.Seq2[*container.StatsResponse, error], error)
	export func(out io.Writer) error
}

func account(ctx context.Context) { nereid.AccountFrom(ctx) } // panics without one

func (f *fakeContainers) Create(ctx context.Context, req backend.ContainerCreateConfig) (container.CreateResponse, error) {
	account(ctx)
	return f.create(req)
}

func (f *fakeContainers) Start(ctx context.Context, ref string) error {
	account(ctx)
	return f.verb(ctx, "start", ref)
}

func (f *fakeContainers) Kill(ctx context.Context, ref, signal string) error {
	account(ctx)
	return f.verb(ctx, "kill "+signal, ref)
}

func (f *fakeContainers) Stop(ctx context.Context, ref string, opts container.StopOptions) error {
	account(ctx)
	return f.verb(ctx, "stop "+opts.Signal, ref)
}

func (f *fakeContainers) Wait(ctx context.Context, _ string, cond container.WaitCondition) (<-chan container.WaitResponse, error) {
	account(ctx)
	return f.wait(ctx, cond)
}

func (f *fakeContainers) Attach(ctx context.Context, _ string, cfg *backend.ContainerAttachConfig) error {
	account(ctx)
	return f.attach(ctx, cfg)
}

func (f *fakeContainers) Logs(ctx context.Context, _ string, opts container.LogsOptions) (iter.Seq2[*backend.LogMessage, error], bool, error) {
	account(ctx)
	return f.logs(ctx, opts)
}

func (f *fakeContainers) List(ctx context.Context, opts container.ListOptions) ([]*container.Summary, error) {
	account(ctx)
	return f.list(opts)
}

func (f *fakeContainers) ListJSON(ctx context.Context, opts container.ListOptions) (io.WriterTo, error) {
	list, err := f.List(ctx, opts)
	if err != nil {
		return nil, err
	}
	encoded, err := json.Marshal(list)
	return bytes.NewReader(encoded), err
}

func (f *fakeContainers) Stats(ctx context.Context, _ string, stream, oneShot bool) (iter.Seq2[*container.StatsResponse, error], error) {
	account(ctx)
	return f.stats(ctx, stream, oneShot)
}

func (f *fakeContainers) Export(ctx context.Context, _ string, out io.Writer) error {
	account(ctx)
	return f.export(out)
}

type fakeExec struct {
	execrouter.Backend
	start func(ctx context.Context, opts container.ExecStartOptions, streams func() (io.ReadCloser, io.Writer, io.Writer, error)) error
}

func (f *fakeExec) ExecStart(ctx context.Context, _ string, opts container.ExecStartOptions, streams func() (io.ReadCloser, io.Writer, io.Writer, error)) error {
	account(ctx)
	return f.start(ctx, opts, streams)
}

type fakeSystem struct {
	systemrouter.Backend
	events func(ctx context.Context, since, until time.Time, f filters.Args) (iter.Seq2[events.Message, error], error)
	info   func() *dockersystem.Info
}

func (f *fakeSystem) Version(context.Context) types.Version { return types.Version{Version: "1"} }

func (f *fakeSystem) Info(ctx context.Context) (*dockersystem.Info, error) {
	account(ctx)
	return f.info(), nil
}

func (f *fakeSystem) Events(ctx context.Context, since, until time.Time, args filters.Args) (iter.Seq2[events.Message, error], error) {
	account(ctx)
	return f.events(ctx, since, until, args)
}

// loadSchema reads the engine's documentation once for all tests.
var loadSchema = sync.OnceValues(schema.Load)

type fakes struct {
	containers *fakeContainers
	exec       *fakeExec
	system     *fakeSystem
	images     imagerouter.Backend
	networks   networkrouter.Backend
	volumes    volumerouter.Backend
}

func newFakes() *fakes {
	return &fakes{containers: &fakeContainers{}, exec: &fakeExec{}, system: &fakeSystem{}}
}

func (f *fakes) config() Config {
	return Config{
		Containers: f.containers, Exec: f.exec, System: f.system, Images: f.images, Networks: f.networks, Volumes: f.volumes,
		Version: "28.5.2", Cgroup2: true, Drain: 2 * time.Second,
	}
}

// ask sends one request to a server of the fakes without a network between.
func (f *fakes) ask(t *testing.T, method, path, body string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if body == "" {
		r = httptest.NewRequest(method, path, nil)
	} else {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	New(f.config()).ServeHTTP(w, r)
	return w
}

// message is what an error answer says.
func message(t *testing.T, w *httptest.ResponseRecorder) string {
	t.Helper()
	assert.Equal(t, w.Header().Get("Content-Type"), "application/json")
	var e types.ErrorResponse
	assert.NilError(t, json.Unmarshal(w.Body.Bytes(), &e), w.Body.String())
	return e.Message
}

// serve runs a server on a unix socket until the test ends or stop is called.
func serve(t *testing.T, cfg Config) (path string, stop func()) {
	t.Helper()
	dir, err := os.MkdirTemp("", "api") // a socket's path holds 107 bytes: t.TempDir's is longer
	assert.NilError(t, err)
	t.Cleanup(func() { assert.Check(t, os.RemoveAll(dir)) })
	path = filepath.Join(dir, "s")
	l, err := Listen(t.Context(), "unix://"+path)
	assert.NilError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- New(cfg).Serve(ctx, l) }()
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			assert.Check(t, <-done)
		}
	}
	t.Cleanup(stop)
	return path, stop
}

// dial connects to a server's socket with a bound on everything.
func dial(t *testing.T, path string) *net.UnixConn {
	t.Helper()
	conn, err := net.Dial("unix", path)
	assert.NilError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	assert.NilError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	return conn.(*net.UnixConn)
}

// send writes a request and reads the header of its answer.
func send(t *testing.T, conn net.Conn, request string) (*http.Response, *bufio.Reader) {
	t.Helper()
	_, err := io.WriteString(conn, strings.ReplaceAll(request, "\n", "\r\n"))
	assert.NilError(t, err)
	buf := bufio.NewReader(conn)
	resp, err := http.ReadResponse(buf, nil)
	assert.NilError(t, err)
	return resp, buf
}

func readAll(t *testing.T, r io.Reader) []byte {
	t.Helper()
	b, err := io.ReadAll(r)
	assert.NilError(t, err)
	return b
}

func frame(stream byte, content string) []byte {
	n := len(content)
	return append([]byte{stream, 0, 0, 0, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}, bytes.Clone([]byte(content))...)
}

func newRequest(method, path string) *http.Request { return httptest.NewRequest(method, path, nil) }

func newRecorder() *httptest.ResponseRecorder { return httptest.NewRecorder() }

// h2cClient speaks HTTP/2 without TLS over a socket.
func h2cClient(path string) *http.Client {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	return &http.Client{
		Timeout: time.Minute,
		Transport: &http.Transport{Protocols: p, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}},
	}
}

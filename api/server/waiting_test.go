package server

import (
	"context"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/docker/docker/client"
	"gotest.tools/v3/assert"
)

// TestWaiting: a daemon without its state says so, on listeners that the real server gets later.
func TestWaiting(t *testing.T) {
	path := "unix://" + filepath.Join(shortDir(t), "s")
	l, err := Listen(t.Context(), path)
	assert.NilError(t, err)
	w := Wait("h1", "1.2.3", "this host waits", nil, l)
	c, err := client.NewClientWithOpts(client.WithHost(path), client.WithAPIVersionNegotiation())
	assert.NilError(t, err)
	ping, err := c.Ping(t.Context())
	assert.NilError(t, err)
	assert.Equal(t, ping.APIVersion, "1.51")
	info, err := c.Info(t.Context())
	assert.NilError(t, err)
	assert.Equal(t, info.Name+" "+strings.Join(info.Warnings, ""), "h1 WARNING: this host waits")
	version, err := c.ServerVersion(t.Context())
	assert.NilError(t, err)
	assert.Equal(t, version.Version, "1.2.3")
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
		req, err := http.NewRequestWithContext(t.Context(), method, "http://nereid/v1.41/containers/json", http.NoBody)
		assert.NilError(t, err)
		dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", strings.TrimPrefix(path, "unix://"))
		}
		tr := &http.Transport{DialContext: dial, DisableKeepAlives: true}
		res, err := tr.RoundTrip(req)
		assert.NilError(t, err)
		body, err := io.ReadAll(res.Body)
		assert.NilError(t, err)
		assert.NilError(t, res.Body.Close())
		assert.Equal(t, res.StatusCode, http.StatusServiceUnavailable)
		assert.Equal(t, strings.TrimSpace(string(body)), `{"message":"this host waits"}`)
	}
	assert.NilError(t, c.Close())
	w.Stop()
	(*Waiting)(nil).Stop()

	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- New(newFakes().config()).Serve(ctx, l) }()
	c, err = client.NewClientWithOpts(client.WithHost(path), client.WithAPIVersionNegotiation())
	assert.NilError(t, err)
	_, err = c.Ping(t.Context())
	assert.NilError(t, err)
	assert.NilError(t, c.Close())
	cancel()
	assert.NilError(t, <-done)
}

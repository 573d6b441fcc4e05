package server

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"testing"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"
)

func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "api")
	assert.NilError(t, err)
	t.Cleanup(func() { assert.Check(t, os.RemoveAll(dir)) })
	return dir
}

func TestListenOnASocket(t *testing.T) {
	path := filepath.Join(shortDir(t), "new", "docker.sock")
	l, err := Listen(t.Context(), "unix://"+path)
	assert.NilError(t, err)
	info, err := os.Stat(path)
	assert.NilError(t, err)
	assert.Equal(t, info.Mode().Perm(), os.FileMode(0o660))

	_, err = Listen(t.Context(), "unix://"+path)
	assert.Error(t, err, "listening address unix://"+path+": another daemon answers there")

	// What a killed daemon leaves is replaced.
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	assert.NilError(t, l.Close())
	_, err = os.Stat(path)
	assert.NilError(t, err)
	l, err = Listen(t.Context(), "unix://"+path)
	assert.NilError(t, err)
	assert.NilError(t, l.Close())
	_, err = os.Stat(path)
	assert.Assert(t, os.IsNotExist(err))

	assert.NilError(t, os.WriteFile(path, []byte("precious"), 0o600))
	_, err = Listen(t.Context(), "unix://"+path)
	assert.ErrorContains(t, err, "there is a file that is no socket")
	content, err := os.ReadFile(path)
	assert.NilError(t, err)
	assert.Equal(t, string(content), "precious")
}

func TestListenOnLoopbackOnly(t *testing.T) {
	for _, host := range []string{"tcp://127.0.0.1:0", "tcp://localhost:0", "tcp://127.1.2.3:0"} {
		l, err := Listen(t.Context(), host)
		assert.NilError(t, err)
		assert.NilError(t, l.Close())
	}
	for host, want := range map[string]string{
		"tcp://0.0.0.0:2375":     "refused: without TLS, only loopback addresses are served",
		"tcp://:2375":            "refused: without TLS",
		"tcp://192.0.2.1:2375":   "refused: without TLS",
		"tcp://[::]:2375":        "refused: without TLS",
		"tcp://example.com:2375": "refused: without TLS",
		"tcp://127.0.0.1":        "missing port",
		"127.0.0.1:2375":         "not of the form",
		"unix://":                "not of the form",
		"ssh://host":             `unknown protocol "ssh"`,
	} {
		_, err := Listen(t.Context(), host)
		assert.Check(t, cmp.ErrorContains(err, want), host)
	}
}

func TestServeReportsAListenerThatFails(t *testing.T) {
	good, err := Listen(t.Context(), "unix://"+filepath.Join(shortDir(t), "s"))
	assert.NilError(t, err)
	bad, err := Listen(t.Context(), "tcp://127.0.0.1:0")
	assert.NilError(t, err)
	assert.NilError(t, bad.Close())
	err = New(newFakes().config()).Serve(context.Background(), good, bad)
	assert.ErrorContains(t, err, "use of closed network connection")
}

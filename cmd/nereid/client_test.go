package main

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"gotest.tools/v3/assert"
)

// answering serves canned answers of a daemon on a unix socket.
func answering(t *testing.T, answers map[string]string) (socket string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "cli") // a socket's path holds 107 bytes: t.TempDir's is longer
	assert.NilError(t, err)
	t.Cleanup(func() { assert.Check(t, os.RemoveAll(dir)) })
	path := filepath.Join(dir, "s")
	l, err := new(net.ListenConfig).Listen(t.Context(), "unix", path)
	assert.NilError(t, err)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, ok := answers[r.Method+" "+r.URL.Path]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			body = `{"message":"No such host: h9"}`
		}
		_, _ = w.Write([]byte(body))
	})}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })
	return "unix://" + path
}

func command(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	err := runCommand(context.Background(), &out, args)
	return out.String(), err
}

func TestHostLsPrintsATableOrJSON(t *testing.T) {
	socket := answering(t, map[string]string{
		"GET /nereid/v1/hosts": `[{"Name":"h1","State":"alive","Address":"10.0.0.1","Server":true,"Version":"1.0","CPUs":2,"Memory":2147483648,"Containers":3,"Running":1,"Endpoint":true,"DataPath":{"MTU":1450,"Trouble":{"h4":"no answer over UDP 4789","h3":"mtu 1400 < 1450"}}},` +
			`{"Name":"h2","State":"unreachable","Draining":true}]`,
	})
	out, err := command(t, "host", "ls", "-H", socket)
	assert.NilError(t, err)
	assert.Equal(t, out, "NAME   STATE                   ROLE     ADDRESS    CPUS   MEMORY   CONTAINERS   DATA PATH                          VERSION\n"+
		"h1 *   alive                   server   10.0.0.1   2      2GiB     1/3          h3: mtu 1400 < 1450 (and 1 more)   1.0\n"+
		"h2     unreachable, draining   host     -          0      0B       0/0          -                                  -\n")
	t.Setenv("DOCKER_HOST", socket)
	out, err = command(t, "host", "ls", "--format", "json")
	assert.NilError(t, err)
	assert.Assert(t, bytes.Contains([]byte(out), []byte(`"Name": "h2"`)), out)
}

func TestTheDaemonsWordsAreTheError(t *testing.T) {
	socket := answering(t, nil)
	_, err := command(t, "host", "inspect", "-H", socket, "h9")
	assert.Error(t, err, "No such host: h9")
	_, err = command(t, "host", "ls", "-H", "unix:///nowhere")
	assert.ErrorContains(t, err, "no daemon answers at unix:///nowhere")
	_, err = command(t, "host", "ls", "-H", socket, "--format", "xml")
	assert.ErrorContains(t, err, `--format "xml"`)
	_, err = command(t, "host", "ls", "-H", "ssh://h1")
	assert.ErrorContains(t, err, `daemon address "ssh://h1"`)
}

func TestVersionNeedsNoDaemon(t *testing.T) {
	out, err := command(t, "version", "-H", "unix:///nowhere")
	assert.NilError(t, err)
	assert.Equal(t, out, "nereid dev\n")
	t.Setenv("DOCKER_HOST", "ssh://elsewhere")
	out, err = command(t, "version")
	assert.NilError(t, err)
	assert.Equal(t, out, "nereid dev\n")
	out, err = command(t, "version", "-H", answering(t, map[string]string{
		"GET /nereid/v1/version": `{"Host":"h1","Version":"1.0","APIVersion":"1.51"}`,
	}))
	assert.NilError(t, err)
	assert.Equal(t, out, "nereid dev\ndaemon 1.0 on host h1, Docker API 1.51\n")
}

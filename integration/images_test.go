//go:build integration

package integration

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/nereid-paas/nereid/integration/lab"
)

func TestImages(t *testing.T) {
	h := lab.NewWithBusybox(t)
	base := lab.Busybox(t)
	digest, err := base.ConfigName()
	assert.NilError(t, err)
	short := digest.Hex[:12]
	runCases(t, h, []cliCase{
		{name: "list", args: "images --format '{{.Repository}}:{{.Tag}} {{.ID}}'", out: "busybox:latest " + short},
		{name: "id", args: "inspect -f {{.Id}} busybox", out: digest.String()},
		{name: "config", args: "image inspect -f '{{.Os}} {{.Config.Cmd}}' busybox", out: "linux [sh]"},
		{name: "history", args: "history --format {{.CreatedBy}} busybox", out: "made by the tests"},
		{name: "tag", args: "tag busybox bb:1", out: ""},
		{name: "by reference", args: "images --filter reference=bb --format {{.Repository}}:{{.Tag}}", out: "bb:1"},
		{name: "run by tag", args: "run --rm bb:1 echo hi", out: "hi"},
		{name: "run by id", args: "run --rm " + short + " echo hi", out: "hi"},
		{name: "bad tag", args: "tag busybox 'A B'", code: 1, stderr: "invalid reference format"},
		{name: "tag of none", args: "tag nosuch x", code: 1, stderr: "No such image: nosuch:latest"},
		{name: "rmi of a tag", args: "rmi bb:1", out: "Untagged: bb:1"},
		{name: "rmi of none", args: "rmi nosuch", code: 1, stderr: "No such image: nosuch:latest"},
		{name: "keep it in use", args: "create --name user busybox", out: "~"},
		{name: "rmi of one in use", args: "rmi busybox", code: 1, stderr: `conflict: unable to remove repository reference "busybox" (must force) - container`},
		{name: "inspect of none", args: "image inspect nosuch", code: 1, out: "[]", stderr: "No such image: nosuch"},
		{name: "free it", args: "rm user", out: "user"},
		{name: "rmi", args: "rmi busybox", out: "~Deleted: " + digest.String()},
		{name: "all gone", args: "images -q", out: ""},
		{name: "prune", args: "image prune -af", out: "~Total reclaimed space"},
		{name: "system df", args: "system df --format {{.Type}}", out: "Images\nContainers\nLocal Volumes\nBuild Cache"},
	})
	h.Docker(t, "load", "-i", lab.Archive(t, "busybox:again", base))
	assert.Equal(t, h.Docker(t, "run", "--rm", "busybox:again", "echo", "hi"), "hi")
}

func TestLoadOfRubbish(t *testing.T) {
	h := lab.New(t)
	good, err := os.ReadFile(lab.Archive(t, "busybox:latest", lab.Busybox(t)))
	assert.NilError(t, err)
	for name, body := range map[string]string{"text": "this is no archive", "cut": string(good[:len(good)/2]), "empty": ""} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x.tar")
			assert.NilError(t, os.WriteFile(path, []byte(body), 0o600))
			r := h.Try(t, "load", "-i", path)
			assert.Assert(t, r.Code != 0 || r.Stderr != "", "load said nothing: %s", r.Combined())
			assert.Equal(t, h.Docker(t, "images", "-q"), "")
		})
	}
	h.Load(t, "busybox:latest", lab.Busybox(t))
	assert.Equal(t, h.Docker(t, "run", "--rm", "busybox", "echo", "hi"), "hi")
}

func TestImport(t *testing.T) {
	h := lab.NewWithBusybox(t)
	dir := t.TempDir()
	assert.NilError(t, os.MkdirAll(filepath.Join(dir, "bin"), 0o755))
	out, err := exec.CommandContext(t.Context(), "cp", "/bin/busybox", filepath.Join(dir, "bin/sh")).CombinedOutput()
	assert.NilError(t, err, string(out))
	tarball := filepath.Join(t.TempDir(), "root.tar")
	out, err = exec.CommandContext(t.Context(), "tar", "-C", dir, "-cf", tarball, ".").CombinedOutput()
	assert.NilError(t, err, string(out))
	id := h.Docker(t, "import", "-c", `CMD ["/bin/sh","-c","echo $GREETING"]`, "-c", "ENV GREETING=imported", "-m", "by hand", tarball, "mine:1")
	assert.Assert(t, strings.HasPrefix(id, "sha256:"), id)
	assert.Equal(t, h.Docker(t, "run", "--rm", "mine:1"), "imported")
	assert.Equal(t, h.Docker(t, "history", "--format", "{{.Comment}}", "mine:1"), "by hand")
}

// hub is a registry on the host's loopback, where the daemon finds it.
type hub struct {
	addr  string
	blobs atomic.Int64 // blob downloads answered
	fail  atomic.Bool  // cut blobs short
}

func serveRegistry(t *testing.T, h *lab.Host, user string) *hub {
	t.Helper()
	r := &hub{}
	inner := registry.New(registry.Logger(quiet()))
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if u, p, _ := req.BasicAuth(); user != "" && (u != user || p != "secret") {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if strings.Contains(req.URL.Path, "/blobs/") && req.Method == http.MethodGet {
			r.blobs.Add(1)
			if r.fail.Load() {
				w.Header().Set("Content-Length", "5000")
				_, _ = w.Write([]byte("cut"))
				return
			}
		}
		inner.ServeHTTP(w, req)
	}))
	l := h.Listen(t, "127.0.0.1:0")
	srv.Listener.Close()
	srv.Listener = l
	srv.Start()
	t.Cleanup(srv.Close)
	r.addr = l.Addr().(*net.TCPAddr).AddrPort().String()
	return r
}

func (r *hub) push(t *testing.T, h *lab.Host, ref string, img v1.Image, user string) {
	t.Helper()
	full, err := name.ParseReference(r.addr+"/"+ref, name.Insecure)
	assert.NilError(t, err)
	opts := []remote.Option{remote.WithTransport(h.Transport()), remote.WithContext(t.Context())}
	if user != "" {
		opts = append(opts, remote.WithAuth(&authn.Basic{Username: user, Password: "secret"}))
	}
	assert.NilError(t, remote.Write(full, img, opts...))
}

func TestPull(t *testing.T) {
	h := lab.New(t)
	reg := serveRegistry(t, h, "")
	base := lab.Busybox(t)
	reg.push(t, h, "library/bb:1", lab.AddLayer(t, base, []lab.File{{Name: "one", Mode: 0o644, Body: "1\n"}}), "")
	reg.push(t, h, "library/bb:2", lab.AddLayer(t, base, []lab.File{{Name: "two", Mode: 0o644, Body: "2\n"}}), "")
	ref := reg.addr + "/library/bb"

	out := h.Docker(t, "pull", ref+":1")
	for _, want := range []string{"1: Pulling from library/bb", "Pull complete", "Digest: sha256:", "Status: Downloaded newer image for " + ref + ":1", ref + ":1"} {
		assert.Assert(t, is.Contains(out, want))
	}
	assert.Assert(t, is.Contains(h.Docker(t, "pull", ref+":1"), "Status: Image is up to date for "+ref+":1"))
	assert.Assert(t, is.Contains(h.Docker(t, "pull", ref+":2"), "Already exists"))
	assert.Equal(t, h.Docker(t, "run", "--rm", ref+":2", "cat", "/two"), "2")
	digest := h.Docker(t, "inspect", "-f", "{{index .RepoDigests 0}}", ref+":1")
	h.Docker(t, "rmi", ref+":1")
	h.Docker(t, "pull", digest)
	assert.Equal(t, h.Docker(t, "run", "--rm", digest, "cat", "/one"), "1")
	assert.Equal(t, h.Docker(t, "run", "--rm", "--pull", "always", "-q", ref+":1", "cat", "/one"), "1", "pulled by run")

	runCases(t, h, []cliCase{
		{name: "no such tag", args: "pull " + ref + ":3", code: 1, stderr: "manifest for " + ref + ":3 not found: manifest unknown"},
		{name: "no such registry", args: "pull -q 127.0.0.1:1/x:1", code: 1, stderr: "connection refused"},
		{name: "bad reference", args: "pull 'A B'", code: 1, stderr: "invalid reference format"},
	})

	t.Run("cut blobs leave nothing", func(t *testing.T) {
		reg.push(t, h, "library/cut:1", lab.FromFiles(t, []lab.File{{Name: "f", Mode: 0o644, Body: strings.Repeat("f", 9000)}}), "")
		reg.fail.Store(true)
		r := h.Try(t, "pull", reg.addr+"/library/cut:1")
		assert.Assert(t, r.Code != 0, r.Combined())
		assert.Assert(t, h.Try(t, "image", "inspect", reg.addr+"/library/cut:1").Code != 0)
		reg.fail.Store(false)
		h.Docker(t, "pull", reg.addr+"/library/cut:1")
	})
}

func TestPullWithLogin(t *testing.T) {
	h := lab.New(t)
	reg := serveRegistry(t, h, "ann")
	reg.push(t, h, "priv/bb:1", lab.Busybox(t), "ann")
	r := h.Try(t, "pull", reg.addr+"/priv/bb:1")
	assert.Assert(t, r.Code != 0, "pulled without a login")
	config := fmt.Sprintf(`{"auths":{%q:{"auth":"YW5uOnNlY3JldA=="}}}`, reg.addr)
	assert.NilError(t, os.MkdirAll(filepath.Join(h.Dir, "docker-config"), 0o700))
	assert.NilError(t, os.WriteFile(filepath.Join(h.Dir, "docker-config", "config.json"), []byte(config), 0o600))
	h.Docker(t, "pull", reg.addr+"/priv/bb:1")
	assert.Equal(t, h.Docker(t, "run", "--rm", reg.addr+"/priv/bb:1", "echo", "hi"), "hi")
}

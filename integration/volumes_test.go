//go:build integration

package integration

import (
	"os"
	"path/filepath"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/nereid-paas/nereid/integration/lab"
)

// mountBelow makes a directory of the host that has another file system mounted in it, at "below".
func mountBelow(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	below := filepath.Join(dir, "below")
	assert.NilError(t, os.Mkdir(below, 0o755))
	assert.NilError(t, unix.Mount("tmpfs", below, "tmpfs", 0, "size=64k"))
	t.Cleanup(func() { assert.NilError(t, unix.Unmount(below, unix.MNT_DETACH)) })
	return dir
}

func TestVolumes(t *testing.T) {
	h := lab.NewWithBusybox(t)
	withData := lab.WithConfig(t, lab.AddLayer(t, lab.Busybox(t), []lab.File{
		{Name: "data/", Mode: 0o750, UID: 65534, GID: 50},
		{Name: "data/seed", Mode: 0o640, UID: 65534, GID: 50, Body: "from the image\n"},
	}), func(c *v1.Config) { c.Volumes = map[string]struct{}{"/data": {}} })
	h.Load(t, "seeded:latest", withData)
	src := t.TempDir()
	assert.NilError(t, os.WriteFile(filepath.Join(src, "f"), []byte("bound\n"), 0o644))
	bound := mountBelow(t)
	runCases(t, h, []cliCase{
		{name: "named is made", args: "run --rm -v v1:/data busybox sh -c 'echo kept > /data/f'"},
		{name: "named is kept", args: "run --rm -v v1:/data busybox cat /data/f", out: "kept"},
		{name: "read-only", args: "run --rm -v v1:/data:ro busybox touch /data/g", code: 1, stderr: "Read-only file system"},
		{name: "mount syntax", args: "run --rm --mount type=volume,src=v1,dst=/m busybox cat /m/f", out: "kept"},
		{name: "listed", args: "volume ls -q", out: "v1"},
		{name: "inspect", args: "volume inspect -f '{{.Driver}} {{.Scope}}' v1", out: "local local"},
		{name: "copy-up", args: "run --rm -v v2:/data seeded cat /data/seed", out: "from the image"},
		{name: "copy-up keeps owner and mode", args: "run --rm -v v2:/data busybox stat -c '%a %u %g' /data /data/seed", out: "750 65534 50\n640 65534 50"},
		{name: "nocopy", args: "run --rm -v v3:/data:nocopy seeded ls /data", out: ""},
		{name: "a full volume is left alone", args: "run --rm -v v1:/data seeded ls /data", out: "f"},
		{name: "bind", args: "run --rm -v " + src + ":/b busybox cat /b/f", out: "bound"},
		{name: "bind by mount", args: "run --rm --mount type=bind,src=" + src + ",dst=/b,readonly busybox touch /b/x", code: 1, stderr: "Read-only"},
		{name: "read-only bind, and what is mounted below", args: "run --rm -v " + bound + ":/b:ro busybox touch /b/below/x", code: 1, stderr: "/b/below/x: Read-only file system"},
		{name: "read-only bind, writable below", args: "run --rm --mount type=bind,src=" + bound + ",dst=/b,readonly,bind-recursive=writable busybox sh -c 'touch /b/below/x && touch /b/x'", code: 1, stderr: "/b/x: Read-only file system"},
		{name: "read-only bind, read-only below", args: "run --rm --mount type=bind,src=" + bound + ",dst=/b,readonly,bind-recursive=readonly,bind-propagation=rprivate busybox touch /b/below/x", code: 1, stderr: "/b/below/x: Read-only file system"},
		{name: "bind source missing by mount", args: "run --rm --mount type=bind,src=/no/such,dst=/b busybox true", code: 125, stderr: `invalid mount config for type "bind": bind source path does not exist: /no/such`},
		{name: "bind source made by -v", args: "run --rm -v " + src + "/made:/b busybox ls /b", out: ""},
		{name: "tmpfs by mount", args: "run --rm --mount type=tmpfs,dst=/t,tmpfs-size=65536 busybox sh -c 'mount | grep /t'", out: "~size=64k"},
		{name: "duplicate", args: "run --rm -v v1:/d -v v2:/d busybox true", code: 125, stderr: "Duplicate mount point: /d"},
		{name: "relative destination", args: "run --rm -v v1:d busybox true", code: 125, stderr: "mount path must be absolute"},
		{name: "bad name", args: "run --rm -v 'a!b:/d' busybox true", code: 125, stderr: "includes invalid characters for a local volume name"},
		{name: "volumes-from", args: "create --name src -v v1:/from busybox", out: "~"},
		{name: "volumes-from reads", args: "run --rm --volumes-from src busybox cat /from/f", out: "kept"},
		{name: "in use", args: "volume rm v1", code: 1, stderr: "volume is in use"},
	})
	id := h.Docker(t, "create", "--name", "anon", "seeded")
	name := h.Docker(t, "inspect", "-f", "{{(index .Mounts 0).Name}}", id)
	assert.Equal(t, len(name), 64)
	h.Docker(t, "rm", "-v", "anon")
	assert.Assert(t, !is.Contains(h.Docker(t, "volume", "ls", "-q"), name)().Success(), "an anonymous volume outlived rm -v")
	h.Docker(t, "run", "--rm", "seeded", "true")
	assert.Equal(t, h.Docker(t, "volume", "ls", "-q"), "v1\nv2\nv3", "an anonymous volume outlived --rm")
	h.Docker(t, "rm", "src")
	h.Docker(t, "volume", "rm", "v1", "v2", "v3")
	assert.Equal(t, h.Docker(t, "volume", "ls", "-q"), "")
}

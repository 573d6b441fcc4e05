package image_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/go-connections/nat"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/pkg/image"
	"github.com/nereid-paas/nereid/pkg/image/imagetest"
)

func TestImport(t *testing.T) {
	root := imagetest.Tar(t, [2]string{"bin/sh", strings.Repeat("#!", 100)}, [2]string{"etc/hostname", "x"})
	for name, in := range map[string][]byte{"tar": root, "gzip": gzipped(t, root), "bzip2": bzipped} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, func(c *image.Config) { c.Version = "1.2" })
			held, err := r.Import(r.ctx, "admin", bytes.NewReader(in), image.ImportOptions{
				Message: "from a tar", Config: &container.Config{Cmd: []string{"sh"}}, Platform: &ocispec.Platform{OS: "linux", Architecture: "arm64"},
			})
			assert.NilError(t, err)
			assert.NilError(t, held.Keep())
			held.Release()
			opened, err := r.Open(r.ctx, "admin", held.ID)
			assert.NilError(t, err)
			cfg, err := image.DecodeConfig(opened.Config)
			assert.NilError(t, err)
			assert.Equal(t, cfg.Comment, "from a tar")
			assert.Equal(t, cfg.History[0].Comment, "from a tar")
			assert.Equal(t, cfg.DockerVersion, "1.2")
			assert.Equal(t, cfg.Architecture, "arm64")
			assert.DeepEqual(t, []string(cfg.Config.Cmd), []string{"sh"})
			assert.Check(t, time.Since(*cfg.Created) < time.Minute)
			assert.Equal(t, len(opened.Layers), 1)
			assert.Equal(t, opened.Layers[0].Digest, cfg.RootFS.DiffIDs[0])
			assert.Equal(t, len(r.blobs()), 3)
			assert.Equal(t, len(r.snapshots()), 1)
		})
	}
}

// bzipped is a tar of one file "f" that holds "hello", compressed by bzip2: Go has no writer for it.
var bzipped = mustBase64("QlpoOTFBWSZTWcduaJUAAHh7kMmAAEJAAGcAAADjRJ4ABAAACCAAVCSoyBo08oDT1BJKbRDJkA0Fz7icYIQdySEh3qxa9IyQIYTBbaCEbu1wpHBri8sE/nMe2HOizNEyI3SQfi7kinChIY7c0So=")

func TestImportOfWhatIsNoTar(t *testing.T) {
	cases := map[string]struct {
		in    io.Reader
		err   string
		class func(error) bool
	}{
		"text":        {strings.NewReader(strings.Repeat("not a tar ", 200)), "failed to register layer", errdefs.IsInvalidArgument},
		"gzip cut":    {bytes.NewReader(gzipped(t, []byte(random(9000)))[:4000]), "the archive ends too early", errdefs.IsInvalidArgument},
		"lost client": {io.MultiReader(strings.NewReader("x"), readerFunc(func([]byte) (int, error) { return 0, errors.New("reset by peer") })), "reset by peer", nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			_, err := r.Import(r.ctx, "admin", c.in, image.ImportOptions{})
			assert.ErrorContains(t, err, c.err)
			if c.class != nil {
				assert.Check(t, c.class(err), "%v", err)
			}
			assert.Equal(t, r.leases(), 0)
			assert.Equal(t, len(r.blobs()), 0)
			assert.Equal(t, len(r.snapshots()), 0)
			assert.Equal(t, len(r.partials()), 0)
		})
	}
}

func TestChanges(t *testing.T) {
	base := container.Config{
		Env:          []string{"A=1", "B=2"},
		Cmd:          []string{"old"},
		Entrypoint:   []string{"/entry"},
		Labels:       map[string]string{"kept": "yes"},
		ExposedPorts: nat.PortSet{"1/tcp": {}},
		WorkingDir:   "/srv",
	}
	untouched, err := json.Marshal(base)
	assert.NilError(t, err)
	cases := []struct {
		name    string
		changes []string
		want    func(*container.Config)
		err     string
	}{
		{"none", nil, func(*container.Config) {}, ""},
		{"cmd as shell", []string{"CMD echo hi"}, func(c *container.Config) { c.Cmd = []string{"/bin/sh", "-c", "echo hi"} }, ""},
		{"cmd as list", []string{`CMD ["echo","hi"]`}, func(c *container.Config) { c.Cmd = []string{"echo", "hi"} }, ""},
		{"an entrypoint resets the base's cmd", []string{`ENTRYPOINT ["/new"]`}, func(c *container.Config) { c.Entrypoint, c.Cmd = []string{"/new"}, nil }, ""},
		{"and not one given with it", []string{`CMD ["x"]`, `ENTRYPOINT ["/new"]`},
			func(c *container.Config) { c.Entrypoint, c.Cmd = []string{"/new"}, []string{"x"} }, ""},
		{"env", []string{"ENV B=3 C=$A", "env D e f"}, func(c *container.Config) { c.Env = []string{"A=1", "B=3", "C=1", "D=e f"} }, ""},
		{"expose", []string{"EXPOSE 80 53/udp 8000-8001"}, func(c *container.Config) {
			c.ExposedPorts = nat.PortSet{"1/tcp": {}, "80/tcp": {}, "53/udp": {}, "8000/tcp": {}, "8001/tcp": {}}
		}, ""},
		{"label", []string{`LABEL a=b "c d"="e f"`}, func(c *container.Config) { c.Labels = map[string]string{"kept": "yes", "a": "b", "c d": "e f"} }, ""},
		{"user", []string{"USER nobody:nogroup"}, func(c *container.Config) { c.User = "nobody:nogroup" }, ""},
		{"volume", []string{`VOLUME /a /b`, `VOLUME ["/c"]`}, func(c *container.Config) {
			c.Volumes = map[string]struct{}{"/a": {}, "/b": {}, "/c": {}}
		}, ""},
		{"workdir", []string{"WORKDIR app"}, func(c *container.Config) { c.WorkingDir = "/srv/app" }, ""},
		{"workdir from the root", []string{"WORKDIR /x/../y"}, func(c *container.Config) { c.WorkingDir = "/y" }, ""},
		{"onbuild", []string{"ONBUILD RUN make"}, func(c *container.Config) { c.OnBuild = []string{"RUN make"} }, ""},
		{"stopsignal", []string{"STOPSIGNAL SIGUSR1"}, func(c *container.Config) { c.StopSignal = "SIGUSR1" }, ""},
		{"healthcheck", []string{"HEALTHCHECK --interval=5s --retries=2 CMD true"}, func(c *container.Config) {
			c.Healthcheck = &container.HealthConfig{Test: []string{"CMD-SHELL", "true"}, Interval: 5 * time.Second, Retries: 2}
		}, ""},
		{"no healthcheck", []string{"HEALTHCHECK NONE"}, func(c *container.Config) { c.Healthcheck = &container.HealthConfig{Test: []string{"NONE"}} }, ""},
		{"run", []string{"RUN rm -rf /"}, nil, "RUN is not a valid change command"},
		{"from", []string{"FROM scratch"}, nil, "FROM is not a valid change command"},
		{"unknown", []string{"FROBNICATE"}, nil, "FROBNICATE is not a valid change command"},
		{"bad signal", []string{"STOPSIGNAL NOPE"}, nil, "invalid signal: NOPE"},
		{"bad port", []string{"EXPOSE web"}, nil, "invalid containerPort: web"},
		{"empty", []string{""}, nil, "file with no instructions"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, err := image.ApplyChanges(&base, c.changes)
			if c.err != "" {
				assert.ErrorContains(t, err, c.err)
				assert.Check(t, errdefs.IsInvalidArgument(err), "%v", err)
				return
			}
			assert.NilError(t, err)
			var want container.Config
			assert.NilError(t, json.Unmarshal(untouched, &want))
			c.want(&want)
			assert.DeepEqual(t, *got, want)
			now, err := json.Marshal(base)
			assert.NilError(t, err)
			assert.Equal(t, string(now), string(untouched), "the base must not change")
		})
	}
}

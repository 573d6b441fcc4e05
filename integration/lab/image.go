package lab

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"gotest.tools/v3/assert"
)

// made is when the test images were made, so that their ids do not change from run to run.
var made = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// Busybox is an image of Debian's static busybox, laid out as the well-known one is: applets in /bin, root and nobody,
// an empty /tmp, "sh" as its command.
func Busybox(t testing.TB) v1.Image {
	t.Helper()
	return WithConfig(t, FromFiles(t, busyboxFiles(t)), func(c *v1.Config) {
		c.Cmd = []string{"sh"}
		c.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	})
}

// File is one entry of an image.
type File struct {
	Name, Link, Body string
	Mode             int64
	UID, GID         int
}

func busyboxFiles(t testing.TB) []File {
	t.Helper()
	bin, err := os.ReadFile("/bin/busybox")
	assert.NilError(t, err)
	applets, err := exec.CommandContext(t.Context(), "/bin/busybox", "--list").Output()
	assert.NilError(t, err)
	files := []File{
		{Name: "bin/", Mode: 0o755}, {Name: "bin/busybox", Mode: 0o755, Body: string(bin)},
		{Name: "etc/", Mode: 0o755}, {Name: "home/", Mode: 0o755}, {Name: "root/", Mode: 0o700},
		{Name: "tmp/", Mode: 0o1777}, {Name: "var/", Mode: 0o755}, {Name: "var/www/", Mode: 0o755},
		{Name: "etc/passwd", Mode: 0o644, Body: "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\nnobody:x:65534:65534:nobody:/home:/bin/false\n"},
		{Name: "etc/group", Mode: 0o644, Body: "root:x:0:\ndaemon:x:1:\nstaff:x:50:nobody\nnogroup:x:65534:\n"},
		{Name: "www/", Mode: 0o755}, {Name: "www/index.html", Mode: 0o644, Body: "hello from busybox\n"},
	}
	for a := range strings.FieldsSeq(string(applets)) {
		if a != "busybox" {
			files = append(files, File{Name: "bin/" + a, Link: "/bin/busybox"})
		}
	}
	return files
}

// FromFiles is an image of one layer.
func FromFiles(t testing.TB, files []File) v1.Image {
	t.Helper()
	return AddLayer(t, empty.Image, files)
}

// AddLayer puts a layer of files over an image.
func AddLayer(t testing.TB, base v1.Image, files []File) v1.Image {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range files {
		h := &tar.Header{Name: f.Name, Mode: f.Mode, Size: int64(len(f.Body)), ModTime: made, Uid: f.UID, Gid: f.GID, Typeflag: tar.TypeReg, Format: tar.FormatPAX}
		switch {
		case strings.HasSuffix(f.Name, "/"):
			h.Typeflag = tar.TypeDir
		case f.Link != "":
			h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, f.Link, 0o777
		}
		assert.NilError(t, w.WriteHeader(h))
		_, err := io.WriteString(w, f.Body)
		assert.NilError(t, err)
	}
	assert.NilError(t, w.Close())
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil })
	assert.NilError(t, err)
	img, err := mutate.Append(base, mutate.Addendum{Layer: layer, History: v1.History{Created: v1.Time{Time: made}, CreatedBy: "made by the tests"}})
	assert.NilError(t, err)
	return img
}

// WithConfig changes an image's configuration.
func WithConfig(t testing.TB, img v1.Image, change func(*v1.Config)) v1.Image {
	t.Helper()
	f, err := img.ConfigFile()
	assert.NilError(t, err)
	f = f.DeepCopy()
	f.OS, f.Architecture, f.Created = "linux", runtime.GOARCH, v1.Time{Time: made}
	change(&f.Config)
	img, err = mutate.ConfigFile(img, f)
	assert.NilError(t, err)
	return img
}

// Archive writes an image as `docker save` would and returns the path.
func Archive(t testing.TB, ref string, img v1.Image) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image.tar")
	tag, err := name.NewTag(ref)
	assert.NilError(t, err)
	assert.NilError(t, tarball.WriteToFile(path, tag, img))
	return path
}

// Load gives the host an image under a name.
func (h *Host) Load(t testing.TB, ref string, img v1.Image) {
	t.Helper()
	h.Docker(t, "load", "-q", "-i", Archive(t, ref, img))
}

// NewWithBusybox is New with busybox loaded.
func NewWithBusybox(t testing.TB, args ...string) *Host {
	t.Helper()
	h := New(t, args...)
	h.Load(t, "busybox:latest", Busybox(t))
	return h
}

// GoImage is an image of one static Go program of ours, named by its package's folder below this one.
func GoImage(t testing.TB, program string) v1.Image {
	t.Helper()
	return goImage(t, program, GoProgram(t, program))
}

// GoImageOf is an image of one static Go program of any package of ours, called by a name.
func GoImageOf(t testing.TB, program, pkg string) v1.Image {
	t.Helper()
	return goImage(t, program, goBuild(t, program, pkg))
}

func goImage(t testing.TB, program, file string) v1.Image {
	t.Helper()
	body, err := os.ReadFile(file)
	assert.NilError(t, err)
	return WithConfig(t, FromFiles(t, []File{{Name: program, Mode: 0o755, Body: string(body)}}), func(c *v1.Config) {
		c.Entrypoint = []string{"/" + program}
	})
}

// GoProgram builds one static Go program of ours, named by its package's folder below this one, and returns its path.
func GoProgram(t testing.TB, program string) string {
	t.Helper()
	return goBuild(t, program, "github.com/nereid-paas/nereid/integration/lab/"+program)
}

func goBuild(t testing.TB, program, pkg string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), program)
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, pkg)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	said, err := build.CombinedOutput()
	assert.NilError(t, err, string(said))
	return out
}

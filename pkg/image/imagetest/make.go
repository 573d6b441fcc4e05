package imagetest

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"gotest.tools/v3/assert"
)

// Tar is a tar of files, by name, in the order given.
func Tar(t testing.TB, files ...[2]string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		assert.NilError(t, w.WriteHeader(&tar.Header{
			Name: f[0], Size: int64(len(f[1])), Mode: 0o644, Typeflag: tar.TypeReg, Format: tar.FormatPAX,
		}))
		_, err := io.WriteString(w, f[1])
		assert.NilError(t, err)
	}
	assert.NilError(t, w.Close())
	return b.Bytes()
}

// Layer is an image layer of a tar, gzip'd as registries have it.
func Layer(t testing.TB, content []byte) v1.Layer {
	t.Helper()
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil })
	assert.NilError(t, err)
	return l
}

// Image makes an image for linux/amd64 of layers that hold one file each, created at a fixed time so many seconds
// past an epoch, and lets change touch its configuration.
func Image(t testing.TB, created int64, change func(*v1.ConfigFile), files ...[2]string) v1.Image {
	t.Helper()
	img := v1.Image(empty.Image)
	var err error
	when := v1.Time{Time: time.Unix(1_700_000_000+created, 0).UTC()}
	for _, f := range files {
		img, err = mutate.Append(img, mutate.Addendum{
			Layer:   Layer(t, Tar(t, f)),
			History: v1.History{Created: when, CreatedBy: "COPY " + f[0]},
		})
		assert.NilError(t, err)
	}
	cfg, err := img.ConfigFile()
	assert.NilError(t, err)
	cfg = cfg.DeepCopy()
	cfg.OS, cfg.Architecture, cfg.Created = "linux", "amd64", when
	if change != nil {
		change(cfg)
	}
	img, err = mutate.ConfigFile(img, cfg)
	assert.NilError(t, err)
	return img
}

// Push puts an image or index into a registry.
func Push(t testing.TB, ref string, what remote.Taggable) {
	t.Helper()
	to, err := name.ParseReference(ref)
	assert.NilError(t, err)
	switch w := what.(type) {
	case v1.Image:
		err = remote.Write(to, w)
	case v1.ImageIndex:
		err = remote.WriteIndex(to, w)
	}
	assert.NilError(t, err)
}

// DockerArchive is what docker save makes of images, by name. A nil name makes none.
func DockerArchive(t testing.TB, images map[string]v1.Image) []byte {
	t.Helper()
	refs := map[name.Reference]v1.Image{}
	for n, img := range images {
		ref, err := name.ParseReference(n)
		assert.NilError(t, err)
		refs[ref] = img
	}
	var b bytes.Buffer
	assert.NilError(t, tarball.MultiRefWrite(refs, &b))
	return b.Bytes()
}

// OCIArchive is a tar of an OCI layout whose index has been filled by fill.
func OCIArchive(t testing.TB, fill func(layout.Path)) []byte {
	t.Helper()
	dir := t.TempDir()
	p, err := layout.Write(dir, empty.Index)
	assert.NilError(t, err)
	fill(p)
	return TarDir(t, dir)
}

// TarDir is a tar of a directory's files.
func TarDir(t testing.TB, dir string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	assert.NilError(t, filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil || path == dir {
			return err
		}
		hdr, err := tar.FileInfoHeader(info, "")
		if err != nil {
			return err
		}
		if hdr.Name, err = filepath.Rel(dir, path); err != nil {
			return err
		}
		if err := w.WriteHeader(hdr); err != nil || info.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err == nil {
			_, err = w.Write(data)
		}
		return err
	}))
	assert.NilError(t, w.Close())
	return b.Bytes()
}

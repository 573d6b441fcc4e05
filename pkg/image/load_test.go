package image_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/pkg/image"
	"github.com/nereid-paas/nereid/pkg/image/imagetest"
)

type loaded struct {
	id   string
	tags []string
}

// load loads an archive and keeps what is in it.
func (r *rig) load(in io.Reader, platforms ...ocispec.Platform) ([]loaded, error) {
	r.t.Helper()
	var got []loaded
	err := r.Load(r.ctx, "admin", in, platforms, image.NewProgress(&r.out, nil), func(images []*image.Loaded) error {
		for _, l := range images {
			one := loaded{id: string(l.ID)}
			for _, t := range l.Tags {
				one.tags = append(one.tags, t.String())
			}
			got = append(got, one)
			if err := l.Keep(); err != nil {
				return err
			}
		}
		return nil
	})
	return got, err
}

func archiveOf(t *testing.T, n string, img v1.Image) []byte {
	t.Helper()
	return imagetest.DockerArchive(t, map[string]v1.Image{n: img})
}

func TestLoadDockerArchive(t *testing.T) {
	img := twoLayers(t)
	raw := archiveOf(t, "busybox:latest", img)
	var zipped, zstded bytes.Buffer
	z := gzip.NewWriter(&zipped)
	z.Write(raw)
	assert.NilError(t, z.Close())
	zs, err := zstd.NewWriter(&zstded)
	assert.NilError(t, err)
	zs.Write(raw)
	assert.NilError(t, zs.Close())
	for name, in := range map[string][]byte{"plain": raw, "gzip": zipped.Bytes(), "zstd": zstded.Bytes()} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			got, err := r.load(bytes.NewReader(in))
			assert.NilError(t, err)
			assert.DeepEqual(t, got, []loaded{{configDigest(t, img), []string{"docker.io/library/busybox:latest"}}}, cmpLoaded)
			var diffs []string
			for _, l := range mustLayers(t, img) {
				d, err := l.DiffID()
				assert.NilError(t, err)
				diffs = append(diffs, d.Hex[:12]+": Loading layer")
			}
			assert.DeepEqual(t, r.lines(), diffs)
			assert.Equal(t, r.leases(), 0)
			assert.Equal(t, len(r.blobs()), 4)
			opened, err := r.Open(r.ctx, "admin", r.kept()[0])
			assert.NilError(t, err)
			assert.DeepEqual(t, opened.Sizes, []int64{9000, 4})

			// What is there already is not loaded again.
			_, err = r.load(bytes.NewReader(in))
			assert.NilError(t, err)
			assert.Equal(t, len(r.lines()), 0)
		})
	}
}

func TestLoadSeveralImagesThatShareLayers(t *testing.T) {
	r := newRig(t)
	base := twoLayers(t)
	more, err := mutate.AppendLayers(base, imagetest.Layer(t, imagetest.Tar(t, [2]string{"c", "three"})))
	assert.NilError(t, err)
	got, err := r.load(bytes.NewReader(imagetest.DockerArchive(t, map[string]v1.Image{
		"base:1": base, "base:2": base, "localhost:5000/more:1": more,
	})))
	assert.NilError(t, err)
	tags := map[string][]string{}
	for _, l := range got {
		tags[l.id] = append(tags[l.id], l.tags...)
	}
	assert.Equal(t, len(tags[configDigest(t, base)]), 2)
	assert.DeepEqual(t, tags[configDigest(t, more)], []string{"localhost:5000/more:1"})
	assert.Equal(t, len(r.snapshots()), 3)
	assert.Equal(t, len(r.kept()), 2)
}

// entries is a tar of entries given in full.
func entries(t *testing.T, list ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range list {
		body := h.PAXRecords["body"]
		h.PAXRecords = nil
		h.Size, h.Mode = int64(len(body)), 0o644
		assert.NilError(t, w.WriteHeader(&h))
		_, err := io.WriteString(w, body)
		assert.NilError(t, err)
	}
	assert.NilError(t, w.Close())
	return b.Bytes()
}

func regular(name, body string) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeReg, PAXRecords: map[string]string{"body": body}}
}

func link(name, to string) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: to}
}

// dockerFiles takes an archive of one image apart, for tests that put it together wrongly.
type dockerFiles struct {
	config string
	layers []string
}

func filesOf(t *testing.T, img v1.Image) dockerFiles {
	t.Helper()
	raw, err := img.RawConfigFile()
	assert.NilError(t, err)
	f := dockerFiles{config: string(raw)}
	for _, l := range mustLayers(t, img) {
		r, err := l.Uncompressed()
		assert.NilError(t, err)
		b, err := io.ReadAll(r)
		assert.NilError(t, err)
		f.layers = append(f.layers, string(b))
	}
	return f
}

func TestLoadAsOldEnginesSaved(t *testing.T) {
	img := twoLayers(t)
	f := filesOf(t, img)
	manifest := `[{"Config":"c.json","RepoTags":null,"Layers":["l0/layer.tar","l1/layer.tar"]}]`
	t.Run("layers as links, manifest first, no name", func(t *testing.T) {
		r := newRig(t)
		got, err := r.load(bytes.NewReader(entries(t,
			regular("manifest.json", manifest), link("l0/layer.tar", "../real/layer.tar"), link("l1/layer.tar", "/real/two.tar"),
			regular("real/layer.tar", f.layers[0]), regular("./real/two.tar", f.layers[1]), regular("c.json", f.config))))
		assert.NilError(t, err)
		assert.DeepEqual(t, got, []loaded{{configDigest(t, img), nil}}, cmpLoaded)
	})
	t.Run("no manifest.json", func(t *testing.T) {
		r := newRig(t)
		got, err := r.load(bytes.NewReader(entries(t,
			regular("aa/json", `{"id":"aa","created":"2015-01-01T00:00:00Z","container_config":{"Cmd":["/bin/sh","-c","#(nop) ADD"]}}`),
			regular("aa/layer.tar", f.layers[0]), regular("aa/VERSION", "1.0"),
			regular("bb/json", `{"id":"bb","parent":"aa","created":"2015-01-02T00:00:00Z","os":"linux","architecture":"amd64","config":{"Cmd":["sh"]}}`),
			regular("bb/layer.tar", f.layers[1]),
			regular("repositories", `{"old":{"1":"bb","2":"bb"}}`))))
		assert.NilError(t, err)
		assert.Equal(t, len(got), 1)
		assert.DeepEqual(t, got[0].tags, []string{"docker.io/library/old:1", "docker.io/library/old:2"})
		opened, err := r.Open(r.ctx, "admin", r.kept()[0])
		assert.NilError(t, err)
		cfg, err := image.DecodeConfig(opened.Config)
		assert.NilError(t, err)
		assert.DeepEqual(t, []string(cfg.Config.Cmd), []string{"sh"})
		assert.Equal(t, len(cfg.History), 2)
		assert.Equal(t, cfg.History[0].CreatedBy, "/bin/sh -c #(nop) ADD")
		assert.Check(t, !strings.Contains(string(opened.Config), `"parent"`))
	})
}

func TestLoadRefusesBadArchives(t *testing.T) {
	img := twoLayers(t)
	f := filesOf(t, img)
	whole := archiveOf(t, "app:1", img)
	item := func(layers string) tar.Header {
		return regular("manifest.json", `[{"Config":"c.json","RepoTags":["app:1"],"Layers":[`+layers+`]}]`)
	}
	config, l0, l1 := regular("c.json", f.config), regular("0.tar", f.layers[0]), regular("1.tar", f.layers[1])
	cases := []struct {
		name string
		in   []byte
		err  string
	}{
		{"empty", nil, "invalid archive"},
		{"no tar", []byte(strings.Repeat("nonsense ", 200)), "Error processing tar file: archive/tar: invalid tar header"},
		{"a tar of something else", imagetest.Tar(t, [2]string{"etc/passwd", "root"}), "it has none of manifest.json, index.json and repositories"},
		{"cut short", whole[:len(whole)/2], "Error processing tar file"},
		{"gzip cut short", gzipped(t, whole)[:300], "Error processing tar file: "},
		{"null manifest", imagetest.Tar(t, [2]string{"manifest.json", "null"}), "invalid manifest, manifest cannot be null (but can be [])"},
		{"manifest that is no JSON", imagetest.Tar(t, [2]string{"manifest.json", "{"}), "manifest.json: unexpected end of JSON input"},
		{"no configuration", entries(t, item(`"0.tar","1.tar"`), l0, l1), "open c.json: file does not exist"},
		{"no layer", entries(t, item(`"0.tar","1.tar"`), config, l0), "open 1.tar: file does not exist"},
		{"too few layers", entries(t, item(`"0.tar"`), config, l0, l1), "invalid manifest, layers length mismatch: expected 1, got 2"},
		{"layers in the wrong order", entries(t, item(`"1.tar","0.tar"`), config, l0, l1), "invalid diffID for layer 0: expected "},
		{"a layer that is no tar", entries(t, item(`"0.tar","1.tar"`), config, l0, regular("1.tar", strings.Repeat("x", 2000))), "failed to register layer"},
		{"a configuration without layers", entries(t, item(`"0.tar","1.tar"`), regular("c.json", `{"os":"linux"}`), l0, l1), "invalid image JSON, no RootFS key"},
		{"another operating system", entries(t, item(``), regular("c.json", `{"os":"windows","rootfs":{"type":"layers"}}`)), "cannot load windows image on linux"},
		{"a bad name", entries(t, regular("manifest.json", `[{"Config":"c.json","RepoTags":["App"],"Layers":[]}]`), config), "invalid reference format: repository name (library/App) must be lowercase"},
		{"a name with a digest only", entries(t, regular("manifest.json", `[{"Config":"c.json","RepoTags":["app"],"Layers":[]}]`), config), `invalid tag "app"`},
		{"a path that leads out", entries(t, regular("../evil", "x")), `path "../evil" leads out of the archive`},
		{"a link that leads out", entries(t, item(`"0.tar","1.tar"`), config, link("0.tar", "../../etc/passwd"), l1), "leads out of the archive"},
		{"a configuration that leads out", entries(t, regular("manifest.json", `[{"Config":"../../etc/passwd","Layers":[]}]`)), "leads out of the archive"},
		{"links in a circle", entries(t, item(`"0.tar","1.tar"`), config, link("0.tar", "1.tar"), link("1.tar", "0.tar")), "too many links"},
		{"legacy in a circle", entries(t, regular("aa/json", `{"parent":"aa"}`), regular("repositories", `{"x":{"1":"aa"}}`)), "more than 128 layers"},
		{"legacy without an id", entries(t, regular("repositories", `{"x":{"1":""}}`)), "open json: file does not exist"},
		{"legacy that is null", entries(t, regular("aa/json", "null"), regular("aa/layer.tar", f.layers[0]), regular("repositories", `{"x":{"1":"aa"}}`)), "json cannot be null"},
		{"a second image that is bad", entries(t, regular("manifest.json",
			`[{"Config":"c.json","RepoTags":["app:1"],"Layers":["0.tar","1.tar"]},{"Config":"missing.json","Layers":[]}]`), config, l0, l1), "open missing.json"},
		{"an OCI layout without its blobs", entries(t, regular("oci-layout", `{"imageLayoutVersion":"1.0.0"}`), regular("index.json",
			`{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:`+strings.Repeat("a", 64)+`","size":2}]}`)),
			"open blobs/sha256/aaaa"},
		{"an OCI blob that is damaged", entries(t, regular("index.json",
			`{"schemaVersion":2,"manifests":[{"digest":"sha256:`+strings.Repeat("a", 64)+`","size":2}]}`), regular("blobs/sha256/"+strings.Repeat("a", 64), "{}")),
			"is damaged"},
		{"an OCI digest that is a path", entries(t, regular("index.json", `{"manifests":[{"digest":"sha256:../../x","size":2}]}`)), "invalid checksum digest"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			_, err := r.load(bytes.NewReader(c.in))
			assert.ErrorContains(t, err, c.err)
			assert.Check(t, errdefs.IsInvalidArgument(err), "%v", err)
			assert.Equal(t, len(r.kept()), 0)
			assert.Equal(t, r.leases(), 0)
			assert.Equal(t, len(r.blobs()), 0)
			assert.Equal(t, len(r.snapshots()), 0)
			assert.Equal(t, len(r.partials()), 0)
		})
	}
}

func gzipped(t *testing.T, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	_, err := z.Write(b)
	assert.NilError(t, err)
	assert.NilError(t, z.Close())
	return out.Bytes()
}

func TestLoadOCILayout(t *testing.T) {
	amd := imagetest.Image(t, 1, nil, [2]string{"a", "amd"})
	arm := imagetest.Image(t, 2, func(c *v1.ConfigFile) { c.Architecture = "arm64" }, [2]string{"a", "arm"})
	platform := func(arch string) *v1.Platform { return &v1.Platform{OS: "linux", Architecture: arch} }
	index := mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: arm, Descriptor: v1.Descriptor{Platform: platform("arm64")}},
		mutate.IndexAddendum{Add: amd, Descriptor: v1.Descriptor{Platform: platform("amd64")}},
	)
	win := imagetest.Image(t, 1, func(c *v1.ConfigFile) { c.OS = "windows" }, [2]string{"a", "win"})
	mixed := mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: amd, Descriptor: v1.Descriptor{Platform: platform("amd64")}},
		mutate.IndexAddendum{Add: win, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "windows", Architecture: "amd64"}}},
	)
	foreign := mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: win, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "windows", Architecture: "amd64"}}},
		mutate.IndexAddendum{Add: arm, Descriptor: v1.Descriptor{Platform: platform("arm64")}},
	)
	named := func(kind, n string) layout.Option {
		return layout.WithAnnotations(map[string]string{kind: n})
	}
	const full, bare = "io.containerd.image.name", "org.opencontainers.image.ref.name"
	asked := func(arch string) []ocispec.Platform { return []ocispec.Platform{{OS: "linux", Architecture: arch}} }
	cases := []struct {
		name      string
		fill      func(layout.Path)
		platforms []ocispec.Platform
		want      []loaded
		err       string
	}{
		{
			name: "a manifest with its full name",
			fill: func(p layout.Path) { check(t, p.AppendImage(amd, named(full, "docker.io/library/app:1"))) },
			want: []loaded{{configDigest(t, amd), []string{"docker.io/library/app:1"}}},
		},
		{
			name: "a name that is a reference",
			fill: func(p layout.Path) { check(t, p.AppendImage(amd, named(bare, "app:2"))) },
			want: []loaded{{configDigest(t, amd), []string{"docker.io/library/app:2"}}},
		},
		{
			name: "a tag alone names nothing",
			fill: func(p layout.Path) { check(t, p.AppendImage(amd, named(bare, "latest"))) },
			want: []loaded{{configDigest(t, amd), nil}},
		},
		{
			name: "two images",
			fill: func(p layout.Path) {
				check(t, p.AppendImage(amd, named(full, "docker.io/library/app:1")))
				check(t, p.AppendImage(arm, named(full, "docker.io/library/other:1")))
			},
			want: []loaded{{configDigest(t, amd), []string{"docker.io/library/app:1"}}, {configDigest(t, arm), []string{"docker.io/library/other:1"}}},
		},
		{
			name:      "an index, and a platform",
			fill:      func(p layout.Path) { check(t, p.AppendIndex(index, named(full, "docker.io/library/multi:1"))) },
			platforms: asked("arm64"),
			want:      []loaded{{configDigest(t, arm), []string{"docker.io/library/multi:1"}}},
		},
		{
			name: "an index with another operating system",
			fill: func(p layout.Path) { check(t, p.AppendIndex(mixed, named(full, "docker.io/library/multi:1"))) },
			want: []loaded{{configDigest(t, amd), []string{"docker.io/library/multi:1"}}},
		},
		{
			name: "another operating system first, and none of ours",
			fill: func(p layout.Path) { check(t, p.AppendIndex(foreign, named(full, "docker.io/library/multi:1"))) },
			want: []loaded{{configDigest(t, arm), []string{"docker.io/library/multi:1"}}},
		},
		{
			name:      "a platform that is not there",
			fill:      func(p layout.Path) { check(t, p.AppendIndex(index, named(full, "docker.io/library/multi:1"))) },
			platforms: asked("s390x"),
			err:       "no matching manifest for linux/s390x in the manifest list entries",
		},
		{
			name: "a manifest for each platform under one name",
			fill: func(p layout.Path) {
				for arch, img := range map[string]v1.Image{"amd64": amd, "arm64": arm} {
					check(t, p.AppendImage(img, named(full, "docker.io/library/multi:1"), layout.WithPlatform(*platform(arch))))
				}
			},
			platforms: asked("amd64"),
			want:      []loaded{{configDigest(t, amd), []string{"docker.io/library/multi:1"}}},
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			got, err := r.load(bytes.NewReader(imagetest.OCIArchive(t, c.fill)), c.platforms...)
			if c.err != "" {
				assert.Error(t, err, c.err)
				assert.Equal(t, len(r.blobs()), 0)
				return
			}
			assert.NilError(t, err)
			assert.DeepEqual(t, got, c.want, cmpLoaded)
			assert.Equal(t, len(r.kept()), len(c.want))
			for _, id := range r.kept() {
				r.containerd.Collect(t)
				_, err := r.Open(r.ctx, "admin", id)
				assert.NilError(t, err)
			}
		})
	}
}

// TestLoadIndexOfNoDigests: an index's entries whose digests are none panicked rather than being passed over.
func TestLoadIndexOfNoDigests(t *testing.T) {
	for _, arch := range []string{"amd64", "riscv64"} {
		index := `{"manifests":[{"mediaType":"` + ocispec.MediaTypeImageManifest + `","digest":"x","platform":{"os":"linux","architecture":"` + arch + `"}}]}`
		d := digest.FromString(index)
		_, err := newRig(t).load(bytes.NewReader(entries(t, regular("blobs/sha256/"+d.Encoded(), index), regular("index.json",
			fmt.Sprintf(`{"manifests":[{"mediaType":%q,"digest":%q,"size":%d}]}`, ocispec.MediaTypeImageIndex, d, len(index))))))
		assert.ErrorContains(t, err, "no matching manifest for linux/", "%s", arch)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	assert.NilError(t, err)
}

// A load whose client goes, or whose entering fails, leaves nothing.
func TestLoadLeavesNothingWhenItFails(t *testing.T) {
	raw := archiveOf(t, "app:1", twoLayers(t))
	t.Run("entering", func(t *testing.T) {
		r := newRig(t)
		err := r.Load(r.ctx, "admin", bytes.NewReader(raw), nil, nil, func([]*image.Loaded) error { return errors.New("no") })
		assert.Error(t, err, "no")
		assert.Equal(t, len(r.blobs()), 0)
	})
	t.Run("reading", func(t *testing.T) {
		r := newRig(t)
		_, err := r.load(io.MultiReader(bytes.NewReader(raw[:700]), readerFunc(func([]byte) (int, error) { return 0, errors.New("connection reset") })))
		assert.ErrorContains(t, err, "connection reset")
		assert.Equal(t, len(r.blobs()), 0)
		assert.Equal(t, len(r.partials()), 0)
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// docker save has written both forms into one archive since 25.0: manifest.json decides, as in Docker.
func TestLoadOfBothForms(t *testing.T) {
	img := twoLayers(t)
	dir := t.TempDir()
	p, err := layout.Write(dir, empty.Index)
	assert.NilError(t, err)
	assert.NilError(t, p.AppendImage(img))
	both := imagetest.TarDir(t, dir)
	config := configDigest(t, img)
	var layers []string
	for _, l := range mustLayers(t, img) {
		layers = append(layers, "blobs/sha256/"+strings.TrimPrefix(digestOf(t, l), "sha256:"))
	}
	item, err := json.Marshal([]map[string]any{{
		"Config": "blobs/sha256/" + strings.TrimPrefix(config, "sha256:"), "RepoTags": []string{"app:both"}, "Layers": layers,
	}})
	assert.NilError(t, err)
	both = append(both[:len(both)-1024], imagetest.Tar(t, [2]string{"manifest.json", string(item)})...)
	r := newRig(t)
	got, err := r.load(bytes.NewReader(both))
	assert.NilError(t, err)
	assert.DeepEqual(t, got, []loaded{{config, []string{"docker.io/library/app:both"}}}, cmpLoaded)
}

func TestPlatformOfDockerArchive(t *testing.T) {
	r := newRig(t)
	arm := imagetest.Image(t, 2, func(c *v1.ConfigFile) { c.Architecture = "arm64" }, [2]string{"a", "arm"})
	got, err := r.load(bytes.NewReader(imagetest.DockerArchive(t, map[string]v1.Image{"a:amd": twoLayers(t), "a:arm": arm})),
		ocispec.Platform{OS: "linux", Architecture: "arm64"})
	assert.NilError(t, err)
	assert.DeepEqual(t, got, []loaded{{configDigest(t, arm), []string{"docker.io/library/a:arm"}}}, cmpLoaded)
	_, err = r.load(bytes.NewReader(imagetest.DockerArchive(t, map[string]v1.Image{"a:arm": arm})), ocispec.Platform{OS: "linux", Architecture: "s390x"})
	assert.Error(t, err, "no images providing the requested platform linux/s390x found")
	assert.Assert(t, errdefs.IsNotFound(err))
}

// Layers too large for memory go through the content store, at any place in the archive.
func TestLoadOfLargeLayers(t *testing.T) {
	r := newRig(t)
	img := imagetest.Image(t, 1, nil, [2]string{"a", random(3 << 20)}, [2]string{"b", random(1 << 20)})
	f := filesOf(t, img)
	got, err := r.load(bytes.NewReader(entries(t, regular("1.tar", f.layers[1]), regular("c.json", f.config),
		regular("manifest.json", `[{"Config":"c.json","RepoTags":["big:1"],"Layers":["0.tar","1.tar"]}]`), regular("0.tar", f.layers[0]))))
	assert.NilError(t, err)
	assert.Equal(t, got[0].id, configDigest(t, img))
	assert.Equal(t, len(r.blobs()), 4)
	opened, err := r.Open(r.ctx, "admin", r.kept()[0])
	assert.NilError(t, err)
	assert.DeepEqual(t, opened.Sizes, []int64{3 << 20, 1 << 20})
}

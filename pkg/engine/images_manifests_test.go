package engine

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/containerd/platforms"
	"github.com/docker/docker/api/types/backend"
	"github.com/docker/docker/api/types/filters"
	imagetypes "github.com/docker/docker/api/types/image"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/nereid-paas/nereid/pkg/image/imagetest"
)

// An image that came by an index shows all that the index lists: what can be run here, what could be pulled, and what
// attests to either.
func TestManifestsOfAnIndex(t *testing.T) {
	r := newImageRig(t)
	reg := imagetest.NewRegistry(t)
	index := v1.ImageIndex(empty.Index)
	add := func(n int64, d v1.Descriptor) string {
		img := imagetest.Image(t, n, func(c *v1.ConfigFile) { c.Architecture = d.Platform.Architecture }, [2]string{"f", d.Platform.Architecture})
		digest, err := img.Digest()
		assert.NilError(t, err)
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: d})
		return digest.String()
	}
	arm := add(1, v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "arm64"}})
	amd := add(2, v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}})
	says := add(3, v1.Descriptor{
		Platform:    &v1.Platform{OS: "unknown", Architecture: "unknown"},
		Annotations: map[string]string{annotationKind: attestation, annotationOf: amd},
	})
	ref := reg.Host() + "/multi:1"
	imagetest.Push(t, ref, index)
	assert.NilError(t, r.Pull(r.ctx, ref, false, &ocispec.Platform{OS: "linux", Architecture: "amd64"}, nil, io.Discard))

	want := []string{arm + " image false linux/arm64", amd + " image true linux/amd64", says + " attestation false of " + amd}
	got, err := r.Inspect(r.ctx, ref, backend.ImageInspectOpts{Manifests: true})
	assert.NilError(t, err)
	assert.DeepEqual(t, manifestLines(got.Manifests), want)
	list, err := r.List(r.ctx, imagetypes.ListOptions{Manifests: true})
	assert.NilError(t, err)
	assert.DeepEqual(t, manifestLines(list[0].Manifests), want)
}

// Several platforms of an index are one image to people: whichever was pulled first, the name is this host's platform's,
// and the others are found, saved, loaded, pushed and removed with it, or by their platform.
func TestSeveralPlatforms(t *testing.T) {
	host := platforms.DefaultSpec()
	other := ocispec.Platform{OS: "linux", Architecture: "s390x"}
	reg := imagetest.NewRegistry(t)
	index := v1.ImageIndex(empty.Index)
	for n, p := range []ocispec.Platform{other, host} {
		img := imagetest.Image(t, int64(n+1), func(c *v1.ConfigFile) { c.Architecture = p.Architecture }, [2]string{"f", p.Architecture})
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: p.Architecture}}})
	}
	ref := reg.Host() + "/multi:1"
	imagetest.Push(t, ref, index)
	want, err := index.Digest()
	assert.NilError(t, err)

	arch := func(r *imageRig, ref string, p *ocispec.Platform) string {
		t.Helper()
		got, err := r.Inspect(r.ctx, ref, backend.ImageInspectOpts{Platform: p})
		assert.NilError(t, err)
		assert.DeepEqual(t, got.RepoTags, []string{ref})
		if p == nil {
			assert.Equal(t, got.Descriptor.Digest.String(), want.String(), "the descriptor is the index's")
		} else {
			assert.DeepEqual(t, got.Descriptor.Platform, p)
			assert.Check(t, got.Descriptor.Digest.String() != want.String(), "the descriptor is the platform's manifest's")
		}
		return got.Architecture
	}
	both := func(r *imageRig) {
		t.Helper()
		assert.Equal(t, arch(r, ref, nil), host.Architecture)
		assert.Equal(t, arch(r, ref, &other), other.Architecture)
		list, err := r.List(r.ctx, imagetypes.ListOptions{Manifests: true})
		assert.NilError(t, err)
		assert.Equal(t, len(list), 1)
		assert.Equal(t, len(list[0].Manifests), 2)
		assert.Check(t, list[0].Manifests[0].Available && list[0].Manifests[1].Available)
	}
	for _, order := range [][]ocispec.Platform{{other, host}, {host, other}} {
		r := newImageRig(t)
		for _, p := range order {
			assert.NilError(t, r.Pull(r.ctx, ref, false, &p, nil, io.Discard))
		}
		both(r)
		_, err := r.Prune(r.ctx, filters.NewArgs())
		assert.NilError(t, err)
		both(r)

		var archive bytes.Buffer
		assert.NilError(t, r.Save(r.ctx, []string{ref}, nil, &archive))
		loaded := newImageRig(t)
		var said bytes.Buffer
		assert.NilError(t, loaded.Load(loaded.ctx, bytes.NewReader(archive.Bytes()), nil, true, &said))
		assert.Equal(t, strings.Count(said.String(), "Loaded image"), 1, said.String())
		both(loaded)
		alone := newImageRig(t)
		assert.NilError(t, alone.Load(alone.ctx, bytes.NewReader(archive.Bytes()), []ocispec.Platform{other}, true, io.Discard))
		assert.Equal(t, arch(alone, ref, nil), other.Architecture)

		copied := reg.Host() + "/copied:1"
		assert.NilError(t, loaded.Tag(loaded.ctx, ref, copied))
		var pushed bytes.Buffer
		assert.NilError(t, loaded.Push(loaded.ctx, copied, nil, nil, &pushed))
		assert.Assert(t, is.Contains(pushed.String(), want.String()), "the index itself is pushed")
		assert.NilError(t, loaded.Push(loaded.ctx, reg.Host()+"/copied:1", &other, nil, &pushed))

		gone, err := r.Remove(r.ctx, ref, imagetypes.RemoveOptions{Platforms: []ocispec.Platform{host}})
		assert.NilError(t, err)
		assert.Check(t, len(gone) > 0)
		assert.Equal(t, arch(r, ref, nil), other.Architecture, "the name goes to what is left")
		assert.NilError(t, r.Pull(r.ctx, ref, false, &host, nil, io.Discard))
		both(r)
		_, err = r.Remove(r.ctx, ref, imagetypes.RemoveOptions{PruneChildren: true})
		assert.NilError(t, err)
		list, err := r.List(r.ctx, imagetypes.ListOptions{All: true})
		assert.NilError(t, err)
		assert.Equal(t, len(list), 0, "all platforms go with the name")
	}
}

func manifestLines(all []imagetypes.ManifestSummary) (lines []string) {
	for _, m := range all {
		line := fmt.Sprintf("%s %s %v ", m.ID, m.Kind, m.Available)
		switch {
		case m.ImageData != nil:
			line += m.ImageData.Platform.OS + "/" + m.ImageData.Platform.Architecture
		case m.AttestationData != nil:
			line += "of " + m.AttestationData.For.String()
		}
		lines = append(lines, line)
	}
	return lines
}

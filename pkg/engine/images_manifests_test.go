package engine

import (
	"fmt"
	"io"
	"testing"

	"github.com/docker/docker/api/types/backend"
	imagetypes "github.com/docker/docker/api/types/image"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"gotest.tools/v3/assert"

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

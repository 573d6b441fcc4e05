package engine

import (
	"context"
	"slices"

	imagetypes "github.com/docker/docker/api/types/image"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nereid-paas/nereid/pkg/state"
)

// What builders write on a manifest in an index that attests to another one.
const (
	annotationKind    = "vnd.docker.reference.type"
	annotationOf      = "vnd.docker.reference.digest"
	attestation       = "attestation-manifest"
	platformOfNothing = "unknown"
)

// manifests describes an image's manifest, and those beside it in the index that it came by. The view knows the one
// that is here; the others are as the index says, where this host has it.
func (i *Images) manifests(ctx context.Context, img *state.Image) []imagetypes.ManifestSummary {
	here := i.manifestHere(img)
	others := beside(i.State.View(), img)
	listed, err := i.store.Listed(ctx, img.Account, img.Target)
	if err != nil {
		i.Log.Sugar().Debugw("the index of an image is not here", "image", img.ID, "error", err)
	}
	var all []imagetypes.ManifestSummary
	found := false
	for _, d := range listed {
		if d.Digest == img.Manifest.Digest {
			found, here.Descriptor = true, d
			all = append(all, here)
			continue
		}
		if n := slices.IndexFunc(others, func(o *state.Image) bool { return o.Manifest.Digest == d.Digest }); n >= 0 {
			m := i.manifestHere(others[n])
			m.Descriptor = d
			all = append(all, m)
			continue
		}
		all = append(all, manifestElsewhere(d))
	}
	if !found { // it is in an index of the index
		all = append([]imagetypes.ManifestSummary{here}, all...)
	}
	return all
}

// listed is an image's own manifest, with its platform, as the index has it.
func (i *Images) listed(ctx context.Context, img *state.Image) ocispec.Descriptor {
	all := i.manifests(ctx, img)
	n := slices.IndexFunc(all, func(m imagetypes.ManifestSummary) bool { return m.Descriptor.Digest == img.Manifest.Digest })
	return all[n].Descriptor // it is always among them
}

// manifestHere describes the one manifest of an image that can be run.
func (i *Images) manifestHere(img *state.Image) imagetypes.ManifestSummary {
	platform, _ := i.Platform(img)
	m := imagetypes.ManifestSummary{
		ID:         img.Manifest.Digest.String(),
		Descriptor: img.Manifest,
		Available:  len(img.Hosts) > 0,
		Kind:       imagetypes.ManifestKindImage,
		ImageData:  &imagetypes.ImageProperties{Platform: platform, Containers: []string{}},
	}
	m.Descriptor.Platform = &ocispec.Platform{OS: platform.OS, Architecture: platform.Architecture, Variant: platform.Variant}
	m.Size.Content = img.Manifest.Size + int64(len(img.Config))
	for _, l := range img.Layers {
		m.Size.Content += l.Size
	}
	m.ImageData.Size.Unpacked = img.Size
	m.Size.Total = m.Size.Content + img.Size
	for _, c := range i.Users(img) {
		m.ImageData.Containers = append(m.ImageData.Containers, string(c.ID))
	}
	return m
}

// manifestElsewhere describes one that the index lists and no host has.
func manifestElsewhere(d ocispec.Descriptor) imagetypes.ManifestSummary {
	m := imagetypes.ManifestSummary{ID: d.Digest.String(), Descriptor: d, Kind: imagetypes.ManifestKindUnknown}
	switch {
	case d.Annotations[annotationKind] == attestation:
		if of, err := digest.Parse(d.Annotations[annotationOf]); err == nil {
			m.Kind, m.AttestationData = imagetypes.ManifestKindAttestation, &imagetypes.AttestationProperties{For: of}
		}
	case d.Platform != nil && d.Platform.OS != platformOfNothing:
		m.Kind = imagetypes.ManifestKindImage
		m.ImageData = &imagetypes.ImageProperties{Platform: *d.Platform, Containers: []string{}}
	}
	return m
}

package image

import (
	"context"
	"encoding/json"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Distribution tells what a reference names in its registry, without pulling it.
func (r *Repository) Distribution(ctx context.Context, ref string) (ocispec.Descriptor, []ocispec.Platform, error) {
	d, raw, err := r.manifest(ctx, ref)
	if err != nil {
		return d, nil, askError(err)
	}
	kind, doc, err := kindOf(raw, d.MediaType)
	if err != nil {
		return d, nil, err
	}
	switch d.MediaType = kind; {
	case kind == mediaTypeSchema1:
		return d, nil, schema1Error(r.name)
	case isIndex(kind):
		var list []ocispec.Platform
		for _, m := range doc.Manifests {
			if m.Platform != nil {
				list = append(list, *m.Platform)
			}
		}
		return d, list, nil
	}
	m, err := parseManifest(raw)
	if err != nil {
		return d, nil, err
	}
	return d, r.platformOf(ctx, m.Config), nil
}

// platformOf reads the platform of a single image; without one that says so, nothing.
func (r *Repository) platformOf(ctx context.Context, config ocispec.Descriptor) []ocispec.Platform {
	raw, err := r.config(ctx, config)
	if err != nil {
		return nil
	}
	var p ocispec.Platform
	if json.Unmarshal(raw, &p) != nil || p.OS == "" && p.Architecture == "" {
		return nil
	}
	return []ocispec.Platform{p}
}

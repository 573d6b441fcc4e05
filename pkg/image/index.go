package image

import (
	"context"
	"fmt"

	"github.com/containerd/containerd/v2/core/content"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

// Listed are the manifests that an image's index lists, in its order, whether their content is here or not. It is nil
// for an image that came without an index, and NotFound when the index is not here.
func (s *Store) Listed(ctx context.Context, a nereid.Account, target ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	if !isIndex(target.MediaType) {
		return nil, nil
	}
	raw, err := content.ReadBlob(inNamespace(ctx, a), s.content(), target)
	if err != nil {
		return nil, fmt.Errorf("index %s: %w", target.Digest, err)
	}
	_, doc, err := kindOf(raw, target.MediaType)
	if err != nil {
		return nil, err
	}
	return doc.Manifests, nil
}

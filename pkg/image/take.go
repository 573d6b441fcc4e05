package image

import (
	"context"
	"errors"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

// Take brings an image here whose descriptors are known, as Pull does one by its name: what is missing of it, by digest,
// each verified. The caller keeps and releases it. What a failed one has fetched is used by the next, from whichever
// repository. An error for which Busy holds says that it is given to others just now.
func (s *Store) Take(ctx context.Context, a nereid.Account, r *Repository, target, manifest ocispec.Descriptor) (_ *Held, retErr error) {
	what := "fleet/" + manifest.Digest.String()
	h, err := s.hold(inNamespace(ctx, a), what)
	if err != nil {
		return nil, err
	}
	defer func() {
		if retErr != nil {
			h.keepForRetry()
		}
	}()
	if target.Digest != manifest.Digest {
		if _, _, err := s.fetchManifest(h, r, target, nil); err != nil {
			return nil, err
		}
	}
	d, raw, err := s.fetchManifest(h, r, manifest, nil)
	if err != nil {
		return nil, err
	}
	img, err := s.pullManifest(h, r, d, raw, nil)
	if err != nil {
		return nil, err
	}
	if img.Target.Digest == "" {
		img.Target = plain(target)
	}
	return &Held{Image: *img, Digest: target.Digest, store: s, hold: h, resume: what}, nil
}

// Busy tells whether who has what was asked for gives it to others just now.
func Busy(err error) bool {
	var said *registryError
	return errors.As(err, &said) && said.Code == codeTooMany
}

package engine

import (
	"context"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	imagetypes "github.com/docker/docker/api/types/image"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nereid-paas/nereid/pkg/image"
	"github.com/nereid-paas/nereid/pkg/state"
)

// An image of several platforms is an index with a manifest for each. Every platform that is here is an image of its own;
// those that came by the same index are one to people: the one that has the names is what they see, the one of this
// host's platform if it is here, and the others are found by name and platform.

// beside are the images of other platforms that came by the same index.
func beside(v *state.View, img *state.Image) []*state.Image {
	if img.Target.Digest == img.Manifest.Digest {
		return nil
	}
	return slices.DeleteFunc(v.ImagesOfTarget(img.Account, img.Target.Digest), func(other *state.Image) bool { return other.ID == img.ID })
}

// namedOf is the image that has the names of those of one index: the image itself, unless it has none and another has.
func namedOf(v *state.View, img *state.Image) *state.Image {
	if len(v.TagsOf(img.Account, img.ID)) > 0 {
		return img
	}
	for _, other := range beside(v, img) {
		if len(v.TagsOf(other.Account, other.ID)) > 0 {
			return other
		}
	}
	return img
}

// ofPlatform is an image, or the one beside it, that does best for a platform.
func (i *Images) ofPlatform(img *state.Image, platform ocispec.Platform) (*state.Image, bool) {
	var (
		all []*state.Image
		has []ocispec.Platform
	)
	for _, candidate := range append([]*state.Image{img}, beside(i.State.View(), img)...) {
		if p, err := i.Platform(candidate); err == nil {
			all, has = append(all, candidate), append(has, p)
		}
	}
	if best := image.Best(has, platform); best >= 0 {
		return all[best], true
	}
	return nil, false
}

// keepsName tells whether a name stays with the image that has it, of this host's platform, when another platform of the
// same index comes.
func (i *Images) keepsName(a *state.Tag, img *state.Image) bool {
	was, ok := i.State.View().Image(a.Account, a.Image)
	if !ok || was.Target.Digest != img.Target.Digest || img.Target.Digest == img.Manifest.Digest {
		return false
	}
	host := platforms.DefaultSpec()
	had, err := i.Platform(was)
	return err == nil && image.Matches(had, host)
}

// removeBeside removes what was beside an image that is gone and is left without a name. What a container uses stays.
func (i *Images) removeBeside(ctx context.Context, left []*state.Image) []imagetypes.DeleteResponse {
	var answers []imagetypes.DeleteResponse
	for _, img := range left {
		v := i.State.View()
		if _, there := v.Image(img.Account, img.ID); !there || len(v.TagsOf(img.Account, img.ID)) > 0 || i.anyUser(img) != nil {
			continue
		}
		if r, err := i.removeWhole(ctx, img, false); err == nil {
			answers = append(answers, r.answers...)
		}
	}
	return answers
}

// removeWhole removes an image with the digests it has of its own, but not what keeps it.
func (i *Images) removeWhole(ctx context.Context, img *state.Image, force bool) (*removal, error) {
	r := &removal{img: img, refs: references(i.State.View(), img)}
	for _, ref := range slices.Clone(r.refs) {
		i.untag(r, ref, false)
	}
	if err := i.planDelete(r, force, false); err != nil {
		return nil, err
	}
	return r, i.carryOut(ctx, r)
}

// removePlatform removes one platform of an image; a name that it has goes to another that is left.
func (i *Images) removePlatform(ctx context.Context, img *state.Image, force bool) ([]imagetypes.DeleteResponse, error) {
	v := i.State.View()
	var ops []state.Op
	heir := beside(v, img)[0]
	for _, t := range v.TagsOf(img.Account, img.ID) {
		ops = append(ops, state.Put(&state.Tag{Account: t.Account, Ref: t.Ref, Image: heir.ID}))
	}
	check := conflictHard
	if !force {
		check |= conflictStopped
	}
	if c := i.conflict(&removal{img: img}, check); c != nil {
		return nil, c.err()
	}
	if len(ops) > 0 {
		if _, err := i.State.Commit(ctx, ops...); err != nil {
			return nil, err
		}
		var ok bool
		if img, ok = i.State.View().Image(img.Account, img.ID); !ok {
			return nil, errdefs.ErrAborted
		}
	}
	r, err := i.removeWhole(ctx, img, force)
	if err != nil {
		return nil, err
	}
	return r.answers, nil
}

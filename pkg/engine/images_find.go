package engine

import (
	"context"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/container"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nereid-paas/nereid/pkg/image"
	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// Resolve finds the image a container is to be made from, as Docker does: by name (":latest" when it has no tag), by
// name@digest, by full id, by unambiguous id prefix. An image whose content no host has any more is not found, so
// that a client pulls it again. Errors are NotFound "No such image: x:latest" or InvalidArgument.
func (i *Images) Resolve(ctx context.Context, ref string) (*state.Image, error) {
	return i.ResolvePlatform(ctx, ref, nil)
}

// ResolvePlatform is Resolve for an image that must be of a platform; one of another is NotFound and says so.
func (i *Images) ResolvePlatform(ctx context.Context, ref string, platform *ocispec.Platform) (*state.Image, error) {
	img, err := i.find(nereid.AccountFrom(ctx), ref, platform)
	if err != nil {
		return nil, err
	}
	if len(img.Hosts) == 0 {
		return nil, noSuchImage(ref)
	}
	return img, nil
}

// Users are the containers made from an image, running or not.
func (i *Images) Users(img *state.Image) []*state.Container {
	return i.State.View().ImageUsers(img.Account, img.ID)
}

// ContainerConfig is what an image says its containers are to run, never nil; it is the caller's.
func (i *Images) ContainerConfig(img *state.Image) (*container.Config, error) {
	cfg, err := image.DecodeConfig(img.Config)
	if err != nil {
		return nil, fmt.Errorf("image %q: %w", img.ID, err)
	}
	if cfg.Config == nil {
		return &container.Config{}, nil
	}
	return cfg.Config, nil
}

// Platform is what an image was made for.
func (i *Images) Platform(img *state.Image) (ocispec.Platform, error) {
	cfg, err := image.DecodeConfig(img.Config)
	if err != nil {
		return ocispec.Platform{}, fmt.Errorf("image %q: %w", img.ID, err)
	}
	return cfg.Platform, nil
}

func (i *Images) find(a nereid.Account, ref string, platform *ocispec.Platform) (*state.Image, error) {
	img, err := findImage(i.State.View(), a, ref)
	if err != nil || platform == nil {
		return img, err
	}
	has, err := i.Platform(img)
	if err != nil {
		return nil, err
	}
	if isIDPrefix(img.ID, ref) {
		if image.Matches(has, *platform) {
			return img, nil
		}
	} else if best, ok := i.ofPlatform(img, *platform); ok {
		return best, nil
	}
	return nil, wrongPlatform(ref, has, *platform)
}

func wrongPlatform(ref string, has, asked ocispec.Platform) error {
	if named, err := reference.ParseNamed(ref); err == nil {
		ref = reference.FamiliarString(named)
	}
	return errdefs.ErrNotFound.WithMessage(fmt.Sprintf(
		"image with reference %s was found but its platform (%s) does not match the specified platform (%s)",
		ref, platforms.FormatAll(has), platforms.FormatAll(asked)))
}

func findImage(v *state.View, a nereid.Account, ref string) (*state.Image, error) {
	parsed, err := reference.ParseAnyReference(ref)
	if err != nil {
		return nil, invalidImage(err)
	}
	named, ok := parsed.(reference.Named)
	if !ok {
		if d, ok := parsed.(reference.Digested); ok {
			if img, ok := v.Image(a, nereid.ImageID(d.Digest())); ok {
				return img, nil
			}
		}
		return nil, noSuchImage(ref)
	}
	if img, ok := byName(v, a, named); ok {
		return img, nil
	}
	if found := v.ImagesByPrefix(a, ref); len(found) == 1 {
		return found[0], nil
	}
	return nil, noSuchImage(ref)
}

// byName looks a tag or a repo digest up. Of a name with both the digest counts.
func byName(v *state.View, a nereid.Account, named reference.Named) (*state.Image, bool) {
	if c, ok := named.(reference.Canonical); ok {
		digest := reference.TrimNamed(c).String() + "@" + c.Digest().String()
		for _, img := range v.Images(a) {
			if slices.Contains(img.Digests, digest) {
				if first := namedOf(v, img); slices.Contains(first.Digests, digest) {
					return first, true
				}
				return img, true
			}
		}
		return nil, false
	}
	tag, ok := v.Tag(a, reference.TagNameOnly(named).String())
	if !ok {
		return nil, false
	}
	return v.Image(a, tag.Image)
}

// noSuchImage is Docker's refusal, with the reference as it is shown to people.
func noSuchImage(ref string) error {
	if parsed, err := reference.ParseAnyReference(ref); err == nil {
		if named, ok := parsed.(reference.Named); ok {
			parsed = reference.TagNameOnly(named)
		}
		ref = reference.FamiliarString(parsed)
	}
	return errdefs.ErrNotFound.WithMessage("No such image: " + ref)
}

func invalidImage(err error) error { return errdefs.ErrInvalidArgument.WithMessage(err.Error()) }

// references are an image's tags and repo digests, in the order in which Docker shows them.
func references(v *state.View, img *state.Image) []reference.Named {
	var names []string
	for _, t := range v.TagsOf(img.Account, img.ID) {
		names = append(names, t.Ref)
	}
	names = append(names, img.Digests...)
	slices.Sort(names)
	var refs []reference.Named
	for _, n := range names {
		if r, err := reference.ParseNormalizedNamed(n); err == nil {
			refs = append(refs, r)
		}
	}
	return refs
}

// familiar splits references into repo tags and repo digests, as people see them.
func familiar(refs []reference.Named) (tags, digests []string) {
	for _, r := range refs {
		if _, ok := r.(reference.Canonical); ok {
			digests = append(digests, reference.FamiliarString(r))
		} else {
			tags = append(tags, reference.FamiliarString(r))
		}
	}
	return tags, digests
}

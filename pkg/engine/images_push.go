package engine

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nereid-paas/nereid/pkg/image"
	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// Push sends a tag, or of a name without one all tags, to the registry in the name.
func (i *Images) Push(ctx context.Context, ref string, platform *ocispec.Platform, auth *registry.AuthConfig, out io.Writer) error {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return invalidImage(err)
	}
	if _, ok := named.(reference.Digested); ok {
		return errdefs.ErrInvalidArgument.WithMessage("cannot push a digest reference")
	}
	if platform != nil {
		if _, err := i.find(nereid.AccountFrom(ctx), ref, platform); err != nil {
			return err
		}
	}
	return stream(ctx, out, func(ctx context.Context, p *image.Progress) error {
		p.Message("", fmt.Sprintf("The push refers to repository [%s]", named.Name()))
		return i.push(ctx, named, platform, auth, p)
	})
}

func (i *Images) push(ctx context.Context, named reference.Named, platform *ocispec.Platform, auth *registry.AuthConfig, p *image.Progress) error {
	a := nereid.AccountFrom(ctx)
	tags := i.tagsOfRepository(a, named)
	if len(tags) == 0 {
		return fmt.Errorf("An image does not exist locally with the tag: %s", reference.FamiliarName(named))
	}
	if t, ok := named.(reference.NamedTagged); ok {
		tags = slices.DeleteFunc(tags, func(have repositoryTag) bool { return have.ref.Tag() != t.Tag() })
		if len(tags) == 0 {
			return fmt.Errorf("tag does not exist: %s", reference.FamiliarString(named))
		}
	}
	repo, err := i.store.Connect(ctx, named, auth, "pull,push")
	if err != nil {
		return err
	}
	defer repo.Close()
	repo.MountFrom(i.elsewhere(a, named))
	for _, t := range tags {
		if err := i.pushTag(ctx, repo, t, platform, p); err != nil {
			return err
		}
	}
	_, err = i.State.Commit(ctx, state.Emit(imageEvent(a, i.Host, reference.FamiliarString(named), reference.FamiliarName(named), events.ActionPush, i.pushLabels(a, tags))))
	return err
}

// elsewhere are the layers that other repositories of a name's registry have, with the path of one: what was pulled from
// there or pushed there.
func (i *Images) elsewhere(a nereid.Account, named reference.Named) map[digest.Digest]string {
	paths := map[digest.Digest]string{}
	for _, img := range i.State.View().Images(a) {
		for _, d := range img.Digests {
			r, err := reference.ParseNormalizedNamed(d)
			if err != nil || reference.Domain(r) != reference.Domain(named) || r.Name() == named.Name() {
				continue
			}
			for _, l := range img.Layers {
				paths[l.Digest] = reference.Path(r)
			}
		}
	}
	return paths
}

// pushTag sends one tag: the platform asked for, all that its index lists if all are here, or else what has the tag.
func (i *Images) pushTag(ctx context.Context, repo *image.Repository, t repositoryTag, platform *ocispec.Platform, p *image.Progress) error {
	a := nereid.AccountFrom(ctx)
	img, ok := i.State.View().Image(a, t.image)
	if !ok {
		return noSuchImage(t.ref.String())
	}
	if platform != nil {
		if img, ok = i.ofPlatform(img, *platform); !ok {
			return noSuchImage(t.ref.String())
		}
	} else if whole, err := i.wholeIndex(ctx, img); err != nil || whole != nil {
		if err != nil {
			return err
		}
		done, err := i.pushIndex(ctx, repo, t, whole, p)
		if err != nil || done {
			return err
		}
	}
	if _, err := i.Bring(ctx, img); err != nil {
		return err
	}
	d, err := i.store.Push(ctx, a, repo, t.ref.Tag(), img.ID, p)
	if err != nil {
		return err
	}
	return i.addDigest(ctx, repositoryTag{t.ref, img.ID}, d)
}

// wholeIndex are the images of all manifests that an image's index lists; nil when one of them is not here.
func (i *Images) wholeIndex(ctx context.Context, img *state.Image) ([]*state.Image, error) {
	all := append([]*state.Image{img}, beside(i.State.View(), img)...)
	if len(all) == 1 {
		return nil, nil
	}
	if _, err := i.Bring(ctx, img); err != nil {
		return nil, err
	}
	listed, err := i.store.Listed(ctx, img.Account, img.Target)
	if err != nil || len(listed) == 0 {
		return nil, err
	}
	for _, d := range listed {
		if !slices.ContainsFunc(all, func(have *state.Image) bool { return have.Manifest.Digest == d.Digest }) {
			return nil, nil
		}
	}
	return all, nil
}

// pushIndex sends the platforms by their digests, then their index. It is not done when a platform's manifest had to be
// made anew, for its layers were kept as they were loaded: then the index does not list what was sent.
func (i *Images) pushIndex(ctx context.Context, repo *image.Repository, t repositoryTag, all []*state.Image, p *image.Progress) (done bool, err error) {
	a := nereid.AccountFrom(ctx)
	for _, img := range all {
		if _, err := i.Bring(ctx, img); err != nil {
			return false, err
		}
		d, err := i.store.Push(ctx, a, repo, img.Manifest.Digest.String(), img.ID, p)
		if err != nil || d != img.Manifest.Digest {
			return false, err
		}
	}
	target := all[0].Target
	if err := i.store.PushIndex(ctx, a, repo, t.ref.Tag(), target, p); err != nil {
		return false, err
	}
	for _, img := range all {
		if err := i.addDigest(ctx, repositoryTag{t.ref, img.ID}, target.Digest); err != nil {
			return false, err
		}
	}
	return true, nil
}

// pushLabels are those of the image that was pushed, when it was one.
func (i *Images) pushLabels(a nereid.Account, tags []repositoryTag) map[string]string {
	if img, ok := i.State.View().Image(a, tags[0].image); ok && len(tags) == 1 {
		return i.labels(img)
	}
	return nil
}

// addDigest records the digest that an image has in a repository now.
func (i *Images) addDigest(ctx context.Context, t repositoryTag, d digest.Digest) error {
	ref, err := reference.WithDigest(reference.TrimNamed(t.ref), d)
	if err != nil {
		return err
	}
	unlock, err := i.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	for range commitTries {
		img, ok := i.State.View().Image(nereid.AccountFrom(ctx), t.image)
		if !ok || slices.Contains(img.Digests, ref.String()) {
			return nil
		}
		next := *img
		next.Digests = append(slices.Clone(img.Digests), ref.String())
		slices.Sort(next.Digests)
		if _, err = i.State.Commit(ctx, state.Update(&next)); !errdefs.IsAborted(err) {
			break
		}
	}
	return err
}

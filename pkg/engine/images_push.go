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
		return i.push(ctx, named, auth, p)
	})
}

func (i *Images) push(ctx context.Context, named reference.Named, auth *registry.AuthConfig, p *image.Progress) error {
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
	for _, t := range tags {
		if img, ok := i.State.View().Image(a, t.image); ok {
			if _, err := i.Bring(ctx, img); err != nil {
				return err
			}
		}
		d, err := i.store.Push(ctx, a, repo, t.ref.Tag(), t.image, p)
		if err != nil {
			return err
		}
		if err := i.addDigest(ctx, t, d); err != nil {
			return err
		}
	}
	_, err = i.State.Commit(ctx, state.Emit(imageEvent(a, i.Host, reference.FamiliarString(named), reference.FamiliarName(named), events.ActionPush, i.pushLabels(a, tags))))
	return err
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

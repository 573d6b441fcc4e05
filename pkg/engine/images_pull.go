package engine

import (
	"context"
	"fmt"
	"io"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nereid-paas/nereid/pkg/image"
	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// Pull brings what a reference names, or with all every tag of its repository, from a registry into the catalogue.
func (i *Images) Pull(ctx context.Context, ref string, all bool, platform *ocispec.Platform, auth *registry.AuthConfig, out io.Writer) error {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return invalidImage(err)
	}
	if reference.FamiliarName(named) == "scratch" {
		return errdefs.ErrPermissionDenied.WithMessage("'scratch' is a reserved name")
	}
	if all && !reference.IsNameOnly(named) {
		return errdefs.ErrInvalidArgument.WithMessage("tag can't be used with --all-tags/-a")
	}
	if !all {
		named = reference.TagNameOnly(named)
	}
	return stream(ctx, out, func(ctx context.Context, p *image.Progress) error {
		return i.fromRegistry(ctx, named, auth, func(repo *image.Repository) error {
			return i.pull(ctx, repo, named, platform, p)
		})
	})
}

func (i *Images) pull(ctx context.Context, repo *image.Repository, named reference.Named, platform *ocispec.Platform, p *image.Progress) error {
	refs, err := pullRefs(ctx, repo, named)
	if err != nil {
		return err
	}
	newer := false
	for n, ref := range refs {
		changed, err := i.pullOne(ctx, repo, ref, named, platform, n == len(refs)-1, p)
		if err != nil {
			return err
		}
		newer = newer || changed
	}
	if newer {
		p.Message("", "Status: Downloaded newer image for "+reference.FamiliarString(named))
	} else {
		p.Message("", "Status: Image is up to date for "+reference.FamiliarString(named))
	}
	return i.warnPlatform(ctx, named, platform, p)
}

// pullRefs are the references to pull: the one given, or every tag of the repository.
func pullRefs(ctx context.Context, repo *image.Repository, named reference.Named) ([]reference.Named, error) {
	if !reference.IsNameOnly(named) {
		return []reference.Named{named}, nil
	}
	tags, err := repo.Tags(ctx)
	if err != nil {
		return nil, err
	}
	refs := make([]reference.Named, len(tags))
	for n, t := range tags {
		if refs[n], err = reference.WithTag(named, t); err != nil {
			return nil, invalidImage(fmt.Errorf("tag %q: %w", t, err))
		}
	}
	return refs, nil
}

// pullOne pulls one reference and enters it. The last one of a pull tells of the pull.
func (i *Images) pullOne(ctx context.Context, repo *image.Repository, ref, asked reference.Named, platform *ocispec.Platform, last bool, p *image.Progress) (changed bool, err error) {
	a := nereid.AccountFrom(ctx)
	held, err := i.store.Pull(ctx, a, repo, ref, platform, p)
	if err != nil {
		return false, err
	}
	defer held.Release()
	digest, err := reference.WithDigest(reference.TrimNamed(ref), held.Digest)
	if err != nil {
		return false, err
	}
	e := entry{account: a, held: held, digest: digest}
	if _, ok := ref.(reference.Canonical); !ok {
		if t, ok := ref.(reference.NamedTagged); ok {
			e.tags = []reference.NamedTagged{t}
		}
	}
	e.events = func(img *state.Image) []*state.Event {
		if !last {
			return nil
		}
		return []*state.Event{imageEvent(a, i.Host, reference.FamiliarString(asked), reference.FamiliarName(asked), events.ActionPull, i.labels(img))}
	}
	_, changed, err = i.record(ctx, e)
	return changed, err
}

// warnPlatform tells of an image of one platform only that is not the one asked for: it is pulled all the same, and
// whoever asked should know.
func (i *Images) warnPlatform(ctx context.Context, named reference.Named, platform *ocispec.Platform, p *image.Progress) error {
	if platform == nil || reference.IsNameOnly(named) {
		return nil
	}
	_, err := i.find(nereid.AccountFrom(ctx), named.String(), platform)
	if errdefs.IsNotFound(err) {
		p.Message("", "WARNING: "+err.Error())
		return nil
	}
	return err
}

// labels of an image, for its events.
func (i *Images) labels(img *state.Image) map[string]string {
	cfg, err := i.ContainerConfig(img)
	if err != nil {
		return nil
	}
	return cfg.Labels
}

package engine

import (
	"context"
	"io"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nereid-paas/nereid/pkg/image"
	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// Load enters the images of an archive as docker save writes it, or of an OCI layout. It enters none of an archive
// with any fault.
func (i *Images) Load(ctx context.Context, in io.Reader, platforms []ocispec.Platform, quiet bool, out io.Writer) error {
	return stream(ctx, out, func(ctx context.Context, p *image.Progress) error {
		layers := p
		if quiet {
			layers = nil
		}
		return i.store.Load(ctx, nereid.AccountFrom(ctx), in, platforms, layers, func(loaded []*image.Loaded) error {
			for _, l := range loaded {
				if err := i.enterLoaded(ctx, l, p); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

func (i *Images) enterLoaded(ctx context.Context, l *image.Loaded, p *image.Progress) error {
	a := nereid.AccountFrom(ctx)
	for _, t := range l.Tags {
		if was, ok := i.State.View().Tag(a, t.String()); ok && was.Image != l.ID {
			p.Stream("The image %s already exists, renaming the old one with ID %s to empty string\n", reference.FamiliarString(t), was.Image)
		}
	}
	_, _, err := i.record(ctx, entry{
		account: a,
		held:    &l.Held,
		tags:    l.Tags,
		parent:  l.Parent,
		events: func(img *state.Image) []*state.Event {
			return []*state.Event{imageEvent(a, i.Host, string(img.ID), string(img.ID), events.ActionLoad, i.labels(img))}
		},
	})
	if err != nil {
		return err
	}
	for _, t := range l.Tags {
		p.Stream("Loaded image: %s\n", reference.FamiliarString(t))
	}
	if len(l.Tags) == 0 && !l.Beside {
		p.Stream("Loaded image ID: %s\n", l.ID)
	}
	return nil
}

// Import makes an image of a tar of a root file system and writes its id. ref may be empty.
func (i *Images) Import(ctx context.Context, ref string, platform *ocispec.Platform, message string, changes []string, in io.Reader, out io.Writer) error {
	var tags []reference.NamedTagged
	if ref != "" {
		t, err := tagReference(ref, "cannot import digest reference")
		if err != nil {
			return err
		}
		tags = append(tags, t)
	}
	cfg, err := image.ApplyChanges(&container.Config{}, changes)
	if err != nil {
		return err
	}
	return stream(ctx, out, func(ctx context.Context, p *image.Progress) error {
		a := nereid.AccountFrom(ctx)
		held, err := i.store.Import(ctx, a, in, image.ImportOptions{Platform: platform, Message: message, Config: cfg})
		if err != nil {
			return err
		}
		defer held.Release()
		_, _, err = i.record(ctx, entry{account: a, held: held, tags: tags, tagged: true, comment: message, events: func(img *state.Image) []*state.Event {
			return i.importEvents(img, tags)
		}})
		if err == nil {
			p.Message("", string(held.ID))
		}
		return err
	})
}

func (i *Images) importEvents(img *state.Image, tags []reference.NamedTagged) []*state.Event {
	var list []*state.Event
	for _, t := range tags {
		list = append(list, imageEvent(img.Account, i.Host, string(img.ID), reference.FamiliarString(t), events.ActionTag, i.labels(img)))
	}
	return append(list, imageEvent(img.Account, i.Host, string(img.ID), string(img.ID), events.ActionImport, i.labels(img)))
}

// tagReference reads a name for an image. One with a digest is refused in the words given: a digest cannot be chosen.
func tagReference(ref, digested string) (reference.NamedTagged, error) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return nil, invalidImage(err)
	}
	if _, ok := named.(reference.Digested); ok {
		return nil, errdefs.ErrInvalidArgument.WithMessage(digested)
	}
	if reference.FamiliarName(named) == "sha256" {
		return nil, errdefs.ErrInvalidArgument.WithMessage("refusing to create an ambiguous tag using digest algorithm as name")
	}
	tagged, ok := reference.TagNameOnly(named).(reference.NamedTagged)
	if !ok {
		return nil, errdefs.ErrInvalidArgument.WithMessage("unexpected reference: " + ref)
	}
	return tagged, nil
}

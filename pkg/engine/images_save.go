package engine

import (
	"context"
	"io"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/events"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nereid-paas/nereid/pkg/image"
	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// Save writes images as one archive. A repository's name without a tag saves all its tags; an id saves no name.
func (i *Images) Save(ctx context.Context, refs []string, want []ocispec.Platform, out io.Writer) error {
	a := nereid.AccountFrom(ctx)
	list := &saveList{}
	for _, ref := range refs {
		if err := i.addSaved(a, ref, list); err != nil {
			return err
		}
	}
	if err := i.choosePlatforms(list, want); err != nil {
		return err
	}
	var told []state.Op
	saved := make([]image.Saved, 0, len(list.images))
	for n, img := range list.images {
		if _, err := i.Bring(ctx, img); err != nil {
			return err
		}
		saved = append(saved, image.Saved{ID: img.ID, Tags: list.tags[n], Parent: img.Parent})
		told = append(told, state.Emit(imageEvent(a, i.Host, string(img.ID), string(img.ID), events.ActionSave, i.labels(img))))
	}
	if err := i.store.Save(ctx, a, saved, out); err != nil || len(told) == 0 {
		return err
	}
	_, err := i.State.Commit(ctx, told...)
	return err
}

// choosePlatforms replaces each image by its platforms that are wanted, or by all that are here. The first has the names.
func (i *Images) choosePlatforms(list *saveList, want []ocispec.Platform) error {
	chosen := &saveList{}
	for n, img := range list.images {
		all := []*state.Image{img}
		if list.named(n) {
			all = append(all, beside(i.State.View(), img)...)
		}
		tags := list.tags[n]
		found := false
		for _, one := range all {
			ok, err := i.wanted(one, want)
			if err != nil {
				return err
			}
			if !ok || slices.ContainsFunc(chosen.images, func(have *state.Image) bool { return have.ID == one.ID }) {
				found = found || ok
				continue
			}
			chosen.images, chosen.tags = append(chosen.images, one), append(chosen.tags, tags)
			found, tags = true, nil
		}
		if !found {
			return errdefs.ErrNotFound.WithMessage("no suitable export target found for platform " + platforms.FormatAll(want[0]))
		}
	}
	*list = *chosen
	return nil
}

func (i *Images) wanted(img *state.Image, want []ocispec.Platform) (bool, error) {
	has, err := i.Platform(img)
	if err != nil || len(want) == 0 {
		return err == nil, err
	}
	return slices.ContainsFunc(want, func(w ocispec.Platform) bool { return platforms.OnlyStrict(w).Match(has) }), nil
}

// saveList is what is to be saved, each image once, in the order asked for.
type saveList struct {
	images []*state.Image
	tags   [][]reference.NamedTagged
}

// named tells whether an image is saved by a name rather than by its id.
func (l *saveList) named(n int) bool { return len(l.tags[n]) > 0 }

func (l *saveList) add(img *state.Image, ref reference.Named) {
	n := slices.IndexFunc(l.images, func(have *state.Image) bool { return have.ID == img.ID })
	if n < 0 {
		n = len(l.images)
		l.images, l.tags = append(l.images, img), append(l.tags, nil)
	}
	t, ok := ref.(reference.NamedTagged)
	if _, digested := ref.(reference.Canonical); !ok || digested {
		return
	}
	if !slices.ContainsFunc(l.tags[n], func(have reference.NamedTagged) bool { return have.String() == t.String() }) {
		l.tags[n] = append(l.tags[n], t)
	}
}

// addSaved adds what one name stands for.
func (i *Images) addSaved(a nereid.Account, ref string, list *saveList) error {
	parsed, err := reference.ParseAnyReference(ref)
	if err != nil {
		return invalidImage(err)
	}
	named, _ := parsed.(reference.Named)
	if named != nil && reference.IsNameOnly(named) {
		if found := i.tagsOfRepository(a, named); len(found) > 0 {
			for _, t := range found {
				if img, ok := i.State.View().Image(a, t.image); ok {
					list.add(img, t.ref)
				}
			}
			return nil
		}
	}
	img, err := findImage(i.State.View(), a, ref)
	if err != nil {
		return err
	}
	if isIDPrefix(img.ID, ref) {
		named = nil
	}
	list.add(img, named)
	return nil
}

type repositoryTag struct {
	ref   reference.NamedTagged
	image nereid.ImageID
}

func (i *Images) tagsOfRepository(a nereid.Account, named reference.Named) []repositoryTag {
	var found []repositoryTag
	for _, t := range i.State.View().Tags(a) {
		r, err := reference.ParseNormalizedNamed(t.Ref)
		if err != nil || r.Name() != named.Name() {
			continue
		}
		if tagged, ok := r.(reference.NamedTagged); ok {
			found = append(found, repositoryTag{tagged, t.Image})
		}
	}
	return found
}

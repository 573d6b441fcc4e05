package engine

import (
	"context"

	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"

	"github.com/nereid-paas/nereid/pkg/image"
	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
	"github.com/nereid-paas/nereid/runtime"
)

// CommitImage is what a container is to be made an image of.
type CommitImage struct {
	Container *state.Container
	RootFS    string            // mounted, and still until CommitContainer returns
	Config    *container.Config // of the image, changes applied
	Author    string
	Comment   string
	Tag       reference.NamedTagged // nil: none
	// Still is asked when the files have been read, before the image is entered, and when they could not be: an error ends
	// the commit and says why.
	Still func() error
	// Tell makes the container's event, which is emitted with the image's.
	Tell func(nereid.ImageID) *state.Event
}

// CommitContainer enters an image of what a container changed over its own. The container's use case pauses and
// mounts it.
func (i *Images) CommitContainer(ctx context.Context, c CommitImage) (nereid.ImageID, error) {
	a := c.Container.Account
	held, err := i.store.Commit(ctx, a, image.CommitOptions{
		Parent:          c.Container.ImageID,
		RootFS:          c.RootFS,
		Config:          c.Config,
		ContainerConfig: c.Container.Config,
		ContainerID:     c.Container.ID,
		Author:          c.Author,
		Comment:         c.Comment,
		Omit:            runtime.IsPlace,
	})
	if err != nil {
		if gone := c.Still(); gone != nil { // and the files with it
			return "", gone
		}
		return "", err
	}
	defer held.Release()
	if err := c.Still(); err != nil {
		return "", err
	}
	e := entry{account: a, held: held, parent: c.Container.ImageID, comment: c.Comment}
	if c.Tag != nil {
		e.tags, e.tagged = []reference.NamedTagged{c.Tag}, true
	}
	e.events = func(img *state.Image) []*state.Event {
		list := []*state.Event{imageEvent(a, i.Host, string(img.ID), string(img.ID), events.ActionCreate, i.labels(img))}
		if c.Tag != nil {
			list = append(list, imageEvent(a, i.Host, string(img.ID), reference.FamiliarString(c.Tag), events.ActionTag, i.labels(img)))
		}
		return append(list, c.Tell(img.ID))
	}
	img, _, err := i.record(ctx, e)
	if err != nil {
		return "", err
	}
	return img.ID, nil
}

package engine

import (
	"context"
	"errors"
	"io"
	"os"

	layertar "github.com/containerd/containerd/v2/pkg/archive"
	"github.com/containerd/continuity/fs"
	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"golang.org/x/sys/unix"

	"github.com/nereid-paas/nereid/pkg/image"
	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
	"github.com/nereid-paas/nereid/runtime"
)

// CommitImage is what a container is to be made an image of.
type CommitImage struct {
	Container *state.Container
	RootFS    string            // mounted until CommitContainer returns; a container that is not paused may change it
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
		Config:          c.Config,
		ContainerConfig: c.Container.Config,
		ContainerID:     c.Container.ID,
		Author:          c.Author,
		Comment:         c.Comment,
		Write:           func(ctx context.Context, lower string, w io.Writer) error { return writeLayer(ctx, lower, c.RootFS, w) },
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

// writeLayer writes what is below dir over what is below lower. The files are read with dir as the root directory, so that
// links which a container lays meanwhile lead nowhere else.
func writeLayer(ctx context.Context, lower, dir string, w io.Writer) (retErr error) {
	changes, err := runtime.Difference(lower, dir)
	if err != nil {
		return err
	}
	v, err := newFSView(dir, nil, func() error { return nil })
	if err != nil {
		return err
	}
	defer func() { retErr = errors.Join(retErr, v.close()) }()
	return v.run(func() error {
		out := layertar.NewChangeWriter(w, "/")
		for _, c := range changes {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err := writeChange(out, c); err != nil {
				return err
			}
		}
		return out.Close()
	})
}

func writeChange(out *layertar.ChangeWriter, c container.FilesystemChange) error {
	if c.Kind == container.ChangeDelete {
		return out.HandleChange(fs.ChangeKindDelete, c.Path, nil, nil)
	}
	info, err := os.Lstat(c.Path)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil // it went meanwhile
	}
	if err != nil {
		return err
	}
	kind := fs.ChangeKind(fs.ChangeKindModify)
	switch c.Kind {
	case container.ChangeAdd:
		kind = fs.ChangeKindAdd
	case runtime.Unchanged:
		kind = fs.ChangeKindUnmodified
	}
	return out.HandleChange(kind, c.Path, info, nil)
}

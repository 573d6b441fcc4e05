package engine

import (
	"context"
	"time"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/events"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// Tag gives an image another name, which is taken from the image that has it.
func (i *Images) Tag(ctx context.Context, ref, newRef string) error {
	t, err := tagReference(newRef, "refusing to create a tag with a digest reference")
	if err != nil {
		return err
	}
	unlock, err := i.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	for range commitTries {
		if err = i.tagOnce(ctx, ref, t); !errdefs.IsAborted(err) {
			break
		}
	}
	return err
}

func (i *Images) tagOnce(ctx context.Context, ref string, t reference.NamedTagged) error {
	a := nereid.AccountFrom(ctx)
	img, err := findImage(i.State.View(), a, ref)
	if err != nil {
		return err
	}
	next := *img
	next.LastTagged = time.Now().UTC()
	_, err = i.State.Commit(ctx,
		state.Update(&next),
		state.Put(&state.Tag{Account: a, Ref: t.String(), Image: img.ID}),
		state.Emit(imageEvent(a, i.Host, string(img.ID), reference.FamiliarString(t), events.ActionTag, i.labels(img))),
	)
	return err
}

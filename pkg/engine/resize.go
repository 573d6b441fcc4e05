package engine

import (
	"context"
	"strconv"

	"github.com/docker/docker/api/types/events"
)

// Resize changes the size of the terminal of a running container's process.
func (c *Containers) Resize(ctx context.Context, ref string, height, width uint32) error {
	r, err := c.find(ctx, ref)
	if err != nil {
		return err
	}
	if !r.State.Running() {
		return errNotRunning(r.ID)
	}
	ctx, cancel := work(ctx)
	defer cancel()
	if err := c.Runtime.Resize(ctx, keyOf(r), height, width); err != nil {
		return c.meanwhile(r, err)
	}
	_, err = c.State.Commit(ctx, tell(r, events.ActionResize,
		"height", strconv.FormatUint(uint64(height), 10), "width", strconv.FormatUint(uint64(width), 10)))
	return err
}

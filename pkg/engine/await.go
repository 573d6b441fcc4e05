package engine

import (
	"context"
	"time"

	"github.com/nereid-paas/nereid/pkg/state"
)

// up tells whether Docker takes a container for running: one that waits for its restart is, so that stop and rm treat
// it as such.
func up(r *state.Container) bool {
	return r.State.Running() || r.State.Status == state.StatusRestarting
}

// over is the condition that a run that was under way at the count of exits given is over: the process ended, or
// nothing will start it again, or the container is gone.
func over(exits int) func(*state.Container) bool {
	return func(r *state.Container) bool { return r == nil || r.Exits > exits || !up(r) }
}

// awaitEnd waits until a run is over; a negative bound waits for as long as the context lasts.
func (c *Containers) awaitEnd(ctx context.Context, r *state.Container, bound time.Duration) error {
	if bound >= 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, bound)
		defer cancel()
	}
	_, err := c.State.View().WaitContainer(ctx, r.Account, r.ID, over(r.Exits))
	return err
}

package engine

import (
	"context"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/events"
	"go.uber.org/zap"

	"github.com/nereid-paas/nereid/pkg/state"
)

// Pause freezes a running container's processes.
func (c *Containers) Pause(ctx context.Context, ref string) error {
	r, err := c.find(ctx, ref)
	if err != nil {
		return err
	}
	return c.asked(ctx, r, func(r *state.Container) error {
		switch r.State.Status {
		case state.StatusPaused:
			return errConflict("Container %s is already paused", r.ID)
		case state.StatusRestarting:
			return errRestarting(r.ID)
		case state.StatusRunning:
		default:
			return errNotRunning(r.ID)
		}
		ctx, cancel := work(ctx)
		defer cancel()
		if err := c.Runtime.Pause(ctx, keyOf(r)); err != nil {
			if err = c.meanwhile(r, err); errdefs.IsConflict(err) {
				return err
			}
			return errInternal("cannot pause container %s: %s", r.ID, err)
		}
		err := c.become(ctx, r, state.StatusPaused, events.ActionPause)
		if err != nil {
			if err := c.Runtime.Resume(ctx, keyOf(r)); err != nil {
				c.logger(keyOf(r)).Error("container not resumed after a pause that was not recorded", zap.Error(err))
			}
			return err
		}
		c.health.replace(keyOf(r), nil)
		return nil
	})
}

// Unpause lets them run again.
func (c *Containers) Unpause(ctx context.Context, ref string) error {
	r, err := c.find(ctx, ref)
	if err != nil {
		return err
	}
	return c.asked(ctx, r, func(r *state.Container) error {
		if r.State.Status != state.StatusPaused {
			return errInternal("Container %s is not paused", r.ID)
		}
		ctx, cancel := work(ctx)
		defer cancel()
		if err := c.Runtime.Resume(ctx, keyOf(r)); err != nil {
			return errInternal("Cannot unpause container %s: %s", r.ID, err)
		}
		err := c.become(ctx, r, state.StatusRunning, events.ActionUnPause)
		c.watchHealth(keyOf(r))
		return err
	})
}

// become sets a container's status and tells of it. Paused containers are not probed.
func (c *Containers) become(ctx context.Context, r *state.Container, status string, action events.Action) error {
	_, err := c.transit(ctx, keyOf(r), func(r *state.Container) ([]state.Op, error) {
		if status == state.StatusPaused {
			r.State.Health = stoppedHealth(c.health.of(r))
		}
		r.State.Status = status
		return []state.Op{tell(r, action)}, nil
	})
	return err
}

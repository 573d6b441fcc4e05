package engine

import (
	"context"

	"github.com/docker/docker/api/types/container"

	"github.com/nereid-paas/nereid/pkg/state"
)

// Wait returns at once with a channel on which one answer comes when the condition holds, or the context ends. The
// exit code is that of the end waited for, also when the container is removed with it.
func (c *Containers) Wait(ctx context.Context, ref string, cond container.WaitCondition) (<-chan container.WaitResponse, error) {
	r, err := c.find(ctx, ref)
	if err != nil {
		return nil, err
	}
	if c.Fleet.State(r.Host).Gone() {
		return nil, errHostGone(r.Host)
	}
	answer := make(chan container.WaitResponse, 1) // buffered: the waiter never outlives its condition
	go func() {
		defer close(answer)
		answer <- c.wait(ctx, r, waitFor(r, cond))
	}()
	return answer, nil
}

// wait waits for a condition. A container that is gone has the exit code it had last, and no error: its removal
// succeeded.
func (c *Containers) wait(ctx context.Context, r *state.Container, holds func(*state.Container) bool) container.WaitResponse {
	last := r
	ctx, cancel := c.Fleet.Watched(ctx, r.Host)
	defer cancel()
	now, err := c.State.View().WaitContainer(ctx, r.Account, r.ID, func(now *state.Container) bool {
		if now != nil {
			last = now
		}
		return holds(now)
	})
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return container.WaitResponse{StatusCode: -1, Error: &container.WaitExitError{Message: err.Error()}}
	}
	answer := container.WaitResponse{StatusCode: int64(last.State.ExitCode)}
	if now != nil && now.State.Error != "" {
		answer.Error = &container.WaitExitError{Message: now.State.Error}
	}
	return answer
}

// waitFor is the condition for one who asks when the container is as r shows it. Removal ends every wait.
func waitFor(r *state.Container, cond container.WaitCondition) func(*state.Container) bool {
	switch cond {
	case container.WaitConditionNextExit:
		return func(now *state.Container) bool { return now == nil || now.Exits > r.Exits }
	case container.WaitConditionRemoved:
		return func(now *state.Container) bool { return now == nil || now.State.Status == state.StatusDead }
	default:
		return over(r.Exits)
	}
}

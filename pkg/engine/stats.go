package engine

import (
	"context"
	"iter"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"

	"github.com/nereid-paas/nereid/pkg/state"
)

// statsPeriod is the time between samples: the CLI computes rates by it.
const statsPeriod = time.Second

// Stats yields what a container uses: one sample, or one a second until it is removed. A sample carries the CPU figures
// of the one before, but with oneShot. A container that does not run has empty ones.
func (c *Containers) Stats(ctx context.Context, ref string, stream, oneShot bool) (iter.Seq2[*container.StatsResponse, error], error) {
	r, err := c.find(ctx, ref)
	if err != nil {
		return nil, err
	}
	if stream && oneShot {
		return nil, errInvalid("cannot have stream=true and one-shot=true")
	}
	if !stream && (oneShot || !r.State.Running()) {
		return c.sampleOnce(ctx, r), nil
	}
	return c.sampleOn(ctx, r, stream), nil
}

func (c *Containers) sampleOnce(ctx context.Context, r *state.Container) iter.Seq2[*container.StatsResponse, error] {
	return func(yield func(*container.StatsResponse, error) bool) {
		yield(c.sample(ctx, r))
	}
}

// sampleOn samples each period. Without stream the second sample is the only one shown: it has figures before it.
func (c *Containers) sampleOn(ctx context.Context, r *state.Container, stream bool) iter.Seq2[*container.StatsResponse, error] {
	return func(yield func(*container.StatsResponse, error) bool) {
		tick := time.NewTicker(statsPeriod)
		defer tick.Stop()
		var before *container.StatsResponse
		for {
			now, ok := c.State.View().Container(r.Account, r.ID)
			if !ok {
				return
			}
			s, err := c.sample(ctx, now)
			if err != nil {
				if ctx.Err() == nil {
					yield(nil, err)
				}
				return
			}
			if before != nil {
				s.PreCPUStats, s.PreRead = before.CPUStats, before.Read
			}
			if (stream || before != nil) && (!yield(s, nil) || !stream) {
				return
			}
			before = s
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	}
}

// sample is one sample; empty but for the name when the container does not run.
func (c *Containers) sample(ctx context.Context, r *state.Container) (*container.StatsResponse, error) {
	s := &container.StatsResponse{}
	if r.State.Running() {
		ctx, cancel := context.WithTimeout(ctx, hostTimeout)
		defer cancel()
		got, err := c.Runtime.Stats(ctx, keyOf(r))
		switch {
		case err == nil:
			s = got
		case !errdefs.IsConflict(c.meanwhile(r, err)):
			return nil, err
		}
	}
	s.Name, s.ID = "/"+r.Name, string(r.ID)
	return s, nil
}

package engine

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/backend"
	"github.com/docker/docker/api/types/events"
	"go.uber.org/zap"

	"github.com/nereid-paas/nereid/pkg/state"
	"github.com/nereid-paas/nereid/pkg/trace"
	"github.com/nereid-paas/nereid/runtime"
)

// Remove removes a container, one that runs only by force.
func (c *Containers) Remove(ctx context.Context, ref string, opts backend.ContainerRmConfig) error {
	r, err := c.find(ctx, ref)
	if err != nil {
		return err
	}
	if opts.RemoveLink {
		return c.unlink(ctx, ref)
	}
	if r.State.Status == state.StatusRemoving && c.locks.busy(keyOf(r)) || !c.removals.begin(keyOf(r)) {
		return errConflict("removal of container %s is already in progress", ref)
	}
	defer c.removals.end(keyOf(r))
	if err := c.remove(ctx, r, opts); err != nil {
		return fmt.Errorf("cannot remove container %q: %w", ref, err)
	}
	return nil
}

// removals are the containers that users are removing now, from the first kill on. The zero value is ready.
type removals struct {
	mu  sync.Mutex
	now map[runtime.Key]bool
}

// begin tells whether nobody else removes the container; who began must end.
func (r *removals) begin(key runtime.Key) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.now[key] {
		return false
	}
	if r.now == nil {
		r.now = map[runtime.Key]bool{}
	}
	r.now[key] = true
	return true
}

func (r *removals) end(key runtime.Key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.now, key)
}

// removeTries bounds how often a removal by force ends a container that others start again.
const removeTries = 10

func (c *Containers) remove(ctx context.Context, r *state.Container, opts backend.ContainerRmConfig) error {
	for try := 1; ; try++ {
		now, err := c.tryRemove(ctx, r, opts)
		if now == nil || !opts.ForceRemove || try == removeTries {
			return err
		}
		r = now
	}
}

// tryRemove removes a container, ended first when force allows that. When it was started in between it is returned as it
// now is.
func (c *Containers) tryRemove(ctx context.Context, r *state.Container, opts backend.ContainerRmConfig) (started *state.Container, err error) {
	if up(r) {
		if err := c.makeRemovable(ctx, r, opts.ForceRemove); err != nil {
			return nil, err
		}
	}
	err = c.asked(ctx, r, func(now *state.Container) error {
		if up(now) {
			started = now
			return errStillUp(now)
		}
		ctx, cancel := work(ctx)
		defer cancel()
		next, err := c.transit(ctx, keyOf(now), func(r *state.Container) ([]state.Op, error) {
			r.State.Status = state.StatusRemoving
			return nil, nil
		})
		if err != nil {
			return err
		}
		return c.discard(ctx, next, opts.RemoveVolume)
	})
	if errdefs.IsNotFound(err) {
		return nil, nil // another removed it meanwhile, or it had --rm
	}
	return started, err
}

// makeRemovable kills a container that runs when force allows that.
func (c *Containers) makeRemovable(ctx context.Context, r *state.Container, force bool) error {
	if !force {
		return errStillUp(r)
	}
	err := c.kill(ctx, r)
	if err != nil && !errdefs.IsConflict(err) && !errdefs.IsNotFound(err) {
		return fmt.Errorf("could not kill container: %w", err)
	}
	return nil
}

func errStillUp(r *state.Container) error {
	if r.State.Status == state.StatusPaused {
		return errConflict("container is paused and must be unpaused first")
	}
	return errConflict("container is %s: stop the container before removing or force remove", r.State.Status)
}

// discard removes a container marked as removing from the host and then from the state. The container's lock is held.
// When it fails the container is dead: it cannot be started, and can be removed again.
func (c *Containers) discard(ctx context.Context, r *state.Container, volumes bool) error {
	ctx, span := trace.About(ctx, "remove", string(r.ID))
	defer span.End()
	ctx, cancel := work(ctx)
	defer cancel()
	err := c.discardHost(ctx, keyOf(r))
	if err == nil {
		err = c.discardState(ctx, r, volumes)
	}
	return c.discarded(ctx, r, err)
}

// discarded forgets a container that was removed, or could not be.
func (c *Containers) discarded(ctx context.Context, r *state.Container, err error) error {
	if err != nil {
		c.died(ctx, r, err)
		return err
	}
	c.execs.forget(keyOf(r))
	c.live.forget(keyOf(r))
	return nil
}

// discardEnded is discard of a container with --rm. Who waits for its end need not wait for what it had on the host when
// others cannot want that: it goes after the record, and where the daemon dies in between, as what belongs to no
// container.
func (c *Containers) discardEnded(ctx context.Context, r *state.Container) error {
	if !removedBehind(r) {
		return c.discard(ctx, r, true)
	}
	ctx, span := trace.About(ctx, "remove", string(r.ID))
	defer span.End()
	ctx, cancel := work(ctx)
	defer cancel()
	if err := c.discarded(ctx, r, c.discardState(ctx, r, true)); err != nil {
		return err
	}
	c.discardBehind(keyOf(r), 1)
	return nil
}

// removedBehind tells whether what an ended container has on the host may go after its record: not when it has volumes,
// which the next user may want to remove, or to mount elsewhere.
func removedBehind(r *state.Container) bool { return len(r.Mounts) == 0 }

const (
	// remainsLimit is how many removed containers are removed from the host at once; more would not be faster, and
	// would keep the next starts waiting.
	remainsLimit = 2
	// behindTries bounds how often that is tried; after that it is left to the next start of the daemon.
	behindTries = 5
	behindPause = time.Second // before another try
)

// discardBehind removes in the background what a container that is gone from the state has on this host.
func (c *Containers) discardBehind(key runtime.Key, try int) {
	pause := time.Duration(0)
	if try > 1 {
		pause = behindPause
	}
	c.behind.Add(1)
	c.later.after(pause, func(ctx context.Context) {
		defer c.behind.Add(-1)
		leave, err := c.remains.enter(ctx, c.down)
		if err != nil {
			return // the next daemon finds them
		}
		defer leave()
		if err = c.discardRemains(ctx, key); err == nil {
			return
		}
		c.logger(key).Error("remains of a removed container not removed", zap.Error(err), zap.Int("try", try))
		if try < behindTries {
			c.discardBehind(key, try+1)
		}
	})
}

// discardRemains removes from the host what belongs to no container.
func (c *Containers) discardRemains(ctx context.Context, key runtime.Key) error {
	ctx, span := trace.About(ctx, "remove behind", string(key.ID))
	defer span.End()
	ctx, cancel := work(ctx)
	defer cancel()
	return c.discardHost(ctx, key)
}

// discardHost removes what the container has on this host. It may run again after a failure.
func (c *Containers) discardHost(ctx context.Context, key runtime.Key) error {
	if err := c.Runtime.DeleteTask(ctx, key); err != nil {
		return err
	}
	if err := c.Runtime.Discard(ctx, key); err != nil {
		return err
	}
	if err := os.RemoveAll(c.dir(key)); err != nil {
		return fmt.Errorf("unable to remove filesystem: %w", err)
	}
	return nil
}

// discardState removes the container's records in one transaction, then the data of volumes that went with it.
func (c *Containers) discardState(ctx context.Context, r *state.Container, volumes bool) error {
	for try := 1; ; try++ {
		ops, after := c.volumes.ReleaseOps(r, volumes)
		ops = append(ops, c.networks.Release(r.Clone())...)
		ops = append(ops, state.Delete(&state.Naming{Account: r.Account, Container: r.ID}))
		ops = append(ops, state.Delete(r), state.Delete(&state.Name{Account: r.Account, Name: r.Name}), tell(r, events.ActionDestroy))
		_, err := c.State.Commit(ctx, ops...)
		if err == nil {
			if err := after(ctx); err != nil {
				c.logger(keyOf(r)).Error("volumes of removed container not removed", zap.Error(err))
			}
			return nil
		}
		if !overtaken(err) || try == maxTransitTries {
			return err
		}
	}
}

// died marks a container whose removal failed.
func (c *Containers) died(ctx context.Context, r *state.Container, cause error) {
	ctx, cancel := work(ctx)
	defer cancel()
	_, err := c.transit(ctx, keyOf(r), func(r *state.Container) ([]state.Op, error) {
		r.State.Status = state.StatusDead
		r.State.Error = cause.Error()
		return nil, nil
	})
	if err != nil && !errdefs.IsNotFound(err) {
		c.logger(keyOf(r)).Error("failed removal not recorded", zap.Error(err), zap.NamedError("removal", cause))
	}
}

package engine

import (
	"context"
	goruntime "runtime"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/events"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/nereid-paas/nereid/pkg/state"
	"github.com/nereid-paas/nereid/pkg/trace"
)

// Start runs a created or ended container. One that runs is errdefs.ErrNotModified. When the client goes away the start
// goes on: half a start is worse than one nobody waits for.
func (c *Containers) Start(ctx context.Context, ref string) error {
	r, err := c.find(ctx, ref)
	if err != nil {
		return err
	}
	if err := startable(r); err != nil {
		return err
	}
	return c.settled(ctx, r, func(r *state.Container) error {
		if err := startable(r); err != nil {
			return err
		}
		return c.start(ctx, r, startKind{byUser: true})
	})
}

// settled is locked for what starts a container: what an abandoned start left on the host is gone by then.
func (c *Containers) settled(ctx context.Context, r *state.Container, do func(*state.Container) error) error {
	for {
		var ending <-chan struct{}
		err := c.asked(ctx, r, func(r *state.Container) error {
			if ending = c.live.of(keyOf(r)).abandoned; ending != nil {
				return nil
			}
			return do(r)
		})
		if err != nil || ending == nil {
			return err
		}
		if err := c.awaitAbandoned(ctx, ending); err != nil {
			return err
		}
	}
}

// abandonedWait bounds how long a start waits for the end of the one before it, which takes note of itself as soon as
// the state can be written.
const abandonedWait = 10 * time.Second

// awaitAbandoned waits until what an abandoned start left on the host is gone.
func (c *Containers) awaitAbandoned(ctx context.Context, ending <-chan struct{}) error {
	late := time.NewTimer(abandonedWait)
	defer late.Stop()
	select {
	case <-ending:
		return nil
	case <-late.C:
		return errdefs.ErrUnavailable.WithMessage("the container's last start could not be recorded and is still being undone")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// startable tells why a container in this state cannot be started, in Docker's words.
func startable(r *state.Container) error {
	switch r.State.Status {
	case state.StatusPaused:
		return errConflict("cannot start a paused container, try unpause instead")
	case state.StatusRunning, state.StatusRestarting:
		return errNotModified("container is already running")
	case state.StatusRemoving, state.StatusDead:
		return errConflict("container is marked for removal and cannot be started")
	}
	return nil
}

// startKind says who starts a container.
type startKind struct {
	byUser bool // not the restart policy: its count and back-off begin anew
	again  bool // the start of a restart, which has an event of its own
}

// start brings a container from not running to running, or leaves it as it was with the error in its state. Its steps:
//
//  1. claim: addresses and host ports, one transaction
//  2. launch: namespace; then task, and beside it links and ports; then the process
//  3. running: state and events, one transaction
//
// The container's lock is held. A process that ends meanwhile is dealt with when the lock is free.
func (c *Containers) start(ctx context.Context, r *state.Container, kind startKind) error {
	ctx, span := trace.About(ctx, "start", string(r.ID))
	defer span.End()
	leave, err := c.starts.enter(context.WithoutCancel(ctx), c.down)
	if err != nil {
		return err
	}
	defer leave()
	ctx, cancel := work(ctx)
	defer cancel()
	l := c.live.of(keyOf(r))
	l.alarm.cancel()
	if kind.byUser {
		l.backoff = 0
	}
	l.cancelled, l.stopping = false, false
	claimed, err := c.claim(ctx, r)
	if err != nil {
		return c.startFailed(ctx, r, err, kind)
	}
	startedAt := time.Now().UTC()
	pid, err := c.launch(ctx, claimed)
	if err != nil {
		return c.startFailed(ctx, r, err, kind)
	}
	now, err := c.transit(ctx, keyOf(r), c.running(pid, startedAt, kind))
	if err != nil {
		return c.abandon(ctx, r, err)
	}
	c.networks.repoint(now)
	c.watchHealth(keyOf(r))
	return nil
}

// startLimit is how many containers are started at once: each keeps one processor busy for most of the time, and waits
// for the disk and for the kernel in the rest.
func startLimit() int { return 2 * goruntime.GOMAXPROCS(0) }

// running is the edit of a container whose process has begun.
func (c *Containers) running(pid int, at time.Time, kind startKind) edit {
	return func(r *state.Container) ([]state.Op, error) {
		finished := r.State.FinishedAt
		r.State = state.RunState{
			Status: state.StatusRunning, Pid: pid, StartedAt: at, FinishedAt: finished, Health: startedHealth(r),
		}
		r.Leaving, r.From = false, ""
		r.Starts++
		if kind.byUser {
			r.RestartCount = 0
			r.StoppedByUser = false
		}
		ops := append(c.volumes.MountEvents(r), c.tellNetworks(r, events.ActionConnect)...)
		ops = append(ops, tell(r, events.ActionStart))
		if kind.again {
			ops = append(ops, tell(r, events.ActionRestart))
		}
		return ops, nil
	}
}

// launch makes everything a claimed container needs on the host and lets its process run. What a failed launch leaves,
// clear removes.
func (c *Containers) launch(ctx context.Context, r *state.Container) (pid int, err error) {
	spec, release, err := c.spec(ctx, r)
	if err != nil {
		return 0, err
	}
	defer release()
	plumb, err := c.sandbox(ctx, r, &spec)
	if err != nil {
		return 0, err
	}
	g, both := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		pid, err = c.Runtime.CreateTask(both, spec)
		return asTaskError(err)
	})
	g.Go(func() error { return asNetworkError(plumb(both)) })
	if err := g.Wait(); err != nil {
		return 0, err
	}
	return pid, asTaskError(c.Runtime.StartTask(ctx, spec.Key))
}

// startFailed undoes a start that did not come to its process and keeps the reason in the container's state. It returns
// the error the user sees.
func (c *Containers) startFailed(ctx context.Context, r *state.Container, cause error, kind startKind) error {
	ctx, cancel := work(ctx)
	defer cancel()
	key := keyOf(r)
	c.clear(ctx, key)
	gone := r.HostConfig.AutoRemove
	code, cause := startExitCode(cause)
	r, err := c.transit(ctx, key, func(r *state.Container) ([]state.Op, error) {
		failed(r, cause, code, kind)
		// Docker has mounted the volumes by then and lets go of the networks, whether it came to connecting them or not.
		ops := append(c.volumes.MountEvents(r), c.tellNetworks(r, events.ActionDisconnect)...)
		ops = append(ops, c.volumes.UnmountEvents(r)...)
		return append(ops, c.networks.Release(r)...), nil
	})
	if err != nil {
		c.logger(key).Error("failed start not recorded", zap.Error(err), zap.NamedError("start", cause))
		return cause
	}
	if gone {
		if err := c.discardEnded(ctx, r); err != nil {
			c.logger(key).Error("container whose start failed not removed", zap.Error(err))
		}
	}
	return cause
}

// failed notes in a record that its start failed. A container that never ran stays created; one that the restart policy
// brought back keeps the exit code of its last run.
func failed(r *state.Container, cause error, code int, kind startKind) {
	r.State.Error = cause.Error()
	r.State.Pid = 0
	r.State.Status = state.StatusExited
	if r.State.StartedAt.IsZero() {
		r.State.Status = state.StatusCreated
	}
	if kind.byUser {
		r.State.ExitCode = code
	}
}

// abandon ends a container that runs but whose start could not be recorded. Whether the transaction took place after
// all is for the exit's handler to see, which finds the container started or not; the next start waits for it.
func (c *Containers) abandon(ctx context.Context, r *state.Container, cause error) error {
	ctx, cancel := work(ctx)
	defer cancel()
	l := c.live.of(keyOf(r))
	l.cancelled = true
	err := c.Runtime.Kill(ctx, keyOf(r), sigKill)
	if err != nil && !errdefs.IsFailedPrecondition(err) { // that is: it has ended by itself
		c.logger(keyOf(r)).Error("container with unrecorded start not killed", zap.Error(err))
		return cause
	}
	if l.abandoned == nil {
		l.abandoned = make(chan struct{})
	}
	return cause
}

package engine

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/moby/sys/signal"
	"go.uber.org/zap"

	"github.com/nereid-paas/nereid/pkg/state"
)

const (
	// defaultStopTimeout is the grace between the stop signal and SIGKILL, Docker's.
	defaultStopTimeout = 10
	// unsentWait is the grace when the stop signal could not be sent.
	unsentWait = 2 * time.Second
)

// Stop ends a container's process: the stop signal, a grace, then SIGKILL. A negative timeout never kills. One that
// does not run is errdefs.ErrNotModified. A client that goes away does not stop the stop.
func (c *Containers) Stop(ctx context.Context, ref string, opts container.StopOptions) error {
	r, err := c.find(ctx, ref)
	if err != nil {
		return err
	}
	if !up(r) {
		return errNotModified("container is already stopped")
	}
	if err := c.stop(ctx, r, opts); err != nil {
		return cannot(err, "cannot stop container: "+ref)
	}
	return nil
}

// stop is Stop of the run that r shows, or that the restart policy has made of it since; when that is over already it does
// nothing.
func (c *Containers) stop(ctx context.Context, r *state.Container, opts container.StopOptions) error {
	ctx = context.WithoutCancel(ctx)
	sig, grace, err := stopWay(r.Config, opts)
	if err != nil {
		return err
	}
	if !up(r) {
		return nil
	}
	r, sendErr := c.signalled(ctx, r, sig, true)
	if errdefs.IsUnavailable(sendErr) {
		return sendErr
	}
	if sendErr != nil && grace > 0 {
		grace = unsentWait
	}
	if c.awaitEnd(ctx, r, grace) == nil {
		return nil
	}
	if grace < 0 {
		return sendErr
	}
	c.logger(keyOf(r)).Info("container outlived its stop signal, killing it",
		zap.Stringer("signal", sig), zap.Duration("grace", grace), zap.NamedError("send", sendErr))
	if err := c.kill(ctx, r); err != nil && c.awaitEnd(ctx, r, killAgainWait) != nil {
		c.stopFailed(ctx, r)
		return err
	}
	return nil
}

// stopWay is the signal and the grace of a stop; negative: for ever.
func stopWay(cfg *container.Config, opts container.StopOptions) (syscall.Signal, time.Duration, error) {
	sig := stopSignal(cfg)
	if opts.Signal != "" {
		var err error
		if sig, err = signal.ParseSignal(opts.Signal); err != nil {
			return 0, 0, asInvalid(err)
		}
	}
	seconds := defaultStopTimeout
	if cfg.StopTimeout != nil {
		seconds = *cfg.StopTimeout
	}
	if opts.Timeout != nil {
		seconds = *opts.Timeout
	}
	if seconds < 0 {
		return sig, -1, nil
	}
	return sig, time.Duration(seconds) * time.Second, nil
}

func stopSignal(cfg *container.Config) syscall.Signal {
	if sig, err := signal.ParseSignal(cfg.StopSignal); err == nil && sig > 0 {
		return sig
	}
	return syscall.SIGTERM
}

// stopFailed takes back that a stop waits for the end.
func (c *Containers) stopFailed(ctx context.Context, r *state.Container) {
	ctx, cancel := work(ctx)
	defer cancel()
	c.takeBack(ctx, r, func(now *state.Container) error {
		c.live.of(keyOf(now)).stopping = false
		return nil
	})
}

// takeBack does what undoes a note about a container: at once, or, where an end that cannot be recorded has the lock,
// when that is over, for which nobody waits.
func (c *Containers) takeBack(ctx context.Context, r *state.Container, undo func(*state.Container) error) {
	if errdefs.IsUnavailable(c.asked(ctx, r, undo)) {
		c.later.after(0, func(ctx context.Context) { _ = c.locked(ctx, r, undo) })
	}
}

// Restart stops a container that runs and starts it again. A container with --rm outlives the stop between.
func (c *Containers) Restart(ctx context.Context, ref string, opts container.StopOptions) error {
	r, err := c.find(ctx, ref)
	if err != nil {
		return err
	}
	if err := c.restart(context.WithoutCancel(ctx), r, opts); err != nil {
		return cannot(err, "Cannot restart container "+ref)
	}
	return nil
}

func (c *Containers) restart(ctx context.Context, r *state.Container, opts container.StopOptions) error {
	if up(r) {
		if err := c.asked(ctx, r, c.renewing(true)); err != nil {
			return err
		}
		defer c.takeBack(ctx, r, c.renewing(false))
		if err := c.stop(ctx, r, opts); err != nil {
			return err
		}
	}
	return c.settled(ctx, r, func(r *state.Container) error {
		switch r.State.Status {
		case state.StatusRunning, state.StatusPaused:
			// Someone else started it meanwhile: what was asked for is so.
			_, err := c.State.Commit(ctx, tell(r, events.ActionRestart))
			return err
		case state.StatusRemoving, state.StatusDead:
			return errConflict("container is marked for removal and cannot be started")
		}
		return c.start(ctx, r, startKind{byUser: true, again: true})
	})
}

// renewing notes that a restart has stopped the container, or not any more.
func (c *Containers) renewing(on bool) func(*state.Container) error {
	return func(r *state.Container) error {
		c.live.of(keyOf(r)).renewing = on
		return nil
	}
}

// cannot words the failure of a stop or restart as Docker does. It is an internal error, unless it is to be tried again.
func cannot(err error, what string) error {
	if errdefs.IsUnavailable(err) {
		return fmt.Errorf("%s: %w", what, err)
	}
	return errInternal("%s: %s", what, err)
}

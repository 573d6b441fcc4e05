package engine

import (
	"context"
	"errors"
	"strconv"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/events"
	"github.com/moby/sys/signal"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/nereid-paas/nereid/pkg/state"
)

const sigKill = int(syscall.SIGKILL)

const (
	// killWait is how long the end of a killed container is waited for, and killAgainWait how long after its process
	// was killed past the runtime; both are Docker's.
	killWait      = 10 * time.Second
	killAgainWait = 2 * time.Second
)

// Kill sends a signal, SIGKILL when none is named. After SIGKILL it waits for the end.
func (c *Containers) Kill(ctx context.Context, ref, name string) error {
	sig := syscall.SIGKILL
	if name != "" {
		var err error
		if sig, err = signal.ParseSignal(name); err != nil {
			return asInvalid(err)
		}
		if !signal.ValidSignalForPlatform(sig) {
			return errInvalid("the linux daemon does not support signal %d", sig)
		}
	}
	r, err := c.find(ctx, ref)
	if err != nil {
		return err
	}
	if sig == syscall.SIGKILL {
		return c.kill(ctx, r)
	}
	_, err = c.signalled(ctx, r, sig, false)
	return err
}

// kill sends SIGKILL and waits for the end, whether the client waits or not.
func (c *Containers) kill(ctx context.Context, r *state.Container) error {
	if !up(r) {
		return errNotRunning(r.ID)
	}
	ctx, cancel := work(ctx)
	defer cancel()
	r, sendErr := c.signalled(ctx, r, syscall.SIGKILL, false)
	switch {
	case errdefs.IsNotFound(sendErr):
		return nil
	case errdefs.IsUnavailable(sendErr):
		return sendErr
	}
	if c.awaitEnd(ctx, r, killWait) == nil {
		return nil
	}
	c.logger(keyOf(r)).Warn("container did not end after SIGKILL, killing its process directly", zap.NamedError("kill", sendErr))
	return c.killDirectly(ctx, r)
}

// killDirectly kills the process past the runtime, for one that the runtime cannot reach.
func (c *Containers) killDirectly(ctx context.Context, r *state.Container) error {
	if r.State.Pid > 0 {
		if err := unix.Kill(r.State.Pid, unix.SIGKILL); errors.Is(err, unix.ESRCH) {
			return nil
		} else if err != nil {
			return errInternal("%s", err)
		}
	}
	if c.awaitEnd(ctx, r, killAgainWait) != nil {
		return errInternal("tried to kill container, but did not receive an exit event")
	}
	return nil
}

// signalled takes the lock and signals the run that r shows, or the one that the restart policy has made of it since. It
// returns the container as it was then: the run whose end the signal is meant to bring.
func (c *Containers) signalled(ctx context.Context, r *state.Container, sig syscall.Signal, stopping bool) (*state.Container, error) {
	run := r
	err := c.asked(ctx, r, func(now *state.Container) error {
		if !continues(r, now) {
			return errNotRunning(r.ID)
		}
		run = now
		return c.signal(ctx, now, sig, stopping)
	})
	return run, err
}

// continues tells whether a container still is at what r shows it at: whatever ended since, the restart policy brought
// back, and no user started it anew.
func continues(r, now *state.Container) bool {
	return now.Exits-r.Exits == now.RestartCount-r.RestartCount
}

// signal sends a signal to a container's process and tells of it; stopping says that a stop waits for the end. A
// container that waits for its restart has no process: a signal that is meant to end it cancels the restart. The
// container's lock is held.
func (c *Containers) signal(ctx context.Context, r *state.Container, sig syscall.Signal, stopping bool) error {
	if !up(r) {
		return errNotRunning(r.ID)
	}
	ctx, cancel := work(ctx)
	defer cancel()
	l := c.live.of(keyOf(r))
	final := endsRestarts(r, sig)
	if r.State.Status == state.StatusRestarting {
		return c.settle(ctx, r, l, final, stopping)
	}
	l.cancelled = l.cancelled || final
	l.stopping = l.stopping || stopping
	if err := c.Runtime.Kill(ctx, keyOf(r), int(sig)); err != nil && !processGone(err) {
		return errInternal("Cannot kill container %s: %s", r.ID, err)
	}
	thaw := final && r.State.Status == state.StatusPaused
	if thaw {
		if err := c.Runtime.Resume(ctx, keyOf(r)); err != nil {
			c.logger(keyOf(r)).Warn("cannot unpause container", zap.Error(err))
			thaw = false
		}
	}
	_, err := c.transit(ctx, keyOf(r), func(r *state.Container) ([]state.Op, error) {
		r.StoppedByUser = true
		ops := []state.Op{tell(r, events.ActionKill, "signal", strconv.Itoa(int(sig)))}
		if thaw {
			r.State.Status = state.StatusRunning
			ops = append(ops, tell(r, events.ActionUnPause))
		}
		return ops, nil
	})
	return err
}

// processGone tells that the runtime has no process to signal any more: its end is about to be told.
func processGone(err error) bool { return errdefs.IsNotFound(err) || errdefs.IsFailedPrecondition(err) }

// endsRestarts tells whether a signal is meant to end the container, so that no policy restarts it: SIGKILL, its own
// stop signal, and any where it names none.
func endsRestarts(r *state.Container, sig syscall.Signal) bool {
	if r.Config.StopSignal == "" || sig == syscall.SIGKILL {
		return true
	}
	own, err := signal.ParseSignal(r.Config.StopSignal)
	return err == nil && own == sig
}

// settle deals with a signal to a container that waits for its restart. A final one leaves it exited, as its last run
// left it.
func (c *Containers) settle(ctx context.Context, r *state.Container, l *liveState, final, stopping bool) error {
	if final {
		l.alarm.cancel()
		l.cancelled = true
	}
	_, err := c.transit(ctx, keyOf(r), func(r *state.Container) ([]state.Op, error) {
		r.StoppedByUser = true
		if !final {
			return nil, nil
		}
		r.State.Status = state.StatusExited
		if stopping {
			return []state.Op{tell(r, events.ActionStop)}, nil
		}
		return nil, nil
	})
	return err
}

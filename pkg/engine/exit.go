package engine

import (
	"context"
	"strconv"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/events"
	"go.uber.org/zap"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
	"github.com/nereid-paas/nereid/pkg/trace"
	"github.com/nereid-paas/nereid/runtime"
)

var _ runtime.Handler = (*Containers)(nil)

// Exited takes note of the end of a container's process, or of one exec'd in it.
func (c *Containers) Exited(ctx context.Context, e runtime.Exit) {
	if !c.awaitAdoption(ctx) {
		return // the daemon ends; the next one is told again
	}
	ctx = nereid.WithAccount(ctx, e.Account)
	if e.ExecID != "" {
		c.execEnded(ctx, e)
		return
	}
	ctx, span := trace.About(ctx, "exit", string(e.ID))
	defer span.End()
	unlock, err := c.locks.lock(ctx, e.Key)
	if err != nil {
		return // as above
	}
	defer unlock()
	c.ended(ctx, e)
}

// OOM takes note that the kernel killed something in a container for want of memory.
func (c *Containers) OOM(ctx context.Context, key runtime.Key) {
	if !c.awaitAdoption(ctx) {
		return
	}
	unlock, err := c.locks.lock(ctx, key)
	if err != nil {
		return
	}
	defer unlock()
	ctx, cancel := work(ctx)
	defer cancel()
	_, err = c.transit(ctx, key, func(r *state.Container) ([]state.Op, error) {
		if !r.State.Running() {
			return nil, errNotRunning(r.ID)
		}
		r.State.OOMKilled = true
		return []state.Op{tell(r, events.ActionOOM)}, nil
	})
	if err != nil && !errdefs.IsNotFound(err) && !errdefs.IsConflict(err) {
		c.logger(key).Error("out of memory not recorded", zap.Error(err))
	}
}

// awaitAdoption waits until Adopt has made the records agree with the host; false when the context ends first.
func (c *Containers) awaitAdoption(ctx context.Context) bool {
	select {
	case <-c.adopted:
		return true
	case <-c.down:
		return false
	case <-ctx.Done():
		return false
	}
}

// ended brings a container from running to exited, restarting or gone. The container's lock is held. Its steps:
//
//  1. the network is unplugged, so that nobody gets an address or a port that is still in use
//  2. state, events and everything it claimed, one transaction
//  3. the task is deleted: until then the runtime knows the exit, and reports it again after a crash
//  4. devices of volumes are unmounted, unless others use them
//  5. the restart is scheduled, or the container removed; where nobody can want what it has, before 3
//
// It may be told of one end twice.
func (c *Containers) ended(ctx context.Context, e runtime.Exit) {
	r, ok := c.State.View().Container(e.Account, e.ID)
	if !ok {
		c.clear(ctx, e.Key)
		return
	}
	l := c.live.of(e.Key)
	defer l.settle()
	told := r.State.FinishedAt.Equal(e.At) // and outlives the next start: it names the last end
	if told && r.State.Running() && !l.lost {
		return // the task is another run's
	}
	c.unplug(ctx, e.Key)
	c.execs.containerEnded(e.Key)
	if !told || l.lost {
		var err error
		if r, err = c.recordEnd(ctx, e, l); err != nil {
			c.logger(e.Key).Error("exit not recorded", zap.Error(err))
			return
		}
	}
	if r.State.Status != state.StatusRemoving || !removedBehind(r) {
		c.deleteTask(ctx, e.Key)
		c.letVolumesGo(ctx, e.Key)
	}
	c.follow(ctx, r, l)
}

// recordEnd stores the end of a run. One whose start was not recorded, because the daemon or the state failed in
// between, is recorded as started in the same transaction: nobody sees it run.
func (c *Containers) recordEnd(ctx context.Context, e runtime.Exit, l *liveState) (*state.Container, error) {
	var v verdict
	r, err := c.persist(ctx, e.Key, func(r *state.Container) (ops []state.Op, err error) {
		if !r.State.Running() {
			kind := startKind{byUser: r.State.Status != state.StatusRestarting}
			if ops, err = c.running(0, e.At, kind)(r); err != nil {
				return nil, err
			}
		}
		v = decide(endOf(r, e, l))
		ended, err := c.exited(e, v, l, autoRemoves(r, l))(r)
		return append(ops, ended...), err
	})
	if err != nil {
		return nil, err
	}
	c.health.replace(e.Key, nil)
	l.stopping, l.lost = false, false
	l.backoff = v.Backoff
	return r, nil
}

// follow does what an ended container's state calls for.
func (c *Containers) follow(ctx context.Context, r *state.Container, l *liveState) {
	switch r.State.Status {
	case state.StatusRestarting:
		if !l.leaving { // else who moves it goes on
			c.scheduleRestart(keyOf(r), l)
		}
	case state.StatusRemoving:
		if err := c.discardEnded(ctx, r); err != nil {
			c.logger(keyOf(r)).Error("ended container not removed", zap.Error(err))
		}
	}
}

// clear removes what a container has on the host beside its root file system, when its process is gone or was never
// started. What cannot be removed is logged: it is found again when the daemon starts.
func (c *Containers) clear(ctx context.Context, key runtime.Key) {
	c.unplug(ctx, key)
	c.deleteTask(ctx, key)
	c.letVolumesGo(ctx, key)
}

func (c *Containers) letVolumesGo(ctx context.Context, key runtime.Key) {
	ctx, cancel := work(ctx)
	defer cancel()
	c.volumes.LetGo(ctx, holderOf(key))
}

func (c *Containers) unplug(ctx context.Context, key runtime.Key) {
	ctx, span := trace.Start(ctx, "unplug")
	defer span.End()
	ctx, cancel := work(ctx)
	defer cancel()
	if err := c.Network.Remove(ctx, key.ID); err != nil {
		c.logger(key).Error("container's network not removed", zap.Error(err))
	}
}

func (c *Containers) deleteTask(ctx context.Context, key runtime.Key) {
	ctx, cancel := work(ctx)
	defer cancel()
	if err := c.Runtime.DeleteTask(ctx, key); err != nil {
		c.logger(key).Error("container's task not deleted", zap.Error(err))
	}
}

// endOf is what the restart policy looks at.
func endOf(r *state.Container, e runtime.Exit, l *liveState) ended {
	return ended{
		Policy:        r.HostConfig.RestartPolicy,
		ExitCode:      e.Code,
		Ran:           e.At.Sub(r.State.StartedAt),
		RestartCount:  r.RestartCount,
		LastBackoff:   l.backoff,
		StoppedByUser: r.StoppedByUser,
		Cancelled:     l.cancelled,
	}
}

// autoRemoves tells whether the container goes when it ends.
func autoRemoves(r *state.Container, l *liveState) bool {
	return r.HostConfig.AutoRemove && !l.renewing
}

// exited is the edit of a container whose process has ended: state, counters, events, and everything it claimed while
// it ran.
func (c *Containers) exited(e runtime.Exit, v verdict, l *liveState, remove bool) edit {
	stopped := l.stopping
	return func(r *state.Container) ([]state.Op, error) {
		ran := e.At.Sub(r.State.StartedAt)
		r.State = state.RunState{
			Status: state.StatusExited, ExitCode: e.Code, OOMKilled: r.State.OOMKilled || e.OOMKilled,
			StartedAt: r.State.StartedAt, FinishedAt: e.At.UTC(), Health: stoppedHealth(c.health.of(r)),
		}
		r.Exits++
		leaves := r.Leaving && !l.cancelled // by a user
		switch {
		case leaves:
			r.State.Status = state.StatusRestarting
		case v.Restart:
			r.State.Status = state.StatusRestarting
			r.RestartCount++
		case remove:
			r.State.Status = state.StatusRemoving
		}
		ops := append(c.tellNetworks(r, events.ActionDisconnect), c.volumes.UnmountEvents(r)...)
		if stopped {
			ops = append(ops, tell(r, events.ActionStop))
		}
		ops = append(ops, tell(r, events.ActionDie,
			"exitCode", strconv.Itoa(e.Code), "execDuration", strconv.Itoa(int(max(ran, 0).Seconds()))))
		if leaves { // with what it claims
			return ops, nil
		}
		return append(ops, c.networks.Release(r)...), nil
	}
}

// persistPause is how long an exit waits before it tries again to be recorded while the state cannot be written.
const persistPause = 500 * time.Millisecond

// persist is transit that does not give up while the state is unavailable: an exit happens once.
func (c *Containers) persist(ctx context.Context, key runtime.Key, e edit) (*state.Container, error) {
	for {
		r, err := c.transit(ctx, key, e)
		if err == nil || !errdefs.IsUnavailable(err) {
			return r, err
		}
		c.logger(key).Warn("state cannot be written, trying again", zap.Error(err))
		select {
		case <-time.After(persistPause):
		case <-c.down:
			return nil, err
		case <-ctx.Done():
			return nil, err
		}
	}
}

// scheduleRestart has the restart policy bring the container back after its back-off.
func (c *Containers) scheduleRestart(key runtime.Key, l *liveState) {
	l.alarm.cancel()
	l.backoff = orElse(l.backoff, firstBackoff)
	l.alarm = c.later.after(l.backoff, func(ctx context.Context) { c.comeBack(ctx, key) })
}

// comeBack starts a container that the restart policy wants again, if it still waits for that.
func (c *Containers) comeBack(ctx context.Context, key runtime.Key) {
	ctx = nereid.WithAccount(ctx, key.Account)
	unlock, err := c.locks.lock(ctx, key)
	if err != nil {
		return
	}
	defer unlock()
	r, ok := c.State.View().Container(key.Account, key.ID)
	if !ok || r.State.Status != state.StatusRestarting || r.Host != c.Host {
		return
	}
	if r.From != "" || r.Leaving {
		c.settleIn(ctx, r)
		return
	}
	if err := c.start(ctx, r, startKind{}); err != nil {
		c.logger(key).Warn("restart policy could not start container", zap.Error(err))
	}
}

package engine

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
	"github.com/nereid-paas/nereid/runtime"
)

// A change of status is always recorded. What else a probe brings (its three exec events, the log, the failing streak) is
// recorded while there is room: a thousand containers probed every five seconds would write 800 records a second, for
// nobody, and push everybody's events out of the state. Below these figures, that is up to 60 containers a host at the
// default interval, every probe is told. The owner's inspect always shows the newest.
const (
	probesTold      = 2  // a second and host
	probesToldBurst = 64 // at once
)

// probeStarts is how many probes are started at once: on a host where hundreds are due at the same moment, people's own
// execs and starts must not queue behind them.
const probeStarts = 8

// healthWatches are the containers of this host that are probed now.
type healthWatches struct {
	room     *rate.Limiter
	starting chan struct{} // holds one token for each probe that is being started
	endTold  time.Duration // endToldWithin

	mu  sync.Mutex
	all map[runtime.Key]*healthWatch
}

// healthWatch is the probing of one run of a container, until its end or a pause.
type healthWatch struct {
	key  runtime.Key
	run  int           // the container's count of starts
	over chan struct{} // closed by whoever takes the watch out of the table

	// Guarded by healthWatches.mu. The health is as of the last probe, perhaps newer than the record; it is replaced, never
	// edited.
	health *container.Health
	next   *alarm
}

func newHealthWatches() healthWatches {
	return healthWatches{
		room: rate.NewLimiter(probesTold, probesToldBurst), starting: make(chan struct{}, probeStarts), endTold: endToldWithin,
		all: map[runtime.Key]*healthWatch{},
	}
}

// replace ends a container's watch and puts another in its place, nil for none.
func (t *healthWatches) replace(key runtime.Key, with *healthWatch) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if old := t.all[key]; old != nil {
		close(old.over)
		old.next.cancel()
		delete(t.all, key)
	}
	if with != nil {
		t.all[key] = with
	}
}

// advance notes what a watch's last probe has brought, unless the watch is over.
func (t *healthWatches) advance(w *healthWatch, h *container.Health) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all[w.key] != w {
		return false
	}
	w.health = h
	return true
}

// schedule sets a watch's next probe, unless the watch is over.
func (t *healthWatches) schedule(w *healthWatch, set func() *alarm) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all[w.key] == w {
		w.next = set()
	}
}

// of is a running container's health as its owner knows it.
func (t *healthWatches) of(r *state.Container) *container.Health {
	t.mu.Lock()
	defer t.mu.Unlock()
	if w := t.all[keyOf(r)]; w != nil && w.run == r.Starts && r.State.Status == state.StatusRunning {
		return w.health
	}
	return r.State.Health
}

// watchHealth begins to probe a container that has begun to run, or runs again. The container's lock is held.
func (c *Containers) watchHealth(key runtime.Key) {
	if w, interval := c.beginWatch(key); w != nil {
		c.probeAfter(w, interval)
	}
}

// resumeHealth is watchHealth when the daemon starts: the first probes of many containers are spread over their interval.
func (c *Containers) resumeHealth(key runtime.Key) {
	if w, interval := c.beginWatch(key); w != nil {
		c.probeAfter(w, interval/2+rand.N(interval/2))
	}
}

// beginWatch makes a container's watch, nil when it is not to be probed.
func (c *Containers) beginWatch(key runtime.Key) (*healthWatch, time.Duration) {
	r, ok := c.State.View().Container(key.Account, key.ID)
	if !ok || r.State.Status != state.StatusRunning || probeCommand(r.Config) == nil {
		c.health.replace(key, nil)
		return nil, 0
	}
	w := &healthWatch{key: key, run: r.Starts, over: make(chan struct{}), health: r.State.Health}
	c.health.replace(key, w)
	return w, probeInterval(w.health, r.Config.Healthcheck, time.Since(r.State.StartedAt))
}

func (c *Containers) probeAfter(w *healthWatch, d time.Duration) {
	c.health.schedule(w, func() *alarm {
		return c.later.after(d, func(ctx context.Context) { c.probeOnce(ctx, w) })
	})
}

// probeOnce runs one probe, records what it brought and sets the next.
func (c *Containers) probeOnce(ctx context.Context, w *healthWatch) {
	r, ok := c.State.View().Container(w.key.Account, w.key.ID)
	if !ok || r.Starts != w.run || r.State.Status != state.StatusRunning {
		return // its end is about to be told
	}
	ctx, cancel := context.WithCancel(nereid.WithAccount(ctx, w.key.Account))
	defer cancel()
	go func() {
		defer cancel()
		select {
		case <-w.over:
		case <-c.down:
		case <-ctx.Done():
		}
	}()
	e := newProbe(c.Host, r)
	told := len(e.Options.Cmd) > 0 && c.health.room.Allow() && c.tellProbe(ctx, r, e)
	start := time.Now()
	result, died, err := c.probe(ctx, r, e)
	if errors.Is(err, errWentAlong) || err == nil && result.ExitCode == exitKilled {
		c.health.awaitRunOver(ctx)
	}
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		c.logger(w.key).Warn("health check could not be run", zap.Error(err))
		result = &container.HealthcheckResult{End: time.Now(), ExitCode: -1, Output: err.Error()}
	}
	result.Start = start
	h := judge(w.health, r.Config.Healthcheck, result, r.State.StartedAt)
	if !c.health.advance(w, h) {
		return
	}
	var die []state.Op
	if told && died != nil {
		die = append(die, tell(r, events.ActionExecDie, "execID", string(e.ID), "exitCode", strconv.Itoa(*died)))
	}
	c.recordHealth(ctx, w, h, told, die)
	c.probeAfter(w, probeInterval(h, r.Config.Healthcheck, time.Since(r.State.StartedAt)))
}

const (
	// exitKilled is the exit code of a process that SIGKILL ended.
	exitKilled = 128 + sigKill
	// endToldWithin is how long after its processes a container's own end is told.
	endToldWithin = time.Second
)

// awaitRunOver gives the end of a container time to be told: the kernel kills a probe with its container, and a probe
// that was killed by that says nothing of its health. The end of the run ends the context.
func (t *healthWatches) awaitRunOver(ctx context.Context) {
	timer := time.NewTimer(t.endTold)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// tellProbe emits the events of a probe's beginning.
func (c *Containers) tellProbe(ctx context.Context, r *state.Container, e execRecord) bool {
	_, err := c.State.Commit(ctx, tellExec(r, events.ActionExecCreate, e), tellExec(r, events.ActionExecStart, e))
	if err != nil {
		c.logger(keyOf(r)).Warn("health check not told", zap.Error(err))
	}
	return err == nil
}

// recordHealth stores a container's health when its status has changed, or there is room for more. A change that cannot
// be stored is with the next probe: the record then still differs.
func (c *Containers) recordHealth(ctx context.Context, w *healthWatch, h *container.Health, room bool, ops []state.Op) {
	r, ok := c.State.View().Container(w.key.Account, w.key.ID)
	if !ok || !room && healthOf(r) == h.Status {
		return
	}
	_, err := c.transit(ctx, w.key, func(r *state.Container) ([]state.Op, error) {
		if r.Starts != w.run || r.State.Status != state.StatusRunning {
			return nil, errNotRunning(r.ID)
		}
		all := ops
		if healthOf(r) != h.Status {
			all = append(all[:len(all):len(all)], tell(r, events.ActionHealthStatus+": "+events.Action(h.Status)))
		}
		r.State.Health = h
		return all, nil
	})
	if err != nil && !errdefs.IsConflict(err) && !errdefs.IsNotFound(err) {
		c.logger(w.key).Warn("health not recorded", zap.Error(err))
	}
}

package engine

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/docker/docker/pkg/sysinfo"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
	"github.com/nereid-paas/nereid/runtime"
)

// Containers are the use cases of containers and exec. All methods may be called at once; what happens to one
// container is ordered by a lock of its own.
type Containers struct {
	Deps
	networks *Networks
	volumes  *Volumes
	images   *Images

	// features of this host's kernel and cgroups, as Docker's validation asks for them.
	features func() *sysinfo.SysInfo
	// alive tells whether a process of this host exists.
	alive func(pid int) bool

	placement *placement
	encoded   encodedSummaries

	locks    keylock
	removals removals
	live     liveTable
	execs    execTable
	later    alarms
	starts   *lane
	remains  *lane // of containers that are removed from the host after their record
	// behind counts those, the ones not yet in the lane too.
	behind  atomic.Int64
	health  healthWatches
	pruning atomic.Bool
	// adopted is closed by Adopt: until then nothing that the runtime reports is acted upon.
	adopted chan struct{}
	// down is closed when the daemon ends, or could not adopt: what waits for something gives up.
	down     chan struct{}
	downOnce sync.Once
}

// NewContainers makes the use cases. It starts nothing: Adopt, then Run.
func NewContainers(d Deps, n *Networks, v *Volumes, i *Images) *Containers {
	return &Containers{
		Deps: d, networks: n, volumes: v, images: i,
		features:  sync.OnceValue(func() *sysinfo.SysInfo { return sysinfo.New() }),
		alive:     processExists,
		execs:     execTable{dir: execDir(d.ExecRoot)},
		health:    newHealthWatches(),
		placement: newPlacement(d),
		starts:    newLane("start", startLimit()), remains: newLane("remove", remainsLimit),
		adopted: make(chan struct{}), down: make(chan struct{}),
	}
}

// Run gives up ports that others took over and takes up containers that other hosts gave to this one, until the context
// ends. Then it forgets the restarts still waiting and returns when those under way are done. Containers run on: a later
// Adopt takes up what was left.
func (c *Containers) Run(ctx context.Context) error {
	var g errgroup.Group
	g.Go(func() error { c.yieldPorts(ctx); return nil })
	g.Go(func() error { c.takeArrivals(ctx); return nil })
	_ = g.Wait() // never fails
	c.close()
	c.later.stop()
	return nil
}

func (c *Containers) close() {
	c.downOnce.Do(func() {
		close(c.down)
		c.placement.close()
	})
}

func keyOf(r *state.Container) runtime.Key { return runtime.Key{Account: r.Account, ID: r.ID} }

// find resolves what the user wrote in the account that asks.
func (c *Containers) find(ctx context.Context, ref string) (*state.Container, error) {
	return c.State.View().FindContainer(nereid.AccountFrom(ctx), ref)
}

// locked runs do with the container's lock held and its record as it then is.
func (c *Containers) locked(ctx context.Context, r *state.Container, do func(*state.Container) error) error {
	unlock, err := c.locks.lock(ctx, keyOf(r))
	if err != nil {
		return err
	}
	defer unlock()
	return c.holding(r, do)
}

// askPause is how long a lock is waited for before a look whether who has it waits for the state.
const askPause = 5 * time.Second

// asked is locked for what a user asks for. While the state cannot be changed it fails, and soon: nothing is done that could
// not be recorded, and nobody waits behind an end that cannot be.
func (c *Containers) asked(ctx context.Context, r *state.Container, do func(*state.Container) error) error {
	for {
		if err := c.State.Writable(ctx); err != nil {
			return err
		}
		waiting, cancel := context.WithTimeout(ctx, askPause)
		unlock, err := c.locks.lock(waiting, keyOf(r))
		cancel()
		if err == nil {
			defer unlock()
			return c.holding(r, do)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// holding does something with a container as it is. Its lock is held.
func (c *Containers) holding(r *state.Container, do func(*state.Container) error) error {
	now, ok := c.State.View().Container(r.Account, r.ID)
	if !ok {
		return errNoSuchContainer(string(r.ID))
	}
	if now.Host != c.Host && r.Host == c.Host {
		return errConflict("container %s has just moved to host %s", r.Name, now.Host)
	}
	return do(now)
}

// work is the context of what must not stop half way: it outlives the client, and is bounded.
func work(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), hostTimeout)
}

// logger names the container in every line about it.
func (c *Containers) logger(key runtime.Key) *zap.Logger {
	return c.Log.With(zap.String("account", string(key.Account)), zap.String("container", string(key.ID)))
}

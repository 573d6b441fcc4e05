package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/network"
	"github.com/nereid-paas/nereid/pkg/state"
	"github.com/nereid-paas/nereid/runtime"
)

// Adopt makes the records of this host's containers and what is there agree again, after a daemon ended in whatever
// way between any two steps, or the host did. Call it once, when the state and the runtime are started and before the
// first request is served; exits the runtime reports meanwhile are held back until it is done. What it finds, what
// left it so, and what it does:
//
//	record          task      left by                                 done
//	none            dir only  create, before its transaction          root file system and directory removed
//	none            any       remove, after its transaction; damage   killed and deleted
//	created         none      create, before its volumes were filled  filled
//	created, exited none      start, after its claims                 claims released
//	created, exited created   start, before its process ran           task deleted, claims released
//	created, exited running   start, before it was recorded           recorded as running
//	any             stopped   exit, before or after it was recorded   recorded once, then as after any exit
//	any             dying     exit, while its task was deleted        left to the runtime, which tells the exit again
//	running, paused running   nothing failed                          kept; paused or not as the task is
//	running, paused paused    commit                                  unpaused, when the commit's mark is there
//	running, paused none      the host went down, the shim died       recorded as ended with 255
//	running, paused created   damage                                  task deleted; recorded as ended with 255
//	restarting      none      the daemon ended in the back-off        its restart scheduled
//	restarting      created   restart, before its process ran         task deleted, its restart scheduled
//	restarting      running   restart, before it was recorded         recorded as running
//	leaving         running   a move, before its process ended        kept
//	leaving         none      a move, before it was handed over       its restart scheduled
//	from another    none      a move, after it was handed over        its root file system made, its restart scheduled
//	removing        any       remove, or exit with --rm               removal finished; with --rm its volumes too
//	dead            none      a removal that failed                   left to the user
//
// Then containers whose policy is always, and those with unless-stopped that the user did not stop, are started in the
// background.
func (c *Containers) Adopt(ctx context.Context) (retErr error) {
	defer func() {
		if retErr != nil {
			c.close() // nobody will act on what the runtime reports
		}
	}()
	tasks, err := c.Runtime.Tasks(ctx)
	if err != nil {
		return fmt.Errorf("adopt: %w", err)
	}
	records := map[runtime.Key]*state.Container{}
	for _, r := range c.State.View().ContainersOn(c.Host) {
		records[keyOf(r)] = r
	}
	if err := c.sweepTasks(ctx, tasks, records); err != nil {
		return err
	}
	if err := c.sweepDirs(ctx, records); err != nil {
		return err
	}
	if err := c.restoreNetworks(ctx, tasks, records); err != nil {
		return err
	}
	if err := c.volumes.Adopt(ctx, withTasks(tasks, records)); err != nil {
		return err
	}
	c.loadExecs(tasks, records)
	if err := c.adoptAll(ctx, tasks, records); err != nil {
		return err
	}
	close(c.adopted)
	c.reviveAll()
	return nil
}

// adoptLimit is how many containers are adopted at once.
const adoptLimit = 16

func (c *Containers) adoptAll(ctx context.Context, tasks map[runtime.Key]runtime.Task, records map[runtime.Key]*state.Container) error {
	var g errgroup.Group
	g.SetLimit(adoptLimit)
	for key := range records {
		task := tasks[key]
		g.Go(func() error {
			unlock, err := c.locks.lock(ctx, key)
			if err != nil {
				return err
			}
			defer unlock()
			if r, ok := c.State.View().Container(key.Account, key.ID); ok {
				c.adopt(nereid.WithAccount(ctx, key.Account), r, task)
			}
			return nil
		})
	}
	return g.Wait()
}

// adopt deals with one container, see Adopt. What fails is logged and leaves this container alone as it is: the daemon
// serves the others.
func (c *Containers) adopt(ctx context.Context, r *state.Container, task runtime.Task) {
	key := keyOf(r)
	if r.State.Status == state.StatusRemoving {
		if err := c.discard(ctx, r, r.HostConfig.AutoRemove); err != nil {
			c.logger(key).Error("removal not finished", zap.Error(err))
		}
		return
	}
	switch task.Status {
	case runtime.StatusStopped:
		if task.Exit != nil {
			c.ended(ctx, *task.Exit)
		}
	case runtime.StatusRunning, runtime.StatusPaused:
		c.adoptRunning(ctx, r, c.thawAdopted(ctx, r, task))
	default:
		c.adoptEnded(ctx, r, task)
	}
}

// adoptRunning deals with a container whose process is there.
func (c *Containers) adoptRunning(ctx context.Context, r *state.Container, task runtime.Task) {
	var err error
	switch status := r.State.Status; {
	case !r.State.Running() && !c.alive(task.Pid):
		// The daemon died while it deleted the task of a run whose end is recorded: the runtime is about to tell it again.
	case !c.alive(task.Pid):
		c.live.of(keyOf(r)).lost = true
	case !r.State.Running():
		kind := startKind{byUser: status != state.StatusRestarting}
		_, err = c.persist(ctx, keyOf(r), c.running(task.Pid, time.Now().UTC(), kind))
	case status != task.Status || r.State.Pid != task.Pid || r.Leaving:
		_, err = c.persist(ctx, keyOf(r), func(r *state.Container) ([]state.Op, error) {
			r.State.Status, r.State.Pid, r.Leaving = task.Status, task.Pid, false
			return nil, nil
		})
	}
	if err != nil {
		c.logger(keyOf(r)).Error("running container not recorded", zap.Error(err))
	}
	c.resumeHealth(keyOf(r))
}

// lostExitCode is what Docker gives a container whose end nobody saw.
const lostExitCode = 255

// adoptEnded deals with a container that has no process.
func (c *Containers) adoptEnded(ctx context.Context, r *state.Container, task runtime.Task) {
	key := keyOf(r)
	if task.Status != "" {
		c.deleteTask(ctx, key)
		c.letVolumesGo(ctx, key)
	}
	switch r.State.Status {
	case state.StatusRunning, state.StatusPaused:
		c.ended(ctx, runtime.Exit{Key: key, Code: lostExitCode, At: time.Now().UTC()})
	case state.StatusRestarting:
		if r.From == "" {
			c.releaseStray(ctx, r)
		}
		l := c.live.of(key)
		l.backoff = firstBackoff
		c.scheduleRestart(key, l)
	default:
		c.releaseStray(ctx, r)
		if r.State.Status == state.StatusCreated {
			if err := c.fillVolumes(ctx, r); err != nil {
				c.logger(key).Error("volumes of created container not filled", zap.Error(err))
			}
		}
	}
}

// releaseStray gives back what a container claimed for a start that did not come about.
func (c *Containers) releaseStray(ctx context.Context, r *state.Container) {
	if !claims(r) {
		return
	}
	if _, err := c.persist(ctx, keyOf(r), c.release); err != nil {
		c.logger(keyOf(r)).Error("claims of a container that does not run not released", zap.Error(err))
	}
}

// sweepTasks ends and removes tasks of no container.
func (c *Containers) sweepTasks(ctx context.Context, tasks map[runtime.Key]runtime.Task, records map[runtime.Key]*state.Container) error {
	for key := range tasks {
		if _, ok := records[key]; ok {
			continue
		}
		c.logger(key).Warn("task of no container found, removing it")
		c.deleteTask(ctx, key)
		delete(tasks, key)
	}
	return ctx.Err()
}

// sweepDirs removes what is on this host of containers that are not in the state: each has a directory before it has
// anything else.
func (c *Containers) sweepDirs(ctx context.Context, records map[runtime.Key]*state.Container) error {
	accounts, err := readDirs(c.containersRoot())
	if err != nil {
		return err
	}
	for _, account := range accounts {
		ids, err := readDirs(filepath.Join(c.containersRoot(), account))
		if err != nil {
			return err
		}
		for _, id := range ids {
			key := runtime.Key{Account: nereid.Account(account), ID: nereid.ContainerID(id)}
			if _, ok := records[key]; ok {
				continue
			}
			if err := c.discardRemains(ctx, key); err != nil {
				c.logger(key).Error("remains of a container that is gone not removed", zap.Error(err))
			}
		}
	}
	return nil
}

func readDirs(path string) ([]string, error) {
	entries, err := os.ReadDir(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, err
}

// withTasks are the containers that have a process, or the remains of one.
func withTasks(tasks map[runtime.Key]runtime.Task, records map[runtime.Key]*state.Container) []*state.Container {
	var found []*state.Container
	for key, r := range records {
		if tasks[key].Status != "" {
			found = append(found, r)
		}
	}
	return found
}

// restoreNetworks tells the network which containers run, and so which of what it finds is to stay.
func (c *Containers) restoreNetworks(ctx context.Context, tasks map[runtime.Key]runtime.Task, records map[runtime.Key]*state.Container) error {
	var running []network.Restored
	for key, r := range records {
		if s := tasks[key].Status; s != runtime.StatusRunning && s != runtime.StatusPaused {
			continue
		}
		if restored, ok := c.networks.Restored(r); ok {
			running = append(running, restored)
		}
	}
	c.networks.meshAll(ctx) // as Restore is to leave it
	if err := c.Network.Restore(ctx, running); err != nil {
		return fmt.Errorf("restore networks: %w", err)
	}
	return nil
}

// loadExecs takes up the execs of containers that run as they did. Of those that end while nobody looks the runtime
// tells later.
func (c *Containers) loadExecs(tasks map[runtime.Key]runtime.Task, records map[runtime.Key]*state.Container) {
	var probes []execRecord
	err := c.execs.load(func(e execRecord) bool {
		r := records[e.key()]
		s := tasks[e.key()].Status
		if e.Probe {
			probes = append(probes, e)
			return false
		}
		return r != nil && r.Starts == e.Run && (s == runtime.StatusRunning || s == runtime.StatusPaused)
	})
	if err != nil {
		c.Log.Error("execs not known", zap.Error(err))
	}
	c.later.after(0, func(ctx context.Context) { c.endLostProbes(ctx, probes) })
	adopted := c.execs.snapshot()
	c.later.after(lostExecAfter, func(ctx context.Context) { c.endLostExecs(ctx, adopted) })
}

// lostExecAfter is how long the runtime has to report the ends of execs it adopted; one without a process that it knew
// nothing of has ended all the same.
const lostExecAfter = 10 * time.Second

// endLostExecs looks at adopted execs only: one of this daemon's that has just ended is about to be reported.
func (c *Containers) endLostExecs(ctx context.Context, adopted []execRecord) {
	for _, known := range adopted {
		e, there := c.execs.get(known.Account, known.ID)
		if there && e.Running && !e.Probe && (e.Pid == 0 || !c.alive(e.Pid)) {
			c.execEnded(ctx, runtime.Exit{Key: e.key(), ExecID: e.ID, Code: lostExitCode, At: time.Now().UTC()})
		}
	}
}

// reviveAll starts, in the background, what the restart policies want to run whenever the daemon does.
func (c *Containers) reviveAll() {
	c.later.after(0, func(ctx context.Context) {
		var first, second []*state.Container // the second share namespaces of others, which must run before
		for _, r := range c.State.View().ContainersOn(c.Host) {
			switch {
			case !revives(r):
			case sharesNamespaces(r):
				second = append(second, r)
			default:
				first = append(first, r)
			}
		}
		c.reviveWave(ctx, first)
		c.reviveWave(ctx, second)
	})
}

// revives tells whether a starting daemon starts a container. One that ended on its own was dealt with then; here it is
// those that should run for ever.
func revives(r *state.Container) bool {
	if up(r) || startable(r) != nil || r.Starts == 0 {
		return false
	}
	p := r.HostConfig.RestartPolicy
	return p.IsAlways() || p.IsUnlessStopped() && !r.StoppedByUser
}

func sharesNamespaces(r *state.Container) bool {
	hc := r.HostConfig
	return hc.NetworkMode.IsContainer() || hc.PidMode.IsContainer() || hc.IpcMode.IsContainer()
}

// reviveLimit is how many containers are started at once: as fast as many more, and the host still answers.
const reviveLimit = 4

func (c *Containers) reviveWave(ctx context.Context, wave []*state.Container) {
	var g errgroup.Group
	g.SetLimit(reviveLimit)
	for _, r := range wave {
		g.Go(func() error {
			select {
			case <-c.down: // the next daemon does it
				return nil
			default:
			}
			ctx := nereid.WithAccount(ctx, r.Account)
			return c.locked(ctx, r, func(r *state.Container) error {
				if !revives(r) {
					return nil
				}
				if err := c.start(ctx, r, startKind{byUser: true}); err != nil {
					c.logger(keyOf(r)).Error("container not started by its restart policy", zap.Error(err))
				}
				return nil
			})
		})
	}
	_ = g.Wait() // a container that is gone meanwhile needs no start
}

package engine

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/docker/docker/api/types/backend"
	"github.com/docker/docker/api/types/container"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/poll"

	"github.com/nereid-paas/nereid/pkg/state"
	"github.com/nereid-paas/nereid/runtime"
)

// crashAt has the daemon die at the n-th moment of what follows, counted before and after each call that changes the
// host. It tells whether there was such a moment.
func (r *containerRig) crashAt(n int, do func(*containerRig)) (died bool) {
	was, d := *r, r.d // the rig goes on with another daemon
	var moments atomic.Int64
	d.mu.Lock()
	d.step = func(string, string) bool { return moments.Add(1) == int64(n) }
	d.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		do(&was)
	}()
	select {
	case <-done:
		return false
	case <-d.dead:
		return true
	}
}

// consistent fails when the record and the host do not agree.
func (r *containerRig) consistent(key runtime.Key) {
	r.t.Helper()
	rec := r.record(key)
	r.w.mu.Lock()
	defer r.w.mu.Unlock()
	task, sandbox := r.w.tasks[key], r.w.netns[key.ID]
	switch {
	case rec == nil:
		assert.Check(r.t, task == nil && sandbox == nil && !r.w.rootfs[key], "a container that is gone left something")
		_, held := r.store.View().Name("admin", "web")
		assert.Check(r.t, !held, "a container that is gone holds its name")
		assert.Check(r.t, len(r.store.View().Ports()) == 0, "a container that is gone holds ports")
	case rec.State.Running():
		assert.Check(r.t, task != nil && task.pid == rec.State.Pid && task.exit == nil, "%s without a process", rec.State.Status)
		assert.Check(r.t, r.w.rootfs[key], "running without a root file system")
	default:
		assert.Check(r.t, task == nil, "%s with a task", rec.State.Status)
		assert.Check(r.t, sandbox == nil, "%s with a sandbox", rec.State.Status)
		assert.Check(r.t, r.w.rootfs[key], "%s without a root file system", rec.State.Status)
		assert.Check(r.t, len(r.store.View().Ports()) == 0, "%s with ports", rec.State.Status)
		assert.Check(r.t, !claims(rec), "%s with claims", rec.State.Status)
	}
}

func TestCrashes(t *testing.T) {
	store := openTestState(t)
	withVolume := func(s *spec) { s.Volumes = map[string]struct{}{"/data": {}} }
	always := func(s *spec) { s.host.RestartPolicy.Name = "always" }
	rm := func(s *spec) { s.host.AutoRemove = true }
	none := func(*spec) {}
	cases := []struct {
		name   string
		change func(*spec)
		before func(*containerRig) // until all is well
		do     func(*containerRig) // until the daemon dies
		want   map[string]bool     // the states it may end in; "gone" among them
	}{
		{"create", withVolume, func(*containerRig) {}, nil, states("gone", "created")},
		{"start", withVolume, func(r *containerRig) { r.create("web", withVolume) },
			func(r *containerRig) { _ = r.Start(r.ctx, "web") }, states("created", "running")},
		{"exit", none, func(r *containerRig) { r.run("web") },
			func(r *containerRig) { r.endAndWait(7) }, states("exited")},
		{"exit with --rm", rm, func(r *containerRig) { r.run("web", rm) },
			func(r *containerRig) { r.endAndWait(7) }, states("gone")},
		{"exit and restart", always, func(r *containerRig) { r.run("web", always) },
			func(r *containerRig) { r.endAndWait(7) }, states("running")},
		{"stop", none, func(r *containerRig) { r.run("web") },
			func(r *containerRig) { _ = r.Stop(r.ctx, "web", container.StopOptions{}) }, states("running", "exited")},
		{"remove", withVolume, func(r *containerRig) { r.create("web", withVolume) },
			func(r *containerRig) { _ = r.Remove(r.ctx, "web", backend.ContainerRmConfig{RemoveVolume: true}) }, states("created", "gone")},
		{"remove by force", none, func(r *containerRig) { r.run("web") },
			func(r *containerRig) { _ = r.Remove(r.ctx, "web", backend.ContainerRmConfig{ForceRemove: true}) },
			states("running", "exited", "gone")},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			for n := 1; ; n++ {
				if !crashOnce(t, store, n, tc.change, tc.before, tc.do, tc.want) {
					assert.Check(t, n > 1, "nothing to crash at")
					return
				}
			}
		})
	}
}

func states(names ...string) map[string]bool {
	all := map[string]bool{}
	for _, n := range names {
		all[n] = true
	}
	return all
}

// crashOnce has the daemon die at the n-th moment, starts another and looks at what it made of that. It tells whether
// there was such a moment.
func crashOnce(t *testing.T, store *state.Store, n int, change func(*spec), before, do func(*containerRig), want map[string]bool) bool {
	t.Helper()
	more := false
	t.Run(fmt.Sprint(n), func(t *testing.T) {
		rig := newContainerRigOn(t, store)
		before(rig)
		if do == nil {
			do = func(r *containerRig) { _, _ = r.Create(r.ctx, r.createReq("web", change)) }
		}
		if more = rig.crashAt(n, do); !more {
			return
		}
		rig.boot()
		key, found := rig.only()
		if !found {
			assert.Check(t, want["gone"], "gone")
			rig.removeVolumes()
			rig.wantClean()
			return
		}
		rig.settleDown(key)
		rec := rig.record(key)
		if rec == nil {
			assert.Check(t, want["gone"], "gone")
			rig.removeVolumes()
			rig.wantClean()
			return
		}
		assert.Check(t, want[rec.State.Status], rec.State.Status)
		rig.consistent(key)
		_ = rig.Remove(rig.ctx, string(key.ID), backend.ContainerRmConfig{ForceRemove: true, RemoveVolume: true})
		rig.awaitGone(key)
		rig.removeVolumes()
		rig.wantClean()
	})
	return more
}

// only is the one container there is.
func (r *containerRig) only() (runtime.Key, bool) {
	for _, c := range r.store.View().ContainersOn("h1") {
		return keyOf(c), true
	}
	return runtime.Key{}, false
}

// settleDown waits until what Adopt set going is over.
func (r *containerRig) settleDown(key runtime.Key) {
	r.t.Helper()
	r.await(key, "settled", func(c *state.Container) bool {
		return c == nil || c.State.Status != state.StatusRestarting && c.State.Status != state.StatusRemoving
	})
}

// removeVolumes removes those that outlive their containers on purpose: a removal that was cut short is finished without.
func (r *containerRig) removeVolumes() {
	r.t.Helper()
	for _, v := range r.store.View().Volumes("admin") {
		assert.NilError(r.t, r.Containers.volumes.Remove(r.ctx, v.Name, true))
	}
	r.w.mu.Lock()
	defer r.w.mu.Unlock()
	clear(r.w.volumes) // data of volumes whose records went first is the volumes' to sweep
}

// endAndWait ends the container's process and waits until the daemon has dealt with it.
func (r *containerRig) endAndWait(code int) {
	key, _ := r.only()
	exits := r.record(key).Exits
	r.w.end(r.d, key, code)
	_, _ = r.store.View().WaitContainer(r.ctx, key.Account, key.ID, func(c *state.Container) bool {
		return c == nil || c.Exits > exits && c.State.Status != state.StatusRestarting && c.State.Status != state.StatusRemoving
	})
	unlock, err := r.locks.lock(r.ctx, key)
	if err == nil {
		unlock()
	}
}

func TestExitCodeSurvivesTheDaemon(t *testing.T) {
	store := openTestState(t)
	for n := 1; ; n++ {
		more := false
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			rig := newContainerRigOn(t, store)
			key := rig.run("web")
			more = rig.crashAt(n, func(r *containerRig) { r.endAndWait(42) })
			if !more {
				return
			}
			rig.boot()
			rec := rig.awaitStatus(key, state.StatusExited)
			assert.Equal(t, rec.State.ExitCode, 42)
			assert.Equal(t, rec.Exits, 1)
			rig.wantEvents("create", "start", "die exitCode=42")
		})
		if !more {
			return
		}
	}
}

func TestAdoptWhatRuns(t *testing.T) {
	rig := newContainerRig(t)
	key := rig.run("web")
	paused := rig.run("frozen")
	assert.NilError(t, rig.Pause(rig.ctx, "frozen"))
	pid := rig.record(key).State.Pid
	rig.d.die()
	rig.boot()
	assert.Equal(t, rig.record(key).State.Status, state.StatusRunning)
	assert.Equal(t, rig.record(key).State.Pid, pid)
	assert.Equal(t, rig.record(paused).State.Status, state.StatusPaused)
	rig.w.end(rig.d, key, 5)
	assert.Equal(t, rig.awaitStatus(key, state.StatusExited).State.ExitCode, 5)
}

func TestHostThatWentDown(t *testing.T) {
	store := openTestState(t)
	policies := map[container.RestartPolicyMode]string{
		"no": state.StatusExited, "always": state.StatusRunning, "unless-stopped": state.StatusRunning, "on-failure": state.StatusRunning,
	}
	for policy, want := range policies {
		t.Run(string(policy), func(t *testing.T) {
			rig := newContainerRigOn(t, store)
			key := rig.run("web", func(s *spec) { s.host.RestartPolicy.Name = policy })
			rig.d.die()
			rig.w.mu.Lock()
			clear(rig.w.tasks)
			clear(rig.w.netns)
			rig.w.mu.Unlock()
			rig.boot()
			rec := rig.awaitStatus(key, want)
			if want == state.StatusExited {
				assert.Equal(t, rec.State.ExitCode, 255)
			}
			rig.consistent(key)
		})
	}
}

func TestRevival(t *testing.T) {
	store := openTestState(t)
	cases := []struct {
		name    string
		policy  container.RestartPolicyMode
		end     func(*containerRig, runtime.Key)
		revived bool
	}{
		{"always, stopped by the user", "always", func(r *containerRig, _ runtime.Key) {
			assert.NilError(r.t, r.Stop(r.ctx, "web", container.StopOptions{}))
		}, true},
		{"unless-stopped, stopped by the user", "unless-stopped", func(r *containerRig, _ runtime.Key) {
			assert.NilError(r.t, r.Stop(r.ctx, "web", container.StopOptions{}))
		}, false},
		{"no policy", "no", func(r *containerRig, _ runtime.Key) { r.endAndWait(1) }, false},
		{"on-failure, succeeded", "on-failure", func(r *containerRig, _ runtime.Key) { r.endAndWait(0) }, false},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			rig := newContainerRigOn(t, store)
			key := rig.run("web", func(s *spec) { s.host.RestartPolicy.Name = tc.policy })
			tc.end(rig, key)
			rig.awaitStatus(key, state.StatusExited)
			rig.d.die()
			rig.boot()
			if tc.revived {
				rig.awaitStatus(key, state.StatusRunning)
				return
			}
			rig.later.stop() // all that is to come has come
			assert.Equal(t, rig.record(key).State.Status, state.StatusExited)
		})
	}
}

func TestAdoptSweepsStrays(t *testing.T) {
	rig := newContainerRig(t)
	key := rig.run("web")
	rig.d.die()
	rec := rig.record(key)
	_, err := rig.store.Commit(rig.ctx, state.Delete(rec), state.Delete(&state.Name{Account: "admin", Name: "web"}))
	assert.NilError(t, err)
	rig.boot()
	rig.wantClean()
}

// An end that is told twice, by Adopt and by the runtime, counts once.
func TestEndToldTwice(t *testing.T) {
	rig := newContainerRig(t)
	key := rig.run("web")
	rig.d.die()
	rig.w.end(nil, key, 9)
	exit := *rig.w.tasks[key].exit
	rig.boot()
	rig.Exited(context.Background(), exit)
	assert.Equal(t, rig.record(key).Exits, 1)
	assert.NilError(t, rig.Start(rig.ctx, "web"))
	rig.Exited(context.Background(), exit) // of the run before: the task is another one now
	assert.Equal(t, rig.record(key).State.Status, state.StatusRunning)
	rig.consistent(key)
}

// A daemon that died while it deleted the task of an ended container left a task that looked as if it ran. The next one
// took it for a new run, and the end told again for one of the run before.
func TestEndToldAfterAdoption(t *testing.T) {
	rig := newContainerRig(t)
	key := rig.run("web", func(s *spec) { s.host.RestartPolicy.Name = "always" })
	rig.crashAt(3, func(r *containerRig) { r.endAndWait(1) }) // the end is recorded, the task is not deleted yet
	assert.Equal(t, rig.record(key).State.Status, state.StatusRestarting)
	rig.w.mu.Lock()
	task := rig.w.tasks[key]
	exit := *task.exit
	task.status, task.exit, task.dying = runtime.StatusRunning, nil, true
	rig.w.mu.Unlock()
	rig.boot()
	assert.Equal(t, rig.record(key).State.Status, state.StatusRestarting)
	rig.Exited(context.Background(), exit)
	rec := rig.awaitStatus(key, state.StatusRunning)
	assert.Equal(t, rec.Exits, 1)
	rig.consistent(key)
}

func TestAdoptFails(t *testing.T) {
	rig := newContainerRig(t)
	d := newDaemon(rig.w)
	deps := rig.Deps
	deps.Runtime, deps.Network, deps.Volumes = d, fakeNet{d}, vols{d}
	c := NewContainers(deps, NewNetworks(deps), NewVolumes(deps), NewImages(deps, nil))
	d.failOn("net.Restore", errors.New("boom"))
	assert.ErrorContains(t, c.Adopt(rig.ctx), "restore networks: boom")
	told := make(chan struct{})
	go func() {
		c.Exited(context.Background(), runtime.Exit{})
		close(told)
	}()
	select {
	case <-told: // the runtime is not held up by a daemon that could not start
	case <-time.After(soon):
		t.Fatal("Exited hangs")
	}
}

func TestLostExecEnds(t *testing.T) {
	rig := newContainerRig(t)
	rig.run("web")
	id, err := rig.ExecCreate(rig.ctx, "web", container.ExecOptions{Cmd: []string{"sleep", "9"}})
	assert.NilError(t, err)
	assert.NilError(t, rig.ExecStart(rig.ctx, id, container.ExecStartOptions{Detach: true}, nil))
	rig.d.die()
	rig.boot()
	e, err := rig.ExecInspect(rig.ctx, id)
	assert.NilError(t, err)
	assert.Check(t, e.Running, "an exec outlives the daemon")
	rig.endLostExecs(rig.ctx, rig.execs.snapshot()) // its process is none of this machine's
	poll.WaitOn(t, func(poll.LogT) poll.Result {
		e, err := rig.ExecInspect(rig.ctx, id)
		if err != nil || e.Running || *e.ExitCode != lostExitCode {
			return poll.Continue("%+v %v", e, err)
		}
		return poll.Success()
	}, poll.WithTimeout(soon))
}

package engine

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/backend"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/go-connections/nat"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/poll"

	"github.com/nereid-paas/nereid/pkg/state"
)

func TestRunToItsEnd(t *testing.T) {
	rig := newContainerRig(t)
	key := rig.run("web")
	assert.Equal(t, rig.record(key).State.Status, state.StatusRunning)
	wait, err := rig.Wait(rig.ctx, "web", "")
	assert.NilError(t, err)
	rig.w.end(rig.d, key, 3)
	assert.Equal(t, (<-wait).StatusCode, int64(3))
	rec := rig.awaitStatus(key, state.StatusExited)
	assert.Equal(t, rec.State.ExitCode, 3)
	assert.Equal(t, rec.State.Pid, 0)
	rig.wantEvents("create", "start", "die exitCode=3")
	assert.NilError(t, rig.Remove(rig.ctx, "web", backend.ContainerRmConfig{}))
	rig.wantClean()
}

func TestEventOrder(t *testing.T) {
	store := openTestState(t)
	zero := 0
	cases := []struct {
		name   string
		change func(*spec)
		do     func(*containerRig) error
		want   []string // after create and start
	}{
		{"stop", nil, func(r *containerRig) error { return r.Stop(r.ctx, "web", container.StopOptions{}) },
			[]string{"kill signal=15", "stop", "die exitCode=143"}},
		{"stop that needs force", func(s *spec) { s.StopSignal = "USR1" },
			func(r *containerRig) error { return r.Stop(r.ctx, "web", container.StopOptions{Timeout: &zero}) },
			[]string{"kill signal=10", "kill signal=9", "stop", "die exitCode=137"}},
		{"kill", nil, func(r *containerRig) error { return r.Kill(r.ctx, "web", "") },
			[]string{"kill signal=9", "die exitCode=137"}},
		{"restart", nil, func(r *containerRig) error { return r.Restart(r.ctx, "web", container.StopOptions{}) },
			[]string{"kill signal=15", "stop", "die exitCode=143", "start", "restart"}},
		{"rm -f", nil, func(r *containerRig) error {
			return r.Remove(r.ctx, "web", backend.ContainerRmConfig{ForceRemove: true})
		}, []string{"kill signal=9", "die exitCode=137", "destroy"}},
		{"--rm", func(s *spec) { s.host.AutoRemove = true }, func(r *containerRig) error { return r.Kill(r.ctx, "web", "KILL") },
			[]string{"kill signal=9", "die exitCode=137", "destroy"}},
		{"restart with --rm", func(s *spec) { s.host.AutoRemove = true },
			func(r *containerRig) error { return r.Restart(r.ctx, "web", container.StopOptions{}) },
			[]string{"kill signal=15", "stop", "die exitCode=143", "start", "restart"}},
		{"pause, unpause", nil, func(r *containerRig) error {
			return errors.Join(r.Pause(r.ctx, "web"), r.Unpause(r.ctx, "web"))
		}, []string{"pause", "unpause"}},
		{"stop of a paused one", nil, func(r *containerRig) error {
			return errors.Join(r.Pause(r.ctx, "web"), r.Stop(r.ctx, "web", container.StopOptions{}))
		}, []string{"pause", "kill signal=15", "unpause", "stop", "die exitCode=143"}},
		{"signal that ends nothing", nil, func(r *containerRig) error { return r.Kill(r.ctx, "web", "HUP") },
			[]string{"kill signal=1"}},
		{"rename", nil, func(r *containerRig) error { return r.Rename(r.ctx, "web", "/www") }, []string{"rename oldName=/web"}},
		{"resize", nil, func(r *containerRig) error { return r.Resize(r.ctx, "web", 24, 80) }, []string{"resize height=24"}},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			rig := newContainerRigOn(t, store)
			var changes []func(*spec)
			if tc.change != nil {
				changes = append(changes, tc.change)
			}
			rig.run("web", changes...)
			assert.NilError(t, tc.do(rig))
			want := append([]string{"create", "start"}, tc.want...)
			poll.WaitOn(t, func(poll.LogT) poll.Result {
				if len(rig.events()) < len(want) {
					return poll.Continue("events so far: %v", rig.events())
				}
				return poll.Success()
			}, poll.WithTimeout(soon), poll.WithDelay(5*time.Millisecond))
			rig.wantEvents(want...)
		})
	}
}

func TestRestartPolicy(t *testing.T) {
	rig := newContainerRig(t)
	key := rig.run("web", func(s *spec) {
		s.host.RestartPolicy = container.RestartPolicy{Name: "on-failure", MaximumRetryCount: 1}
	})
	var seen []string
	rec := rig.awaitAfter(func() { rig.w.end(rig.d, key, 1) }, key, "running again", func(c *state.Container) bool {
		seen = append(seen, c.State.Status)
		return len(seen) > 1 && c.State.Running()
	})
	assert.DeepEqual(t, slices.Compact(seen), []string{state.StatusRestarting, state.StatusRunning})
	assert.Equal(t, rec.RestartCount, 1)
	rig.w.end(rig.d, key, 2)
	rec = rig.awaitStatus(key, state.StatusExited)
	assert.Equal(t, rec.State.ExitCode, 2)
	rig.wantEvents("create", "start", "die exitCode=1", "start", "die exitCode=2")
}

func TestStopInBackoff(t *testing.T) {
	rig := newContainerRig(t)
	key := rig.run("web", func(s *spec) { s.host.RestartPolicy.Name = "always" })
	rig.live.of(key).backoff = maxBackoff // so that the stop comes within it
	rig.w.end(rig.d, key, 1)
	rig.awaitStatus(key, state.StatusRestarting)
	assert.NilError(t, rig.Stop(rig.ctx, "web", container.StopOptions{}))
	rec := rig.record(key)
	assert.Equal(t, rec.State.Status, state.StatusExited)
	assert.Equal(t, rec.State.ExitCode, 1)
	rig.wantEvents("create", "start", "die exitCode=1", "stop")
}

func TestStoppedIsNotRestarted(t *testing.T) {
	rig := newContainerRig(t)
	key := rig.run("web", func(s *spec) { s.host.RestartPolicy.Name = "always" })
	assert.NilError(t, rig.Stop(rig.ctx, "web", container.StopOptions{}))
	assert.Equal(t, rig.record(key).State.Status, state.StatusExited)
}

// A container in a crash loop came back between the look at it and the signal: stop and kill took the end they saw for
// theirs, and rm -f gave up.
func TestVerbsInACrashLoop(t *testing.T) {
	store := openTestState(t)
	cases := []struct {
		name string
		do   func(*containerRig, *state.Container) error
		want string
	}{
		{"stop", func(r *containerRig, seen *state.Container) error {
			return r.stop(r.ctx, seen, container.StopOptions{})
		}, state.StatusExited},
		{"kill", func(r *containerRig, seen *state.Container) error { return r.kill(r.ctx, seen) }, state.StatusExited},
		{"rm -f", func(r *containerRig, seen *state.Container) error {
			return r.remove(r.ctx, seen, backend.ContainerRmConfig{ForceRemove: true})
		}, ""},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			rig := newContainerRigOn(t, store)
			key := rig.run("web", func(s *spec) { s.host.RestartPolicy.Name = "always" })
			seen := rig.record(key)
			rig.w.end(rig.d, key, 1)
			rig.await(key, "running again", func(c *state.Container) bool { return c.Exits == 1 && c.State.Running() })
			assert.NilError(t, tc.do(rig, seen))
			if tc.want == "" {
				assert.Assert(t, rig.record(key) == nil)
				return
			}
			assert.Equal(t, rig.record(key).State.Status, tc.want)
			unlock, err := rig.locks.lock(rig.ctx, key) // the end is recorded before its task is deleted
			assert.NilError(t, err)
			unlock()
			rig.consistent(key)
		})
	}
}

// A user's start in between is not what an older stop was meant for; rm -f is meant whatever happens.
func TestVerbsOvertakenByAStart(t *testing.T) {
	rig := newContainerRig(t)
	key := rig.run("web")
	seen := rig.record(key)
	rig.w.end(rig.d, key, 1)
	rig.awaitStatus(key, state.StatusExited)
	assert.NilError(t, rig.Start(rig.ctx, "web"))
	assert.NilError(t, rig.stop(rig.ctx, seen, container.StopOptions{}))
	assert.Equal(t, rig.record(key).State.Status, state.StatusRunning)
	assert.NilError(t, rig.remove(rig.ctx, seen, backend.ContainerRmConfig{ForceRemove: true}))
	rig.wantClean()
}

func TestVerbsInTheWrongState(t *testing.T) {
	store := openTestState(t)
	type call func(*containerRig) error
	start := func(r *containerRig) error { return r.Start(r.ctx, "web") }
	stop := func(r *containerRig) error { return r.Stop(r.ctx, "web", container.StopOptions{}) }
	rm := func(r *containerRig) error { return r.Remove(r.ctx, "web", backend.ContainerRmConfig{}) }
	pause := func(r *containerRig) error { return r.Pause(r.ctx, "web") }
	kill := func(r *containerRig) error { return r.Kill(r.ctx, "web", "") }
	cases := []struct {
		name  string
		state string
		do    call
		class func(error) bool
		words string
	}{
		{"start of a running one", "running", start, errdefs.IsNotModified, "container is already running"},
		{"start of a paused one", "paused", start, errdefs.IsConflict, "cannot start a paused container, try unpause instead"},
		{"stop of a created one", "created", stop, errdefs.IsNotModified, "container is already stopped"},
		{"kill of a created one", "created", kill, errdefs.IsConflict, " is not running"},
		{"kill with a bad signal", "running", func(r *containerRig) error { return r.Kill(r.ctx, "web", "FOO") },
			errdefs.IsInvalidArgument, "invalid signal: FOO"},
		{"stop with a bad signal", "running", func(r *containerRig) error {
			return r.Stop(r.ctx, "web", container.StopOptions{Signal: "FOO"})
		}, errdefs.IsInternal, "cannot stop container: web: invalid signal: FOO"},
		{"pause of a created one", "created", pause, errdefs.IsConflict, " is not running"},
		{"pause of a paused one", "paused", pause, errdefs.IsConflict, " is already paused"},
		{"unpause of a running one", "running", func(r *containerRig) error { return r.Unpause(r.ctx, "web") },
			errdefs.IsInternal, " is not paused"},
		{"rm of a running one", "running", rm, errdefs.IsConflict,
			`cannot remove container "web": container is running: stop the container before removing or force remove`},
		{"rm of a paused one", "paused", rm, errdefs.IsConflict,
			`cannot remove container "web": container is paused and must be unpaused first`},
		{"rm of a restarting one", "restarting", rm, errdefs.IsConflict,
			"container is restarting: stop the container before removing or force remove"},
		{"resize of a created one", "created", func(r *containerRig) error { return r.Resize(r.ctx, "web", 1, 1) },
			errdefs.IsConflict, " is not running"},
		{"exec in a created one", "created", func(r *containerRig) error {
			_, err := r.ExecCreate(r.ctx, "web", container.ExecOptions{Cmd: []string{"ls"}})
			return err
		}, errdefs.IsConflict, " is not running"},
		{"exec in a paused one", "paused", func(r *containerRig) error {
			_, err := r.ExecCreate(r.ctx, "web", container.ExecOptions{Cmd: []string{"ls"}})
			return err
		}, errdefs.IsConflict, " is paused, unpause the container before exec"},
		{"attach to a paused one", "paused", func(r *containerRig) error {
			return r.Attach(r.ctx, "web", &backend.ContainerAttachConfig{})
		}, errdefs.IsConflict, "container web is paused, unpause the container before attach"},
		{"attach to a restarting one", "restarting", func(r *containerRig) error {
			return r.Attach(r.ctx, "web", &backend.ContainerAttachConfig{})
		}, errdefs.IsConflict, "container web is restarting, wait until the container is running"},
		{"top of a created one", "created", func(r *containerRig) error { _, err := r.Top(r.ctx, "web", ""); return err },
			errdefs.IsConflict, " is not running"},
		{"rename to its own name", "created", func(r *containerRig) error { return r.Rename(r.ctx, "web", "web") },
			errdefs.IsInvalidArgument, "Renaming a container with the same name as its current name"},
		{"rename to a bad name", "created", func(r *containerRig) error { return r.Rename(r.ctx, "web", "a b") },
			errdefs.IsInvalidArgument, "Invalid container name (a b), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"},
		{"nobody", "created", func(r *containerRig) error { return r.Start(r.ctx, "nobody") }, errdefs.IsNotFound, "No such container: nobody"},
		{"logs of no stream", "created", func(r *containerRig) error {
			_, _, err := r.Logs(r.ctx, "web", container.LogsOptions{})
			return err
		}, errdefs.IsInvalidArgument, "Bad parameters: you must choose at least one stream"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			rig := newContainerRigOn(t, store)
			rig.make("web", tc.state)
			failsWith(t, tc.do(rig), tc.class, tc.words)
		})
	}
}

// make brings a container into a state.
func (r *containerRig) make(name, status string) {
	r.t.Helper()
	if status == state.StatusCreated {
		r.create(name)
		return
	}
	key := r.run(name, func(s *spec) { s.host.RestartPolicy.Name = "always" })
	switch status {
	case state.StatusPaused:
		assert.NilError(r.t, r.Pause(r.ctx, name))
	case state.StatusRestarting:
		r.live.of(key).backoff = maxBackoff
		r.w.end(r.d, key, 1)
		r.awaitStatus(key, state.StatusRestarting)
	}
}

func TestNameTaken(t *testing.T) {
	rig := newContainerRig(t)
	key := rig.create("web")
	_, err := rig.Create(rig.ctx, rig.createReq("web"))
	failsWith(t, err, errdefs.IsConflict, `Conflict. The container name "/web" is already in use by container "`+string(key.ID)+
		`". You have to remove (or rename) that container to be able to reuse that name.`)
	rig.create("www")
	failsWith(t, rig.Rename(rig.ctx, "www", "web"), errdefs.IsConflict,
		`Error when allocating new name: Conflict. The container name "/web" is already in use by container "`+string(key.ID))
}

func TestRaceForAName(t *testing.T) {
	rig := newContainerRig(t)
	var mu sync.Mutex
	won := 0
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			_, err := rig.Create(rig.ctx, rig.createReq("web"))
			if err != nil {
				assert.Check(t, errdefs.IsConflict(err), "%v", err)
				return
			}
			mu.Lock()
			won++
			mu.Unlock()
		})
	}
	wg.Wait()
	assert.Equal(t, won, 1)
	assert.NilError(t, rig.Remove(rig.ctx, "web", backend.ContainerRmConfig{}))
	rig.wantClean()
}

func TestRaceOfVerbs(t *testing.T) {
	rig := newContainerRig(t)
	key := rig.run("web")
	var wg sync.WaitGroup
	ctx, cancel := context.WithTimeout(rig.ctx, soon)
	defer cancel()
	answers := func(err error) {
		ok := err == nil || errdefs.IsConflict(err) || errdefs.IsNotFound(err) || errdefs.IsNotModified(err) ||
			strings.Contains(err.Error(), "is not running") || strings.Contains(err.Error(), "No such container")
		assert.Check(t, ok, "%v", err)
	}
	for range 4 {
		wg.Go(func() { answers(rig.Start(ctx, string(key.ID))) })
		wg.Go(func() { answers(rig.Stop(ctx, string(key.ID), container.StopOptions{})) })
		wg.Go(func() { answers(rig.Kill(ctx, string(key.ID), "")) })
		wg.Go(func() { answers(rig.Remove(ctx, string(key.ID), backend.ContainerRmConfig{ForceRemove: true})) })
		wg.Go(func() {
			_, err := rig.ExecCreate(ctx, string(key.ID), container.ExecOptions{Cmd: []string{"ls"}})
			answers(err)
		})
	}
	wg.Wait()
	assert.NilError(t, ctx.Err())
	_ = rig.Remove(rig.ctx, string(key.ID), backend.ContainerRmConfig{ForceRemove: true})
	rig.awaitGone(key)
	rig.wantClean()
}

func TestWaitRemoved(t *testing.T) {
	rig := newContainerRig(t)
	key := rig.create("web", func(s *spec) { s.host.AutoRemove = true })
	wait, err := rig.Wait(rig.ctx, "web", container.WaitConditionRemoved)
	assert.NilError(t, err)
	assert.NilError(t, rig.Start(rig.ctx, "web"))
	rig.w.end(rig.d, key, 42)
	assert.Equal(t, (<-wait).StatusCode, int64(42))
	rig.wantClean()
}

func TestWaitEndsWithItsContext(t *testing.T) {
	rig := newContainerRig(t)
	rig.run("web")
	ctx, cancel := context.WithCancel(rig.ctx)
	wait, err := rig.Wait(ctx, "web", container.WaitConditionNextExit)
	assert.NilError(t, err)
	cancel()
	answer := <-wait
	assert.Equal(t, answer.StatusCode, int64(-1))
	assert.Equal(t, answer.Error.Message, "context canceled")
}

func TestFailedStart(t *testing.T) {
	store := openTestState(t)
	const runc = `failed to create task for container: OCI runtime create failed: exec: "foo": executable file not found in $PATH: unknown`
	cases := []struct {
		name, call string
		err        error
		class      func(error) bool
		words      string
		code       int
	}{
		{"no such command", "CreateTask", errors.New(runc), errdefs.IsInvalidArgument, runc, 127},
		{"not executable", "CreateTask", errors.New("exec: permission denied: unknown"), errdefs.IsInvalidArgument, "permission denied", 126},
		{"a directory", "CreateTask", errors.New("exec /: is a directory"), errdefs.IsInvalidArgument, "is a directory: permission denied", 126},
		{"file onto directory", "StartTask", errors.New("not a directory: unknown"), errdefs.IsInvalidArgument,
			"Are you trying to mount a directory onto a file (or vice-versa)?", 127},
		{"something else", "StartTask", errors.New("boom"), errdefs.IsUnknown, "boom", 128},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			rig := newContainerRigOn(t, store)
			key := rig.create("web")
			rig.d.failOn(tc.call, tc.err)
			failsWith(t, rig.Start(rig.ctx, "web"), tc.class, tc.words)
			rec := rig.record(key)
			assert.Equal(t, rec.State.Status, state.StatusCreated)
			assert.Equal(t, rec.State.ExitCode, tc.code)
			assert.Check(t, strings.Contains(rec.State.Error, tc.words))
			assert.Equal(t, len(rig.w.tasks), 0)
			assert.Equal(t, len(rig.w.netns), 0)
			rig.d.failOn(tc.call, nil)
			assert.NilError(t, rig.Start(rig.ctx, "web"))
			assert.Equal(t, rig.record(key).State.Error, "")
		})
	}
}

// A start that the state could not take left its task to the next start or restart, which failed over it.
func TestStartAfterOneThatWasNotRecorded(t *testing.T) {
	rig := newContainerRig(t)
	key := rig.create("web")
	next := map[string]func() error{
		"start":   func() error { return rig.Start(rig.ctx, "web") },
		"restart": func() error { return rig.Restart(rig.ctx, "web", container.StopOptions{}) },
	}
	for n := range 40 {
		verb := []string{"start", "restart"}[n%2]
		cause := errdefs.ErrUnavailable.WithMessage("the state does not answer")
		err := rig.locked(rig.ctx, rig.record(key), func(r *state.Container) error {
			r, err := rig.claim(rig.ctx, r)
			assert.NilError(t, err)
			_, err = rig.launch(rig.ctx, r)
			assert.NilError(t, err)
			return rig.abandon(rig.ctx, r, cause)
		})
		assert.ErrorIs(t, err, cause)
		assert.NilError(t, next[verb](), verb)
		assert.Equal(t, rig.record(key).State.Status, state.StatusRunning)
		assert.NilError(t, rig.Kill(rig.ctx, "web", "KILL"))
		rig.await(key, "to have ended", func(r *state.Container) bool { return !r.State.Running() })
	}
}

func TestFailedStartWithRm(t *testing.T) {
	rig := newContainerRig(t)
	rig.create("web", func(s *spec) { s.host.AutoRemove = true })
	rig.d.failOn("CreateTask", errors.New("boom"))
	failsWith(t, rig.Start(rig.ctx, "web"), errdefs.IsUnknown, "boom")
	rig.wantClean()
}

// Who waits for the end of a container with --rm does not wait for its remains; what is in their way is tried again.
func TestEndWithRmBeforeItsRemains(t *testing.T) {
	rig := newContainerRig(t)
	key := rig.run("web", func(s *spec) { s.host.AutoRemove = true })
	wait, err := rig.Wait(rig.ctx, "web", container.WaitConditionRemoved)
	assert.NilError(t, err)
	rig.d.failOn("Discard", errors.New("busy"))
	rig.w.end(rig.d, key, 3)
	assert.Equal(t, (<-wait).StatusCode, int64(3))
	assert.Check(t, rig.record(key) == nil)
	rig.create("web") // the name is free
	rig.w.mu.Lock()
	_, left := rig.w.rootfs[key]
	rig.w.mu.Unlock()
	assert.Check(t, left)
	rig.d.failOn("Discard", nil)
	assert.NilError(t, rig.Remove(rig.ctx, "web", backend.ContainerRmConfig{}))
	rig.wantClean()
}

func TestFailedCreateLeavesNothing(t *testing.T) {
	store := openTestState(t)
	for _, call := range []string{"Prepare", "vol.Path"} {
		t.Run(call, func(t *testing.T) {
			rig := newContainerRigOn(t, store)
			rig.d.failOn(call, errors.New("boom"))
			_, err := rig.Create(rig.ctx, rig.createReq("web", func(s *spec) { s.Volumes = map[string]struct{}{"/data": {}} }))
			assert.ErrorContains(t, err, "boom")
			rig.wantClean()
			_, taken := rig.store.View().Name("admin", "web")
			assert.Check(t, !taken)
		})
	}
}

func TestRemovalThatFailsCanBeTriedAgain(t *testing.T) {
	rig := newContainerRig(t)
	key := rig.create("web")
	rig.d.failOn("Discard", errors.New("busy"))
	assert.ErrorContains(t, rig.Remove(rig.ctx, "web", backend.ContainerRmConfig{}), `cannot remove container "web": busy`)
	assert.Equal(t, rig.record(key).State.Status, state.StatusDead)
	failsWith(t, rig.Start(rig.ctx, "web"), errdefs.IsConflict, "container is marked for removal and cannot be started")
	rig.d.failOn("Discard", nil)
	assert.NilError(t, rig.Remove(rig.ctx, "web", backend.ContainerRmConfig{}))
	rig.wantClean()
}

func TestClientThatGoesDoesNotHalveAStart(t *testing.T) {
	rig := newContainerRig(t)
	key := rig.create("web")
	ctx, cancel := context.WithCancel(rig.ctx)
	rig.d.step = func(call, when string) bool {
		if call == "CreateTask" && when == "before" {
			cancel()
		}
		return false
	}
	assert.NilError(t, rig.Start(ctx, "web"))
	assert.Equal(t, rig.record(key).State.Status, state.StatusRunning)
}

func TestEventsOfNetworksAndVolumes(t *testing.T) {
	rig := newContainerRig(t)
	key := rig.run("web", func(s *spec) { s.host.Binds = []string{"data:/data"} })
	rig.w.end(rig.d, key, 0)
	rig.awaitStatus(key, state.StatusExited)
	assert.DeepEqual(t, rig.allEvents(), []string{
		"volume create", "create", "volume mount", "network connect", "start",
		"network disconnect", "volume unmount", "die exitCode=0",
	})
}

func TestPortTaken(t *testing.T) {
	rig := newContainerRig(t)
	published := func(s *spec) {
		s.host.PortBindings = nat.PortMap{"80/tcp": {{HostIP: "0.0.0.0", HostPort: "8080"}}}
	}
	rig.run("web", published)
	key := rig.create("www", published)
	failsWith(t, rig.Start(rig.ctx, "www"), errdefs.IsInternal,
		"failed to set up container networking: driver failed programming external connectivity on endpoint www (")
	rec := rig.record(key)
	assert.Equal(t, rec.State.Status, state.StatusCreated)
	assert.Check(t, strings.Contains(rec.State.Error, "Bind for 0.0.0.0:8080 failed: port is already allocated"), rec.State.Error)
	assert.Equal(t, rec.State.ExitCode, 128)
	assert.NilError(t, rig.Remove(rig.ctx, "web", backend.ContainerRmConfig{ForceRemove: true}))
	assert.NilError(t, rig.Start(rig.ctx, "www"))
}

func TestHostThatCannotOpenAPort(t *testing.T) {
	rig := newContainerRig(t)
	key := rig.create("web", func(s *spec) { s.host.PortBindings = nat.PortMap{"80/tcp": {{HostPort: "8080"}}} })
	rig.d.failOn("net.Publish", errdefs.ErrInternal.WithMessage("failed to bind host port 0.0.0.0:8080/tcp: address already in use"))
	failsWith(t, rig.Start(rig.ctx, "web"), errdefs.IsInternal, "address already in use")
	assert.Check(t, !claims(rig.record(key)))
	assert.Equal(t, len(rig.store.View().Ports()), 0)
	assert.Equal(t, len(rig.w.tasks), 0)
	assert.Equal(t, len(rig.w.netns), 0)
}

func TestSharedNetwork(t *testing.T) {
	rig := newContainerRig(t)
	share := func(s *spec) { s.host.NetworkMode = "container:web" }
	rig.create("web")
	side := rig.create("side", share)
	failsWith(t, rig.Start(rig.ctx, "side"), errdefs.IsConflict,
		"cannot join network namespace of a non running container: container web is created")
	assert.NilError(t, rig.Start(rig.ctx, "web"))
	assert.NilError(t, rig.Start(rig.ctx, "side"))
	web, err := rig.find(rig.ctx, "web")
	assert.NilError(t, err)
	assert.Equal(t, rig.w.tasks[side].spec.Netns, netnsOf(web.State.Pid))
	assert.Equal(t, rig.w.tasks[side].spec.Hostname, web.Config.Hostname)
	assert.Check(t, rig.w.netns[side.ID] == nil, "it has a sandbox of its own")
}

func TestRemovalInProgress(t *testing.T) {
	rig := newContainerRig(t)
	key := rig.create("web")
	begun, goOn := make(chan struct{}), make(chan struct{})
	rig.d.step = func(call, when string) bool {
		if call == "Discard" && when == "before" {
			close(begun)
			<-goOn
		}
		return false
	}
	done := make(chan error, 1)
	go func() { done <- rig.Remove(rig.ctx, "web", backend.ContainerRmConfig{}) }()
	<-begun
	failsWith(t, rig.Remove(rig.ctx, "web", backend.ContainerRmConfig{}), errdefs.IsConflict, "removal of container web is already in progress")
	failsWith(t, rig.Start(rig.ctx, "web"), errdefs.IsConflict, "container is marked for removal and cannot be started")
	close(goOn)
	assert.NilError(t, <-done)
	rig.awaitGone(key)
	rig.wantClean()
}

// Who removes by force what another is just ending hears that it is under way, from the first kill on.
func TestForcedRemovalInProgress(t *testing.T) {
	rig := newContainerRig(t)
	key := rig.create("web")
	assert.NilError(t, rig.Start(rig.ctx, "web"))
	force := backend.ContainerRmConfig{ForceRemove: true}
	begun, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	rig.d.step = func(call, when string) bool {
		if call == "Kill" && when == "before" {
			once.Do(func() {
				close(begun)
				<-goOn
			})
		}
		return false
	}
	done := make(chan error, 1)
	go func() { done <- rig.Remove(rig.ctx, "web", force) }()
	<-begun
	failsWith(t, rig.Remove(rig.ctx, "web", force), errdefs.IsConflict, "removal of container web is already in progress")
	close(goOn)
	assert.NilError(t, <-done)
	rig.awaitGone(key)
	rig.wantClean()
	again := rig.create("web")
	assert.NilError(t, rig.Remove(rig.ctx, "web", force), "a removal that ended is none under way")
	rig.awaitGone(again)
}

package engine

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"golang.org/x/time/rate"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/pkg/state"
	"github.com/nereid-paas/nereid/runtime"
)

func TestProbeCommand(t *testing.T) {
	for name, tc := range map[string]struct {
		test, shell, want []string
	}{
		"none asked":   {},
		"none":         {test: []string{"NONE"}},
		"unknown kind": {test: []string{"HTTP", "x"}},
		"cmd":          {test: []string{"CMD", "a", "b"}, want: []string{"a", "b"}},
		"shell":        {test: []string{"CMD-SHELL", "a b"}, want: []string{"/bin/sh", "-c", "a b"}},
		"image's":      {test: []string{"CMD-SHELL", "a"}, shell: []string{"/bin/ash", "-ec"}, want: []string{"/bin/ash", "-ec", "a"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := probeCommand(&container.Config{Shell: tc.shell, Healthcheck: &container.HealthConfig{Test: tc.test}})
			assert.DeepEqual(t, got, tc.want)
		})
	}
	assert.Check(t, probeCommand(&container.Config{}) == nil)
}

// TestJudge feeds probes' exit codes, one a second from the start on; each is followed by what the health is then.
func TestJudge(t *testing.T) {
	begin := time.Now()
	for name, tc := range map[string]struct {
		check container.HealthConfig
		codes []int
		want  string // status and streak after each
	}{
		"three failures by default": {codes: []int{1, 1, 1, 1}, want: "starting1 starting2 unhealthy3 unhealthy4"},
		"success ends a streak":     {codes: []int{1, 1, 0, 1, 1, 1, 0}, want: "starting1 starting2 healthy0 healthy1 healthy2 unhealthy3 healthy0"},
		"retries":                   {check: container.HealthConfig{Retries: 1}, codes: []int{0, -1}, want: "healthy0 unhealthy1"},
		"start period": {
			check: container.HealthConfig{Retries: 2, StartPeriod: 2500 * time.Millisecond},
			codes: []int{1, 1, 1, 1}, want: "starting0 starting0 starting1 unhealthy2",
		},
		"start period ends with the first success": {
			check: container.HealthConfig{Retries: 2, StartPeriod: time.Hour}, codes: []int{1, 0, 1, 1}, want: "starting0 healthy0 healthy1 unhealthy2",
		},
	} {
		t.Run(name, func(t *testing.T) {
			var h *container.Health
			var got []string
			for i, code := range tc.codes {
				at := begin.Add(time.Duration(i+1) * time.Second)
				h = judge(h, &tc.check, &container.HealthcheckResult{Start: at, ExitCode: code}, begin)
				got = append(got, h.Status+string(rune('0'+h.FailingStreak)))
			}
			assert.Equal(t, strings.Join(got, " "), tc.want)
			assert.Equal(t, len(h.Log), min(len(tc.codes), healthLogEntries))
			assert.Equal(t, h.Log[len(h.Log)-1].ExitCode, tc.codes[len(tc.codes)-1])
		})
	}
}

func TestProbeInterval(t *testing.T) {
	starting, healthy := &container.Health{Status: container.Starting}, &container.Health{Status: container.Healthy}
	period := container.HealthConfig{StartPeriod: time.Minute, Interval: 7 * time.Second}
	quick := period
	quick.StartInterval = time.Second
	for name, tc := range map[string]struct {
		check container.HealthConfig
		h     *container.Health
		ran   time.Duration
		want  time.Duration
	}{
		"default":            {h: starting, want: 30 * time.Second},
		"starting":           {check: period, h: starting, want: 5 * time.Second},
		"starting, asked":    {check: quick, h: starting, want: time.Second},
		"healthy":            {check: quick, h: healthy, want: 7 * time.Second},
		"start period ended": {check: quick, h: starting, ran: time.Minute, want: 7 * time.Second},
		"an image's":         {check: container.HealthConfig{Interval: 1}, h: healthy, want: time.Millisecond},
		"an image's, below":  {check: container.HealthConfig{StartPeriod: time.Minute, StartInterval: -1}, h: starting, want: time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) { assert.Equal(t, probeInterval(tc.h, &tc.check, tc.ran), tc.want) })
	}
}

func TestProbeOutputIsCut(t *testing.T) {
	var o probeOutput
	for range 3 {
		n, err := o.Write([]byte(strings.Repeat("x", 2000)))
		assert.NilError(t, err)
		assert.Equal(t, n, 2000)
	}
	assert.Equal(t, o.String(), strings.Repeat("x", probeOutputLimit)+"...")
}

// probed is a container with a health check that is probed as fast as it can be.
func probed(change ...func(*container.HealthConfig)) func(*spec) {
	return func(s *spec) {
		s.Healthcheck = &container.HealthConfig{Test: []string{"CMD", "probe"}, Interval: time.Millisecond, Retries: 2}
		for _, f := range change {
			f(s.Healthcheck)
		}
	}
}

func (r *containerRig) awaitHealth(key runtime.Key, status string) *state.Container {
	r.t.Helper()
	return r.await(key, status, func(c *state.Container) bool { return c != nil && healthOf(c) == status })
}

// TestHealthFollowsItsProbes takes a container through all its states: what the record, inspect and the events say.
func TestHealthFollowsItsProbes(t *testing.T) {
	rig := newContainerRig(t)
	rig.health.endTold = soon
	var code atomic.Int32
	gate := make(chan struct{})
	rig.w.run = func(p runtime.Process) (string, int) {
		assert.Check(t, slices.Equal(p.Args, []string{"probe"}))
		<-gate
		return "said", int(code.Load())
	}
	key := rig.run("web", probed())
	assert.Equal(t, healthOf(rig.record(key)), container.Starting)
	close(gate)
	h := rig.awaitHealth(key, container.Healthy).State.Health
	assert.Equal(t, h.Log[0].Output, "said")
	h = rig.awaitAfter(func() { code.Store(1) }, key, container.Unhealthy, func(c *state.Container) bool {
		return healthOf(c) == container.Unhealthy
	}).State.Health
	assert.Equal(t, h.FailingStreak, 2)
	resp, _, err := rig.Inspect(rig.ctx, "web", false)
	assert.NilError(t, err)
	assert.Check(t, resp.State.Health.FailingStreak >= 2)
	assert.Equal(t, len(resp.ExecIDs), 0, "a probe is not the user's exec")
	code.Store(0)
	rig.awaitHealth(key, container.Healthy)

	assert.NilError(t, rig.Pause(rig.ctx, "web"))
	assert.Equal(t, healthOf(rig.record(key)), container.Unhealthy)
	assert.NilError(t, rig.Unpause(rig.ctx, "web"))
	rig.awaitHealth(key, container.Healthy)

	rig.w.end(rig.d, key, 0)
	h = rig.awaitStatus(key, state.StatusExited).State.Health
	assert.Equal(t, h.Status, container.Unhealthy)
	assert.Check(t, len(h.Log) > 0, "the log of an ended container is kept")
	code.Store(1)
	assert.NilError(t, rig.Start(rig.ctx, "web"))
	rig.awaitHealth(key, container.Unhealthy)

	var told []string
	for _, e := range rig.events() {
		if strings.HasPrefix(e, "health_status") {
			told = append(told, strings.TrimPrefix(e, "health_status: "))
		}
	}
	assert.DeepEqual(t, told, []string{"healthy", "unhealthy", "healthy", "healthy", "unhealthy"})
	assert.DeepEqual(t, rig.events()[2:6], []string{"exec_create: probe ", "exec_start: probe ", "exec_die exitCode=0", "health_status: healthy"})
}

// TestOverdueProbeIsKilled: one that does not end within its time is a failure, and no second runs beside it.
func TestOverdueProbeIsKilled(t *testing.T) {
	rig := newContainerRig(t)
	rig.w.run = func(runtime.Process) (string, int) { return "stuck", -1 }
	key := rig.run("web", probed(func(h *container.HealthConfig) { h.Timeout = 5 * time.Millisecond }))
	h := rig.awaitHealth(key, container.Unhealthy).State.Health
	assert.Equal(t, h.Log[0].ExitCode, -1)
	assert.Equal(t, h.Log[0].Output, "Health check exceeded timeout (5ms): stuck")
	assert.Check(t, slices.Contains(rig.events(), "exec_die exitCode=137"))
}

// TestProbeThatCannotStart is one whose command is not there.
func TestProbeThatCannotStart(t *testing.T) {
	rig := newContainerRig(t)
	rig.d.failOn("Exec", errInternal("executable file not found in $PATH"))
	key := rig.run("web", probed())
	h := rig.awaitHealth(key, container.Unhealthy).State.Health
	assert.Equal(t, h.Log[0].ExitCode, -1)
	assert.Equal(t, h.Log[0].Output, "executable file not found in $PATH")
}

// TestProbeWithoutACommand: a health check that names none ended the daemon, and every daemon that started after it.
func TestProbeWithoutACommand(t *testing.T) {
	rig := newContainerRig(t)
	key := rig.run("web", probed(func(h *container.HealthConfig) { h.Test = []string{"CMD"} }))
	h := rig.awaitHealth(key, container.Unhealthy).State.Health
	assert.Equal(t, h.Log[0].Output, "No exec command specified")
	assert.Check(t, !strings.Contains(strings.Join(rig.events(), " "), "exec_"))
}

// TestProbesWithoutRoomAreNotWritten: the state gets changes of status only, and inspect the newest all the same.
func TestProbesWithoutRoomAreNotWritten(t *testing.T) {
	rig := newContainerRig(t)
	rig.health.room = rate.NewLimiter(0, 0)
	var probes, code atomic.Int32
	rig.w.run = func(runtime.Process) (string, int) { probes.Add(1); return "", int(code.Load()) }
	key := rig.run("web", probed())
	first := rig.awaitHealth(key, container.Healthy)
	reached := func(n int32) func() bool { return func() bool { return probes.Load() >= n } }
	awaitThat(t, "twenty probes", reached(20))
	assert.Equal(t, rig.record(key).Rev, first.Rev)
	code.Store(1)
	last := rig.awaitHealth(key, container.Unhealthy)
	awaitThat(t, "more probes", reached(probes.Load()+20))
	resp, _, err := rig.Inspect(rig.ctx, "web", false)
	assert.NilError(t, err)
	assert.Check(t, resp.State.Health.FailingStreak > last.State.Health.FailingStreak)
	rig.wantEvents("create", "start", "health_status: healthy", "health_status: unhealthy")
}

// TestHealthOutlivesTheDaemon: status and streak are what they were, and probing goes on.
func TestHealthOutlivesTheDaemon(t *testing.T) {
	rig := newContainerRig(t)
	var code atomic.Int32
	rig.w.run = func(runtime.Process) (string, int) { return "", int(code.Load()) }
	key := rig.run("web", probed())
	rig.awaitHealth(key, container.Healthy)
	rig.d.die()
	code.Store(1)
	rig.boot()
	rig.awaitHealth(key, container.Unhealthy)
}

func awaitThat(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(soon); !holds(); {
		if time.Now().After(end) {
			t.Fatalf("%s did not come", what)
		}
		<-time.After(time.Millisecond)
	}
}

// TestProbeThatDiesWithItsContainer says nothing of its health.
func TestProbeThatDiesWithItsContainer(t *testing.T) {
	rig := newContainerRig(t)
	rig.health.endTold = soon
	var key runtime.Key
	started := make(chan struct{}, 100)
	rig.w.run = func(runtime.Process) (string, int) { started <- struct{}{}; return "", exitKilled }
	key = rig.run("web", probed(func(h *container.HealthConfig) { h.Retries = 1 }))
	<-started
	rig.w.end(rig.d, key, 137)
	h := rig.awaitStatus(key, state.StatusExited).State.Health
	assert.Equal(t, h.FailingStreak, 0)
	assert.Check(t, !slices.Contains(rig.events(), "health_status: unhealthy"), "%v", rig.events())
}

// TestProbeOfAContainerThatHasEnded: one that finds no process any more says nothing of the health, though nobody has told
// of the end yet.
func TestProbeOfAContainerThatHasEnded(t *testing.T) {
	rig := newContainerRig(t)
	rig.health.endTold = soon
	rig.w.run = func(runtime.Process) (string, int) { return "", 0 }
	key := rig.run("web", probed(func(h *container.HealthConfig) { h.Retries = 1 }))
	rig.awaitHealth(key, container.Healthy)
	rig.w.end(nil, key, 137)
	tried := make(chan struct{}, 100)
	rig.d.mu.Lock()
	rig.d.step = func(call, when string) bool {
		if call == "Exec" && when == "after" {
			tried <- struct{}{}
		}
		return false
	}
	rig.d.mu.Unlock()
	<-tried
	select {
	case <-tried: // a second one, so the first was judged
	case <-time.After(50 * time.Millisecond):
	}
	rig.Exited(rig.ctx, *rig.w.tasks[key].exit)
	h := rig.awaitStatus(key, state.StatusExited).State.Health
	assert.Equal(t, h.FailingStreak, 0)
	assert.Check(t, !slices.Contains(rig.events(), "health_status: unhealthy"), "%v", rig.events())
}

package engine

import (
	"bytes"
	"context"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/backend"
	"github.com/docker/docker/api/types/container"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/poll"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
	"github.com/nereid-paas/nereid/runtime"
)

// client is what a hijacked connection is to the use cases.
type client struct {
	mu  sync.Mutex
	out bytes.Buffer
	// opened is closed when the connection was taken over.
	opened chan struct{}
}

func newClient() *client { return &client{opened: make(chan struct{})} }

func (c *client) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.Write(p)
}

func (c *client) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.String()
}

func (c *client) streams(bool, func()) (io.ReadCloser, io.Writer, io.Writer, error) {
	close(c.opened)
	return io.NopCloser(strings.NewReader("")), c, c, nil
}

func TestAttachShowsLogThenLive(t *testing.T) {
	rig := newContainerRig(t)
	key := rig.run("web", func(s *spec) { s.Tty = true })
	rig.w.mu.Lock()
	rig.w.log[key] = []string{"one\n", "two\n"}
	rig.w.mu.Unlock()
	cl := newClient()
	done := make(chan error, 1)
	go func() {
		done <- rig.Attach(rig.ctx, "web", &backend.ContainerAttachConfig{
			GetStreams: cl.streams, UseStdout: true, UseStderr: true, Logs: true, Stream: true,
		})
	}()
	<-cl.opened
	rig.w.end(rig.d, key, 0)
	assert.NilError(t, <-done)
	assert.Equal(t, cl.String(), "one\ntwo\nlive")
	assert.Check(t, strings.Contains(strings.Join(rig.events(), " "), "attach"))
}

// An attach that came just after the end of the run waited for the next one.
func TestAttachEndsWithItsRun(t *testing.T) {
	rig := newContainerRig(t)
	key := rig.create("web")
	cl := newClient()
	done := make(chan error, 1)
	go func() {
		done <- rig.Attach(rig.ctx, "web", &backend.ContainerAttachConfig{GetStreams: cl.streams, UseStdout: true, Stream: true})
	}()
	<-cl.opened
	assert.NilError(t, rig.Remove(rig.ctx, string(key.ID), backend.ContainerRmConfig{}))
	select {
	case err := <-done:
		assert.NilError(t, err)
	case <-time.After(attachLinger + soon):
		t.Fatal("the attachment outlives its container")
	}
}

// Whoever read a container's output to its end and asked for the exit code was sometimes told 0, of a container that ran.
func TestAttachEndsOnceTheExitIsKnown(t *testing.T) {
	rig := newContainerRig(t)
	key := rig.run("web")
	cl := newClient()
	done := make(chan error, 1)
	go func() {
		done <- rig.Attach(rig.ctx, "web", &backend.ContainerAttachConfig{GetStreams: cl.streams, UseStdout: true, Stream: true})
	}()
	<-cl.opened
	rig.w.end(nil, key, 3) // nobody tells the daemon yet
	go rig.Exited(rig.ctx, runtime.Exit{Key: key, Code: 3, At: time.Now()})
	assert.NilError(t, <-done)
	r := rig.record(key)
	assert.Equal(t, r.State.Status, state.StatusExited)
	assert.Equal(t, r.State.ExitCode, 3)
}

func TestAttachWithBadDetachKeys(t *testing.T) {
	rig := newContainerRig(t)
	rig.create("web")
	err := rig.Attach(rig.ctx, "web", &backend.ContainerAttachConfig{DetachKeys: "ctrl-?"})
	failsWith(t, err, errdefs.IsInvalidArgument, "Invalid detach keys (ctrl-?) provided")
}

func TestExec(t *testing.T) {
	rig := newContainerRig(t)
	key := rig.run("web", func(s *spec) { s.User, s.WorkingDir = "www", "/srv" })
	id, err := rig.ExecCreate(rig.ctx, "web", container.ExecOptions{Cmd: []string{"ls", "-l"}, AttachStdout: true, Env: []string{"A=b"}})
	assert.NilError(t, err)
	before, err := rig.ExecInspect(rig.ctx, id)
	assert.NilError(t, err)
	assert.Check(t, !before.Running && before.ExitCode == nil)

	cl := newClient()
	done := make(chan error, 1)
	go func() {
		done <- rig.ExecStart(rig.ctx, id, container.ExecStartOptions{}, func() (io.ReadCloser, io.Writer, io.Writer, error) {
			return cl.streams(false, nil)
		})
	}()
	<-cl.opened
	e := rig.awaitExec(id, "running", func(e *backend.ExecInspect) bool { return e.Pid != 0 })
	assert.Check(t, e.Running)
	p := rig.w.tasks[key].execs[rig.onlyExec()]
	assert.DeepEqual(t, p, runtime.Process{
		ExecID: rig.onlyExec(), Args: []string{"ls", "-l"}, Env: []string{"A=b"}, Dir: "/srv", User: "www",
	})
	rig.Exited(rig.ctx, runtime.Exit{Key: key, ExecID: rig.onlyExec(), Code: 4, At: time.Now()})
	assert.NilError(t, <-done)
	assert.Equal(t, cl.String(), "[ls -l]")
	after, err := rig.ExecInspect(rig.ctx, id)
	assert.NilError(t, err)
	assert.Check(t, !after.Running)
	assert.Equal(t, *after.ExitCode, 4)
	assert.Equal(t, after.ProcessConfig.Entrypoint, "ls")
	rig.wantEvents("create", "start", "exec_create: ls -l", "exec_start: ls -l", "exec_die exitCode=4")

	again := "exec command " + id + " has already run"
	failsWith(t, rig.ExecStart(rig.ctx, id, container.ExecStartOptions{Detach: true}, nil), errdefs.IsConflict, again)
	cl = newClient()
	attached := 0 // who attaches reads it from the stream
	failsWith(t, rig.ExecStart(rig.ctx, id, container.ExecStartOptions{}, func() (io.ReadCloser, io.Writer, io.Writer, error) {
		attached++
		return cl.streams(false, nil)
	}), errdefs.IsConflict, again)
	assert.Equal(t, attached, 1)
	assert.NilError(t, rig.Remove(rig.ctx, "web", backend.ContainerRmConfig{ForceRemove: true}))
	_, err = rig.ExecInspect(rig.ctx, id)
	failsWith(t, err, errdefs.IsNotFound, "No such exec instance: "+id)
	rig.wantClean()
}

// onlyExec is the id of the one exec there is.
func (r *containerRig) onlyExec() nereid.ExecID { return r.execs.snapshot()[0].ID }

func (r *containerRig) awaitExec(id, what string, cond func(*backend.ExecInspect) bool) *backend.ExecInspect {
	r.t.Helper()
	var found *backend.ExecInspect
	poll.WaitOn(r.t, func(poll.LogT) poll.Result {
		e, err := r.ExecInspect(r.ctx, id)
		if err != nil || !cond(e) {
			return poll.Continue("exec did not become %s: %+v %v", what, e, err)
		}
		found = e
		return poll.Success()
	}, poll.WithTimeout(soon), poll.WithDelay(5*time.Millisecond))
	return found
}

func TestExecThatCannotStart(t *testing.T) {
	rig := newContainerRig(t)
	rig.run("web")
	id, err := rig.ExecCreate(rig.ctx, "web", container.ExecOptions{Cmd: []string{"foo"}})
	assert.NilError(t, err)
	rig.d.failOn("Exec", errdefs.ErrUnknown.WithMessage(`OCI runtime exec failed: exec: "foo": executable file not found in $PATH`))
	failsWith(t, rig.ExecStart(rig.ctx, id, container.ExecStartOptions{Detach: true}, nil), errdefs.IsInvalidArgument,
		`exec: "foo": executable file not found in $PATH: unknown`)
	e, err := rig.ExecInspect(rig.ctx, id)
	assert.NilError(t, err)
	assert.Check(t, !e.Running)
	assert.Equal(t, *e.ExitCode, 127)
}

func TestExecEndsWithItsContainer(t *testing.T) {
	rig := newContainerRig(t)
	key := rig.run("web")
	id, err := rig.ExecCreate(rig.ctx, "web", container.ExecOptions{Cmd: []string{"ls"}})
	assert.NilError(t, err)
	rig.w.end(rig.d, key, 0)
	rig.awaitStatus(key, "exited")
	_, err = rig.ExecInspect(rig.ctx, id)
	failsWith(t, err, errdefs.IsNotFound, "No such exec instance")
}

func TestForeignExec(t *testing.T) {
	rig := newContainerRig(t)
	rig.run("web")
	id, err := rig.ExecCreate(rig.ctx, "web", container.ExecOptions{Cmd: []string{"ls"}})
	assert.NilError(t, err)
	other := nereid.WithAccount(context.Background(), "someone")
	_, err = rig.ExecInspect(other, id)
	failsWith(t, err, errdefs.IsNotFound, "No such exec instance")
	failsWith(t, rig.ExecStart(other, id, container.ExecStartOptions{Detach: true}, nil), errdefs.IsNotFound, "No such exec instance")
}

func TestStats(t *testing.T) {
	rig := newContainerRig(t)
	rig.create("idle")
	rig.run("busy")
	_, err := rig.Stats(rig.ctx, "busy", true, true)
	failsWith(t, err, errdefs.IsInvalidArgument, "cannot have stream=true and one-shot=true")
	for name, usage := range map[string]uint64{"idle": 0, "busy": 5} {
		samples, err := rig.Stats(rig.ctx, name, false, true)
		assert.NilError(t, err)
		n := 0
		for s, err := range samples {
			assert.NilError(t, err)
			assert.Equal(t, s.Name, "/"+name)
			assert.Equal(t, s.CPUStats.CPUUsage.TotalUsage, usage)
			n++
		}
		assert.Equal(t, n, 1)
	}
	ctx, cancel := context.WithCancel(rig.ctx)
	defer cancel()
	samples, err := rig.Stats(ctx, "busy", true, false)
	assert.NilError(t, err)
	n := 0
	for s, err := range samples {
		assert.NilError(t, err)
		if n == 1 {
			assert.Check(t, !s.PreRead.IsZero(), "the second sample has one before it")
			cancel()
		}
		n++
	}
	assert.Equal(t, n, 2)
}

func TestParsePs(t *testing.T) {
	top, err := parsePs("UID   PID  CMD\nroot  1    init\nroot  77   sleep 9 9\nroot  -    -\nroot  78   other\nroot  -    -\n", []int{77})
	assert.NilError(t, err)
	assert.DeepEqual(t, top.Titles, []string{"UID", "PID", "CMD"})
	assert.DeepEqual(t, top.Processes, [][]string{{"root", "77", "sleep 9 9"}, {"root", "-", "-"}})
	_, err = parsePs("UID CMD\n", nil)
	assert.ErrorContains(t, err, "Couldn't find PID field in ps output")
	failsWith(t, checkPsArgs("-o uid=PID"), errdefs.IsInvalidArgument, `specifying "uid=PID" is not allowed`)
	assert.NilError(t, checkPsArgs("-o pid=PID"))
}

// TestExecResizeWaitsForItsStart: clients ask for both at once.
func TestExecResizeWaitsForItsStart(t *testing.T) {
	rig := newContainerRig(t)
	rig.run("web")
	id, err := rig.ExecCreate(rig.ctx, "web", container.ExecOptions{Cmd: []string{"sh"}, Tty: true})
	assert.NilError(t, err)
	resized := make(chan error, 1)
	go func() { resized <- rig.ExecResize(rig.ctx, id, 24, 80) }()
	assert.NilError(t, rig.ExecStart(rig.ctx, id, container.ExecStartOptions{Detach: true, Tty: true}, nil))
	assert.NilError(t, <-resized)

	id, err = rig.ExecCreate(rig.ctx, "web", container.ExecOptions{Cmd: []string{"nosuch"}, Tty: true})
	assert.NilError(t, err)
	rig.d.failOn("Exec", errInternal("executable file not found in $PATH"))
	go func() { resized <- rig.ExecResize(rig.ctx, id, 24, 80) }()
	assert.Check(t, rig.ExecStart(rig.ctx, id, container.ExecStartOptions{Detach: true, Tty: true}, nil) != nil)
	failsWith(t, <-resized, errdefs.IsInvalidArgument, "exec process is not started")
}

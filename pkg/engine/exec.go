package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/backend"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"go.uber.org/zap"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
	"github.com/nereid-paas/nereid/runtime"
)

// ExecCreate prepares a process to be run in a running container and returns its id.
func (c *Containers) ExecCreate(ctx context.Context, ref string, opts container.ExecOptions) (string, error) {
	r, err := c.find(ctx, ref)
	if err != nil {
		return "", err
	}
	if err := execable(r, ref); err != nil {
		return "", err
	}
	if len(opts.Cmd) == 0 {
		return "", errInvalid("No exec command specified")
	}
	if err := checkExecUser(r, opts.User); err != nil {
		return "", asInvalid(err)
	}
	if _, err := detachKeys(opts.DetachKeys, "Invalid escape keys (%s) provided"); err != nil {
		return "", errInternal("%s", err) // Docker has no class for it
	}
	e := execRecord{
		ID: nereid.NewExecID(c.Host), Account: r.Account, Container: r.ID, Run: r.Starts, Options: opts,
	}
	if err := c.execs.add(e); err != nil {
		return "", err
	}
	if _, err := c.State.Commit(ctx, tellExec(r, events.ActionExecCreate, e)); err != nil {
		c.execs.drop(func(o execRecord) bool { return o.ID == e.ID })
		return "", err
	}
	return string(e.ID), nil
}

// execable tells why nothing can be exec'd in a container, called as the user does.
func execable(r *state.Container, ref string) error {
	switch r.State.Status {
	case state.StatusRunning:
		return nil
	case state.StatusPaused:
		return errConflict("Container %s is paused, unpause the container before exec", ref)
	case state.StatusRestarting:
		return errRestarting(r.ID)
	}
	return errNotRunning(r.ID)
}

// tellExec is the op that emits an exec's event; its action names the command, with a blank behind one that stands alone.
func tellExec(r *state.Container, action events.Action, e execRecord) state.Op {
	words := e.Options.Cmd[0] + " " + strings.Join(e.Options.Cmd[1:], " ")
	return tell(r, action+": "+events.Action(words), "execID", string(e.ID))
}

// exec finds an exec of the asking account and its container, which must be able to run it.
func (c *Containers) exec(ctx context.Context, id string) (execRecord, *state.Container, error) {
	e, ok := c.execs.get(nereid.AccountFrom(ctx), nereid.ExecID(id))
	if !ok {
		return e, nil, errNoSuchExec(id)
	}
	r, ok := c.State.View().Container(e.Account, e.Container)
	if !ok {
		return e, nil, errNoSuchContainer(id)
	}
	return e, r, execable(r, string(r.ID))
}

// ExecStart runs the process, with the client attached unless it detaches. It returns when the process has ended, or
// the client has gone or typed the detach keys; the process then runs on.
func (c *Containers) ExecStart(ctx context.Context, id string, opts container.ExecStartOptions, streams func() (io.ReadCloser, io.Writer, io.Writer, error)) error {
	e, r, err := c.exec(ctx, id)
	if err != nil {
		return err
	}
	e, err = c.execs.change(e.ID, func(e *execRecord) error { return begin(e) })
	if err != nil {
		return startedTwice(opts, streams, err)
	}
	var s *runtime.Streams
	if !opts.Detach {
		stdin, attached, err := c.execStreams(r, e, streams)
		if err != nil {
			c.execFailed(e, exitNotExecutable)
			return err
		}
		defer stdin.Close()
		s = attached
	}
	done, err := c.runExec(ctx, r, e, opts, s)
	if err != nil || done == nil {
		return err
	}
	return c.attendExec(ctx, r, e, done)
}

// begin marks an exec as started; it runs once.
func begin(e *execRecord) error {
	if e.ExitCode != nil {
		return errConflict("exec command %s has already run", e.ID)
	}
	if e.Running {
		return errConflict("exec command %s is already running", e.ID)
	}
	e.Running = true
	return nil
}

// startedTwice answers who starts an exec once more: with the error, which who attaches reads from the stream as from
// Docker. `docker compose watch` attaches to its own execs and starts them too, and takes only a 200 for success.
func startedTwice(opts container.ExecStartOptions, open func() (io.ReadCloser, io.Writer, io.Writer, error), failure error) error {
	if opts.Detach || !errdefs.IsConflict(failure) {
		return failure
	}
	stdin, _, _, err := open()
	if err != nil {
		return err
	}
	return errors.Join(failure, stdin.Close())
}

// execStreams has the handler take the connection over and connects what was asked for.
func (c *Containers) execStreams(r *state.Container, e execRecord, open func() (io.ReadCloser, io.Writer, io.Writer, error)) (io.Closer, *runtime.Streams, error) {
	stdin, stdout, stderr, err := open()
	if err != nil {
		return nil, nil, err
	}
	keys, err := detachKeys(e.Options.DetachKeys, "Invalid escape keys (%s) provided")
	if err != nil {
		return nil, nil, errors.Join(err, stdin.Close())
	}
	s := &runtime.Streams{Tty: e.Options.Tty, DetachKeys: keys, CloseStdin: true}
	if e.Options.AttachStdin {
		s.Stdin = stdin
	}
	if e.Options.AttachStdout {
		s.Stdout = stdout
	}
	if e.Options.AttachStderr && !e.Options.Tty {
		s.Stderr = stderr
	}
	return stdin, s, nil
}

// runExec starts the process. The client's going does not stop a start under way.
func (c *Containers) runExec(ctx context.Context, r *state.Container, e execRecord, opts container.ExecStartOptions, s *runtime.Streams) (<-chan error, error) {
	ctx, cancel := work(ctx)
	defer cancel()
	if _, err := c.State.Commit(ctx, tellExec(r, events.ActionExecStart, e)); err != nil {
		c.execFailed(e, exitNotExecutable)
		return nil, err
	}
	pid, done, err := c.Runtime.Exec(ctx, keyOf(r), process(r, e, opts), s)
	if err := c.meanwhile(r, err); errdefs.IsConflict(err) {
		c.execFailed(e, exitNotExecutable)
		return nil, err
	}
	if err := c.pausedMeanwhile(ctx, r, err); err != nil {
		c.execFailed(e, exitNotExecutable)
		return nil, err
	}
	if err != nil {
		code, err := startExitCode(asTaskError(err))
		c.execFailed(e, code)
		return nil, err
	}
	_, err = c.execs.change(e.ID, func(e *execRecord) error { e.Pid = pid; return nil })
	if err != nil {
		// It has ended with its container already, or its file could not be written: it runs all the same.
		c.logger(keyOf(r)).Warn("exec's pid not recorded", zap.String("exec", string(e.ID)), zap.Error(err))
	}
	return done, nil
}

// pausedMeanwhile is the answer when an exec failed because the container was being paused; nil when it was not.
func (c *Containers) pausedMeanwhile(ctx context.Context, r *state.Container, failure error) (paused error) {
	if failure == nil {
		return nil
	}
	_ = c.asked(ctx, r, func(now *state.Container) error { // behind a pause under way; one that is gone is not paused
		if now.State.Status == state.StatusPaused {
			paused = execable(now, string(now.ID))
		}
		return nil
	})
	return paused
}

// process is what to exec, in the runtime's terms; what the user leaves open is as in the container.
func process(r *state.Container, e execRecord, opts container.ExecStartOptions) runtime.Process {
	p := runtime.Process{
		ExecID: e.ID, Args: e.Options.Cmd, Env: e.Options.Env,
		Dir: orElse(orElse(e.Options.WorkingDir, r.Config.WorkingDir), "/"), User: orElse(e.Options.User, r.Config.User),
		Tty: e.Options.Tty, Privileged: e.Options.Privileged, Stdin: e.Options.AttachStdin && !opts.Detach,
	}
	size := opts.ConsoleSize
	if size == nil {
		size = e.Options.ConsoleSize
	}
	if p.Tty && size != nil {
		p.ConsoleSize = *size
	}
	return p
}

// execFailed records that an exec could not be started.
func (c *Containers) execFailed(e execRecord, code int) {
	_, err := c.execs.change(e.ID, func(e *execRecord) error {
		e.Running, e.ExitCode, e.EndedAt = false, &code, time.Now()
		return nil
	})
	if err != nil {
		c.logger(e.key()).Warn("failed exec not recorded", zap.String("exec", string(e.ID)), zap.Error(err))
	}
}

// endedSoon is how long after a client's streams have ended the exec's own end is waited for while its process is
// still there: a process may close its output and run on, and most that do not are gone within this time.
const endedSoon = 100 * time.Millisecond

// attendExec waits for what ends the client's part. When that is the end of the process, its exit code is known then:
// the client asks for it next.
func (c *Containers) attendExec(ctx context.Context, r *state.Container, e execRecord, done <-chan error) error {
	select {
	case err := <-done:
		if errors.Is(err, runtime.ErrDetached) {
			ctx, cancel := work(ctx)
			defer cancel()
			_, err := c.State.Commit(ctx, tell(r, events.ActionExecDetach, "execID", string(e.ID)))
			return err
		}
		if err != nil && !errors.Is(err, runtime.ErrStdinEnded) {
			return errInternal("exec attach failed: %s", err)
		}
	case <-ctx.Done():
		return nil
	}
	ended := c.execs.ended(e.ID)
	tick := time.NewTicker(endedSoon)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			return nil
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if now, ok := c.execs.get(e.Account, e.ID); !ok || now.Pid == 0 || c.alive(now.Pid) {
				return nil
			}
		}
	}
}

func processExists(pid int) bool {
	_, err := os.Stat(fmt.Sprintf("/proc/%d", pid))
	return err == nil
}

// execEnded takes note of an exec'd process's end.
func (c *Containers) execEnded(ctx context.Context, end runtime.Exit) {
	e, err := c.execs.change(end.ExecID, func(e *execRecord) error {
		e.Running, e.ExitCode, e.EndedAt = false, &end.Code, end.At
		return nil
	})
	if err != nil {
		c.logger(end.Key).Debug("end of an exec that is not known", zap.String("exec", string(end.ExecID)))
	}
	if e.Probe {
		return // told with its result
	}
	r, ok := c.State.View().Container(end.Account, end.ID)
	if !ok {
		return
	}
	ctx, cancel := work(ctx)
	defer cancel()
	_, err = c.State.Commit(ctx, tell(r, events.ActionExecDie, "execID", string(end.ExecID), "exitCode", strconv.Itoa(end.Code)))
	if err != nil {
		c.logger(end.Key).Warn("end of exec not told", zap.String("exec", string(end.ExecID)), zap.Error(err))
	}
}

// ExecResize changes the size of an exec'd process's terminal.
func (c *Containers) ExecResize(ctx context.Context, id string, height, width uint32) error {
	e, _, err := c.exec(ctx, id)
	if err != nil {
		return err
	}
	if err := c.awaitBegun(ctx, e); err != nil {
		return err
	}
	ctx, cancel := work(ctx)
	defer cancel()
	return c.Runtime.ExecResize(ctx, e.key(), e.ID, height, width)
}

// execStartWait is how long a resize waits for its exec to be started, as Docker's does: clients ask for both at once.
const execStartWait = 10 * time.Second

func (c *Containers) awaitBegun(ctx context.Context, e execRecord) error {
	timer := time.NewTimer(execStartWait)
	defer timer.Stop()
	select {
	case <-c.execs.begun(e.ID):
	case <-timer.C:
		return errInternal("timeout waiting for exec session ready")
	case <-ctx.Done():
		return ctx.Err()
	}
	if now, ok := c.execs.get(e.Account, e.ID); !ok || now.Pid == 0 {
		return errInvalid("exec process is not started")
	}
	return nil
}

// ExecInspect shows an exec, one that has ended too while its container is there.
func (c *Containers) ExecInspect(ctx context.Context, id string) (*backend.ExecInspect, error) {
	e, ok := c.execs.get(nereid.AccountFrom(ctx), nereid.ExecID(id))
	if !ok {
		return nil, errNoSuchExec(id)
	}
	r, ok := c.State.View().Container(e.Account, e.Container)
	if !ok {
		return nil, errNoSuchExec(id)
	}
	keys, _ := detachKeys(e.Options.DetachKeys, "")
	if e.Options.DetachKeys == "" {
		keys = []byte{}
	}
	privileged := e.Options.Privileged
	return &backend.ExecInspect{
		ID: string(e.ID), Running: e.Running, ExitCode: e.ExitCode, Pid: e.Pid, ContainerID: string(e.Container),
		OpenStdin: e.Options.AttachStdin, OpenStdout: e.Options.AttachStdout, OpenStderr: e.Options.AttachStderr,
		DetachKeys: keys,
		ProcessConfig: &backend.ExecProcessConfig{
			Tty: e.Options.Tty, Entrypoint: e.Options.Cmd[0], Arguments: e.Options.Cmd[1:],
			Privileged: &privileged, User: orElse(e.Options.User, r.Config.User),
		},
	}, nil
}

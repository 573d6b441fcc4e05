package runtime

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	tasksapi "github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
	"github.com/opencontainers/runtime-spec/specs-go"
	"go.uber.org/zap"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/runtime/spec"
	"github.com/nereid-paas/nereid/runtime/stdio"
)

// execution is a process exec'd in a container, from Exec or adoption until its end is reported.
type execution struct {
	id       nereid.ExecID
	dir      string
	process  Process
	io       *stdio.IO
	pid      int
	reported chan struct{} // closed by the watcher once the Handler was told
}

// Exec starts a process in a running container, attached to streams when they are not nil. It returns once the process
// runs; its end comes through Handler.Exited. With streams, done gets one value when they are drained (nil) or detached
// from (ErrDetached), and is closed. The context bounds the start only: a client that goes away shows in its streams.
// A failure carries runc's words and leaves nothing.
func (r *Runtime) Exec(ctx context.Context, key Key, p Process, s *Streams) (pid int, done <-chan error, retErr error) {
	t, err := r.live(key)
	if err != nil {
		return 0, nil, err
	}
	ctx = inNamespace(ctx, key)
	process, err := r.execProcess(t, p)
	if err != nil {
		return 0, nil, err
	}
	e, err := r.openExec(t, p)
	if err != nil {
		return 0, nil, err
	}
	defer func() {
		if retErr != nil {
			ctx, cancel := cleanupContext(ctx)
			defer cancel()
			retErr = errors.Join(retErr, r.removeExec(ctx, t, e))
			close(e.reported)
		}
	}()
	if s != nil {
		if done, err = r.attachExec(ctx, e, *s); err != nil {
			return 0, nil, err
		}
	}
	if err := r.startExec(ctx, t, e, process); err != nil {
		return 0, nil, err
	}
	r.work.Go(func() { r.watchExec(t, e) })
	return e.pid, done, nil
}

func (r *Runtime) execProcess(t *task, p Process) (*specs.Process, error) {
	in := spec.ExecInput{
		Args: p.Args, Env: p.Env, Dir: p.Dir, Tty: p.Tty, Privileged: p.Privileged, ConsoleSize: p.ConsoleSize,
		Hostname: t.spec.Hostname, LinkEnv: t.spec.LinkEnv, Config: t.spec.Config, Host: r.host,
	}
	if p.User != "" {
		user, err := spec.ResolveUser(r.rootfs.dir(t.Key), p.User, t.spec.HostConfig.GroupAdd)
		if err != nil {
			return nil, err
		}
		in.User = &user
	}
	return spec.ExecProcess(t.process, in), nil
}

func (r *Runtime) openExec(t *task, p Process) (_ *execution, retErr error) {
	e := &execution{id: p.ExecID, dir: r.execDir(t.Key, p.ExecID), process: p, reported: make(chan struct{})}
	if err := os.MkdirAll(filepath.Dir(e.dir), 0o700); err != nil {
		return nil, err
	}
	if err := os.Mkdir(e.dir, 0o700); err != nil {
		return nil, err
	}
	defer func() {
		if retErr != nil {
			retErr = errors.Join(retErr, os.RemoveAll(e.dir))
		}
	}()
	if err := writeRecord(filepath.Join(e.dir, execFile), p); err != nil {
		return nil, err
	}
	if err := r.openExecIO(t, e); err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.execs == nil {
		return nil, errors.Join(errNotRunning(t.Key), e.io.Close())
	}
	t.execs[e.id] = e
	return e, nil
}

// openExecIO: the output of an exec is in no log; without a client it is drained and dropped.
func (r *Runtime) openExecIO(t *task, e *execution) (err error) {
	e.io, err = stdio.Open(stdio.Config{
		Dir: filepath.Join(e.dir, stdioDir), Tty: e.process.Tty, Stdin: e.process.Stdin, StdinOnce: true,
		StdinClosed: func() { r.closeStdin(t, string(e.id)) },
	})
	return err
}

// attachExec returns once the client has joined, before the process can write its first byte.
func (r *Runtime) attachExec(ctx context.Context, e *execution, s Streams) (<-chan error, error) {
	done := make(chan error, 1)
	joined := make(chan struct{})
	r.work.Go(func() {
		done <- e.io.Attach(r.life, stdioStreams(s), func() { close(joined) })
		close(done)
	})
	select {
	case <-joined:
		return done, nil
	case err := <-done:
		return nil, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (r *Runtime) startExec(ctx context.Context, t *task, e *execution, process *specs.Process) error {
	encoded, err := typeurl.MarshalAnyToProto(process)
	if err != nil {
		return err
	}
	stdin, stdout, stderr := e.io.Paths()
	if _, err := r.service.Exec(ctx, &tasksapi.ExecProcessRequest{
		ContainerID: string(t.ID), ExecID: string(e.id), Spec: encoded,
		Stdin: stdin, Stdout: stdout, Stderr: stderr, Terminal: e.process.Tty,
	}); err != nil {
		return native(err)
	}
	resp, err := r.service.Start(ctx, &tasksapi.StartRequest{ContainerID: string(t.ID), ExecID: string(e.id)})
	if err != nil {
		return native(err)
	}
	e.pid = int(resp.Pid)
	e.io.Started()
	return nil
}

func (r *Runtime) watchExec(t *task, e *execution) {
	exit, ok := r.await(t, string(e.id))
	if !ok {
		return
	}
	r.concludeExec(t, e, exit)
}

// concludeExec reports the end of an exec'd process and forgets it.
func (r *Runtime) concludeExec(t *task, e *execution, exit Exit) {
	defer close(e.reported)
	exit.ExecID = e.id
	r.awaitDrained(e.io)
	r.reportExit(t, exit)
	if r.life.Err() != nil {
		return
	}
	// Before the shim is asked to forget the process: it waits for whoever holds the output open, and the clients need not.
	if err := e.io.Close(); err != nil {
		r.log.Warn("streams of exec not closed", zap.String("container", string(t.ID)), zap.String("exec", string(e.id)), zap.Error(err))
	}
	ctx, cancel := cleanupContext(inNamespace(r.life, t.Key))
	defer cancel()
	if err := r.removeExec(ctx, t, e); err != nil {
		r.log.Warn("exec not removed", zap.String("container", string(t.ID)), zap.String("exec", string(e.id)), zap.Error(err))
	}
}

func (r *Runtime) removeExec(ctx context.Context, t *task, e *execution) error {
	_, err := r.service.DeleteProcess(ctx, &tasksapi.DeleteProcessRequest{ContainerID: string(t.ID), ExecID: string(e.id)})
	if err = native(err); errdefs.IsNotFound(err) {
		err = nil
	}
	t.mu.Lock()
	delete(t.execs, e.id)
	t.mu.Unlock()
	return errors.Join(err, e.io.Close(), os.RemoveAll(e.dir))
}

func (r *Runtime) exec(key Key, id nereid.ExecID) (*execution, error) {
	t, err := r.task(key)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	e, ok := t.execs[id]
	if !ok {
		return nil, errdefs.ErrNotFound.WithMessage("exec " + string(id) + " is not running")
	}
	return e, nil
}

// ExecResize sets the size of an exec'd process's terminal.
func (r *Runtime) ExecResize(ctx context.Context, key Key, id nereid.ExecID, height, width uint32) error {
	if _, err := r.exec(key, id); err != nil {
		return err
	}
	return r.resize(inNamespace(ctx, key), key, string(id), height, width)
}

// ExecKill signals an exec'd process.
func (r *Runtime) ExecKill(ctx context.Context, key Key, id nereid.ExecID, signal int) error {
	if _, err := r.exec(key, id); err != nil {
		return err
	}
	_, err := r.service.Kill(inNamespace(ctx, key), &tasksapi.KillRequest{
		ContainerID: string(key.ID), ExecID: string(id), Signal: uint32(signal),
	})
	return native(err)
}

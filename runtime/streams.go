package runtime

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"slices"

	tasksapi "github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/backend"
	"go.uber.org/zap"

	"github.com/nereid-paas/nereid/pkg/logs"
	"github.com/nereid-paas/nereid/runtime/stdio"
)

// ErrDetached ends an Attach whose client typed the detach keys.
var ErrDetached = stdio.ErrDetached

// ErrStdinEnded ends an Attach whose client's stdin has ended, unless that closes the container's.
var ErrStdinEnded = stdio.ErrStdinEnded

// gate holds the clients that attached before their container has a task, and the terminal size they asked for.
type gate struct {
	waiting []*waiter
	size    *[2]uint32
}

type waiter struct {
	task   chan *task    // room for one: the task to join
	joined chan struct{} // closed once joined, or gone
}

// Attach joins the container's live stdio and blocks until the container ends, the context ends, the client detaches
// (ErrDetached) or its stdin ends (ErrStdinEnded). It may be called before CreateTask: ready is called once joined, and nothing the process writes from its
// first byte on is missed. Output of a slow client holds the container back, as Docker's does.
func (r *Runtime) Attach(ctx context.Context, key Key, s Streams, ready func()) error {
	t, w := r.join(key)
	if t != nil {
		return t.io.Attach(ctx, stdioStreams(s), ready)
	}
	defer r.leave(key, w)
	ready()
	select {
	case t := <-w.task:
		return t.io.Attach(ctx, stdioStreams(s), func() { close(w.joined) })
	case <-ctx.Done():
		return ctx.Err()
	case <-r.life.Done():
		return r.life.Err()
	}
}

// join returns the live task, or else a place to wait for the next one.
func (r *Runtime) join(key Key) (*task, *waiter) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t, ok := r.tasks[key]; ok && t.io != nil && t.ended() == nil {
		return t, nil
	}
	g, ok := r.gates[key]
	if !ok {
		g = &gate{}
		r.gates[key] = g
	}
	w := &waiter{task: make(chan *task, 1), joined: make(chan struct{})}
	g.waiting = append(g.waiting, w)
	return nil, w
}

func (r *Runtime) leave(key Key, w *waiter) {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-w.joined:
	default:
		close(w.joined)
	}
	g, ok := r.gates[key]
	if !ok {
		return
	}
	g.waiting = slices.DeleteFunc(g.waiting, func(o *waiter) bool { return o == w })
	if len(g.waiting) == 0 {
		delete(r.gates, key)
	}
}

// admit lets the waiting clients in and returns once each has joined or gone.
func (r *Runtime) admit(ctx context.Context, t *task) error {
	r.mu.Lock()
	g := r.gates[t.Key]
	delete(r.gates, t.Key)
	r.mu.Unlock()
	if g == nil {
		return nil
	}
	t.size = g.size
	for _, w := range g.waiting {
		w.task <- t
	}
	for _, w := range g.waiting {
		select {
		case <-w.joined:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// rememberSize keeps a terminal size for a task that clients wait for; false when there is no such.
func (r *Runtime) rememberSize(key Key, height, width uint32) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	g, ok := r.gates[key]
	if ok {
		g.size = &[2]uint32{height, width}
	}
	return ok
}

// openLog is one of logs.OpenFor and logs.Reopen.
type openLog func(info logs.Info, driver, path string, opts map[string]string) (logs.Writer, error)

// openStdio opens the log and the FIFOs of a container, made anew or left by a runtime before.
func (r *Runtime) openStdio(t *task, open openLog) error {
	c, err := t.spec.Config, error(nil)
	if t.log, err = open(logInfo(t.spec), t.spec.Log.Driver, t.spec.Log.Path, t.spec.Log.Options); err != nil {
		return fmt.Errorf("failed to initialize logging driver: %w", err)
	}
	t.io, err = stdio.Open(stdio.Config{
		Dir: filepath.Join(t.dir, stdioDir), Tty: c.Tty, Stdin: c.OpenStdin, StdinOnce: c.StdinOnce, Log: t.log,
		StdinClosed: func() { r.closeStdin(t, "") },
		Warn: func(err error) {
			r.log.Warn("log not written", zap.String("container", string(t.ID)), zap.Error(err))
		},
	})
	if err != nil {
		return fmt.Errorf("open stdio of container %s: %w", t.ID, err)
	}
	return nil
}

func logInfo(s Spec) logs.Info {
	return logs.Info{
		ContainerID: string(s.ID), ContainerName: s.Name, ContainerEntrypoint: s.Path, ContainerArgs: s.Args,
		ContainerImageID: s.ImageID, ContainerImageName: s.ImageName, ContainerCreated: s.Created, ContainerEnv: s.Config.Env, ContainerLabels: s.Config.Labels,
		LogPath: s.Log.Path, DaemonName: "docker",
	}
}

// closeStdin has the shim close its own end of an input, behind which the process sees the end.
func (r *Runtime) closeStdin(t *task, execID string) {
	ctx, cancel := cleanupContext(inNamespace(r.life, t.Key))
	defer cancel()
	_, err := r.service.CloseIO(ctx, &tasksapi.CloseIORequest{ContainerID: string(t.ID), ExecID: execID, Stdin: true})
	if err = native(err); err != nil && !errdefs.IsNotFound(err) {
		r.log.Warn("stdin not closed", zap.String("container", string(t.ID)), zap.Error(err))
	}
}

// closeStdio lets the last output into the log and removes FIFOs and journals.
func (r *Runtime) closeStdio(t *task) error {
	t.mu.Lock()
	execs := t.execs
	t.execs = nil
	t.mu.Unlock()
	var errs []error
	for _, e := range execs {
		errs = append(errs, e.io.Close())
	}
	if t.io != nil {
		t.io.Started() // the shim is gone: nobody will write any more
		r.awaitDrained(t.io)
		errs = append(errs, t.io.Close())
	}
	if t.log != nil {
		errs = append(errs, t.log.Close())
	}
	return errors.Join(errs...)
}

func stdioStreams(s Streams) stdio.Streams {
	return stdio.Streams{Stdin: s.Stdin, Stdout: s.Stdout, Stderr: s.Stderr, DetachKeys: s.DetachKeys, CloseStdin: s.CloseStdin}
}

// Logs reads a container's log, running or not. It follows the log across rotation until the container ends; that of a
// container that does not run has ended already, as Docker's has.
func (r *Runtime) Logs(ctx context.Context, key Key, cfg LogConfig, opts LogOptions) iter.Seq2[*backend.LogMessage, error] {
	return logs.Read(ctx, cfg.Driver, cfg.Path, cfg.Options, logs.ReadOptions{
		Since: opts.Since, Until: opts.Until, Tail: opts.Tail, Follow: opts.Follow,
		Stdout: opts.Stdout, Stderr: opts.Stderr, Details: opts.Details, Done: r.ended(key),
	})
}

// ended is closed once a container's process has ended and its output is in the log, and when there is no task.
func (r *Runtime) ended(key Key) <-chan struct{} {
	if t, err := r.task(key); err == nil {
		return t.exited
	}
	none := make(chan struct{})
	close(none)
	return none
}

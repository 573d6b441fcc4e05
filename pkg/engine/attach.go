package engine

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/docker/docker/api/types/backend"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/pkg/stdcopy"
	"github.com/moby/term"
	"go.uber.org/zap"

	"github.com/nereid-paas/nereid/pkg/state"
	"github.com/nereid-paas/nereid/runtime"
)

// Attach joins a client to a container's standard streams, or shows it the log, or both: first what was written, then
// what is being written, with nothing left out or shown twice between them. A container that does not run yet may be
// attached to: its first byte is not missed.
func (c *Containers) Attach(ctx context.Context, ref string, cfg *backend.ContainerAttachConfig) error {
	keys, err := detachKeys(cfg.DetachKeys, "Invalid detach keys (%s) provided")
	if err != nil {
		return err
	}
	r, err := c.find(ctx, ref)
	if err != nil {
		return err
	}
	switch r.State.Status {
	case state.StatusPaused:
		return errConflict("container %s is paused, unpause the container before attach", ref)
	case state.StatusRestarting:
		return errConflict("container %s is restarting, wait until the container is running", ref)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a := &attachment{c: c, r: r, cfg: cfg, keys: keys, hangup: cancel, ended: make(chan struct{}), inputRead: make(chan struct{})}
	if !cfg.Stream {
		return a.logOnly(ctx)
	}
	return a.stream(ctx)
}

// detachKeys reads the keys that end an attachment; none given are Docker's.
func detachKeys(given, complaint string) ([]byte, error) {
	if given == "" {
		return []byte{16, 17}, nil // ctrl-p, ctrl-q
	}
	keys, err := term.ToBytes(given)
	if err != nil {
		return nil, errInvalid(complaint, given)
	}
	return keys, nil
}

// attachment is one client's.
type attachment struct {
	c      *Containers
	r      *state.Container
	cfg    *backend.ContainerAttachConfig
	keys   []byte
	hangup context.CancelFunc
	ended  chan struct{} // closed when the end of the run is stored, or the container has gone

	inputOnce sync.Once
	inputRead chan struct{} // closed when what the client sent has been read to its end

	stdin          io.ReadCloser
	stdout, stderr io.Writer // nil: not wanted
}

// open has the handler take the connection over; from here on errors go to the client as output.
func (a *attachment) open(ctx context.Context) error {
	mux := !a.r.Config.Tty && a.cfg.MuxStreams
	in, out, errOut, err := a.cfg.GetStreams(mux, func() { a.clientGone(ctx) })
	if err != nil {
		return err
	}
	if mux {
		out, errOut = stdcopy.NewStdWriter(out, stdcopy.Stdout), stdcopy.NewStdWriter(errOut, stdcopy.Stderr)
	}
	a.stdin = in
	if a.cfg.UseStdout {
		a.stdout = out
	}
	if a.cfg.UseStderr {
		a.stderr = errOut
	}
	return nil
}

// inputKept is how long the input of a client that has gone waits for the container to start.
const inputKept = 30 * time.Second

// clientGone ends the attachment, once the process has what the client sent: who has nothing to read may send and go
// before the start.
func (a *attachment) clientGone(ctx context.Context) {
	defer a.hangup()
	if !a.takesInput() {
		return
	}
	late := time.NewTimer(inputKept)
	defer late.Stop()
	select {
	case <-a.inputRead:
	case <-late.C:
	case <-ctx.Done():
	}
}

func (a *attachment) takesInput() bool { return a.cfg.UseStdin && a.r.Config.OpenStdin }

func (a *attachment) close() {
	if a.stdin != nil {
		a.stdin.Close()
	}
}

func (a *attachment) logOnly(ctx context.Context) error {
	if err := a.open(ctx); err != nil {
		return err
	}
	defer a.close()
	if a.cfg.Logs {
		if err := a.showLog(ctx, time.Time{}); err != nil {
			return err
		}
	}
	a.tell(ctx, events.ActionAttach)
	return nil
}

// showLog writes what the log has up to a moment; the zero moment is now.
func (a *attachment) showLog(ctx context.Context, until time.Time) error {
	msgs, err := a.c.readLog(ctx, a.r, runtime.LogOptions{
		Until: until, Tail: -1, Stdout: a.stdout != nil, Stderr: a.stderr != nil,
	})
	if err != nil {
		return err
	}
	for m, err := range msgs {
		if err != nil {
			a.c.logger(keyOf(a.r)).Warn("log not shown to the end", zap.Error(err))
			return nil
		}
		to := a.stdout
		if m.Source == "stderr" {
			to = a.stderr
		}
		if to == nil {
			continue
		}
		if _, err := to.Write(m.Line); err != nil {
			return nil // the client has gone
		}
	}
	return nil
}

// stream joins the live streams before the client is told that it is attached, so that what the container writes once
// the client has its answer is not missed. Until the client's connection is there the container is held back.
func (a *attachment) stream(ctx context.Context) error {
	gate := newGate()
	defer gate.fail()
	s := runtime.Streams{Tty: a.r.Config.Tty, DetachKeys: a.keys, CloseStdin: a.r.Config.StdinOnce}
	if a.takesInput() {
		s.Stdin = gatedReader{gate, a}
	}
	if a.cfg.UseStdout {
		s.Stdout = gatedWriter{gate, func() io.Writer { return a.stdout }}
	}
	if a.cfg.UseStderr && !s.Tty {
		s.Stderr = gatedWriter{gate, func() io.Writer { return a.stderr }}
	}
	joined := make(chan time.Time, 1)
	done := make(chan error, 1)
	go func() { done <- a.c.Runtime.Attach(ctx, keyOf(a.r), s, func() { joined <- time.Now() }) }()
	go a.endWithRun(ctx)
	select {
	case at := <-joined:
		return a.joined(ctx, gate, at, done)
	case err := <-done:
		return err
	}
}

// attachLinger is how long after the end of a run its attachments may take to show the rest of its output.
const attachLinger = 2 * time.Second

// endWithRun ends the attachment after the run that it is for, or when the container goes: one that came just too late
// for a run must not wait for the next.
func (a *attachment) endWithRun(ctx context.Context) {
	_, err := a.c.State.View().WaitContainer(ctx, a.r.Account, a.r.ID, func(now *state.Container) bool {
		return now == nil || now.Exits > a.r.Exits
	})
	if err != nil {
		return
	}
	close(a.ended)
	linger := time.NewTimer(attachLinger)
	defer linger.Stop()
	select {
	case <-linger.C:
		a.hangup()
	case <-ctx.Done():
	}
}

// joined answers the client, shows it the log up to the moment of joining, and lets the live streams flow.
func (a *attachment) joined(ctx context.Context, gate *gate, at time.Time, done <-chan error) error {
	if err := a.open(ctx); err != nil {
		a.hangup()
		gate.fail()
		<-done
		return err
	}
	defer a.close()
	if a.cfg.Logs {
		if err := a.showLog(ctx, at); err != nil {
			a.hangup()
			gate.fail()
			<-done
			return err
		}
	}
	a.tell(ctx, events.ActionAttach)
	gate.open()
	err := <-done
	if errors.Is(err, runtime.ErrDetached) {
		a.tell(ctx, events.ActionDetach)
		return nil
	}
	if errors.Is(err, runtime.ErrStdinEnded) {
		return nil
	}
	if err != nil && ctx.Err() == nil {
		a.c.logger(keyOf(a.r)).Warn("attach failed", zap.Error(err))
	}
	if err == nil && (a.cfg.UseStdout || a.cfg.UseStderr) {
		a.waitEnded(ctx)
	}
	return nil
}

// waitEnded keeps output that has ended open until the end of the run is stored: who has read all may ask for the exit
// code, or remove the network. A start that failed has no end; it is over when the container's lock is free.
func (a *attachment) waitEnded(ctx context.Context) {
	over := make(chan struct{})
	go func() {
		running := false
		_ = a.c.locked(ctx, a.r, func(now *state.Container) error {
			running = up(now)
			return nil
		})
		if !running {
			close(over)
		}
	}()
	select {
	case <-a.ended:
	case <-over:
	case <-ctx.Done():
	}
}

// tell emits an event of the container; one that cannot be written must not end the attachment.
func (a *attachment) tell(ctx context.Context, action events.Action) {
	ctx, cancel := work(ctx)
	defer cancel()
	if _, err := a.c.State.Commit(ctx, tell(a.r, action)); err != nil {
		a.c.logger(keyOf(a.r)).Warn("event not recorded", zap.String("action", string(action)), zap.Error(err))
	}
}

// gate holds streams back until it opens, or ends them when it fails. Whichever comes first counts.
type gate struct {
	once   sync.Once
	opened bool
	done   chan struct{} // closed by open or fail
}

func newGate() *gate { return &gate{done: make(chan struct{})} }

func (g *gate) open() { g.once.Do(func() { g.opened = true; close(g.done) }) }
func (g *gate) fail() { g.once.Do(func() { close(g.done) }) }

// pass blocks until the gate is decided.
func (g *gate) pass() error {
	<-g.done
	if !g.opened {
		return io.ErrClosedPipe
	}
	return nil
}

type gatedWriter struct {
	gate *gate
	to   func() io.Writer
}

func (w gatedWriter) Write(p []byte) (int, error) {
	if err := w.gate.pass(); err != nil {
		return 0, err
	}
	return w.to().Write(p)
}

type gatedReader struct {
	gate *gate
	a    *attachment
}

func (r gatedReader) Read(p []byte) (int, error) {
	n, err := 0, io.EOF
	if r.gate.pass() == nil {
		n, err = r.a.stdin.Read(p)
	}
	if err != nil {
		r.a.inputOnce.Do(func() { close(r.a.inputRead) })
	}
	return n, err
}

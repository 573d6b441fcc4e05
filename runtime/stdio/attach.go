package stdio

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"sync/atomic"
)

// Streams of a client. Nil ones are not wanted.
type Streams struct {
	// Stdin is copied to the process. Attach does not close it, nor wait for a Read under way when it returns: close
	// it then, or the goroutine that reads stays. What such a Read still gets is thrown away.
	Stdin          io.Reader
	Stdout, Stderr io.Writer // with a tty only Stdout gets anything
	// DetachKeys end the attachment when they are read on stdin, with a tty only, as Docker's do. Empty: ctrl-p ctrl-q.
	DetachKeys []byte
	// CloseStdin closes the process's stdin when Stdin ends. Without it, and with a tty, the attachment ends then.
	CloseStdin bool
}

// Attach joins a client to the process, which need not exist yet, and blocks until all outputs that it wants have
// ended and were written to it (nil), its stdin has ended and that is to end it ([ErrStdinEnded]), it detached
// ([ErrDetached]), the context ended (its error), a writer failed (its error) or the intake was stopped ([ErrStopped]).
// Ready, which may be nil, is called once the client has joined: it gets every byte that is taken in from then on, once.
// A client that is more than a megabyte behind holds the process back, until it catches up or is gone.
func (o *IO) Attach(ctx context.Context, s Streams, ready func()) error {
	c := newClient(s.Stdout != nil, s.Stderr != nil)
	if err := o.hub.join(c); err != nil {
		return err
	}
	defer o.hub.leave(c)
	defer context.AfterFunc(ctx, c.leave)() // also when a Write of ours does not return
	if ready != nil {
		ready()
	}
	a := &attachment{io: o, client: c, streams: s, stdinDone: make(chan error, 1)}
	defer a.left.Store(true)
	if s.Stdin == nil {
		if s.Stdout == nil && s.Stderr == nil {
			return nil
		}
		return a.run(ctx)
	}
	if err := o.markAttached(); err != nil {
		return err
	}
	go func() { a.stdinDone <- a.copyStdin() }()
	return a.run(ctx)
}

// markAttached notes for a later daemon that a client had the process's stdin.
func (o *IO) markAttached() error {
	if !o.cfg.StdinOnce || o.stdin == nil {
		return nil
	}
	f, err := os.OpenFile(o.path(attachedMark), os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// attachment is one client's Attach.
type attachment struct {
	io        *IO
	client    *client
	streams   Streams
	runs      []run
	stdinDone chan error  // holds the one answer of copyStdin: nil or ErrDetached
	left      atomic.Bool // Attach has returned
}

func (a *attachment) run(ctx context.Context) error {
	for {
		over, err := a.copyQueued()
		if over || err != nil {
			return err
		}
		select {
		case <-a.client.wake:
		case <-ctx.Done():
			return ctx.Err()
		case err := <-a.stdinDone:
			if err != nil || !a.outlivesStdin() {
				_, werr := a.copyQueued()
				return cmp.Or(err, werr, ErrStdinEnded)
			}
		}
	}
}

// copyQueued writes to the client what is queued for it, and tells whether nothing will follow, and why.
func (a *attachment) copyQueued() (over bool, err error) {
	for {
		var data []byte
		data, a.runs, over, err = a.client.take(a.runs)
		if data == nil {
			return over, err
		}
		from := 0
		for _, r := range a.runs {
			if _, err := a.writer(r.stream).Write(data[from:r.end]); err != nil {
				return false, fmt.Errorf("write to attached client: %w", err)
			}
			from = r.end
		}
	}
}

func (a *attachment) writer(s stream) io.Writer {
	if s == streamErr {
		return a.streams.Stderr
	}
	return a.streams.Stdout
}

// outlivesStdin says that the client stays attached when its stdin has ended.
func (a *attachment) outlivesStdin() bool { return a.streams.CloseStdin && !a.io.cfg.Tty }

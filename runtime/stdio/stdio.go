// Package stdio carries what containers read and write: it takes their output in from FIFOs through a journal that a
// killed daemon loses no byte of, writes it to their logs, and joins clients to it.
package stdio

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/nereid-paas/nereid/pkg/logs"
)

// ErrDetached is what Attach returns when the client typed its detach keys.
var ErrDetached = errors.New("stdio: client detached")

// ErrStdinEnded is what Attach returns when the client's stdin has ended and that is to end it: the process lives on.
var ErrStdinEnded = errors.New("stdio: client's stdin ended")

// ErrStopped is what Attach returns when the intake was stopped with Detach: the process may well live on.
var ErrStopped = errors.New("stdio: intake stopped")

// Config of the stdio of one process.
type Config struct {
	// Dir holds the FIFOs and their journals, best on a tmpfs. It is made when it is not there. One process, one Dir.
	Dir string
	Tty bool // output is one stream, stdout
	// Stdin gives the process a stdin.
	Stdin bool
	// StdinOnce closes the process's stdin when a client was attached to it and the daemon died: the client went
	// with it. (A client that ends while the daemon lives says so itself, with Streams.CloseStdin.)
	StdinOnce bool
	// Log gets the output; nil: nobody does, but attached clients, and there is no journal. It stays the caller's, to
	// be closed after Close or Detach.
	Log logs.Writer
	// StdinClosed is called once when the process's stdin is closed, by CloseStdin or by a client, but not before
	// Started. The shim keeps a writer of its own, so that a daemon that stops does not end the process's input:
	// this is where it is told to close that (CloseIO). It may block. Nil: nobody is told.
	StdinClosed func()
	// Warn is told what went wrong with the log, once until it goes well again. Nil: nobody is told.
	Warn func(error)
}

// IO is the stdio of one process. All methods may be called at once.
type IO struct {
	cfg     Config
	outputs []*intake
	stdin   *stdin // nil: the process has none
	hub     *hub
	drained chan struct{} // closed when every output has ended and is in the log
	running sync.WaitGroup

	startOnce sync.Once
	stopOnce  sync.Once
}

// Open makes the FIFOs of a process, or opens again those that are there, completes what a daemon that died left
// half done, and starts the intake. The process need not exist: until Started is called, no end of output is seen. A
// failure leaves what it found.
//
// After a crash, Open and Started are called also for a process that has ended meanwhile: journal and FIFO may still
// hold output of it. Open goes first, before anything that may make its shim let go of the FIFOs (a containerd that
// starts cleans up after ended tasks).
func Open(cfg Config) (_ *IO, retErr error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	io := &IO{cfg: cfg, hub: newHub(), drained: make(chan struct{})}
	fresh := !exists(io.path(stdout))
	defer func() {
		if retErr == nil {
			return
		}
		io.release()
		if fresh {
			_ = io.remove()
		}
	}()
	if fresh {
		// What is there was left by a Close that was cut off, of another process.
		if err := io.remove(); err != nil {
			return nil, err
		}
		if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
			return nil, err
		}
	}
	if err := io.openStdin(); err != nil {
		return nil, err
	}
	if err := io.openOutputs(); err != nil {
		return nil, err
	}
	io.run()
	return io, nil
}

func (io *IO) openOutputs() error {
	names := []string{stdout}
	if !io.cfg.Tty {
		names = append(names, stderr)
	}
	for i, name := range names {
		in, err := openIntake(io, stream(i), name)
		if err != nil {
			return fmt.Errorf("open %s of %q: %w", name, io.cfg.Dir, err)
		}
		io.outputs = append(io.outputs, in)
	}
	io.hub.expect(len(names))
	// At most one of the streams was writing to the log when a daemon died. That is made good before either goes on.
	for _, in := range io.outputs {
		if err := in.recover(); err != nil {
			return fmt.Errorf("recover %s of %q: %w", in.name, io.cfg.Dir, err)
		}
	}
	return nil
}

// run starts an intake for each output; Close and Detach end them.
func (io *IO) run() {
	io.running.Add(len(io.outputs))
	for _, in := range io.outputs {
		go func() {
			defer io.running.Done()
			if in.run() && io.hub.end(in.stream) {
				close(io.drained)
			}
		}()
	}
}

// Paths of the FIFOs, for the shim; empty for those the process does not have.
func (io *IO) Paths() (in, out, err string) {
	if io.stdin != nil {
		in = io.path(stdinName)
	}
	out = io.path(stdout)
	if !io.cfg.Tty {
		err = io.path(stderr)
	}
	return in, out, err
}

func (io *IO) path(name string) string { return filepath.Join(io.cfg.Dir, name) }

// Started says that the shim has opened its ends of the FIFOs, or is gone: from now on an output nobody writes to has
// ended. For a container that is when its task is created, for an exec'd process when it is started. Calling it
// again does nothing.
func (io *IO) Started() {
	io.startOnce.Do(func() {
		for _, in := range io.outputs {
			in.dropHold()
		}
		if io.stdin != nil {
			io.stdin.started()
		}
	})
}

// Drained is closed when every output has ended and is in the log, and with the attached clients as far as they took
// it. It is closed by Close too, but not by Detach. A process that left children behind keeps its output open through
// them: bound the wait, then Close.
func (io *IO) Drained() <-chan struct{} { return io.drained }

// CloseStdin ends the process's input, behind what clients have sent. The process having none is no error.
func (io *IO) CloseStdin() error {
	if io.stdin == nil {
		return nil
	}
	return io.stdin.close()
}

// Close takes what is in the FIFOs now, ends clients and log with it, and removes FIFOs and journals. When it returns
// nothing is written to the log any more. Calling it again does nothing.
func (io *IO) Close() error {
	var err error
	io.stopOnce.Do(func() {
		io.stop(false)
		err = io.remove()
	})
	return err
}

// Detach stops the intake and leaves everything on disk, for a daemon that stops while the process goes on: Open takes
// it up again. Attached clients get ErrStopped. Output that is not in the log then stands in the journal or the FIFO.
// After it, Close does nothing.
func (io *IO) Detach() {
	io.stopOnce.Do(func() { io.stop(true) })
}

func (io *IO) stop(leave bool) {
	io.hub.stop(leave)
	for _, in := range io.outputs {
		in.stop(leave)
	}
	io.running.Wait()
	io.release()
}

// release closes what is open; it removes nothing.
func (io *IO) release() {
	for _, in := range io.outputs {
		in.release()
	}
	if io.stdin != nil {
		io.stdin.release()
	}
}

// remove removes the files, in an order that a later Open understands wherever it is cut off: without the FIFO of
// stdout there is no process, with it and without that of stdin the stdin was closed.
func (io *IO) remove() error {
	var errs []error
	for _, name := range []string{journalName(stdout), journalName(stderr), attachedMark, stdout, stderr, stdinName} {
		errs = append(errs, ignoreMissing(os.Remove(io.path(name))))
	}
	_ = os.Remove(io.cfg.Dir) // stays when there is anything else in it
	return errors.Join(errs...)
}

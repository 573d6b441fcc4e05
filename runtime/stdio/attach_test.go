package stdio_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/runtime/stdio"
)

// stuckWriter is a client that does not read, until it is released.
type stuckWriter struct {
	release chan struct{}
	got     atomic.Int64
}

func (s *stuckWriter) Write(p []byte) (int, error) {
	<-s.release
	s.got.Add(int64(len(p)))
	return len(p), nil
}

// pump writes to the process's output until it is closed, and counts.
func pump(s *shim) *atomic.Int64 {
	var n atomic.Int64
	go func() {
		chunk := []byte(strings.Repeat(strings.Repeat("x", 63)+"\n", 64))
		for {
			k, err := s.out.Write(chunk)
			n.Add(int64(k))
			if err != nil {
				return
			}
		}
	}()
	return &n
}

// heldBack is less than what a client that does not read lets through.
const heldBack = 1 << 20

// stalled waits until the count has come as far as it must and stands still, and gives it. That it stands still for a
// moment says nothing: on a busy machine nobody may have had his turn.
func stalled(t *testing.T, n *atomic.Int64) int64 {
	t.Helper()
	until(t, "as much output as is taken in", func() bool { return n.Load() > heldBack })
	last, still := int64(-1), 0
	for end := time.Now().Add(soon); time.Now().Before(end); {
		if now := n.Load(); now != last {
			last, still = now, 0
		} else if still++; still == 10 {
			return now
		}
		<-time.After(30 * time.Millisecond)
	}
	t.Fatal("nothing holds the process back")
	return 0
}

func TestSlowClientHoldsBackWithinBounds(t *testing.T) {
	o := open(t, stdio.Config{})
	slow := &stuckWriter{release: make(chan struct{})}
	client := attach(t, t.Context(), o, stdio.Streams{Stdout: slow})
	s := startShim(t, o)
	o.Started()
	n := pump(s)
	at := stalled(t, n)
	assert.Assert(t, at > heldBack && at < 3<<20, "held back after %d bytes", at)
	close(slow.release) // it reads again: all goes on, and it has got all
	until(t, "more output", func() bool { return n.Load() > 2*at })
	s.exit()
	assert.NilError(t, receive(t, client, "client"))
	assert.Assert(t, slow.got.Load() >= n.Load()-4096, "%d of %d", slow.got.Load(), n.Load())
}

func TestClientThatLeftHoldsNothingBack(t *testing.T) {
	o := open(t, stdio.Config{})
	slow := &stuckWriter{release: make(chan struct{})}
	defer close(slow.release)
	ctx, cancel := context.WithCancel(t.Context())
	attach(t, ctx, o, stdio.Streams{Stdout: slow})
	s := startShim(t, o)
	o.Started()
	n := pump(s)
	at := stalled(t, n)
	cancel() // its Write does not return all the same
	until(t, "more output", func() bool { return n.Load() > 2*at })
	s.exit()
	receive(t, o.Drained(), "drained")
}

func TestCloseDoesNotWaitForASlowClient(t *testing.T) {
	o := open(t, stdio.Config{})
	slow := &stuckWriter{release: make(chan struct{})}
	client := attach(t, t.Context(), o, stdio.Streams{Stdout: slow})
	s := startShim(t, o)
	o.Started()
	n := pump(s)
	stalled(t, n)
	assert.NilError(t, o.Close())
	receive(t, o.Drained(), "drained")
	close(slow.release)
	assert.NilError(t, receive(t, client, "client")) // with all that was taken in
}

// Clients that join while output flows get a run of it without a gap and without anything twice.
func TestJoinsAreAtomic(t *testing.T) {
	o := open(t, stdio.Config{})
	s := startShim(t, o)
	o.Started()
	stop := make(chan struct{})
	go func() {
		defer s.exit()
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
				fmt.Fprintf(s.out, "%d\n", n)
			}
		}
	}()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			var b buffer
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- o.Attach(ctx, stdio.Streams{Stdout: &b}, nil) }()
			for len(b.String()) < 10000 {
				<-time.After(time.Millisecond)
			}
			cancel()
			<-done
			lines := strings.Split(b.String(), "\n")
			first := 0
			fmt.Sscan(lines[1], &first)
			for i, l := range lines[1 : len(lines)-1] {
				if l != fmt.Sprint(first+i) {
					t.Errorf("%q instead of %d", l, first+i)
					return
				}
			}
		})
	}
	wg.Wait()
	close(stop)
	receive(t, o.Drained(), "drained")
}

func TestStdinEndsAnAttachmentThatDoesNotCloseIt(t *testing.T) {
	o := open(t, stdio.Config{Stdin: true, StdinClosed: func() { t.Error("closed") }})
	s := startShim(t, o)
	o.Started()
	client := attach(t, t.Context(), o, stdio.Streams{Stdin: strings.NewReader("x"), Stdout: io.Discard})
	assert.Assert(t, errors.Is(receive(t, client, "client"), stdio.ErrStdinEnded))
	b := make([]byte, 2)
	n, err := s.in.Read(b)
	assert.NilError(t, err)
	assert.Equal(t, n, 1)
}

// A process that does not read its stdin does not keep its client, and its own end ends both.
func TestStdinThatNobodyReads(t *testing.T) {
	o := open(t, stdio.Config{Stdin: true})
	s := startShim(t, o)
	o.Started()
	r, w := io.Pipe()
	client := attach(t, t.Context(), o, stdio.Streams{Stdin: r, Stdout: io.Discard, CloseStdin: true})
	go func() {
		for {
			if _, err := w.Write(make([]byte, 4096)); err != nil {
				return
			}
		}
	}()
	s.exit()
	assert.NilError(t, receive(t, client, "client"))
	r.Close()
}

func TestWriterErrorEndsTheAttachment(t *testing.T) {
	o := open(t, stdio.Config{})
	s := startShim(t, o)
	o.Started()
	_, w := io.Pipe()
	broken := errors.New("broken")
	w.CloseWithError(broken)
	r, pw := io.Pipe()
	r.CloseWithError(broken)
	client := attach(t, t.Context(), o, stdio.Streams{Stdout: pw})
	fmt.Fprint(s.out, "x")
	assert.Assert(t, errors.Is(receive(t, client, "client"), broken))
}

func TestDetachLeavesAllForTheNextDaemon(t *testing.T) {
	dir, log := filepath.Join(t.TempDir(), "io"), filepath.Join(t.TempDir(), "log")
	cfg := stdio.Config{Dir: dir, Stdin: true, Log: openLog(t, log)}
	o := open(t, cfg)
	s := startShim(t, o)
	o.Started()
	var b buffer
	client := attach(t, t.Context(), o, stdio.Streams{Stdout: &b})
	fmt.Fprint(s.out, "unfin")
	until(t, "output", func() bool { return b.String() == "unfin" })
	o.Detach()
	assert.Assert(t, errors.Is(receive(t, client, "client"), stdio.ErrStopped))
	assert.Assert(t, errors.Is(o.Attach(t.Context(), stdio.Streams{Stdout: &b}, nil), stdio.ErrStopped))
	assert.NilError(t, o.Close())
	fmt.Fprint(s.out, "ished\nnext")
	assert.Equal(t, readLog(t, log), "")

	o = open(t, cfg)
	o.Started()
	s.exit()
	receive(t, o.Drained(), "drained")
	assert.Equal(t, readLog(t, log), "unfinished\nnext")
}

// The process ended and its FIFOs with it while no daemon was there; the journal still has output.
func TestProcessEndedWhileNoDaemonWasThere(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	cfg := stdio.Config{Dir: filepath.Join(t.TempDir(), "io"), Log: openLog(t, log)}
	o := open(t, cfg)
	s := startShim(t, o)
	o.Started()
	var b buffer
	attach(t, t.Context(), o, stdio.Streams{Stdout: &b})
	fmt.Fprint(s.out, "last words")
	until(t, "output", func() bool { return b.String() != "" })
	o.Detach()
	s.exit()
	o = open(t, cfg)
	o.Started()
	receive(t, o.Drained(), "drained")
	assert.Equal(t, readLog(t, log), "last words")
}

func TestStdinAfterARestart(t *testing.T) {
	for _, tc := range []struct {
		name     string
		once     bool
		attached bool
		closed   bool // stdin was, before the daemon ended
		want     bool // that the process sees its end afterwards
	}{
		{"stays open", false, true, false, false},
		{"waits for its first client", true, false, false, false},
		{"its client went with the daemon", true, true, false, true},
		{"was closed already", false, false, true, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			told := 0
			cfg := stdio.Config{Dir: filepath.Join(t.TempDir(), "io"), Stdin: true, StdinOnce: tc.once, StdinClosed: func() { told++ }}
			o := open(t, cfg)
			s := startShim(t, o)
			o.Started()
			if tc.attached {
				r, w := io.Pipe()
				defer r.Close()
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				attach(t, ctx, o, stdio.Streams{Stdin: r, Stdout: io.Discard, CloseStdin: tc.once})
				fmt.Fprint(w, "x")
				until(t, "input", func() bool { n, _ := s.in.Read(make([]byte, 1)); return n == 1 })
			}
			if tc.closed {
				assert.NilError(t, o.CloseStdin())
			}
			o.Detach()
			told = 0
			o = open(t, cfg)
			o.Started()
			assert.Equal(t, told == 1, tc.want)
			if tc.want {
				s.closeIO()
				_, err := io.ReadAll(s.in)
				assert.NilError(t, err)
			} else {
				_, err := unix.Read(int(s.in.Fd()), make([]byte, 1))
				assert.Equal(t, err, unix.EAGAIN)
			}
		})
	}
}

func TestOpenRefusesWhatIsNoFIFO(t *testing.T) {
	dir := t.TempDir()
	assert.NilError(t, os.WriteFile(filepath.Join(dir, "stdout"), nil, 0o600))
	_, err := stdio.Open(stdio.Config{Dir: dir})
	assert.ErrorContains(t, err, "is not a FIFO")
}

func TestNoGoroutineIsLeft(t *testing.T) {
	before := goleak.IgnoreCurrent()
	log := openLog(t, filepath.Join(t.TempDir(), "log"))
	for _, end := range []func(*stdio.IO){(*stdio.IO).Detach, func(o *stdio.IO) { o.Close() }} {
		o := open(t, stdio.Config{Stdin: true, Log: log})
		s := startShim(t, o)
		o.Started()
		r, _ := io.Pipe()
		client := attach(t, t.Context(), o, stdio.Streams{Stdin: r, Stdout: io.Discard, CloseStdin: true})
		end(o)
		receive(t, client, "client")
		r.Close()
		s.exit()
	}
	goleak.VerifyNone(t, before)
}

// The shim opens its end of stdin in the background: it may not have when it says that the task is created. What was
// sent until then, and its end, wait for it.
func TestStdinWaitsForTheShimsReader(t *testing.T) {
	closed := make(chan struct{})
	o := open(t, stdio.Config{Stdin: true, StdinClosed: func() { close(closed) }})
	in, out, errs := o.Paths()
	for _, path := range []string{out, errs} {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		assert.NilError(t, err)
		defer f.Close()
	}
	r, w := io.Pipe()
	attach(t, t.Context(), o, stdio.Streams{Stdin: r, Stdout: io.Discard, CloseStdin: true})
	go func() {
		fmt.Fprint(w, "before, ")
		fmt.Fprint(w, "between, ")
		w.Close()
	}()
	handle, err := unix.Open(in, unix.O_PATH, 0) // as the shim's, good when the name is gone
	assert.NilError(t, err)
	defer unix.Close(handle)
	o.Started()
	select {
	case <-closed:
		t.Fatal("closed before anybody could have read it")
	case <-time.After(20 * time.Millisecond):
	}
	late, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", handle))
	assert.NilError(t, err)
	defer late.Close()
	got, err := io.ReadAll(late)
	assert.NilError(t, err)
	assert.Equal(t, string(got), "before, between, ")
	receive(t, closed, "told to close")
}

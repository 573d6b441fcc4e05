package stdio_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/poll"

	"github.com/nereid-paas/nereid/pkg/logs"
	"github.com/nereid-paas/nereid/runtime/stdio"
)

// shim holds the ends of a process's FIFOs as containerd's shim does: of each output a writer and a reader, of stdin
// a reader and a writer.
type shim struct {
	out, err, in *os.File
	keep         []*os.File
}

func startShim(t *testing.T, o *stdio.IO) *shim {
	t.Helper()
	in, out, errp := o.Paths()
	s := &shim{}
	open := func(path string, flag int) *os.File {
		f, err := os.OpenFile(path, flag, 0)
		assert.NilError(t, err)
		t.Cleanup(func() { f.Close() })
		return f
	}
	s.out = open(out, os.O_WRONLY)
	s.keep = append(s.keep, open(out, os.O_RDONLY))
	if errp != "" {
		s.err = open(errp, os.O_WRONLY)
		s.keep = append(s.keep, open(errp, os.O_RDONLY))
	}
	if in != "" {
		s.in = open(in, os.O_RDONLY|unix.O_NONBLOCK)
		s.keep = append(s.keep, open(in, os.O_WRONLY|unix.O_NONBLOCK))
	}
	return s
}

// exit is the end of the process: its outputs are copied, the shim closes.
func (s *shim) exit() {
	for _, f := range append(s.keep, s.out, s.err, s.in) {
		if f != nil {
			f.Close()
		}
	}
}

// closeIO is the shim's CloseIO: it closes its writer of stdin, the last one kept.
func (s *shim) closeIO() { s.keep[len(s.keep)-1].Close() }

func open(t *testing.T, cfg stdio.Config) *stdio.IO {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = filepath.Join(t.TempDir(), "io")
	}
	o, err := stdio.Open(cfg)
	assert.NilError(t, err)
	t.Cleanup(func() { o.Close() })
	return o
}

func openLog(t *testing.T, path string) logs.Writer {
	t.Helper()
	w, err := logs.Open(logs.JSONFile, path, nil)
	assert.NilError(t, err)
	t.Cleanup(func() { w.Close() })
	return w
}

func readLog(t *testing.T, path string) string {
	t.Helper()
	return readStream(t, path, logs.ReadOptions{Tail: -1, Stdout: true, Stderr: true})
}

func readStream(t *testing.T, path string, ro logs.ReadOptions) string {
	t.Helper()
	var b strings.Builder
	for m, err := range logs.Read(t.Context(), logs.JSONFile, path, nil, ro) {
		assert.NilError(t, err)
		b.Write(m.Line)
	}
	return b.String()
}

// buffer is what a client has got.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// attach runs Attach and returns once joined.
func attach(t *testing.T, ctx context.Context, o *stdio.IO, s stdio.Streams) <-chan error {
	t.Helper()
	joined := make(chan struct{})
	done := make(chan error, 1)
	go func() { done <- o.Attach(ctx, s, func() { close(joined) }) }()
	receive(t, joined, "joined")
	return done
}

// soon bounds what a test waits for: what comes ends the waiting, and a busy machine takes its time.
const soon = time.Minute

func receive[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(soon):
		t.Fatalf("waited too long: %s", what)
		panic("unreachable")
	}
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	poll.WaitOn(t, func(poll.LogT) poll.Result {
		if ok() {
			return poll.Success()
		}
		return poll.Continue("%s", what)
	}, poll.WithDelay(time.Millisecond), poll.WithTimeout(soon))
}

func TestOutputReachesLogAndClients(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	o := open(t, stdio.Config{Log: openLog(t, log)})
	var out, errs, both buffer
	first := attach(t, t.Context(), o, stdio.Streams{Stdout: &out, Stderr: &errs})
	second := attach(t, t.Context(), o, stdio.Streams{Stdout: &both, Stderr: &both})
	s := startShim(t, o)
	o.Started()
	fmt.Fprint(s.out, "first byte\nsecond line\n")
	fmt.Fprint(s.err, "trouble\nno newline")
	s.exit()
	assert.NilError(t, receive(t, first, "first client"))
	assert.NilError(t, receive(t, second, "second client"))
	receive(t, o.Drained(), "drained")
	assert.Equal(t, out.String(), "first byte\nsecond line\n")
	assert.Equal(t, errs.String(), "trouble\nno newline")
	assert.Equal(t, len(both.String()), len(out.String())+len(errs.String()))
	assert.Equal(t, readStream(t, log, logs.ReadOptions{Tail: -1, Stdout: true}), out.String())
	assert.Equal(t, readStream(t, log, logs.ReadOptions{Tail: -1, Stderr: true}), errs.String())
}

func TestNoEndIsSeenBeforeStarted(t *testing.T) {
	o := open(t, stdio.Config{Tty: true})
	var out buffer
	client := attach(t, t.Context(), o, stdio.Streams{Stdout: &out})
	s := startShim(t, o)
	fmt.Fprint(s.out, "early")
	until(t, "early output", func() bool { return out.String() == "early" })
	s.exit()
	select {
	case err := <-client:
		t.Fatalf("ended before Started: %v", err)
	case <-o.Drained():
		t.Fatal("drained before Started")
	case <-time.After(20 * time.Millisecond):
	}
	o.Started()
	assert.NilError(t, receive(t, client, "client"))
	receive(t, o.Drained(), "drained")
}

func TestStdinReachesTheProcessAndIsClosed(t *testing.T) {
	closed := make(chan struct{})
	o := open(t, stdio.Config{Stdin: true, StdinOnce: true, StdinClosed: func() { close(closed) }})
	var out buffer
	// All of it before there is a shim: docker run -i attaches first.
	client := attach(t, t.Context(), o, stdio.Streams{Stdin: strings.NewReader("hello"), Stdout: &out, CloseStdin: true})
	s := startShim(t, o)
	o.Started()
	receive(t, closed, "told to close")
	s.closeIO()
	got, err := io.ReadAll(s.in)
	assert.NilError(t, err)
	assert.Equal(t, string(got), "hello")
	fmt.Fprint(s.out, "after half-close")
	s.exit()
	assert.NilError(t, receive(t, client, "client"))
	assert.Equal(t, out.String(), "after half-close")
}

func TestClientDetaches(t *testing.T) {
	o := open(t, stdio.Config{Tty: true, Stdin: true})
	s := startShim(t, o)
	o.Started()
	r, w := io.Pipe()
	var out buffer
	client := attach(t, t.Context(), o, stdio.Streams{Stdin: r, Stdout: &out, CloseStdin: true})
	go func() { fmt.Fprint(w, "ls\x10x\x10\x11") }()
	err := receive(t, client, "client")
	assert.Assert(t, errors.Is(err, stdio.ErrDetached), "%v", err)
	buf := make([]byte, 10)
	n, err := s.in.Read(buf)
	assert.NilError(t, err)
	assert.Equal(t, string(buf[:n]), "ls\x10x")
	// Others come and go.
	again := attach(t, t.Context(), o, stdio.Streams{Stdout: &out})
	s.exit()
	assert.NilError(t, receive(t, again, "second client"))
}

func TestCloseRemovesEverything(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "io")
	log := filepath.Join(t.TempDir(), "log")
	o := open(t, stdio.Config{Dir: dir, Stdin: true, StdinOnce: true, Log: openLog(t, log)})
	s := startShim(t, o)
	o.Started()
	fmt.Fprint(s.out, "left by a grandchild")
	assert.NilError(t, o.Close())
	assert.NilError(t, o.Close())
	receive(t, o.Drained(), "drained")
	_, err := os.Stat(dir)
	assert.Assert(t, errors.Is(err, os.ErrNotExist), "%v", err)
	assert.Equal(t, readLog(t, log), "left by a grandchild")
}

func TestFailedOpenLeavesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "io")
	assert.NilError(t, os.MkdirAll(filepath.Join(dir, "stderr", "in the way"), 0o700))
	_, err := stdio.Open(stdio.Config{Dir: dir, Stdin: true, Log: openLog(t, filepath.Join(t.TempDir(), "log"))})
	assert.ErrorContains(t, err, "stderr")
	entries, err := os.ReadDir(dir)
	assert.NilError(t, err)
	assert.Equal(t, len(entries), 1, "%v", entries)
}

// What a Close that was cut off left is not taken for a part of the next process's output or stdin.
func TestLeftoversOfAnotherProcess(t *testing.T) {
	dir, log := filepath.Join(t.TempDir(), "io"), filepath.Join(t.TempDir(), "log")
	cfg := stdio.Config{Dir: dir, Stdin: true, Log: openLog(t, log)}
	o := open(t, cfg)
	var b buffer
	attach(t, t.Context(), o, stdio.Streams{Stdout: &b})
	s := startShim(t, o)
	o.Started()
	fmt.Fprint(s.out, "of the first")
	until(t, "output", func() bool { return b.String() != "" })
	o.Detach()
	s.exit()
	assert.NilError(t, os.Remove(filepath.Join(dir, "stdout")))
	assert.NilError(t, os.Remove(filepath.Join(dir, "stderr")))
	o = open(t, cfg)
	s = startShim(t, o)
	o.Started()
	fmt.Fprint(s.out, "of the second\n")
	s.exit()
	receive(t, o.Drained(), "drained")
	assert.Equal(t, readLog(t, log), "of the second\n")
}

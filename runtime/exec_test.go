package runtime_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/poll"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/runtime"
)

// buffer is a bytes.Buffer that may be read while it is written.
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

func (b *buffer) wait(t testing.TB, want string) {
	t.Helper()
	poll.WaitOn(t, func(poll.LogT) poll.Result {
		if !strings.Contains(b.String(), want) {
			return poll.Continue("have %q", b.String())
		}
		return poll.Success()
	}, poll.WithTimeout(soon))
}

func process(script string, with ...func(*runtime.Process)) runtime.Process {
	p := runtime.Process{ExecID: nereid.ExecID(nereid.NewContainerID()), Args: []string{"sh", "-c", script}}
	for _, w := range with {
		w(&p)
	}
	return p
}

// exec runs a process to its end.
func (g *rig) exec(key runtime.Key, p runtime.Process) (out, errOut string, code int) {
	g.t.Helper()
	var stdout, stderr buffer
	pid, done, err := g.rt.Exec(g.ctx, key, p, &runtime.Streams{Stdout: &stdout, Stderr: &stderr})
	assert.NilError(g.t, err)
	assert.Assert(g.t, pid > 0)
	assert.NilError(g.t, <-done)
	exit := g.handler.wait(g.t, "exit of exec", func(r report) bool { return r.exit.ExecID == p.ExecID }).exit
	return stdout.String(), stderr.String(), exit.Code
}

func TestExec(t *testing.T) {
	g := newRig(t)
	key := g.run(g.spec("sleep 100", func(s *runtime.Spec) {
		s.Config.Env = []string{"A=container", "B=container"}
		s.Config.WorkingDir = "/tmp"
		s.Config.User = "ann"
		s.HostConfig.GroupAdd = []string{"audio"}
		s.HostConfig.CapDrop = []string{"ALL"}
	}))
	for _, c := range []struct {
		name, script, out string
		code              int
		with              func(*runtime.Process)
	}{
		{name: "code", script: "exit 9", code: 9},
		{name: "signal", script: "kill -9 $$", code: 137},
		{name: "directory is the container's", script: "pwd", out: "/tmp\n"},
		{name: "directory", script: "pwd", out: "/home\n", with: func(p *runtime.Process) { p.Dir = "/home" }},
		{name: "environment", script: "echo $A $B $C", out: "exec container exec\n", with: func(p *runtime.Process) { p.Env = []string{"A=exec", "C=exec"} }},
		{name: "user is the container's", script: "id", out: "uid=1000(ann) gid=1001(ann) groups=29(audio),50(staff),1001(ann)\n"},
		{name: "user", script: "id", out: "uid=0(root) gid=0(root) groups=0(root),10(wheel),29(audio)\n", with: func(p *runtime.Process) { p.User = "root" }},
		{name: "user and group", script: "id", out: "uid=5(5) gid=50(staff) groups=29(audio),50(staff)\n", with: func(p *runtime.Process) { p.User = "5:staff" }},
		{name: "capabilities", script: "grep CapBnd /proc/self/status", out: "CapBnd:\t0000000000000000\n"},
		{name: "privileged", script: "grep -c CapBnd:.*[1-9a-f] /proc/self/status", out: "1\n", with: func(p *runtime.Process) { p.Privileged = true }},
		{name: "home", script: "echo $HOME", out: "/home/ann\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := process(c.script)
			if c.with != nil {
				c.with(&p)
			}
			out, _, code := g.exec(key, p)
			assert.Equal(t, strings.ReplaceAll(out, "uid=5 ", "uid=5(5) "), c.out)
			assert.Equal(t, code, c.code)
		})
	}
	poll.WaitOn(t, func(poll.LogT) poll.Result {
		if left := g.execDirs(); len(left) > 0 {
			return poll.Continue("left: %v", left)
		}
		return poll.Success()
	}, poll.WithTimeout(soon))
}

func (g *rig) execDirs() []string {
	dirs, err := filepath.Glob(filepath.Join(g.dir, "s", "tasks", "*", "*", "exec", "*"))
	assert.NilError(g.t, err)
	return dirs
}

func TestExecsThatCannotRun(t *testing.T) {
	g := newRig(t)
	key := g.run(g.spec("sleep 100"))
	for _, c := range []struct {
		name, want string
		p          runtime.Process
	}{
		{"not found", `OCI runtime exec failed: exec failed: unable to start container process: exec: "nothere": executable file not found in $PATH`, runtime.Process{Args: []string{"nothere"}}},
		{"permission", `permission denied`, runtime.Process{Args: []string{"/etc/passwd"}}},
		{"user", "unable to find user nobody: no matching entries in passwd file", runtime.Process{Args: []string{"true"}, User: "nobody"}},
		{"directory", `no such file or directory`, runtime.Process{Args: []string{"/nothere"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.p.ExecID = nereid.ExecID(nereid.NewContainerID())
			_, _, err := g.rt.Exec(g.ctx, key, c.p, &runtime.Streams{Stdout: io.Discard})
			assert.ErrorContains(t, err, c.want)
		})
	}
	assert.Equal(t, len(g.execDirs()), 0)
	assert.Equal(t, len(g.handler.all()), 0, "a process that never ran has no end")
	assert.NilError(t, g.rt.DeleteTask(g.ctx, key))
	_, _, err := g.rt.Exec(g.ctx, key, process("true"), nil)
	assert.Assert(t, errdefs.IsNotFound(err), err)
}

func TestExecWithStdin(t *testing.T) {
	g := newRig(t)
	key := g.run(g.spec("sleep 100"))
	var out buffer
	p := process("cat; echo end", func(p *runtime.Process) { p.Stdin = true })
	_, done, err := g.rt.Exec(g.ctx, key, p, &runtime.Streams{
		Stdin: strings.NewReader("typed\n"), Stdout: &out, CloseStdin: true,
	})
	assert.NilError(t, err)
	assert.NilError(t, <-done)
	assert.Equal(t, out.String(), "typed\nend\n")
}

func TestExecOnTerminal(t *testing.T) {
	g := newRig(t)
	key := g.run(g.spec("sleep 100"))
	var out buffer
	in, keys := io.Pipe()
	p := process("stty size; echo $TERM; read x; stty size; sleep 100", func(p *runtime.Process) {
		p.Tty, p.Stdin, p.ConsoleSize = true, true, [2]uint{30, 90}
	})
	_, done, err := g.rt.Exec(g.ctx, key, p, &runtime.Streams{Stdin: in, Stdout: &out, Tty: true})
	assert.NilError(t, err)
	out.wait(t, "30 90\r\nxterm\r\n")
	assert.NilError(t, g.rt.ExecResize(g.ctx, key, p.ExecID, 40, 100))
	_, err = keys.Write([]byte("\n"))
	assert.NilError(t, err)
	out.wait(t, "40 100\r\n")
	_, err = keys.Write([]byte{16, 17}) // ctrl-p ctrl-q
	assert.NilError(t, err)
	assert.Assert(t, errors.Is(<-done, runtime.ErrDetached))
	assert.NilError(t, keys.Close())

	assert.NilError(t, g.rt.ExecKill(g.ctx, key, p.ExecID, 9))
	exit := g.handler.wait(t, "exit of exec", func(r report) bool { return r.exit.ExecID == p.ExecID }).exit
	assert.Equal(t, exit.Code, 137)
	assert.Assert(t, errdefs.IsNotFound(g.rt.ExecKill(g.ctx, key, p.ExecID, 9)))
}

// A process whose client is gone, or never was, must not stop for want of a reader.
func TestExecNobodyReads(t *testing.T) {
	g := newRig(t)
	key := g.run(g.spec("sleep 100"))
	p := process("seq 1 200000; exit 4")
	_, done, err := g.rt.Exec(g.ctx, key, p, nil)
	assert.NilError(t, err)
	assert.Assert(t, done == nil)
	q := process("seq 1 200000; exit 5")
	_, done, err = g.rt.Exec(g.ctx, key, q, &runtime.Streams{Stdout: goneClient{}})
	assert.NilError(t, err)
	assert.Assert(t, errors.Is(<-done, io.ErrClosedPipe))
	for id, code := range map[nereid.ExecID]int{p.ExecID: 4, q.ExecID: 5} {
		exit := g.handler.wait(t, "exit of exec", func(r report) bool { return r.exit.ExecID == id }).exit
		assert.Equal(t, exit.Code, code)
	}
}

type goneClient struct{}

func (goneClient) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// The ends of exec'd processes are told before the container's own.
func TestExecsEndFirst(t *testing.T) {
	g := newRig(t)
	key := g.run(g.spec("sleep 100"))
	for range 3 {
		_, _, err := g.rt.Exec(g.ctx, key, process("sleep 100"), nil)
		assert.NilError(t, err)
	}
	assert.NilError(t, g.rt.Kill(g.ctx, key, 9))
	g.handler.exitOf(t, key)
	reports := g.handler.all()
	assert.Equal(t, len(reports), 4)
	assert.Equal(t, reports[3].exit.ExecID, nereid.ExecID(""))
}

func TestAttachBeforeTheTask(t *testing.T) {
	g := newRig(t)
	s := g.spec("echo first; cat; exit 0", func(s *runtime.Spec) { s.Config.OpenStdin, s.Config.StdinOnce = true, true })
	assert.NilError(t, g.rt.Prepare(g.ctx, s))
	var out, errOut buffer
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- g.rt.Attach(g.ctx, s.Key, runtime.Streams{
			Stdin: strings.NewReader("typed\n"), Stdout: &out, Stderr: &errOut, CloseStdin: true,
		}, func() { close(ready) })
	}()
	<-ready
	_, err := g.rt.CreateTask(g.ctx, s)
	assert.NilError(t, err)
	assert.NilError(t, g.rt.StartTask(g.ctx, s.Key))
	assert.NilError(t, <-done)
	assert.Equal(t, out.String(), "first\ntyped\n")
	assert.Equal(t, g.handler.exitOf(t, s.Key).Code, 0)
	assert.Equal(t, g.logged(s), "first\ntyped\n")
}

// A client that attached and went away before the task is made is waited for by nobody.
func TestAttachAndGo(t *testing.T) {
	g := newRig(t)
	s := g.spec("echo hi")
	ctx, cancel := context.WithCancel(g.ctx)
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- g.rt.Attach(ctx, s.Key, runtime.Streams{Stdout: io.Discard}, func() { close(ready) })
	}()
	<-ready
	cancel()
	assert.Assert(t, errors.Is(<-done, context.Canceled))
	g.run(s)
	assert.Equal(t, g.handler.exitOf(t, s.Key).Code, 0)
}

func TestTerminalOfTheContainer(t *testing.T) {
	g := newRig(t)
	s := g.spec("stty size; read x; stty size; echo got $x", func(s *runtime.Spec) {
		s.Config.Tty, s.Config.OpenStdin = true, true
	})
	assert.NilError(t, g.rt.Prepare(g.ctx, s))
	var out buffer
	in, keys := io.Pipe()
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- g.rt.Attach(g.ctx, s.Key, runtime.Streams{Stdin: in, Stdout: &out, Tty: true}, func() { close(ready) })
	}()
	<-ready
	assert.NilError(t, g.rt.Resize(g.ctx, s.Key, 20, 60), "the size is kept until there is a terminal")
	_, err := g.rt.CreateTask(g.ctx, s)
	assert.NilError(t, err)
	assert.NilError(t, g.rt.StartTask(g.ctx, s.Key))
	out.wait(t, "20 60\r\n")
	assert.NilError(t, g.rt.Resize(g.ctx, s.Key, 25, 70))
	_, err = keys.Write([]byte("word\n"))
	assert.NilError(t, err)
	out.wait(t, "25 70\r\ngot word\r\n")
	assert.NilError(t, <-done)
	assert.NilError(t, keys.Close())
	g.handler.exitOf(t, s.Key)
	assert.Assert(t, errdefs.IsFailedPrecondition(g.rt.Resize(g.ctx, s.Key, 1, 1)))
}

// What the process wrote is in the log and with the clients when its end is told.
func TestOutputIsWholeAtTheEnd(t *testing.T) {
	g := newRig(t)
	s := g.spec("seq 1 30000")
	g.create(s)
	var out buffer
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- g.rt.Attach(g.ctx, s.Key, runtime.Streams{Stdout: &out}, func() { close(ready) }) }()
	<-ready
	assert.NilError(t, g.rt.StartTask(g.ctx, s.Key))
	g.handler.exitOf(t, s.Key)
	assert.Equal(t, g.logged(s), lines(1, 30000))
	assert.NilError(t, <-done)
	assert.Equal(t, out.String(), lines(1, 30000))
}

func TestFollowedLogEndsWithTheContainer(t *testing.T) {
	g := newRig(t)
	s := g.spec("echo a; sleep 0.2; echo b")
	key := g.run(s)
	var got []string
	start := time.Now()
	for m, err := range g.rt.Logs(g.ctx, key, s.Log, runtime.LogOptions{Tail: -1, Follow: true, Stdout: true}) {
		assert.NilError(t, err)
		got = append(got, string(m.Line))
	}
	assert.DeepEqual(t, got, []string{"a\n", "b\n"})
	assert.Assert(t, time.Since(start) < 20*time.Second)
	_, err := os.Stat(s.Log.Path)
	assert.NilError(t, err)
}

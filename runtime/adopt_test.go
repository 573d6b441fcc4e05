package runtime_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/poll"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/runtime"
)

// errand is what a process that owns a runtime is told to do before it is killed.
type errand struct {
	BinDir string
	Config runtime.Config
	Specs  []runtime.Spec // made, prepared and run
	Create []bool         // of Specs: only create
	Execs  map[int][]runtime.Process
}

// playRole is the other process: it does its errand, says so, and waits for its end.
func playRole(string) int {
	var e errand
	if err := json.NewDecoder(os.Stdin).Decode(&e); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := e.do(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println("ready")
	select {}
}

func (e errand) do(ctx context.Context) error {
	rt, err := runtime.New(e.Config, newRecorder())
	if err != nil {
		return err
	}
	if err := rt.Start(ctx); err != nil {
		return err
	}
	image, err := writeBusybox(ctx, rt)
	if err != nil {
		return err
	}
	for i, s := range e.Specs {
		s.Image = image
		if err := rt.Prepare(ctx, s); err != nil {
			return err
		}
		if _, err := rt.CreateTask(ctx, s); err != nil {
			return err
		}
		if i < len(e.Create) && e.Create[i] {
			continue
		}
		if err := rt.StartTask(ctx, s.Key); err != nil {
			return err
		}
		for _, p := range e.Execs[i] {
			if _, _, err := rt.Exec(ctx, s.Key, p, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// owner is a process with a runtime of its own.
type owner struct {
	t   *testing.T
	cmd *exec.Cmd
}

// startOwner returns when the errand is done.
func startOwner(t *testing.T, e errand) *owner {
	t.Helper()
	data, err := json.Marshal(e)
	assert.NilError(t, err)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "RUNTIME_TEST_ROLE=owner")
	cmd.Stdin, cmd.Stderr = strings.NewReader(string(data)), os.Stderr
	stdout, err := cmd.StdoutPipe()
	assert.NilError(t, err)
	assert.NilError(t, cmd.Start())
	o := &owner{t: t, cmd: cmd}
	t.Cleanup(o.kill)
	line, err := bufio.NewReader(stdout).ReadString('\n')
	assert.NilError(t, err)
	assert.Equal(t, line, "ready\n")
	return o
}

// kill is what no process can prepare for.
func (o *owner) kill() {
	_ = o.cmd.Process.Kill()
	_ = o.cmd.Wait()
}

// newOrphans has another process do an errand in this rig's place and die; between runs while nobody looks.
func newOrphans(t *testing.T, e errand, between func(dir string)) *rig {
	t.Helper()
	g := newRig(t)
	g.stop()
	e.Config = g.cfg
	o := startOwner(t, e)
	o.kill()
	between(g.dir)
	g.start()
	return g
}

// inRig makes specs whose paths lie in a directory that is known only later.
func specFor(dir, script string) runtime.Spec {
	g := &rig{dir: dir}
	return g.spec(script)
}

func waitForFile(t *testing.T, path string) {
	t.Helper()
	poll.WaitOn(t, func(poll.LogT) poll.Result {
		if _, err := os.Stat(path); err != nil {
			return poll.Continue("%s is not there", path)
		}
		return poll.Success()
	}, poll.WithTimeout(soon))
}

// bindDir shows a directory of the host to the container.
func bindDir(dir string) func(*runtime.Spec) {
	return func(s *runtime.Spec) {
		s.Mounts = append(s.Mounts, runtime.Mount{Type: "bind", Source: dir, Destination: "/host", Recursive: true})
	}
}

// What broke without the survey: containerd deleted the shim of a container that ended while the daemon was dead, and
// its exit code and unread output were gone.
func TestEndWhileNobodyLooks(t *testing.T) {
	host := t.TempDir()
	logs := t.TempDir()
	s := specFor(logs, "seq 1 20000; echo before; while [ ! -e /host/go ]; do sleep 0.02; done; seq 1 2000; echo after; touch /host/done; exit 7")
	bindDir(host)(&s)
	g := newOrphans(t, errand{Specs: []runtime.Spec{s}}, func(string) {
		assert.NilError(t, os.WriteFile(filepath.Join(host, "go"), nil, 0o600))
		waitForFile(t, filepath.Join(host, "done"))
	})
	exit := g.handler.exitOf(t, s.Key)
	assert.Equal(t, exit.Code, 7)
	assert.Equal(t, g.logged(s), lines(1, 20000)+"before\n"+lines(1, 2000)+"after\n")
	tasks, err := g.rt.Tasks(g.ctx)
	assert.NilError(t, err)
	assert.Equal(t, tasks[s.Key].Status, runtime.StatusStopped)
	assert.Equal(t, tasks[s.Key].Exit.Code, 7)
	assert.NilError(t, g.rt.DeleteTask(g.ctx, s.Key))
	assert.Equal(t, len(g.handler.all()), 1)
}

func lines(from, to int) string {
	var b strings.Builder
	for i := from; i <= to; i++ {
		fmt.Fprintln(&b, i)
	}
	return b.String()
}

func TestAdoptWhatRuns(t *testing.T) {
	host := t.TempDir()
	s := specFor(t.TempDir(), "echo before; while [ ! -e /host/go ]; do sleep 0.02; done; echo after; exit 3")
	bindDir(host)(&s)
	execID := nereid.ExecID(nereid.NewContainerID())
	g := newOrphans(t, errand{
		Specs: []runtime.Spec{s},
		Execs: map[int][]runtime.Process{0: {{ExecID: execID, Args: []string{"sh", "-c", "echo unseen; exit 5"}}}},
	}, func(string) {})
	exec := g.handler.wait(t, "exit of the exec", func(r report) bool { return r.exit.ExecID == execID })
	assert.Equal(t, exec.exit.Code, 5)

	tasks, err := g.rt.Tasks(g.ctx)
	assert.NilError(t, err)
	assert.Equal(t, tasks[s.Key].Status, runtime.StatusRunning)
	pids, err := g.rt.Pids(g.ctx, s.Key)
	assert.NilError(t, err)
	assert.Assert(t, len(pids) > 0)
	dir, release, err := g.rt.Mount(g.ctx, s.Key)
	assert.NilError(t, err)
	_, err = os.Stat(filepath.Join(dir, "bin", "busybox"))
	assert.NilError(t, err)
	assert.NilError(t, release())

	assert.NilError(t, os.WriteFile(filepath.Join(host, "go"), nil, 0o600))
	assert.Equal(t, g.handler.exitOf(t, s.Key).Code, 3)
	assert.Equal(t, g.logged(s), "before\nafter\n")
}

// Kinds of tasks a killed daemon leaves, and what the next one makes of them.
func TestAdoptEveryKind(t *testing.T) {
	host, logs := t.TempDir(), t.TempDir()
	until := func(file string) string { return "while [ ! -e /host/" + file + " ]; do sleep 0.02; done; " }
	greedy := specFor(logs, until("go")+"tail -c 300000000 /dev/zero & wait $!; touch /host/oom; exit 9")
	greedy.HostConfig.Memory = 20 << 20
	bindDir(host)(&greedy)
	paused := specFor(logs, "sleep 100")
	created := specFor(logs, "echo ran")
	terminal := specFor(logs, "read x; echo got $x; exit 2")
	terminal.Config.Tty, terminal.Config.OpenStdin = true, true
	shimless := specFor(logs, "sleep 100")
	busy := specFor(logs, "sleep 100")
	bindDir(host)(&busy)
	short, long := nereid.ExecID(nereid.NewContainerID()), nereid.ExecID(nereid.NewContainerID())

	g := newOrphans(t, errand{
		Specs:  []runtime.Spec{greedy, created, terminal, shimless, busy, paused},
		Create: []bool{false, true},
		Execs: map[int][]runtime.Process{4: {
			{ExecID: short, Args: []string{"sh", "-c", until("go") + "touch /host/short; exit 6"}},
			{ExecID: long, Args: []string{"sleep", "100"}},
		}},
	}, func(dir string) {
		assert.NilError(t, os.WriteFile(filepath.Join(host, "go"), nil, 0o600))
		waitForFile(t, filepath.Join(host, "oom"))
		waitForFile(t, filepath.Join(host, "short"))
		for _, line := range processesWith(string(shimless.ID)) {
			killPid(t, strings.Split(line, "/")[2])
		}
	})
	oom := g.handler.exitOf(t, greedy.Key)
	assert.Equal(t, oom.Code, 9)
	assert.Equal(t, oom.OOMKilled, true)
	g.handler.exitOf(t, shimless.Key)
	exec := g.handler.wait(t, "exit of the exec", func(r report) bool { return r.exit.ExecID == short })
	assert.Equal(t, exec.exit.Code, 6)

	assert.Equal(t, g.status(created.Key), runtime.StatusCreated)
	assert.NilError(t, g.rt.StartTask(g.ctx, created.Key))
	assert.Equal(t, g.handler.exitOf(t, created.Key).Code, 0)
	assert.Equal(t, g.logged(created), "ran\n")

	var out buffer
	in, keys := io.Pipe()
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- g.rt.Attach(g.ctx, terminal.Key, runtime.Streams{Stdin: in, Stdout: &out, Tty: true}, func() { close(ready) })
	}()
	<-ready
	_, err := keys.Write([]byte("word\n"))
	assert.NilError(t, err)
	assert.NilError(t, <-done)
	assert.NilError(t, keys.Close())
	assert.Assert(t, strings.Contains(out.String(), "got word"), out.String())
	assert.Equal(t, g.handler.exitOf(t, terminal.Key).Code, 2)

	assert.NilError(t, g.rt.ExecKill(g.ctx, busy.Key, long, 9))
	exec = g.handler.wait(t, "exit of the exec", func(r report) bool { return r.exit.ExecID == long })
	assert.Equal(t, exec.exit.Code, 137)
	_, _, code := g.exec(busy.Key, process("exit 8"))
	assert.Equal(t, code, 8)
	assert.Equal(t, g.status(busy.Key), runtime.StatusRunning)
}

// A reboot leaves the data root and nothing else.
func TestAfterReboot(t *testing.T) {
	g := newRig(t)
	s := g.spec("echo hi")
	g.run(s)
	g.handler.exitOf(t, s.Key)
	assert.NilError(t, g.rt.DeleteTask(g.ctx, s.Key))
	running := g.run(g.spec("sleep 100"))
	g.reboot(running)
	tasks, err := g.rt.Tasks(g.ctx)
	assert.NilError(t, err)
	assert.Equal(t, len(tasks), 0)
	_, err = g.rt.CreateTask(g.ctx, s)
	assert.NilError(t, err, "the root file system outlives a reboot")
	assert.NilError(t, g.rt.StartTask(g.ctx, s.Key))
}

// reboot ends the shim, the container and all that was in memory.
func (g *rig) reboot(key runtime.Key) {
	g.t.Helper()
	tasks, err := g.rt.Tasks(g.ctx)
	assert.NilError(g.t, err)
	assert.NilError(g.t, g.rt.Close())
	for _, line := range processesWith(string(key.ID)) {
		killPid(g.t, strings.Split(line, "/")[2])
	}
	killPid(g.t, strconv.Itoa(tasks[key].Pid))
	assert.NilError(g.t, syscall.Unmount(filepath.Join(g.dir, "s", "rootfs", string(key.Account), string(key.ID)), syscall.MNT_DETACH))
	for _, dir := range cgroupDirs(g.cgroup) {
		poll.WaitOn(g.t, func(poll.LogT) poll.Result {
			if err := os.Remove(filepath.Join(dir, string(key.ID))); err != nil && !os.IsNotExist(err) {
				return poll.Continue("%s", err)
			}
			return poll.Success()
		}, poll.WithTimeout(soon))
	}
	poll.WaitOn(g.t, func(poll.LogT) poll.Result { // the runtime before still sees its shim die, and cleans up
		if err := os.RemoveAll(filepath.Join(g.dir, "s")); err != nil {
			return poll.Continue("%s", err)
		}
		return poll.Success()
	}, poll.WithTimeout(soon))
	g.start()
}

// A runtime that stops in good order leaves the same as one that is killed.
func TestStopAndStartAgain(t *testing.T) {
	g := newRig(t)
	host := t.TempDir()
	s := g.spec("echo one; while [ ! -e /host/go ]; do sleep 0.02; done; echo two; exit 4", bindDir(host))
	key := g.run(s)
	done := make(chan error, 1)
	ready := make(chan struct{})
	go func() { done <- g.rt.Attach(g.ctx, key, runtime.Streams{Stdout: io.Discard}, func() { close(ready) }) }()
	<-ready
	assert.NilError(t, g.rt.Close())
	assert.Assert(t, <-done != nil)
	assert.NilError(t, os.WriteFile(filepath.Join(host, "go"), nil, 0o600))
	g.start()
	assert.Equal(t, g.handler.exitOf(t, key).Code, 4)
	assert.Equal(t, g.logged(s), "one\ntwo\n")
}

// An existing containerd may be used in place of the embedded one; it and its tasks outlive the runtime.
func TestExistingContainerd(t *testing.T) {
	host := newRig(t)
	host.stop()
	startOwner(t, errand{Config: host.cfg})

	g := &rig{t: t, ctx: host.ctx, dir: host.dir, cgroup: host.cgroup, handler: newRecorder(), cfg: host.cfg}
	g.cfg.Address = filepath.Join(host.cfg.State, "containerd.sock")
	g.cfg.State = filepath.Join(host.dir, "external")
	g.start()
	t.Cleanup(g.stop)
	host.rt = g.rt // nothing of its own to remove
	g.image = importBusybox(t, g.ctx, g.rt)
	out, exit := g.output("echo out; exit 7")
	assert.Equal(t, out, "out\n")
	assert.Equal(t, exit.Code, 7)

	s := g.spec("read x; echo $x; exit 3", func(s *runtime.Spec) { s.Config.OpenStdin = true })
	key := g.run(s)
	assert.NilError(t, g.rt.Close())
	g.start()
	host.rt = g.rt
	_, _, code := g.exec(key, process("exit 8"))
	assert.Equal(t, code, 8)
	ready, done := make(chan struct{}), make(chan error, 1)
	var got buffer
	go func() {
		done <- g.rt.Attach(g.ctx, key, runtime.Streams{Stdin: strings.NewReader("in\n"), Stdout: &got}, func() { close(ready) })
	}()
	<-ready
	assert.Equal(t, g.handler.exitOf(t, key).Code, 3)
	assert.Equal(t, g.logged(s), "in\n")
}

// Killed again and again while containers write, the daemon loses no line and no exit code.
func TestKilledUnderLoad(t *testing.T) {
	const writers, rounds = 6, 3
	host := t.TempDir()
	logs := t.TempDir()
	var specs []runtime.Spec
	for i := range writers {
		s := specFor(logs, fmt.Sprintf("n=0; while [ ! -e /host/stop ]; do n=$((n+1)); echo line $n; [ $((n %% 200)) = 0 ] && sleep 0.01; done; echo end $n; exit %d", i+1))
		bindDir(host)(&s)
		specs = append(specs, s)
	}
	g := newOrphans(t, errand{Specs: specs}, func(string) {})
	for range rounds {
		g.stopKeeping()
		o := startOwner(t, errand{Config: g.cfg})
		o.kill()
		g.start()
	}
	assert.NilError(t, os.WriteFile(filepath.Join(host, "stop"), nil, 0o600))
	for i, s := range specs {
		assert.Equal(t, g.handler.exitOf(t, s.Key).Code, i+1)
		checkCounted(t, g.logged(s))
	}
}

// stopKeeping ends the runtime and no container.
func (g *rig) stopKeeping() {
	g.t.Helper()
	assert.NilError(g.t, g.rt.Close())
}

func checkCounted(t *testing.T, log string) {
	t.Helper()
	all := strings.Split(strings.TrimSuffix(log, "\n"), "\n")
	for i, line := range all[:len(all)-1] {
		assert.Equal(t, line, fmt.Sprintf("line %d", i+1))
	}
	assert.Equal(t, all[len(all)-1], fmt.Sprintf("end %d", len(all)-1))
}

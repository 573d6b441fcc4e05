package shortcut

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	runc "github.com/containerd/go-runc"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/poll"
)

// record is what runc writes, as a test wants it.
type record map[string]any

// made is a container with a process of its own: its directory below root, and its cgroup, a directory.
type made struct {
	root, dir, cgroup string
	process           *exec.Cmd
}

func (m made) args(verb ...string) []string {
	return append([]string{"runc", "--root", m.root, "--log", "log.json", "--log-format", "json"}, verb...)
}

func startOf(t *testing.T, pid int) uint64 {
	t.Helper()
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	assert.NilError(t, err)
	start, err := strconv.ParseUint(string(bytes.Fields(b[bytes.LastIndexByte(b, ')'):])[20]), 10, 64)
	assert.NilError(t, err)
	return start
}

// create makes a container; change edits its record.
func create(t *testing.T, change ...func(record)) made {
	t.Helper()
	m := made{root: t.TempDir(), process: exec.Command("sleep", "1000")}
	m.dir, m.cgroup = filepath.Join(m.root, "c1"), filepath.Join(t.TempDir(), "c1")
	assert.NilError(t, os.Mkdir(m.dir, 0o700))
	assert.NilError(t, os.Mkdir(m.cgroup, 0o700))
	assert.NilError(t, unix.Mkfifo(filepath.Join(m.dir, "exec.fifo"), 0o600))
	assert.NilError(t, m.process.Start())
	t.Cleanup(m.end)
	pid := m.process.Process.Pid
	rec := record{
		"init_process_pid": pid, "init_process_start": startOf(t, pid), "cgroup_paths": map[string]string{"pids": m.cgroup},
		"config": map[string]any{"namespaces": []map[string]string{{"type": "NEWNS"}, {"type": "NEWPID"}}},
	}
	for _, c := range change {
		c(rec)
	}
	b, err := json.Marshal(rec)
	assert.NilError(t, err)
	assert.NilError(t, os.WriteFile(filepath.Join(m.dir, "state.json"), b, 0o600))
	return m
}

// end ends the process; it may be called twice.
func (m made) end() {
	_ = m.process.Process.Kill()
	_ = m.process.Wait()
}

// program is the monitor that runs commands, and here only counts them.
type program struct {
	runc.ProcessMonitor
	ran *int
}

func (p program) StartLocked(*exec.Cmd) (chan runc.Exit, error) {
	*p.ran++
	return make(chan runc.Exit), nil
}

func (p program) Wait(*exec.Cmd, chan runc.Exit) (int, error) { return 7, nil }

// does runs a command as the shim does, and tells whether it was done without the program.
func (m made) does(t *testing.T, verb ...string) bool {
	t.Helper()
	ran := 0
	mon := Monitor{ProcessMonitor: program{ran: &ran}}
	c := exec.Command("runc", m.args(verb...)[1:]...)
	exits, err := mon.StartLocked(c)
	assert.NilError(t, err)
	status, err := mon.Wait(c, exits)
	assert.NilError(t, err)
	assert.Equal(t, ran == 1, status == 7)
	return ran == 0
}

func there(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func TestStartReadsWhatTheProcessWaitsToWrite(t *testing.T) {
	m := create(t)
	wrote := make(chan error, 1)
	go func() {
		f, err := os.OpenFile(filepath.Join(m.dir, "exec.fifo"), os.O_WRONLY, 0)
		if err == nil {
			_, err = f.WriteString("0")
			f.Close()
		}
		wrote <- err
	}()
	assert.Check(t, m.does(t, "start", "c1"))
	assert.NilError(t, <-wrote)
	assert.Check(t, !there(filepath.Join(m.dir, "exec.fifo")))
	assert.Check(t, !m.does(t, "start", "c1"), "started twice") // runc says that it runs already
}

func TestStartOfAProcessThatDies(t *testing.T) {
	m := create(t)
	timer := time.AfterFunc(openPause/2, func() { _ = m.process.Process.Kill() })
	defer timer.Stop()
	assert.Check(t, !m.does(t, "start", "c1"))
	assert.Check(t, there(filepath.Join(m.dir, "exec.fifo")))
	assert.Check(t, !m.does(t, "start", "c1"), "dead before")
}

func TestKillSignalsTheProcess(t *testing.T) {
	m := create(t)
	assert.Check(t, m.does(t, "kill", "c1", "15"))
	_ = m.process.Wait()
	assert.Equal(t, m.process.ProcessState.Sys().(interface{ Signal() unix.Signal }).Signal(), unix.SIGTERM)
	assert.Check(t, !m.does(t, "kill", "c1", "15"), "dead")
}

// A signal right after the start ended runc's init, or was lost on a program that had not come to its handler.
func TestASignalWaitsForTheProgramsHandler(t *testing.T) {
	const script = `read -r go; trap "exit 7" TERM; echo; while :; do sleep 1; done`
	for _, name := range []string{"sh", "runc:[2:INIT]"} {
		t.Run(name, func(t *testing.T) {
			shell := filepath.Join(t.TempDir(), name)
			assert.NilError(t, os.Symlink("/bin/sh", shell))
			process := exec.Command(shell, "-c", script)
			in, err := process.StdinPipe()
			assert.NilError(t, err)
			out, err := process.StdoutPipe()
			assert.NilError(t, err)
			assert.NilError(t, process.Start())
			t.Cleanup(func() { _ = process.Process.Kill(); _ = process.Wait() })
			c := &container{dir: t.TempDir(), Pid: process.Process.Pid, Start: startOf(t, process.Process.Pid)}
			c.Config.Namespaces = append(c.Config.Namespaces, struct {
				Type string `json:"type"`
				Path string `json:"path"`
			}{Type: "NEWPID"})
			assert.Check(t, !c.handles(unix.SIGTERM))
			assert.Check(t, c.age() < time.Hour)
			limit, program := time.Minute, name == "sh"
			if !program {
				limit = time.Millisecond
			}
			settled := make(chan bool, 1)
			go func() {
				c.settle(unix.SIGTERM, limit)
				settled <- c.handles(unix.SIGTERM)
			}()
			_, err = in.Write([]byte("\n"))
			assert.NilError(t, err)
			assert.Equal(t, <-settled, program)
			_, err = out.Read(make([]byte, 1)) // it has a handler now, whoever it is
			assert.NilError(t, err)
			assert.Equal(t, c.handles(unix.SIGTERM), program)
			assert.NilError(t, process.Process.Kill())
			_ = process.Wait()
			assert.Check(t, c.handles(unix.SIGTERM), "ended")
		})
	}
}

func TestKillAtOnce(t *testing.T) {
	frozen := func(state string) func(record) {
		dir := t.TempDir()
		assert.NilError(t, os.WriteFile(filepath.Join(dir, "freezer.state"), []byte(state+"\n"), 0o600))
		return func(r record) { r["cgroup_paths"] = map[string]string{"freezer": dir} }
	}
	shared := func(r record) {
		r["config"] = map[string]any{"namespaces": []map[string]string{{"type": "NEWPID", "path": "/proc/1/ns/pid"}}}
	}
	host := func(r record) { r["config"] = map[string]any{"namespaces": []map[string]string{{"type": "NEWNS"}}} }
	for _, c := range []struct {
		name   string
		change []func(record)
		want   bool
	}{
		{"own processes", []func(record){frozen("THAWED")}, true},
		{"paused", []func(record){frozen("FROZEN")}, false},
		{"another's processes", []func(record){frozen("THAWED"), shared}, false},
		{"the host's processes", []func(record){frozen("THAWED"), host}, false},
		{"paused or not is unknown", nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := create(t, c.change...)
			assert.Equal(t, m.does(t, "kill", "c1", "9"), c.want)
			if c.want {
				_ = m.process.Wait() // it ends
			}
		})
	}
}

func TestAnotherProcessOfThatNumber(t *testing.T) {
	m := create(t, func(r record) { r["init_process_start"] = 1 })
	assert.Check(t, !m.does(t, "kill", "c1", "15"))
	assert.Check(t, !m.does(t, "start", "c1"))
	assert.NilError(t, m.process.Process.Signal(unix.Signal(0)))
}

func TestDeleteRemovesCgroupAndRecord(t *testing.T) {
	m := create(t)
	assert.Check(t, !m.does(t, "delete", "c1"), "it lives")
	assert.Check(t, there(m.cgroup) && there(m.dir))
	m.end()
	assert.Check(t, m.does(t, "delete", "c1"))
	assert.Check(t, !there(m.cgroup) && !there(m.dir))
	assert.Check(t, !m.does(t, "delete", "c1"), "gone")
}

func TestDeleteLeftToRunc(t *testing.T) {
	config := func(key string, value any) func(record) {
		return func(r record) { r["config"].(map[string]any)[key] = value }
	}
	for _, c := range []struct {
		name   string
		change func(record)
		want   bool
	}{
		{"no hook after its end", config("Hooks", map[string]any{"poststop": nil, "prestart": []any{map[string]string{"path": "/bin/true"}}}), true},
		{"a hook after its end", config("Hooks", map[string]any{"poststop": []any{map[string]string{"path": "/bin/true"}}}), false},
		{"processes of the host", config("namespaces", []any{}), false},
		{"a share of the cache", func(r record) { r["intel_rdt_path"] = "/sys/fs/resctrl/c1" }, false},
		{"a cgroup that is not there", func(r record) { r["cgroup_paths"] = map[string]string{"pids": "/nonexistent/c1"} }, true},
		{"a cgroup that is no path", func(r record) { r["cgroup_paths"] = map[string]string{"pids": "c1"} }, false},
		{"another runtime's record", func(r record) { delete(r, "init_process_pid") }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := create(t, c.change)
			m.end()
			assert.Equal(t, m.does(t, "delete", "c1"), c.want)
			assert.Equal(t, there(m.dir), !c.want)
		})
	}
}

// A cgroup that the container made below its own is runc's to remove, and nothing of the container is forgotten.
func TestDeleteWithCgroupsBelow(t *testing.T) {
	m := create(t)
	m.end()
	assert.NilError(t, os.Mkdir(filepath.Join(m.cgroup, "below"), 0o700))
	assert.Check(t, !m.does(t, "delete", "c1"))
	assert.Check(t, there(m.cgroup) && there(m.dir))
}

func TestZombiesAreDead(t *testing.T) {
	m := create(t)
	assert.NilError(t, m.process.Process.Kill())
	poll.WaitOn(t, func(poll.LogT) poll.Result { // not waited for: it stays a zombie
		c, err := load(m.dir)
		assert.NilError(t, err)
		if c.lives() {
			return poll.Continue("it lives")
		}
		return poll.Success()
	}, poll.WithTimeout(time.Minute), poll.WithDelay(time.Millisecond))
	assert.Check(t, there("/proc/"+strconv.Itoa(m.process.Process.Pid)))
}

func TestOtherCommandsAreRun(t *testing.T) {
	m := create(t)
	for _, verb := range [][]string{
		{"create", "--bundle", ".", "c1"}, {"exec", "c1"}, {"delete", "--force", "c1"}, {"kill", "--all", "c1", "9"},
		{"kill", "c1"}, {"kill", "c1", "TERM"}, {"start"}, {"start", "other"},
	} {
		assert.Check(t, !m.does(t, verb...), "%v", verb)
	}
	_, _, ok := parse([]string{"runc", "--root", m.root, "--log", "l", "--log-format", "json", "--systemd-cgroup", "delete", "c1"})
	assert.Check(t, !ok, "systemd's cgroups are systemd's")
}

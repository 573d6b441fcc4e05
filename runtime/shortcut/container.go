package shortcut

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// container is what runc wrote down of one, so far as it is needed here.
type container struct {
	dir string

	Pid         int               `json:"init_process_pid"`
	Start       uint64            `json:"init_process_start"` // in ticks since boot
	CgroupPaths map[string]string `json:"cgroup_paths"`
	RdtPath     string            `json:"intel_rdt_path"`
	Config      struct {
		Hooks      map[string][]json.RawMessage `json:"Hooks"`
		Namespaces []struct {
			Type string `json:"type"`
			Path string `json:"path"`
		} `json:"namespaces"`
	} `json:"config"`
}

var errUnknown = errors.New("not a container as runc keeps it")

// load reads a container's record.
func load(dir string) (*container, error) {
	b, err := os.ReadFile(filepath.Join(dir, "state.json"))
	if err != nil {
		return nil, err
	}
	c := &container{dir: dir}
	if err := json.Unmarshal(b, c); err != nil {
		return nil, err
	}
	if c.Pid <= 0 || c.Start == 0 || len(c.CgroupPaths) == 0 {
		return nil, errUnknown
	}
	return c, nil
}

// lives tells whether the container's first process is there and no zombie. Another one's may have its number by now.
func (c *container) lives() bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(c.Pid) + "/stat")
	if err != nil {
		return false
	}
	// The name, in parentheses, may have any character in it. After it: state, and from there the 20th is the start.
	f := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	const start = 19
	if len(f) <= start || f[0][0] == 'Z' || f[0][0] == 'X' {
		return false
	}
	return string(f[start]) == strconv.FormatUint(c.Start, 10)
}

// ownPids tells whether the container's processes are in a namespace of their own, and die with the first.
func (c *container) ownPids() bool {
	for _, ns := range c.Config.Namespaces {
		if ns.Type == "NEWPID" {
			return ns.Path == ""
		}
	}
	return false
}

// openPause is between two looks whether the process that is to open the FIFO still lives.
const openPause = 100 * time.Millisecond

// start lets the container's process go: it waits at a FIFO until that is read.
func (c *container) start() bool {
	path := filepath.Join(c.dir, "exec.fifo")
	if !c.lives() {
		return false
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO {
		return false
	}
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(openPause.Milliseconds()))
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 && !c.lives() {
			return false
		}
		if n == 1 {
			break
		}
	}
	var b [1]byte
	if n, err := unix.Read(fd, b[:]); n != 1 || err != nil {
		return false
	}
	_ = os.Remove(path) // it is in the way of nothing, and goes with the directory
	return true
}

// kill sends a signal to the container's first process.
func (c *container) kill(signal string) bool {
	sig, err := strconv.Atoi(signal)
	if err != nil || sig == int(unix.SIGKILL) && (!c.ownPids() || c.frozen()) {
		return false // runc kills them all, and thaws them first
	}
	fd, err := unix.PidfdOpen(c.Pid, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	if c.age() < youth {
		c.settle(unix.Signal(sig), settleTime)
	}
	return c.lives() && unix.PidfdSendSignal(fd, unix.Signal(sig), nil, 0) == nil
}

// A signal for a program that has just been let go waits until the program can take it: for settleTime at most, and only
// in the youth of a process. Runc's starts, which take longer than ours, leave programs that time.
const (
	youth      = 2 * time.Second
	settleTime = 200 * time.Millisecond
	settleStep = time.Millisecond
)

// settle waits until the first process of a container is the user's program, no longer runc's init, which a signal ends,
// and has a handler of the signal, or blocks it: else the kernel drops it, for the first process of a namespace.
func (c *container) settle(sig unix.Signal, limit time.Duration) {
	if sig <= 0 || sig == unix.SIGKILL || sig == unix.SIGSTOP || !c.ownPids() {
		return
	}
	if _, err := os.Lstat(filepath.Join(c.dir, "exec.fifo")); err == nil {
		return // it was not let go
	}
	for end := time.Now().Add(limit); !c.handles(sig) && time.Now().Before(end); {
		time.Sleep(settleStep)
	}
}

// age of the first process, since before runc set the container up.
func (c *container) age() time.Duration {
	const tick = time.Second / 100 // USER_HZ of every architecture we run on
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) != nil {
		return youth
	}
	return time.Duration(now.Nano()) - time.Duration(c.Start)*tick
}

// handles tells whether the process is the user's program and a signal comes to it; also of a process that has ended.
func (c *container) handles(sig unix.Signal) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(c.Pid) + "/status")
	if err != nil {
		return true
	}
	var name string
	var takes uint64
	for line := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(line, ":")
		switch key {
		case "Name":
			name = strings.TrimSpace(value)
		case "SigCgt", "SigBlk": // what is blocked waits to be taken, as by tini
			mask, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
			if err != nil {
				return true
			}
			takes |= mask
		case "State":
			if strings.Contains(value, "Z") {
				return true
			}
		}
	}
	return name != "runc:[2:INIT]" && takes&(1<<(sig-1)) != 0
}

// frozen tells whether the container is paused, or may be.
func (c *container) frozen() bool {
	if path, ok := c.CgroupPaths["freezer"]; ok {
		b, err := os.ReadFile(filepath.Join(path, "freezer.state"))
		return err != nil || strings.TrimSpace(string(b)) != "THAWED"
	}
	b, err := os.ReadFile(filepath.Join(c.CgroupPaths[""], "cgroup.freeze"))
	return err != nil || strings.TrimSpace(string(b)) != "0"
}

// delete removes the cgroups and the record of a container whose processes have ended.
func (c *container) delete() bool {
	if c.lives() || !c.ownPids() || c.RdtPath != "" || len(c.Config.Hooks["poststop"]) > 0 {
		return false
	}
	for _, path := range c.CgroupPaths {
		if !removeCgroup(path) {
			return false
		}
	}
	return os.RemoveAll(c.dir) == nil
}

// removeTries and removePause bound the wait, 31 ms in all, for processes that have been killed and are still in the
// cgroup.
const (
	removeTries = 6
	removePause = time.Millisecond // doubled each time
)

// removeCgroup removes one that has no cgroups below it. None is removed, too.
func removeCgroup(path string) bool {
	if path == "" || !filepath.IsAbs(path) {
		return false
	}
	pause := removePause
	for try := 1; ; try++ {
		err := unix.Rmdir(path)
		if err == nil || err == unix.ENOENT {
			return true
		}
		if err != unix.EBUSY || try == removeTries {
			return false
		}
		time.Sleep(pause)
		pause *= 2
	}
}

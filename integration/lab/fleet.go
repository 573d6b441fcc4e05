package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/poll"
)

// Fleet is several hosts on one bridge, which lies in a network namespace of its own, where a test finds "another
// machine". The first host began the fleet, the others joined it.
type Fleet struct {
	Hosts   []*Host
	Outside string // the other machine's address
	netns   string // of the bridge
	paused  map[*Host]bool
}

// FleetOptions of NewFleet.
type FleetOptions struct {
	Hosts   int
	Servers int      // how many of them, the first among them, hold the state; 0: all
	Args    []string // of every daemon
}

// NewFleet starts a fleet and stops it, with all that it made, when the test ends. A test that leaves anything behind
// fails.
func NewFleet(t testing.TB, o FleetOptions) *Fleet {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: network namespaces and containers")
	}
	base := "lab" + suffix()
	f := &Fleet{Outside: "198.18.0.1", netns: "c-" + base, paused: map[*Host]bool{}}
	t.Cleanup(func() { f.close(t) })
	for _, line := range []string{
		"ip netns add " + f.netns,
		"ip -n " + f.netns + " link set lo up",
		"ip -n " + f.netns + " link add br0 address 02:00:c6:12:00:01 type bridge", // or a new port changes it, and answers are lost
		"ip -n " + f.netns + " addr add " + f.Outside + "/24 dev br0",
		"ip -n " + f.netns + " link set br0 up",
	} {
		run(t, strings.Fields(line)...)
	}
	if o.Servers == 0 {
		o.Servers = o.Hosts
	}
	for i := range o.Hosts {
		f.add(t, fmt.Sprintf("%s%d", base, i+1), i < o.Servers, o.Args)
	}
	return f
}

// Add has one more host join.
func (f *Fleet) Add(t testing.TB, server bool, args ...string) *Host {
	t.Helper()
	base := strings.TrimSuffix(f.Hosts[0].Name, "1")
	return f.add(t, fmt.Sprintf("%s%d", base, len(f.Hosts)+1), server, args)
}

func (f *Fleet) add(t testing.TB, name string, server bool, args []string) *Host {
	t.Helper()
	h := &Host{Name: name, Addr: fmt.Sprintf("198.18.0.%d", 11+len(f.Hosts)), Outside: f.Outside, client: f.netns, args: args}
	h.Dir = filepath.Join("/tmp", "nereid-"+h.Name)
	h.Socket = filepath.Join(h.Dir, "exec", "docker.sock")
	h.netns = "n-" + h.Name
	assert.NilError(t, os.MkdirAll(h.Dir, 0o711))
	first := len(f.Hosts) == 0
	f.Hosts = append(f.Hosts, h)
	f.plug(t, h)
	if !first {
		h.args = append(h.args, f.joinArgs(t, server)...)
	}
	h.Start(t)
	return h
}

// plug joins a host's namespace to the bridge.
func (f *Fleet) plug(t testing.TB, h *Host) {
	t.Helper()
	for _, line := range []string{
		"ip netns add " + h.netns,
		"ip -n " + h.netns + " link set lo up",
		"ip -n " + h.netns + " link add up0 type veth peer name " + f.port(h) + " netns " + f.netns,
		"ip -n " + h.netns + " addr add " + h.Addr + "/24 dev up0",
		"ip -n " + h.netns + " link set up0 up",
		"ip -n " + f.netns + " link set " + f.port(h) + " master br0 up",
		"ip -n " + h.netns + " route add default via " + f.Outside,
	} {
		run(t, strings.Fields(line)...)
	}
}

// port is the bridge's end of a host's cable.
func (f *Fleet) port(h *Host) string { return "p" + strings.TrimPrefix(h.Addr, "198.18.0.") }

func (f *Fleet) joinArgs(t testing.TB, server bool) []string {
	t.Helper()
	by := f.Hosts[0]
	args := []string{"token"}
	if server {
		args = append(args, "--server")
	}
	token := by.Nereid(t, args...)
	join := []string{"--join", by.Addr + ":2377", "--token", token}
	if server {
		join = append(join, "--server")
	}
	return join
}

// Nereid runs an administrative command against the host and wants it to succeed; it returns what it printed, trimmed.
func (h *Host) Nereid(t testing.TB, args ...string) string {
	t.Helper()
	r := h.TryNereid(t, args...)
	assert.Equal(t, r.Code, 0, "nereid %s\n%s", strings.Join(args, " "), r.Combined())
	return strings.TrimSpace(r.Stdout)
}

// TryNereid is Nereid, whatever comes of it.
func (h *Host) TryNereid(t testing.TB, args ...string) Result {
	t.Helper()
	return execute(t, Cmd{}, h.Env(), append([]string{filepath.Join(Bin(t), "nereid")}, args...)...)
}

// CutLink pulls a host's cable, MendLink puts it back.
func (f *Fleet) CutLink(t testing.TB, h *Host) {
	t.Helper()
	run(t, "ip", "-n", f.netns, "link", "set", f.port(h), "down")
}

// MendLink undoes CutLink.
func (f *Fleet) MendLink(t testing.TB, h *Host) {
	t.Helper()
	run(t, "ip", "-n", f.netns, "link", "set", f.port(h), "up")
}

// Pause stops a daemon in its tracks: its connections stay, and nobody answers. Resume lets it go on.
func (f *Fleet) Pause(t testing.TB, h *Host) {
	t.Helper()
	assert.NilError(t, h.daemon.Process.Signal(syscall.SIGSTOP))
	f.paused[h] = true
}

// Resume undoes Pause.
func (f *Fleet) Resume(t testing.TB, h *Host) {
	t.Helper()
	assert.NilError(t, h.daemon.Process.Signal(syscall.SIGCONT))
	delete(f.paused, h)
}

// KillHost has a whole machine die: daemon, containers, and its network with it.
func (f *Fleet) KillHost(t testing.TB, h *Host) {
	t.Helper()
	f.CutLink(t, h)
	h.Kill9(t)
	h.killAll()
}

// close removes all containers of the fleet, then each host; what a failure on the way leaves, too.
func (f *Fleet) close(t testing.TB) {
	t.Helper()
	defer func() {
		for _, h := range f.Hosts {
			h.wipe(t)
		}
		execute(t, Cmd{}, nil, "ip", "netns", "delete", f.netns)
	}()
	for h := range f.paused {
		f.Resume(t, h)
	}
	for _, h := range f.Hosts {
		execute(t, Cmd{}, nil, "ip", "-n", f.netns, "link", "set", f.port(h), "up")
	}
	var alive []*Host
	for _, h := range f.Hosts {
		if h.daemon == nil || h.Removed {
			continue
		}
		if !h.running() {
			assert.Check(t, h.Launch(t))
		}
		alive = append(alive, h)
	}
	for _, h := range alive {
		poll.WaitOn(t, func(poll.LogT) poll.Result {
			if h.Answers() {
				return poll.Success()
			}
			return poll.Continue("%s does not answer for the clean-up\n%s", h.Name, h.LogTail())
		}, poll.WithTimeout(60*time.Second), poll.WithDelay(50*time.Millisecond))
	}
	for _, h := range alive { // each its own: others may find it unreachable for a while yet
		if ids := strings.Fields(h.Try(t, "ps", "-aq", "--filter", "node="+h.Name).Stdout); len(ids) > 0 {
			h.Try(t, append([]string{"rm", "-fv"}, ids...)...)
		}
	}
	for _, h := range f.Hosts {
		h.close(t)
	}
}

// running tells whether the daemon's process is there.
func (h *Host) running() bool {
	select {
	case err := <-h.exited:
		h.exited <- err
		return false
	default:
		return true
	}
}

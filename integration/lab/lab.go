// Package lab runs real nereid daemons on one machine, each host in a network namespace of its own, and drives them
// with the real docker CLI.
package lab

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/poll"
)

// commandTimeout bounds every command of a test: nothing a user types may hang.
const commandTimeout = 60 * time.Second

// Host is one daemon with its roots and its network namespace. An uplink pair joins the namespace to a second one,
// where a test finds "another machine".
type Host struct {
	Name    string
	Dir     string // holds data/, exec/ and daemon.log
	Socket  string
	Addr    string // the host's address on the uplink
	Outside string // the other machine's address
	netns   string
	client  string
	args    []string
	daemon  *exec.Cmd
	exited  chan error
	// Removed hosts are taken out of their fleet: their daemon does not start again, and what is left of them is nobody's.
	Removed bool
	lone    bool // has a second namespace of its own
}

// New starts a daemon in fresh namespaces and stops it, with all that it made, when the test ends. A test that
// leaves anything of the host behind fails.
func New(t testing.TB, args ...string) *Host {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: network namespaces and containers")
	}
	h := &Host{Name: "lab" + suffix(), Addr: "198.18.0.1", Outside: "198.18.0.2", args: args, lone: true}
	h.Dir = filepath.Join("/tmp", "nereid-"+h.Name) // short: unix socket paths end at 108 bytes
	h.Socket = filepath.Join(h.Dir, "exec", "docker.sock")
	h.netns, h.client = "n-"+h.Name, "c-"+h.Name
	assert.NilError(t, os.MkdirAll(h.Dir, 0o711))
	t.Cleanup(func() { h.close(t) })
	h.wire(t)
	h.Start(t)
	return h
}

func suffix() string {
	var b [3]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// wire makes the two namespaces and the cable between them.
func (h *Host) wire(t testing.TB) {
	t.Helper()
	for _, line := range []string{
		"ip netns add " + h.netns,
		"ip netns add " + h.client,
		"ip -n " + h.netns + " link set lo up",
		"ip -n " + h.client + " link set lo up",
		"ip -n " + h.netns + " link add up0 type veth peer name up0 netns " + h.client,
		"ip -n " + h.netns + " addr add " + h.Addr + "/24 dev up0",
		"ip -n " + h.netns + " addr add fd00:198:18::1/64 dev up0 nodad",
		"ip -n " + h.client + " addr add " + h.Outside + "/24 dev up0",
		"ip -n " + h.client + " addr add fd00:198:18::2/64 dev up0 nodad",
		"ip -n " + h.netns + " link set up0 up",
		"ip -n " + h.client + " link set up0 up",
		"ip -n " + h.netns + " route add default via " + h.Outside,
	} {
		run(t, strings.Fields(line)...)
	}
}

// Start runs the daemon and returns when it answers.
func (h *Host) Start(t testing.TB) {
	t.Helper()
	assert.NilError(t, h.Launch(t))
	poll.WaitOn(t, func(poll.LogT) poll.Result {
		select {
		case err := <-h.exited:
			h.exited <- err
			return poll.Error(fmt.Errorf("the daemon ended: %w\n%s", err, h.LogTail()))
		default:
		}
		if h.Answers() {
			return poll.Success()
		}
		return poll.Continue("the daemon does not answer yet\n%s", h.LogTail())
	}, poll.WithTimeout(60*time.Second), poll.WithDelay(20*time.Millisecond))
}

// StartWith is Start with more arguments, this once.
func (h *Host) StartWith(t testing.TB, args ...string) {
	t.Helper()
	defer func(usual []string) { h.args = usual }(h.args)
	h.args = append(slices.Clone(h.args), args...)
	h.Start(t)
}

// Launch runs the daemon and does not wait for it.
func (h *Host) Launch(t testing.TB) error {
	t.Helper()
	log, err := os.OpenFile(filepath.Join(h.Dir, "daemon.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	args := append([]string{
		"--net=/run/netns/" + h.netns, filepath.Join(Bin(t), "nereid"), "daemon", "--name", h.Name,
		"--data-root", filepath.Join(h.Dir, "data"), "--exec-root", filepath.Join(h.Dir, "exec"), "--debug",
	}, h.args...)
	h.daemon = exec.Command("nsenter", args...) //nolint:noctx // it outlives the test's context on purpose: cleanup stops it
	h.daemon.Stdout, h.daemon.Stderr = log, log
	h.daemon.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := h.daemon.Start(); err != nil {
		return err
	}
	h.exited = make(chan error, 1)
	go func(d *exec.Cmd, done chan error) { done <- d.Wait() }(h.daemon, h.exited)
	return nil
}

// Answers tells whether the daemon serves its API: one that waits for the fleet's state answers pings only.
func (h *Host) Answers() bool {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://nereid/containers/json?limit=1", nil)
	res, err := h.Client().Do(req)
	if err != nil {
		return false
	}
	res.Body.Close()
	return res.StatusCode == http.StatusOK
}

// Client speaks plain HTTP to the daemon's socket.
func (h *Host) Client() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", h.Socket)
		},
	}}
}

// Pid of the daemon.
func (h *Host) Pid() int { return h.daemon.Process.Pid }

// Stop ends the daemon as an operator does.
func (h *Host) Stop(t testing.TB) {
	t.Helper()
	h.signal(t, syscall.SIGTERM)
}

// Kill9 ends it as a fault does.
func (h *Host) Kill9(t testing.TB) {
	t.Helper()
	h.signal(t, syscall.SIGKILL)
}

func (h *Host) signal(t testing.TB, s syscall.Signal) {
	t.Helper()
	_ = h.daemon.Process.Signal(s)
	select {
	case err := <-h.exited:
		h.exited <- err
	case <-time.After(60 * time.Second):
		_ = h.daemon.Process.Kill()
		t.Errorf("the daemon did not end within a minute of %v\n%s", s, h.LogTail())
	}
}

// WaitExit returns how the daemon ended by itself.
func (h *Host) WaitExit(t testing.TB) error {
	t.Helper()
	select {
	case err := <-h.exited:
		h.exited <- err
		return err
	case <-time.After(60 * time.Second):
		t.Fatalf("the daemon still runs\n%s", h.LogTail())
		return nil
	}
}

// LogTail is the end of the daemon's log.
func (h *Host) LogTail() string {
	b, _ := os.ReadFile(filepath.Join(h.Dir, "daemon.log"))
	if len(b) > 6000 {
		b = b[len(b)-6000:]
	}
	return string(b)
}

// Result of a command.
type Result struct {
	Args           []string
	Stdout, Stderr string
	Code           int
}

// Combined is all it printed.
func (r Result) Combined() string { return r.Stdout + r.Stderr }

// Cmd is a command to run against the host; its zero fields are the defaults.
type Cmd struct {
	Program string // the docker CLI: the one on PATH
	Stdin   string
	Dir     string
	Env     []string
	Timeout time.Duration
}

// Docker runs the docker CLI against the host and wants it to succeed; it returns what it printed, trimmed.
func (h *Host) Docker(t testing.TB, args ...string) string {
	t.Helper()
	r := h.Try(t, args...)
	assert.Equal(t, r.Code, 0, "docker %s\n%s", strings.Join(args, " "), r.Combined())
	return strings.TrimSpace(r.Stdout)
}

// Try runs the docker CLI against the host, whatever comes of it.
func (h *Host) Try(t testing.TB, args ...string) Result {
	t.Helper()
	return h.TryWith(t, Cmd{}, args...)
}

// TryWith is Try with input and environment.
func (h *Host) TryWith(t testing.TB, c Cmd, args ...string) Result {
	t.Helper()
	return execute(t, c, h.Env(), append([]string{cmp.Or(c.Program, "docker")}, args...)...)
}

// Env is the environment in which the docker CLI meets this host.
func (h *Host) Env() []string {
	return append(os.Environ(), "DOCKER_HOST=unix://"+h.Socket, "DOCKER_CONFIG="+filepath.Join(h.Dir, "docker-config"), "DOCKER_CLI_HINTS=false")
}

// Command is the docker CLI against the host, not started: for streams and terminals.
func (h *Host) Command(ctx context.Context, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, "docker", args...)
	c.Env = h.Env()
	return c
}

// On runs a command on the host, in its network namespace.
func (h *Host) On(t testing.TB, args ...string) Result {
	t.Helper()
	return execute(t, Cmd{}, nil, append([]string{"nsenter", "--net=/run/netns/" + h.netns}, args...)...)
}

// From runs a command on the other machine.
func (h *Host) From(t testing.TB, args ...string) Result {
	t.Helper()
	return execute(t, Cmd{}, nil, append([]string{"nsenter", "--net=/run/netns/" + h.client}, args...)...)
}

func execute(t testing.TB, c Cmd, env []string, args ...string) Result {
	t.Helper()
	if c.Timeout == 0 {
		c.Timeout = commandTimeout
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.Timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env, cmd.Dir = append(env, c.Env...), c.Dir
	var out, errb bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(c.Stdin), &out, &errb
	err := cmd.Run()
	r := Result{Args: args, Stdout: out.String(), Stderr: errb.String(), Code: cmd.ProcessState.ExitCode()}
	if ctx.Err() != nil {
		t.Errorf("%s: did not end within %v\n%s", strings.Join(args, " "), c.Timeout, r.Combined())
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Errorf("%s: %v", strings.Join(args, " "), err)
	}
	return r
}

// Execute runs any command of this machine.
func Execute(t testing.TB, c Cmd, args ...string) Result {
	t.Helper()
	return execute(t, c, nil, args...)
}

// Spawn runs any command of this machine until the test ends or stop is called. Said is what it has printed so far.
func Spawn(t testing.TB, c Cmd, args ...string) (said func() string, stop func()) {
	t.Helper()
	var out lockedBuffer
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), args[0], args[1:]...)
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = c.Env, c.Dir, &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	assert.NilError(t, cmd.Start())
	stop = sync.OnceFunc(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGINT)
		kill := time.AfterFunc(commandTimeout, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
		_ = cmd.Wait() // it was interrupted
		kill.Stop()
	})
	t.Cleanup(stop)
	return out.String, stop
}

// lockedBuffer is written by a command and read by its test.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func run(t testing.TB, args ...string) {
	t.Helper()
	if r := execute(t, Cmd{}, nil, args...); r.Code != 0 {
		t.Fatalf("%s: %s", strings.Join(args, " "), r.Combined())
	}
}

// Bin is the folder of the built programs.
func Bin(t testing.TB) string {
	t.Helper()
	_, file, _, _ := runtime.Caller(0)
	dir := filepath.Join(filepath.Dir(file), "..", "..", "bin")
	if _, err := os.Stat(filepath.Join(dir, "nereid")); err != nil {
		t.Fatalf("bin/nereid is not built: run `make build` first (%v)", err)
	}
	return dir
}

// Background runs a command on the host until the returned function or the test's end stops it.
func (h *Host) Background(t testing.TB, args ...string) (stop func()) {
	t.Helper()
	return background(t, h.netns, args...)
}

// BackgroundFrom is Background on the other machine.
func (h *Host) BackgroundFrom(t testing.TB, args ...string) (stop func()) {
	t.Helper()
	return background(t, h.client, args...)
}

func background(t testing.TB, netns string, args ...string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"--net=/run/netns/" + netns}, args...)...)
	assert.NilError(t, cmd.Start())
	stop = sync.OnceFunc(func() { cancel(); _ = cmd.Wait() })
	t.Cleanup(stop)
	return stop
}

// Process is a command in the host's network namespace, not started, and for the caller to end.
func (h *Host) Process(args ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{"--net=/run/netns/" + h.netns}, args...)...) //nolint:noctx // its end is the caller's
}

// Shell runs a line of shell on the host, in a folder, with docker pointed at the host.
func (h *Host) Shell(t testing.TB, dir, line string) Result {
	t.Helper()
	return execute(t, Cmd{}, h.Env(), "nsenter", "--net=/run/netns/"+h.netns, "--wd="+dir, "bash", "-o", "pipefail", "-c", line)
}

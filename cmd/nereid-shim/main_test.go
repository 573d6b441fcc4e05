package main

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	bootapi "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	runcoptions "github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/shim"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/poll"
)

// asked is what containerd writes to a shim it starts.
func asked(t *testing.T, change func(*bootapi.BootstrapParams)) []byte {
	t.Helper()
	dir := "/run/s"
	p := &bootapi.BootstrapParams{
		InstanceID: "c1", Namespace: "admin", LogLevel: bootapi.LogLevel_LOG_LEVEL_WARN, ContainerdVersion: "v2",
		ContainerdTtrpcAddress: "/run/c.sock.ttrpc", ContainerdGrpcAddress: "/run/c.sock", ContainerdBinary: "/bin/nereid", SocketDir: &dir,
	}
	assert.NilError(t, p.AddExtension(&runcoptions.Options{Root: "/run/runc"}))
	change(p)
	b, err := proto.Marshal(p)
	assert.NilError(t, err)
	return b
}

func TestParametersAsContainerdWritesThem(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*bootapi.BootstrapParams)
		ok     bool
	}{
		{"as usual", func(*bootapi.BootstrapParams) {}, true},
		{"every level but one", func(p *bootapi.BootstrapParams) { p.LogLevel = bootapi.LogLevel_LOG_LEVEL_INFO }, true},
		{"debug, which has a socket of its own", func(p *bootapi.BootstrapParams) { p.LogLevel = bootapi.LogLevel_LOG_LEVEL_DEBUG }, false},
		{"trace", func(p *bootapi.BootstrapParams) { p.LogLevel = bootapi.LogLevel_LOG_LEVEL_TRACE }, false},
		{"no directory for sockets", func(p *bootapi.BootstrapParams) { p.SocketDir = nil }, false},
		{"no id", func(p *bootapi.BootstrapParams) { p.InstanceID = "" }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, ok := parse(asked(t, c.change))
			assert.Equal(t, ok, c.ok)
			if ok {
				assert.Equal(t, p, params{id: "c1", namespace: "admin", grpcAddress: "/run/c.sock", socketDir: "/run/s"})
			}
		})
	}
	whole := asked(t, func(*bootapi.BootstrapParams) {})
	_, ok := parse(whole[:len(whole)-1])
	assert.Check(t, !ok, "cut off")
	_, ok = parse(protowire.AppendString(protowire.AppendTag(whole, 10, protowire.BytesType), "new"))
	assert.Check(t, !ok, "a field of a newer containerd")
}

// FuzzParse looks for input that does not end in an answer.
func FuzzParse(f *testing.F) {
	f.Add([]byte{0x0a, 0x02, 'c', '1', 0x18, 0x04})
	f.Fuzz(func(_ *testing.T, b []byte) { parse(b) })
}

func TestSocketIsWhereTheShimRemovesIt(t *testing.T) {
	want, err := shim.CreateSocketAddress(namespaces.WithNamespace(t.Context(), "admin"), "/run/s", "/run/c.sock", "c1", false)
	assert.NilError(t, err)
	assert.Equal(t, "unix://"+socketPath(params{id: "c1", namespace: "admin", grpcAddress: "/run/c.sock", socketDir: "/run/s"}), want)
}

// shortDir is one whose name leaves room for a socket's: a test's own has the test's in it.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "s")
	assert.NilError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// TestStart starts a shim that is a script: it tells its arguments, group and working directory, and then waits.
func TestStart(t *testing.T) {
	bundle := shortDir(t)
	t.Chdir(bundle)
	program := filepath.Join(bundle, "program")
	assert.NilError(t, os.WriteFile(program, []byte("#!/bin/sh\nread -r pid rest </proc/self/stat\necho \"$*\" $$ >told.new; mv told.new told; exec sleep 1000 <&3\n"), 0o700))
	sockets := filepath.Join(bundle, "s.d")
	assert.NilError(t, os.Mkdir(sockets, 0o700))
	p := params{id: "c1", namespace: "admin", grpcAddress: "/run/c.sock", socketDir: sockets}
	stale, err := net.Listen("unix", socketPath(p)) // of a shim that died
	assert.NilError(t, err)
	stale.(*net.UnixListener).SetUnlinkOnClose(false)
	stale.Close()

	address, err := start(program, p)
	assert.NilError(t, err)
	var told string
	poll.WaitOn(t, func(poll.LogT) poll.Result {
		b, err := os.ReadFile("told")
		told = strings.TrimSpace(string(b))
		if err != nil {
			return poll.Continue("the program says nothing: %v", err)
		}
		return poll.Success()
	}, poll.WithTimeout(time.Minute), poll.WithDelay(time.Millisecond))
	i := strings.LastIndexByte(told, ' ')
	args, pid := told[:i], told[i+1:]
	t.Cleanup(func() { kill(t, pid) })
	assert.Equal(t, args, "-namespace admin -id c1 -address /run/c.sock")

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "unix", strings.TrimPrefix(address, "unix://"))
	assert.NilError(t, err) // the program holds the socket: nobody else does any more
	c.Close()
	info, err := os.Stat(socketPath(p))
	assert.NilError(t, err)
	assert.Equal(t, info.Mode().Perm(), os.FileMode(0o600))
	dir, err := os.Readlink("s")
	assert.NilError(t, err)
	assert.Equal(t, dir, sockets)
	mine, err := os.ReadFile("/proc/" + strconv.Itoa(os.Getppid()) + "/oom_score_adj")
	assert.NilError(t, err)
	its, err := os.ReadFile("/proc/" + pid + "/oom_score_adj")
	assert.NilError(t, err)
	assert.Equal(t, atoi(t, its), min(atoi(t, mine)+1, maxOOMScore))
}

func TestNoSocketIsLeftOfAStartThatFails(t *testing.T) {
	t.Chdir(t.TempDir())
	p := params{id: "c1", namespace: "admin", grpcAddress: "/run/c.sock", socketDir: shortDir(t)}
	_, err := start("/nonexistent", p)
	assert.ErrorContains(t, err, "no such file")
	left, err := os.ReadDir(p.socketDir)
	assert.NilError(t, err)
	assert.Equal(t, len(left), 0)
}

func TestAnswerIsContainerds(t *testing.T) {
	var got bootapi.BootstrapResult
	assert.NilError(t, proto.Unmarshal(answer("unix:///run/s/x"), &got))
	assert.Check(t, proto.Equal(&got, &bootapi.BootstrapResult{Version: 3, Address: "unix:///run/s/x", Protocol: "ttrpc"}))
}

func TestRunRefusesWhatIsCutOff(t *testing.T) {
	// The program that would be run instead is not beside a test's.
	var out bytes.Buffer
	err := run([]string{"nereid-shim", "delete"}, nil, &out)
	assert.ErrorContains(t, err, "no such file")
	assert.Equal(t, out.Len(), 0)
}

func atoi(t *testing.T, b []byte) int {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	assert.NilError(t, err)
	return n
}

// kill ends a process of the test's.
func kill(t *testing.T, pid string) {
	t.Helper()
	n := atoi(t, []byte(pid))
	assert.NilError(t, syscall.Kill(n, syscall.SIGKILL))
	_, err := syscall.Wait4(n, nil, 0, nil)
	assert.NilError(t, err)
}

//go:build integration

package integration

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/nereid-paas/nereid/integration/lab"
)

// received gathers what log drivers send.
type received struct{ lockedBuffer }

// tcp takes everything that comes over a listener's connections, until die is called.
func (r *received) tcp(t *testing.T, l net.Listener) (die func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	die = func() { cancel(); l.Close() }
	t.Cleanup(die)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				defer context.AfterFunc(ctx, func() { c.Close() })()
				_, _ = io.Copy(r, c)
			}()
		}
	}()
	return die
}

// packets takes datagrams, decompressed when they are compressed.
func (r *received) packets(t *testing.T, c net.PacketConn) {
	t.Helper()
	t.Cleanup(func() { c.Close() })
	go func() {
		for b := make([]byte, 64<<10); ; {
			n, _, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			var in io.Reader = bytes.NewReader(b[:n])
			if z, err := gzip.NewReader(bytes.NewReader(b[:n])); err == nil {
				in = z
			}
			_, _ = io.Copy(r, in)
			_, _ = r.Write([]byte("\n"))
		}
	}()
}

func (r *received) want(t *testing.T, parts ...string) {
	t.Helper()
	eventually(t, 30*time.Second, func() error {
		for _, p := range parts {
			if !bytes.Contains(r.Bytes(), []byte(p)) {
				return fmt.Errorf("%q was not sent: %q", p, r.Bytes())
			}
		}
		return nil
	})
}

// TestLogDrivers runs a container with each driver against a receiver of its kind, and reads its log back.
func TestLogDrivers(t *testing.T) {
	h := lab.NewWithBusybox(t)
	local, err := new(net.ListenConfig).ListenPacket(t.Context(), "unixgram", filepath.Join(h.Dir, "log"))
	assert.NilError(t, err)
	var tcp, udp, fluent, unix received
	tcp.tcp(t, h.Listen(t, "127.0.0.1:1514"))
	fluent.tcp(t, h.Listen(t, "127.0.0.1:24224"))
	udp.packets(t, h.ListenPacket(t, "127.0.0.1:12201"))
	unix.packets(t, local)
	for _, tc := range []struct {
		name, args string
		to         *received
		want       []string
	}{
		{"syslog over tcp", "--log-driver syslog --log-opt syslog-address=tcp://127.0.0.1:1514 --log-opt syslog-format=rfc5424 --log-opt tag={{.Name}}/{{.ImageName}}", &tcp,
			[]string{"<30>1 ", " d-0/busybox ", " - out\n", "<27>1 ", " - err\n"}},
		{"syslog over a socket", "--log-driver syslog --log-opt syslog-address=unixgram://" + filepath.Join(h.Dir, "log"), &unix, []string{"]: out\n", "]: err\n"}},
		{"gelf", "--log-driver gelf --log-opt gelf-address=udp://127.0.0.1:12201 --log-opt labels=color -l color=red", &udp,
			[]string{`"short_message":"out"`, `"level":6`, `"short_message":"err"`, `"level":3`, `"_container_name":"d-2"`, `"_color":"red"`, `"_image_name":"busybox"`}},
		{"fluentd", "--log-driver fluentd --log-opt env=STAGE -e STAGE=test", &fluent, []string{"\xa3log\xa3out", "\xa3log\xa3err", "\xaecontainer_name\xa4/d-3", "\xa5STAGE\xa4test"}},
		{"not waiting", "--log-driver fluentd --log-opt mode=non-blocking --log-opt max-buffer-size=1m", &fluent, []string{"\xaecontainer_name\xa4/d-4"}},
		{"local", "--log-driver local --log-opt max-size=10k --log-opt max-file=2", nil, nil},
	} {
		name := fmt.Sprintf("d-%d", map[string]int{"syslog over tcp": 0, "syslog over a socket": 1, "gelf": 2, "fluentd": 3, "not waiting": 4, "local": 5}[tc.name])
		t.Run(tc.name, func(t *testing.T) {
			h.Docker(t, split("run -d --name "+name+" "+tc.args+" busybox sh -c 'echo out; echo err >&2; sleep 600'")...)
			eventually(t, 30*time.Second, func() error {
				if r := h.Try(t, "logs", name); r.Stdout != "out\n" || r.Stderr != "err\n" {
					return fmt.Errorf("docker logs: %q %q", r.Stdout, r.Stderr)
				}
				return nil
			})
			assert.Equal(t, h.Docker(t, "inspect", "-f", "{{.LogPath}}", name), "")
			if tc.to != nil {
				tc.to.want(t, tc.want...)
			}
		})
	}
	t.Run("after a daemon's end", func(t *testing.T) {
		h.Docker(t, "run", "-d", "--name", "on", "--log-driver", "syslog", "--log-opt", "syslog-address=tcp://127.0.0.1:1514", "busybox", "sh", "-c", "echo before; while ! test -e /go; do sleep 0.1; done; echo after")
		tcp.want(t, "]: before\n")
		h.Kill9(t)
		h.Start(t)
		h.Docker(t, "exec", "on", "touch", "/go")
		tcp.want(t, "]: after\n")
		assert.Equal(t, h.Docker(t, "logs", "-f", "on"), "before\nafter")
	})
	assert.Equal(t, h.Docker(t, "info", "-f", "{{.Plugins.Log}}"), "[fluentd gelf json-file local syslog]")
	runCases(t, h, []cliCase{
		{name: "none", args: "run -d --name none --log-driver none busybox echo hi", out: "~"},
		{name: "nothing to read", args: "logs none", code: 1, stderr: "configured logging driver does not support reading"},
		{name: "no copy", args: "run -d --name nocopy --log-driver gelf --log-opt gelf-address=udp://127.0.0.1:12201 --log-opt cache-disabled=true busybox echo hi", out: "~"},
		{name: "no copy to read", args: "logs nocopy", code: 1, stderr: "configured logging driver does not support reading"},
		{name: "unknown driver", args: "run --log-driver nosuch busybox", code: 125, stderr: `error looking up logging plugin nosuch: plugin "nosuch" not found`},
		{name: "unknown option", args: "run --log-driver syslog --log-opt max-size=1m busybox", code: 125, stderr: "unknown log opt 'max-size' for syslog log driver"},
		{name: "option of another", args: "run --log-driver local --log-opt tag=x busybox", code: 125, stderr: "unknown log opt 'tag' for log driver local"},
		{name: "bad address", args: "run --log-driver gelf busybox", code: 125, stderr: "gelf-address is a required parameter"},
		{name: "bad mode", args: "run --log-opt mode=fast busybox", code: 125, stderr: "logger: logging mode not supported: fast"},
		{name: "syslog is down", args: "run --name down --log-driver syslog --log-opt syslog-address=tcp://127.0.0.1:9 busybox true", code: 125,
			stderr: "failed to create task for container: failed to initialize logging driver: dial tcp 127.0.0.1:9: connect: connection refused"},
		{name: "it was not started", args: "inspect -f '{{.State.Status}} {{.State.ExitCode}}' down", out: "created 128"},
		{name: "fluentd is down", args: "run --log-driver fluentd --log-opt fluentd-address=127.0.0.1:9 busybox true", code: 125, stderr: "dial tcp 127.0.0.1:9: connect: connection refused"},
		{name: "it need not be there", args: "run --log-driver fluentd --log-opt fluentd-address=127.0.0.1:9 --log-opt fluentd-async=true busybox echo hi", out: "hi"},
	})
}

// TestReceiverThatDies: a container whose logs nobody takes any more runs on, and its log can be read.
func TestReceiverThatDies(t *testing.T) {
	h := lab.NewWithBusybox(t)
	var got received
	die := got.tcp(t, h.Listen(t, "127.0.0.1:24224"))
	h.Docker(t, "run", "-d", "--name", "cc", "--log-driver", "fluentd", "busybox", "sh", "-c", "echo first; while ! test -e /go; do sleep 0.1; done; seq 1 20000; sleep 600")
	got.want(t, "first")
	die()
	h.Docker(t, "exec", "cc", "touch", "/go")
	eventually(t, 30*time.Second, func() error {
		if last := h.Docker(t, "logs", "--tail", "1", "cc"); last != "20000" {
			return fmt.Errorf("it came to %s only", last)
		}
		return nil
	})
	h.Kill9(t)
	h.Start(t)
	assert.Equal(t, h.Docker(t, "inspect", "-f", "{{.State.Status}}", "cc"), "running")
	assert.Equal(t, h.Docker(t, "logs", "cc"), "first\n"+numbers(20000))
	r := h.Try(t, "restart", "-t", "0", "cc")
	assert.Equal(t, r.Code, 1)
	assert.Assert(t, is.Contains(r.Stderr, "dial tcp 127.0.0.1:24224: connect: connection refused"))
	assert.Equal(t, h.Docker(t, "inspect", "-f", "{{.State.Status}}", "cc"), "exited")
}

// numbers are what seq prints, without the last newline.
func numbers(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintln(&b, i+1)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// TestLocalRotation: the driver local keeps as much as it is told to, and reads across its files, compressed ones too.
func TestLocalRotation(t *testing.T) {
	h := lab.NewWithBusybox(t)
	h.Docker(t, "run", "--name", "rr", "--log-driver", "local", "--log-opt", "max-size=20k", "--log-opt", "max-file=3", "busybox", "seq", "1", "5000")
	lines := strings.Fields(h.Docker(t, "logs", "rr"))
	assert.Equal(t, lines[len(lines)-1], "5000")
	assert.Check(t, len(lines) < 5000 && len(lines) > 300, "%d lines are kept", len(lines))
	files, err := filepath.Glob(filepath.Join(h.Dir, "data", "containers", "admin", "*", "local-logs", "*"))
	assert.NilError(t, err)
	assert.Check(t, is.Len(files, 3), "%v", files)
	assert.Equal(t, h.Docker(t, "logs", "--tail", "3", "rr"), "4998\n4999\n5000")
}

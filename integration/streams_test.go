//go:build integration

package integration

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/nereid-paas/nereid/integration/lab"
)

// readLines sends what a stream says, line by line; the channel closes at its end.
func readLines(r io.Reader) <-chan string {
	lines := make(chan string, 1024)
	go func() {
		defer close(lines)
		s := bufio.NewScanner(r)
		for s.Scan() {
			lines <- s.Text()
		}
	}()
	return lines
}

func TestExec(t *testing.T) {
	h := lab.NewWithBusybox(t)
	h.Docker(t, "run", "-d", "--name", "xx", "-e", "BASE=1", "-w", "/var", "busybox", "sleep", "600")
	runCases(t, h, []cliCase{
		{name: "output", args: "exec xx echo hi", out: "hi"},
		{name: "stdin", args: "exec -i xx cat", stdin: "in\n", out: "in"},
		{name: "no stdin", args: "exec xx cat", stdin: "in\n", out: ""},
		{name: "exit code", args: "exec xx sh -c 'exit 5'", code: 5},
		{name: "stderr", args: "exec xx sh -c 'echo err >&2'", stderr: "err"},
		{name: "env", args: "exec -e A=1 xx sh -c 'echo $A$BASE'", out: "11"},
		{name: "the container's directory", args: "exec xx pwd", out: "/var"},
		{name: "workdir", args: "exec -w /tmp xx pwd", out: "/tmp"},
		{name: "user", args: "exec -u nobody xx id -u", out: "65534"},
		{name: "no such user", args: "exec -u nosuch xx id", code: 1, stderr: "unable to find user nosuch: no matching entries in passwd file"},
		{name: "tty", args: "exec -t xx tty", out: "~/dev/pts/"},
		{name: "privileged", args: "exec --privileged xx ip link set lo mtu 1400", out: ""}, {name: "unprivileged", args: "exec xx ip link set lo mtu 1500", code: 2, stderr: "Operation not permitted"},
		{name: "not found", args: "exec xx nosuch", code: 127, out: "~executable file not found in $PATH"},
		{name: "not executable", args: "exec xx /etc/passwd", code: 126, out: "~permission denied"},
		{name: "detached", args: "exec -d xx touch /tmp/detached", out: ""},
		{name: "no such container", args: "exec nosuch true", code: 1, stderr: "No such container: nosuch"},
		{name: "killed", args: "exec xx sh -c 'kill -9 $$'", code: 137},
	})
	eventually(t, 30*time.Second, func() error {
		if r := h.Try(t, "exec", "xx", "ls", "/tmp/detached"); r.Code != 0 {
			return fmt.Errorf("the detached process has not run: %s", r.Combined())
		}
		return nil
	})
}

// TestTerminal is a person at a terminal: a shell with a size, a prompt, an answer, and an end.
func TestTerminal(t *testing.T) {
	h := lab.NewWithBusybox(t)
	h.Docker(t, "run", "-d", "--name", "xx", "busybox", "sleep", "600")
	for _, args := range [][]string{{"run", "-it", "--rm", "busybox", "sh"}, {"exec", "-it", "xx", "sh"}} {
		t.Run(args[0], func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			cmd := h.Command(ctx, args...)
			tty, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 33, Cols: 101})
			assert.NilError(t, err)
			defer tty.Close()
			s := &screen{r: tty, got: make(chan struct{}, 1)}
			go s.read()
			s.want(t, ctx, "# ")
			_, _ = io.WriteString(tty, "echo $((6*7))-$(tty)\n")
			s.want(t, ctx, "42-/dev/")
			_, _ = io.WriteString(tty, "stty size\n")
			s.want(t, ctx, "33 101")
			assert.NilError(t, pty.Setsize(tty, &pty.Winsize{Rows: 20, Cols: 77}))
			assert.NilError(t, cmd.Process.Signal(sigwinch))
			s.wantAfter(t, ctx, func() { _, _ = io.WriteString(tty, "stty size\n") }, "20 77")
			_, _ = io.WriteString(tty, "exit 3\n")
			_ = cmd.Wait()
			assert.Equal(t, cmd.ProcessState.ExitCode(), 3)
		})
	}
}

func TestDetachKeysLeaveItRunning(t *testing.T) {
	h := lab.NewWithBusybox(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := h.Command(ctx, "run", "-it", "--name", "dd", "busybox", "sh")
	tty, err := pty.Start(cmd)
	assert.NilError(t, err)
	defer tty.Close()
	s := &screen{r: tty, got: make(chan struct{}, 1)}
	go s.read()
	s.want(t, ctx, "# ")
	_, _ = tty.Write([]byte{16, 17}) // ctrl-p ctrl-q
	_ = cmd.Wait()
	assert.Equal(t, cmd.ProcessState.ExitCode(), 0)
	assert.Equal(t, h.Docker(t, "inspect", "-f", "{{.State.Running}}", "dd"), "true")
}

func TestAttach(t *testing.T) {
	h := lab.NewWithBusybox(t)
	h.Docker(t, "create", "-i", "--name", "aa", "busybox", "sh", "-c", "while read l; do echo got $l; done; exit 8")
	h.Docker(t, "start", "aa")
	r := h.TryWith(t, lab.Cmd{Stdin: "one\ntwo\n"}, "attach", "aa")
	assert.Equal(t, r.Code, 8)
	assert.Equal(t, r.Stdout, "got one\ngot two\n", r.Stderr)
	assert.Equal(t, h.Docker(t, "logs", "aa"), "got one\ngot two")
	h.Docker(t, "run", "-di", "--name", "open", "busybox", "sh", "-c", "while read l; do echo got $l; done")
	sayAndHangUp(t, h, "open", "one\n")
	eventuallyLogged(t, h, "open", "got one")
	assert.Equal(t, h.Docker(t, "inspect", "-f", "{{.State.Running}}", "open"), "true")
	runCases(t, h, []cliCase{
		{name: "stopped", args: "attach aa", code: 1, stderr: "cannot attach to a stopped container"},
		{name: "none", args: "attach nosuch", code: 1, stderr: "No such container: nosuch"},
	})
}

// sayAndHangUp attaches with all streams, says something, ends its side, and is let go by a container that goes on.
func sayAndHangUp(t *testing.T, h *lab.Host, name, words string) {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "unix", h.Socket)
	assert.NilError(t, err)
	defer conn.Close()
	assert.NilError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	fmt.Fprintf(conn, "POST /containers/%s/attach?stream=1&stdin=1&stdout=1&stderr=1 HTTP/1.1\r\nHost: d\r\n"+
		"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n", name)
	answer := bufio.NewReader(conn)
	resp, err := http.ReadResponse(answer, nil)
	assert.NilError(t, err)
	defer resp.Body.Close()
	assert.Equal(t, resp.StatusCode, http.StatusSwitchingProtocols)
	_, err = io.WriteString(conn, words)
	assert.NilError(t, err)
	assert.NilError(t, conn.(*net.UnixConn).CloseWrite())
	rest, err := io.ReadAll(answer)
	assert.NilError(t, err, "%q", rest)
}

func TestLogs(t *testing.T) {
	h := lab.NewWithBusybox(t)
	h.Docker(t, "run", "-d", "--name", "ll", "busybox", "sh", "-c", "for i in 1 2 3 4 5; do echo line $i; done; while ! test -e /go; do sleep 0.1; done; echo oops >&2")
	eventuallyLogged(t, h, "ll", "line 5") // what is said on two streams has no order
	h.Docker(t, "exec", "ll", "touch", "/go")
	h.Docker(t, "wait", "ll")
	h.Docker(t, "run", "-t", "--name", "tty", "busybox", "echo", "from a tty")
	h.Docker(t, "run", "--name", "long", "busybox", "sh", "-c", "head -c 40000 /dev/zero | tr '\\0' x; echo; printf unfinished")
	runCases(t, h, []cliCase{
		{name: "all", args: "logs ll", out: "line 1\nline 2\nline 3\nline 4\nline 5", stderr: "oops"},
		{name: "tail", args: "logs --tail 2 ll", out: "line 5", stderr: "oops"},
		{name: "tail 0", args: "logs --tail 0 ll", out: ""},
		{name: "timestamps", args: "logs -t --tail 2 ll", out: "~Z line 5"},
		{name: "since later", args: "logs --since 2099-01-01T00:00:00Z ll", out: ""},
		{name: "until earlier", args: "logs --until 2001-01-01T00:00:00Z ll", out: ""},
		{name: "tty", args: "logs tty", out: "from a tty"},
		{name: "unfinished line", args: "logs --tail 1 long", out: "unfinished"},
		{name: "follow ends with the container", args: "logs -f ll", out: "~line 5", stderr: "oops"},
	})
	assert.Equal(t, len(h.Docker(t, "logs", "long")), 40000+1+len("unfinished"))
}

func TestLogsFollow(t *testing.T) {
	h := lab.NewWithBusybox(t)
	h.Docker(t, "run", "-d", "--name", "ff", "busybox", "sh", "-c", "echo first; sleep 1; echo second; sleep 0.2")
	r := h.Try(t, "logs", "-f", "ff")
	assert.Equal(t, r.Stdout, "first\nsecond\n")
}

func TestLogRotation(t *testing.T) {
	h := lab.NewWithBusybox(t)
	h.Docker(t, "run", "--name", "rr", "--log-opt", "max-size=100k", "--log-opt", "max-file=3", "busybox", "seq", "1", "20000")
	path := h.Docker(t, "inspect", "-f", "{{.LogPath}}", "rr")
	for _, p := range []string{path, path + ".1", path + ".2"} {
		st, err := os.Stat(p)
		assert.NilError(t, err)
		assert.Assert(t, st.Size() < 200<<10, "%s has %d bytes", p, st.Size())
	}
	_, err := os.Stat(path + ".3")
	assert.Assert(t, os.IsNotExist(err))
	lines := strings.Fields(h.Docker(t, "logs", "rr"))
	assert.Equal(t, lines[len(lines)-1], "20000")
	for i := 1; i < len(lines); i++ {
		var a, b int
		_, _ = fmt.Sscan(lines[i-1]+" "+lines[i], &a, &b)
		assert.Equal(t, b, a+1)
	}
	bad := h.Try(t, "run", "--log-opt", "max-size=x", "busybox", "true")
	assert.Equal(t, bad.Code, 125)
	none := h.Try(t, "run", "--log-driver", "nosuch", "busybox", "true")
	assert.Assert(t, is.Contains(none.Stderr, `error looking up logging plugin nosuch: plugin "nosuch" not found`))
}

// screen gathers what a terminal shows.
type screen struct {
	r    io.Reader
	buf  lockedBuffer
	got  chan struct{}
	mark int
}

func (s *screen) read() {
	b := make([]byte, 4096)
	for {
		n, err := s.r.Read(b)
		s.buf.Write(b[:n])
		select {
		case s.got <- struct{}{}:
		default:
		}
		if err != nil {
			return
		}
	}
}

// want waits until the text is on the screen, after what was wanted before.
func (s *screen) want(t *testing.T, ctx context.Context, text string) {
	t.Helper()
	for {
		all := s.buf.Bytes()
		if i := bytes.Index(all[s.mark:], []byte(text)); i >= 0 {
			s.mark += i + len(text)
			return
		}
		select {
		case <-s.got:
		case <-ctx.Done():
			t.Fatalf("%q never came; the screen after the last text wanted: %q", text, all[s.mark:])
		}
	}
}

// wantAfter does something again and again until the text shows.
func (s *screen) wantAfter(t *testing.T, ctx context.Context, do func(), text string) {
	t.Helper()
	for {
		do()
		select {
		case <-time.After(300 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("%q never came; the screen: %q", text, s.buf.Bytes()[s.mark:])
		}
		if bytes.Contains(s.buf.Bytes()[s.mark:], []byte(text)) {
			return
		}
	}
}

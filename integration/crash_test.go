//go:build integration

package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/nereid-paas/nereid/integration/lab"
)

// TestKill9LosesNothing kills the daemon while twenty containers write, lets some end while it is away, and wants
// every container, every line once and in order, every exit code, and every restart policy kept.
func TestKill9LosesNothing(t *testing.T) {
	h := lab.NewWithBusybox(t)
	const n = 20
	for i := range n {
		// Each writes fast enough that lines are in flight whenever the daemon dies.
		h.Docker(t, "run", "-d", "--name", fmt.Sprint("w", i), "busybox", "sh", "-c", "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); echo $i; done; exit 7")
	}
	h.Docker(t, "run", "-d", "--name", "stays", "-p", "8080:80", "busybox", "httpd", "-f", "-p", "80", "-h", "/www")
	h.Docker(t, "run", "-d", "--name", "again", "--restart", "always", "busybox", "sleep", "1")
	h.Docker(t, "run", "-d", "--rm", "--name", "removed", "busybox", "sleep", "1")
	h.Docker(t, "run", "-d", "--name", "worker", "busybox", "sleep", "600")
	pid := h.Docker(t, "inspect", "-f", "{{.State.Pid}}", "stays")
	started := h.Docker(t, "inspect", "-f", "{{.State.StartedAt}}", "stays")

	for range 3 {
		h.Kill9(t)
		fetch(t, h.On, "http://127.0.0.1:8080/") // the published port does not need the daemon
		h.Start(t)
	}
	assert.Equal(t, h.Docker(t, "inspect", "-f", "{{.State.Pid}}", "stays"), pid)
	assert.Equal(t, h.Docker(t, "inspect", "-f", "{{.State.StartedAt}}", "stays"), started)
	fetch(t, h.On, "http://127.0.0.1:8080/")
	assert.Equal(t, h.Docker(t, "exec", "worker", "echo", "still here"), "still here")
	assert.Equal(t, h.Docker(t, "exec", "worker", "wget", "-q", "-O", "-", "http://stays/"), "hello from busybox", "names work again")
	for i := range n {
		name := fmt.Sprint("w", i)
		assert.Equal(t, h.Docker(t, "wait", name), "7")
		eventually(t, 30*time.Second, func() error { return numbered(h.Docker(t, "logs", name), 30000) })
	}
	eventually(t, 30*time.Second, func() error {
		if r := h.Try(t, "inspect", "removed"); r.Code == 0 {
			return fmt.Errorf("a --rm container that ended while the daemon was away is still there")
		}
		if c := h.Docker(t, "inspect", "-f", "{{.RestartCount}}", "again"); c == "0" {
			return fmt.Errorf("a restart policy did not outlive the daemon")
		}
		return nil
	})
}

// numbered wants the lines 1 to n, each once, in order.
func numbered(out string, n int) error {
	lines := strings.Fields(out)
	for i, l := range lines {
		if l != fmt.Sprint(i+1) {
			return fmt.Errorf("line %d is %q (of %d)", i+1, l, len(lines))
		}
	}
	if len(lines) != n {
		return fmt.Errorf("%d lines of %d", len(lines), n)
	}
	return nil
}

func TestExitWhileAwayIsSeen(t *testing.T) {
	h := lab.NewWithBusybox(t)
	h.Docker(t, "run", "-d", "--name", "ends", "busybox", "sh", "-c", "while ! test -e /go; do sleep 0.1; done; echo last words; exit 9")
	h.Docker(t, "run", "-d", "--name", "host", "busybox", "sleep", "600")
	h.Docker(t, "exec", "-d", "host", "sh", "-c", "while ! test -e /go; do sleep 0.1; done; exit 4")
	since := fmt.Sprint(time.Now().Add(-2 * time.Second).Unix())
	both := strings.Fields(h.Docker(t, "inspect", "-f", "{{.State.Pid}}", "ends", "host"))
	h.Kill9(t)
	for _, pid := range both {
		assert.NilError(t, os.WriteFile("/proc/"+pid+"/root/go", nil, 0o600))
	}
	eventually(t, 30*time.Second, func() error {
		if _, err := os.Stat("/proc/" + both[0]); err == nil {
			return fmt.Errorf("it still runs")
		}
		return nil
	})
	h.Start(t)
	eventually(t, 30*time.Second, func() error {
		if got := h.Docker(t, "inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "ends"); got != "exited 9" {
			return fmt.Errorf("it is %s", got)
		}
		return nil
	})
	assert.Equal(t, h.Docker(t, "logs", "ends"), "last words")
	eventually(t, 30*time.Second, func() error {
		ev := h.Docker(t, "events", "--since", since, "--until", "0s", "--filter", "event=exec_die", "--format", "{{.Actor.Attributes.exitCode}}")
		if ev != "4" {
			return fmt.Errorf("exec_die told %q", ev)
		}
		return nil
	})
}

func TestGracefulRestartKeepsAll(t *testing.T) {
	h := lab.NewWithBusybox(t)
	h.Docker(t, "run", "-d", "--name", "cc", "-l", "a=b", "busybox", "sh", "-c", "echo before; sleep 600")
	h.Docker(t, "run", "-d", "--name", "halted", "--restart", "unless-stopped", "busybox", "sleep", "600")
	h.Docker(t, "stop", "-t", "0", "halted")
	before := h.Docker(t, "inspect", "cc")
	h.Stop(t)
	h.Start(t)
	assert.Equal(t, h.Docker(t, "inspect", "cc"), before)
	assert.Equal(t, h.Docker(t, "inspect", "-f", "{{.State.Status}}", "halted"), "exited")
	assert.Equal(t, h.Docker(t, "logs", "cc"), "before")
	assert.Equal(t, h.Docker(t, "run", "--rm", "busybox", "echo", "hi"), "hi")
}

func TestDamagedStateIsRefused(t *testing.T) {
	h := lab.New(t)
	h.Stop(t)
	dir := filepath.Join(h.Dir, "data")
	var db string
	_ = filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(p, "member/snap/db") {
			db = p
		}
		return nil
	})
	assert.Assert(t, db != "", "no database below %s", dir)
	good, err := os.ReadFile(db)
	assert.NilError(t, err)
	assert.NilError(t, os.WriteFile(db, []byte("rubbish"), 0o600))
	assert.NilError(t, h.Launch(t))
	assert.Assert(t, h.WaitExit(t) != nil, "the daemon started on damaged data")
	assert.Assert(t, is.Contains(h.LogTail(), "damaged"))
	assert.NilError(t, os.WriteFile(db, good, 0o600))
	h.Start(t)
}

func TestSecondDaemonIsRefused(t *testing.T) {
	h := lab.New(t)
	r := h.On(t, filepath.Join(lab.Bin(t), "nereid"), "daemon", "--data-root", filepath.Join(h.Dir, "data"), "--exec-root", filepath.Join(h.Dir, "exec"))
	assert.Equal(t, r.Code, 1, r.Combined())
	assert.Assert(t, h.Answers())
}

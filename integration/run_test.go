//go:build integration

// Package integration holds the whole-system tests: the real docker CLI against real daemons and real containers.
package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/integration/lab"
)

// cliCase is one docker command line and what a user must see.
type cliCase struct {
	name   string
	args   string // split at spaces; a quoted part is one argument
	stdin  string
	out    string // exact standard output, trimmed; "~x" wants x in it
	stderr string // in standard error
	code   int
	again  bool // it is asked again until it is so: for what is true a moment later
}

func runCases(t *testing.T, h *lab.Host, cases []cliCase) {
	t.Helper()
	runCasesWith(t, h, "", cases)
}

// runCasesWith is runCases with another docker CLI than the one on PATH.
func runCasesWith(t *testing.T, h *lab.Host, program string, cases []cliCase) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			ask := func() lab.Result { return h.TryWith(t, lab.Cmd{Program: program, Stdin: c.stdin}, split(c.args)...) }
			if c.again {
				eventually(t, 30*time.Second, func() error { return c.check(ask()) })
				return
			}
			assert.NilError(t, c.check(ask()))
		})
	}
}

// check tells what of a command's result is not what a user must see.
func (c cliCase) check(r lab.Result) error {
	out := strings.TrimSpace(r.Stdout)
	part, within := strings.CutPrefix(c.out, "~")
	switch {
	case r.Code != c.code:
		return fmt.Errorf("%s\nended with %d, not %d: %s", c.args, r.Code, c.code, r.Combined())
	case within && !strings.Contains(out, part):
		return fmt.Errorf("%s\n%q is not in %q; %s", c.args, part, out, r.Stderr)
	case !within && out != c.out:
		return fmt.Errorf("%s\nprints %q, not %q; %s", c.args, out, c.out, r.Stderr)
	case !strings.Contains(r.Stderr, c.stderr):
		return fmt.Errorf("%s\n%q is not among its errors: %q", c.args, c.stderr, r.Stderr)
	}
	return nil
}

// split cuts a command line at spaces, keeping '…' together.
func split(line string) []string {
	var args []string
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			args = append(args, part)
		} else {
			args = append(args, strings.Fields(part)...)
		}
	}
	return args
}

func TestRun(t *testing.T) {
	h := lab.NewWithBusybox(t)
	h.Docker(t, "run", "-d", "--name", "taken", "busybox", "sleep", "600")
	runCases(t, h, []cliCase{
		{name: "prints", args: "run --rm busybox echo hi", out: "hi"},
		{name: "stdin", args: "run -i --rm busybox cat", stdin: "x\n", out: "x"},
		{name: "large stdin", args: "run -i --rm busybox wc -c", stdin: strings.Repeat("0123456789abcde\n", 1<<16), out: "1048576"},
		{name: "stdin alone", args: "run -i -a stdin --name fed busybox cat", stdin: "fed", out: "~"}, // it goes at once
		{name: "stdin alone, ended", args: "wait fed", out: "0"},
		{name: "stdin alone, arrived", args: "logs fed", out: "fed"},
		{name: "exit code", args: "run --rm busybox sh -c 'exit 7'", code: 7},
		{name: "stderr apart", args: "run --rm busybox sh -c 'echo out; echo err >&2'", out: "out", stderr: "err"},
		{name: "killed by a signal", args: "run --rm --init busybox sh -c 'kill -9 $$'", code: 137},
		{name: "command not found", args: "run --rm busybox nosuch", code: 127, stderr: `exec: "nosuch": executable file not found in $PATH`},
		{name: "not executable", args: "run --rm busybox /etc/passwd", code: 126, stderr: "permission denied"},
		{name: "no such image", args: "run --pull never --rm nosuch", code: 125, stderr: "No such image: nosuch:latest"},
		{name: "bad flag value", args: "run --rm --memory 1m busybox true", code: 125, stderr: "Minimum memory limit allowed is 6MB"},
		{name: "name in use", args: "run --name taken busybox true", code: 125, stderr: `Conflict. The container name "/taken" is already in use by container "`},
		{name: "bad name", args: "run --name 'a b' busybox true", code: 125, stderr: "Invalid container name (a b), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"},
		{name: "env", args: "run --rm -e A=1 -e B=two busybox sh -c 'echo $A $B $PATH'", out: "1 two /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
		{name: "workdir", args: "run --rm -w /var/www busybox pwd", out: "/var/www"},
		{name: "workdir is made", args: "run --rm -w /not/there busybox pwd", out: "/not/there"},
		{name: "user", args: "run --rm -u nobody busybox id -u", out: "65534"},
		{name: "user and group", args: "run --rm -u 7:50 busybox sh -c 'id -u; id -g'", out: "7\n50"},
		{name: "no such user", args: "run --rm -u nosuch busybox id", code: 125, stderr: "unable to find user nosuch: no matching entries in passwd file"},
		{name: "group add", args: "run --rm -u daemon --group-add staff busybox id -G", out: "1 50"},
		{name: "entrypoint", args: "run --rm --entrypoint echo busybox from entrypoint", out: "from entrypoint"},
		{name: "hostname", args: "run --rm -h box busybox hostname", out: "box"},
		{name: "hostname in hosts", args: "run --rm -h box busybox sh -c 'grep -c box /etc/hosts'", out: "1"},
		{name: "domainname", args: "run --rm -h box --domainname example.com busybox cat /etc/hosts", out: "~box.example.com"},
		{name: "init", args: "run --rm --init busybox sh -c 'cat /proc/1/comm'", out: "docker-init"},
		{name: "tty", args: "run --rm -t busybox sh -c 'test -t 1 && echo tty'", out: "tty"},
		{name: "read-only", args: "run --rm --read-only busybox touch /x", code: 1, stderr: "Read-only file system"},
		{name: "tmpfs", args: "run --rm --tmpfs /scratch:size=64k,mode=1770 busybox sh -c 'mount | grep /scratch'", out: "~size=64k"},
		{name: "shm size", args: "run --rm --shm-size 32m busybox sh -c 'df -m /dev/shm | tail -1'", out: "~32"},
		{name: "cap drop", args: "run --rm --cap-drop CHOWN busybox chown nobody /tmp", code: 1, stderr: "Operation not permitted"},
		{name: "cap add", args: "run --rm --cap-add NET_ADMIN busybox ip link set lo mtu 1400", out: ""},
		{name: "unknown capability", args: "run --rm --cap-add NOSUCH busybox true", code: 125, stderr: `unknown capability: "CAP_NOSUCH"`},
		{name: "privileged", args: "run --rm --privileged busybox mount -t tmpfs none /tmp", out: ""},
		{name: "unprivileged", args: "run --rm busybox mount -t tmpfs none /tmp", code: 1, stderr: "permission denied"},
		{name: "ulimit", args: "run --rm --ulimit nofile=100:200 busybox sh -c 'ulimit -n; ulimit -Hn'", out: "100\n200"},
		{name: "sysctl", args: "run --rm --sysctl net.ipv4.ip_forward=1 busybox cat /proc/sys/net/ipv4/ip_forward", out: "1"},
		{name: "memory limit", args: "run --rm -m 32m busybox sh -c 'cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; true'", out: "33554432"},
		{name: "pids limit", args: "run --rm --pids-limit 50 busybox sh -c 'cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null; true'", out: "50"},
		{name: "out of memory", args: "run --rm -m 16m --memory-swap 16m busybox sh -c 'exec tail /dev/zero'", code: 137},
		{name: "pid host", args: "run --rm --pid host busybox sh -c 'test $(cat /proc/1/comm) != sh && echo host'", out: "host"},
		{name: "device", args: "run --rm --device /dev/null:/dev/mynull busybox sh -c 'test -c /dev/mynull && echo there'", out: "there"},
		{name: "label file and labels", args: "run --rm -l a=b busybox true", out: ""},
		{name: "no-new-privileges", args: "run --rm --security-opt no-new-privileges busybox grep NoNewPrivs /proc/self/status", out: "~1"},
		{name: "seccomp default", args: "run --rm busybox grep Seccomp: /proc/self/status", out: "~2"},
		{name: "seccomp unconfined", args: "run --rm --security-opt seccomp=unconfined busybox grep Seccomp: /proc/self/status", out: "~0"},
		{name: "bad restart policy", args: "run --rm --restart always busybox true", code: 125, stderr: "cannot specify both --restart and --rm"},
		{name: "stdout closed early", args: "run --rm busybox sh -c 'echo 1; exec >&-; sleep 0.1'", out: "1"},
		{name: "big output", args: "run --rm busybox sh -c 'seq 1 20000 | tail -1'", out: "20000"},
	})
}

func TestRunOutputIsWhole(t *testing.T) {
	h := lab.NewWithBusybox(t)
	r := h.Try(t, "run", "--rm", "busybox", "seq", "1", "200000")
	assert.Equal(t, r.Code, 0)
	lines := strings.Fields(r.Stdout)
	assert.Equal(t, len(lines), 200000)
	for i, l := range lines {
		if l != fmt.Sprint(i+1) {
			t.Fatalf("line %d is %q", i+1, l)
		}
	}
}

func TestRunDetachedIsGoneWithRm(t *testing.T) {
	h := lab.NewWithBusybox(t)
	id := h.Docker(t, "run", "-d", "--rm", "--name", "short", "busybox", "sleep", "0.2")
	assert.Equal(t, len(id), 64)
	eventually(t, 30*time.Second, func() error {
		if out := h.Docker(t, "ps", "-aq"); out != "" {
			return fmt.Errorf("still listed: %s", out)
		}
		return nil
	})
}

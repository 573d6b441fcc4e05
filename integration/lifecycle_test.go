//go:build integration

package integration

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/nereid-paas/nereid/integration/lab"
)

func TestStates(t *testing.T) {
	h := lab.NewWithBusybox(t)
	h.Docker(t, "create", "--name", "created", "busybox", "true")
	h.Docker(t, "run", "-d", "--name", "up", "busybox", "sleep", "600")
	h.Try(t, "run", "--name", "ended", "busybox", "sh", "-c", "exit 3")
	runCases(t, h, []cliCase{
		{name: "created", args: "inspect -f {{.State.Status}} created", out: "created"},
		{name: "running", args: "inspect -f {{.State.Status}}/{{.State.Running}} up", out: "running/true"},
		{name: "exited", args: "inspect -f {{.State.Status}}/{{.State.ExitCode}} ended", out: "exited/3"},
		{name: "start a started one changes nothing", args: "start up", out: "up"},
		{name: "stop a stopped one changes nothing", args: "stop ended", out: "ended"},
		{name: "kill a stopped one", args: "kill ended", code: 1, stderr: "is not running"},
		{name: "pause", args: "pause up", out: "up"},
		{name: "paused", args: "inspect -f {{.State.Status}}/{{.State.Paused}} up", out: "paused/true"},
		{name: "pause again", args: "pause up", code: 1, stderr: "is already paused"},
		{name: "exec in a paused one", args: "exec up true", code: 1, stderr: "is paused, unpause the container before exec"},
		{name: "unpause", args: "unpause up", out: "up"},
		{name: "unpause again", args: "unpause up", code: 1, stderr: "is not paused"},
		{name: "pause a stopped one", args: "pause ended", code: 1, stderr: "is not running"},
		{name: "exec in a stopped one", args: "exec ended true", code: 1, stderr: "is not running"},
		{name: "remove a running one", args: "rm up", code: 1, stderr: "container is running: stop the container before removing or force remove"},
		{name: "rename", args: "rename created renamed", out: ""},
		{name: "the new name", args: "inspect -f {{.Name}} renamed", out: "/renamed"},
		{name: "rename to a taken one", args: "rename renamed up", code: 1, stderr: `Conflict. The container name "/up" is already in use by container`},
		{name: "rename to itself", args: "rename up up", code: 1, stderr: "Renaming a container with the same name as its current name"},
		{name: "the old name", args: "inspect created", code: 1, out: "[]", stderr: "o such object: created"},
		{name: "restart", args: "restart -t 0 up", out: "up"},
		{name: "start an ended one", args: "start -a ended", code: 3},
		{name: "kill with a signal", args: "kill -s TERM up", out: "up"},
		{name: "bad signal", args: "kill -s NOSUCH up", code: 1, stderr: "nvalid signal: NOSUCH"},
		{name: "update", args: "update --restart on-failure:2 renamed", out: "renamed"},
		{name: "updated", args: "inspect -f {{.HostConfig.RestartPolicy.Name}}:{{.HostConfig.RestartPolicy.MaximumRetryCount}} renamed", out: "on-failure:2"},
		{name: "wait for an ended one", args: "wait ended", out: "3"},
		{name: "force remove", args: "rm -f up", out: "up"},
		{name: "remove", args: "rm ended", out: "ended"},
		{name: "no such container", args: "rm ended", code: 1, stderr: "No such container: ended"},
		{name: "no such container to start", args: "start nosuch", code: 1, stderr: "No such container: nosuch"},
		{name: "no such container to stop", args: "stop nosuch", code: 1, stderr: "No such container: nosuch"},
		{name: "logs of none", args: "logs nosuch", code: 1, stderr: "No such container: nosuch"},
		{name: "container prune", args: "container prune -f", out: "~Total reclaimed space"},
		{name: "pruned", args: "ps -aq", out: ""},
	})
}

func TestStopSendsSignalThenKills(t *testing.T) {
	h := lab.NewWithBusybox(t)
	h.Docker(t, "run", "-d", "--name", "kind", "busybox", "sh", "-c", `trap 'echo bye; exit 4' TERM; echo set; while :; do sleep 0.1; done`)
	h.Docker(t, "run", "-d", "--name", "deaf", "busybox", "sh", "-c", `trap '' TERM; echo set; while :; do sleep 0.1; done`)
	h.Docker(t, "run", "-d", "--name", "custom", "--stop-signal", "USR1", "busybox", "sh", "-c", `trap 'exit 5' USR1; echo set; while :; do sleep 0.1; done`)
	for _, name := range []string{"kind", "deaf", "custom"} {
		eventually(t, 30*time.Second, func() error {
			if h.Docker(t, "logs", name) != "set" {
				return fmt.Errorf("%s has not set its trap", name)
			}
			return nil
		})
	}
	h.Docker(t, "stop", "kind")
	assert.Equal(t, h.Docker(t, "inspect", "-f", "{{.State.ExitCode}}", "kind"), "4")
	assert.Equal(t, h.Docker(t, "logs", "kind"), "set\nbye")
	start := time.Now()
	h.Docker(t, "stop", "-t", "1", "deaf")
	assert.Equal(t, h.Docker(t, "inspect", "-f", "{{.State.ExitCode}}", "deaf"), "137")
	if d := time.Since(start); d < time.Second {
		t.Errorf("killed after %v, before its second was over", d)
	}
	h.Docker(t, "stop", "custom")
	assert.Equal(t, h.Docker(t, "inspect", "-f", "{{.State.ExitCode}}", "custom"), "5")
}

func TestWaitSeesTheExit(t *testing.T) {
	h := lab.NewWithBusybox(t)
	h.Docker(t, "run", "-d", "--name", "ww", "busybox", "sh", "-c", "sleep 0.5; exit 9")
	assert.Equal(t, h.Docker(t, "wait", "ww"), "9")
}

func TestRestartPolicies(t *testing.T) {
	h := lab.NewWithBusybox(t)
	h.Docker(t, "run", "-d", "--name", "twice", "--restart", "on-failure:2", "busybox", "false")
	h.Docker(t, "run", "-d", "--name", "fine", "--restart", "on-failure", "busybox", "true")
	h.Docker(t, "run", "-d", "--name", "always", "--restart", "always", "busybox", "sh", "-c", "sleep 0.2")
	eventually(t, 30*time.Second, func() error {
		got := h.Docker(t, "inspect", "-f", "{{.RestartCount}} {{.State.Status}} {{.State.ExitCode}}", "twice")
		if got != "2 exited 1" {
			return fmt.Errorf("twice is %q", got)
		}
		return nil
	})
	assert.Equal(t, h.Docker(t, "inspect", "-f", "{{.RestartCount}} {{.State.Status}}", "fine"), "0 exited")
	eventually(t, 30*time.Second, func() error {
		if n := h.Docker(t, "inspect", "-f", "{{.RestartCount}}", "always"); n == "0" || n == "1" {
			return fmt.Errorf("restarted %s times", n)
		}
		return nil
	})
	h.Docker(t, "stop", "-t", "0", "always")
	assert.Assert(t, is.Contains(h.Docker(t, "ps", "-a", "--filter", "name=always", "--format", "{{.Status}}"), "Exited"))
}

func TestEventsInOrder(t *testing.T) {
	h := lab.NewWithBusybox(t)
	since := fmt.Sprint(time.Now().Add(-time.Second).Unix())
	h.Docker(t, "run", "--name", "once", "busybox", "true")
	h.Docker(t, "rm", "once")
	h.Docker(t, "run", "-d", "--name", "ss", "busybox", "sleep", "600")
	h.Docker(t, "stop", "-t", "0", "ss")
	h.Docker(t, "start", "ss")
	h.Docker(t, "restart", "-t", "0", "ss")
	h.Docker(t, "kill", "ss")
	h.Docker(t, "rename", "ss", "rr")
	h.Docker(t, "rm", "-f", "rr")
	got := func(filters ...string) []string {
		// The CLI cuts times to seconds: what happened in this one comes when it is over.
		args := []string{"events", "--since", since, "--until", fmt.Sprint(time.Now().Unix() + 1), "--format", "{{.Action}}"}
		for _, f := range filters {
			args = append(args, "--filter", f)
		}
		return strings.Fields(h.Docker(t, args...))
	}
	assert.DeepEqual(t, got("container=once", "type=container"), strings.Fields("create attach start die destroy"))
	all := strings.Join(got("type=container"), " ")
	assert.Assert(t, is.Contains(all, "create start kill kill stop die start kill kill stop die start restart kill die rename destroy"),
		"events were %s", all)
	assert.DeepEqual(t, got("container=once", "event=die"), []string{"die"})
	line := h.Docker(t, "events", "--since", since, "--until", "0s", "--filter", "event=die", "--filter", "container=once", "--format", "{{json .}}")
	for _, want := range []string{`"exitCode":"0"`, `"image":"busybox"`, `"name":"once"`} {
		assert.Assert(t, is.Contains(line, want))
	}
	assert.Assert(t, !strings.Contains(line, "nereid"), "an event of a host on its own: %s", line)
}

func TestEventsLive(t *testing.T) {
	h := lab.NewWithBusybox(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := h.Command(ctx, "events", "--filter", "event=die", "--format", "{{.Actor.Attributes.exitCode}}")
	out, err := cmd.StdoutPipe()
	assert.NilError(t, err)
	assert.NilError(t, cmd.Start())
	lines := readLines(out)
	for {
		h.Try(t, "run", "--rm", "busybox", "sh", "-c", "exit 6")
		select {
		case l := <-lines:
			assert.Equal(t, l, "6")
			cancel()
			_ = cmd.Wait()
			return
		case <-time.After(time.Second): // the CLI may not have subscribed before the first run
		case <-ctx.Done():
			t.Fatal("no event came")
		}
	}
}

func TestAmbiguousID(t *testing.T) {
	h := lab.NewWithBusybox(t)
	seen := map[byte]bool{}
	for {
		id := h.Docker(t, "create", "busybox")
		if seen[id[0]] {
			r := h.Try(t, "start", id[:1])
			assert.Equal(t, r.Code, 1)
			assert.Assert(t, is.Contains(r.Stderr, "multiple IDs found with provided prefix: "+id[:1]))
			return
		}
		seen[id[0]] = true
	}
}

func TestPs(t *testing.T) {
	h := lab.NewWithBusybox(t)
	h.Docker(t, "run", "-d", "--name", "one", "-l", "tier=web", "-p", "127.0.0.1:8081:80", "busybox", "sleep", "600")
	h.Docker(t, "run", "-d", "--name", "two", "-l", "tier=db", "busybox", "sh", "-c", "sleep 600")
	h.Try(t, "run", "--name", "three", "busybox", "sh", "-c", "exit 2")
	runCases(t, h, []cliCase{
		{name: "running", args: "ps --format {{.Names}}", out: "two\none"},
		{name: "all, newest first", args: "ps -a --format {{.Names}}", out: "three\ntwo\none"},
		{name: "last", args: "ps -n 1 --format {{.Names}}", out: "three"},
		{name: "command", args: "ps --filter name=two --format {{.Command}}", out: `"sh -c 'sleep 600'"`},
		{name: "ports", args: "ps --filter name=one --format {{.Ports}}", out: "127.0.0.1:8081->80/tcp"},
		{name: "status up", args: "ps --filter name=one --format {{.Status}}", out: "~Up "},
		{name: "status exited", args: "ps -a --filter name=three --format {{.Status}}", out: "~Exited (2) "},
		{name: "by label", args: "ps --filter label=tier --format {{.Names}}", out: "two\none"},
		{name: "by label value", args: "ps --filter label=tier=db --format {{.Names}}", out: "two"},
		{name: "by exit code", args: "ps -a --filter exited=2 --format {{.Names}}", out: "three"},
		{name: "by status", args: "ps --filter status=exited --format {{.Names}}", out: "three"},
		{name: "by ancestor", args: "ps -a --filter ancestor=busybox --format {{.Names}}", out: "three\ntwo\none"},
		{name: "before", args: "ps -a --filter before=two --format {{.Names}}", out: "one"},
		{name: "since", args: "ps -a --filter since=two --format {{.Names}}", out: "three"},
		{name: "publish", args: "ps --filter publish=8081 --format {{.Names}}", out: "one"},
		{name: "node", args: "ps --filter node=" + h.Name + " --format {{.Names}}", out: "two\none"},
		{name: "another node", args: "ps --filter node=elsewhere -q", out: ""},
		{name: "size", args: "ps -s --filter name=one --format {{.Size}}", out: "~B (virtual "},
		{name: "networks", args: "ps --filter name=one --format {{.Networks}}", out: "bridge"},
		{name: "bad filter", args: "ps --filter nosuch=1", code: 1, stderr: "invalid filter 'nosuch'"},
		{name: "bad status", args: "ps --filter status=nosuch", code: 1, stderr: "invalid filter 'status=nosuch'"},
		{name: "port", args: "port one", out: "80/tcp -> 127.0.0.1:8081"},
		{name: "port of none", args: "port one 81", code: 1, stderr: "No public port '81' published for one"},
		{name: "top", args: "top one", out: "~sleep 600"},
		{name: "top with arguments", args: "top one -o pid,comm", out: "~sleep"},
		{name: "top of a stopped one", args: "top three", code: 1, stderr: "is not running"},
		{name: "stats", args: "stats --no-stream --format {{.Name}} one", out: "one", again: true}, // dashes when the client has waited for two seconds in vain
		{name: "stats has numbers", args: "stats --no-stream --format {{.PIDs}} one", out: "1", again: true},
		{name: "inspect the host", args: "inspect -f {{.Config.Image}} one", out: "busybox"},
	})
}

// TestFailedStart: what had been mounted is let go of again, and the networks, and the events say so.
func TestFailedStart(t *testing.T) {
	h := lab.NewWithBusybox(t)
	h.Docker(t, "network", "create", "own")
	for _, args := range [][]string{{"nosuch"}, {"--device", "/dev/nosuch", "busybox", "true"}} {
		since := h.Docker(t, "info", "-f", "{{.SystemTime}}")
		if args[0] == "nosuch" {
			args = []string{"busybox", "nosuch"}
		}
		r := h.Try(t, append([]string{"run", "--rm", "--name", "never", "--network", "own", "-v", "vol:/v"}, args...)...)
		assert.Assert(t, r.Code >= 125, r.Combined())
		told := h.Docker(t, "events", "--since", since, "--until", h.Docker(t, "info", "-f", "{{.SystemTime}}"), "--format", "{{.Type}} {{.Action}}")
		want := []string{"container create", "container attach", "volume mount", "network disconnect", "volume unmount", "container destroy"}
		got := slices.DeleteFunc(strings.Split(told, "\n"), func(line string) bool { return line == "volume create" })
		assert.DeepEqual(t, got, want)
	}
}

// TestSizes: an unchanged container has written nothing, whatever its directories take on the disk.
func TestSizes(t *testing.T) {
	h := lab.NewWithBusybox(t)
	h.Docker(t, "run", "-d", "--name", "box", "busybox", "sleep", "600")
	h.Docker(t, "create", "--name", "never", "busybox", "true")
	for _, name := range []string{"box", "never"} {
		assert.Check(t, is.Equal(h.Docker(t, "inspect", "-s", "-f", "{{.SizeRw}}", name), "0"), name)
	}
	assert.Check(t, is.Equal(h.Docker(t, "diff", "box"), ""))
	h.Docker(t, "exec", "box", "sh", "-c", "mkdir -p /d/e; echo hello >/d/e/f; ln /d/e/f /d/g; ln -s f /d/l")
	assert.Check(t, is.Equal(h.Docker(t, "inspect", "-s", "-f", "{{.SizeRw}}", "box"), "7"), "a file with two names, and a link")
	assert.Check(t, is.Equal(h.Docker(t, "ps", "-s", "--filter", "name=box", "--format", "{{.Size}}"),
		"7B (virtual "+h.Docker(t, "images", "busybox", "--format", "{{.Size}}")+")"))
}

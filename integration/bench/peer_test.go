//go:build bench

package bench

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/poll"

	"github.com/nereid-paas/nereid/integration/lab"
)

// startDocker runs Debian's Docker Engine on its own roots, socket and network namespace.
func startDocker(t *testing.T) engine {
	dir := "/tmp/peer-docker"
	ns := "n-peer-docker"
	run := func(args ...string) string {
		out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput()
		assert.NilError(t, err, string(out))
		return string(out)
	}
	assert.NilError(t, os.MkdirAll(dir, 0o711))
	run("ip", "netns", "add", ns)
	run("ip", "-n", ns, "link", "set", "lo", "up")
	unmount := inMemory(t, filepath.Join(dir, "exec"))
	log, err := os.Create(filepath.Join(dir, "log"))
	assert.NilError(t, err)
	d := exec.Command("nsenter", "--net=/run/netns/"+ns, "dockerd", "--data-root", dir+"/data", "--exec-root", dir+"/exec",
		"-H", "unix://"+dir+"/docker.sock", "--pidfile", dir+"/pid")
	d.Stdout, d.Stderr = log, log
	assert.NilError(t, d.Start())
	t.Cleanup(func() {
		_ = d.Process.Signal(syscall.SIGTERM)
		_ = d.Wait()
		unmount()
		_ = exec.Command("ip", "netns", "delete", ns).Run()
		_ = os.RemoveAll(dir)
	})
	docker := func(t testing.TB, args ...string) string {
		t.Helper()
		c := exec.Command("docker", args...)
		c.Env = append(os.Environ(), "DOCKER_HOST=unix://"+dir+"/docker.sock", "DOCKER_CONFIG="+dir+"/config")
		out, err := c.CombinedOutput()
		assert.NilError(t, err, "docker %s\n%s", strings.Join(args, " "), out)
		return strings.TrimSpace(string(out))
	}
	poll.WaitOn(t, func(poll.LogT) poll.Result {
		c := exec.Command("docker", "-H", "unix://"+dir+"/docker.sock", "info")
		if out, err := c.CombinedOutput(); err != nil {
			return poll.Continue("dockerd does not answer: %s", out)
		}
		return poll.Success()
	}, poll.WithTimeout(60*time.Second), poll.WithDelay(100*time.Millisecond))
	docker(t, "load", "-q", "-i", lab.Archive(t, "busybox:latest", lab.Busybox(t)))
	return engine{name: "docker.io", host: "unix://" + dir + "/docker.sock", docker: docker, memory: func(t testing.TB) (float64, float64) {
		daemons := append([]int{d.Process.Pid}, withCommand("containerd", dir)...)
		shims := withCommand("containerd-shim-runc-v2", dir)
		return pss(daemons...), pss(shims...) / float64(max(1, len(shims)))
	}}
}

// until waits for a condition.
func until(t *testing.T, holds func() bool) {
	t.Helper()
	poll.WaitOn(t, func(poll.LogT) poll.Result {
		if holds() {
			return poll.Success()
		}
		return poll.Continue("not yet")
	}, poll.WithTimeout(5*time.Minute), poll.WithDelay(20*time.Millisecond))
}

// withCommand are the processes of a program that names a folder in its arguments.
func withCommand(program, dir string) []int {
	var pids []int
	found, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range found {
		b, _ := os.ReadFile(f)
		args := strings.Split(string(b), "\x00")
		if filepath.Base(args[0]) == program && strings.Contains(string(b), dir) {
			var pid int
			_, _ = fmt.Sscanf(f, "/proc/%d/", &pid)
			pids = append(pids, pid)
		}
	}
	return pids
}

// pss sums the proportional share of memory, in MB.
func pss(pids ...int) float64 {
	var kb int
	for _, p := range pids {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p))
		for line := range strings.Lines(string(b)) {
			var n int
			if _, err := fmt.Sscanf(line, "Pss: %d kB", &n); err == nil {
				kb += n
			}
		}
	}
	return float64(kb) / 1000
}

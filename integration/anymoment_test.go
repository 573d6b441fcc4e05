//go:build integration

package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/integration/lab"
)

// TestKill9AtAnyMoment kills the daemon at random instants of a burst of everything that makes and ends containers, and
// wants the next daemon to make all of it good: who is listed runs in a process of its own or ended as it should, nothing
// exists of who is not, and what is removed leaves nothing. A seed from NEREID_TEST_SEED repeats the choices, though not
// the instants.
func TestKill9AtAnyMoment(t *testing.T) {
	h := lab.NewWithBusybox(t)
	seed, err := strconv.ParseUint(os.Getenv("NEREID_TEST_SEED"), 10, 64)
	if err != nil {
		seed = rand.Uint64()
	}
	t.Logf("NEREID_TEST_SEED=%d", seed)
	records := settled(t, h)["records"] // the image is unpacked
	b := &burst{h: h, killed: map[string]bool{}, ran: map[string]bool{}}
	b.snapshots = b.countSnapshots()

	const most, enough = 10, 40 * time.Second
	begin := time.Now()
	for round := 0; round < most && time.Since(begin) < enough; round++ {
		rng := rand.New(rand.NewPCG(seed, uint64(round)))
		ctx, cancel := context.WithCancel(context.Background())
		done := b.start(ctx, rng)
		time.Sleep(time.Duration(100+rng.IntN(1500)) * time.Millisecond) //nolint:forbidigo // the random instant is what is tested
		h.Kill9(t)
		cancel()
		done()
		h.Start(t)
		eventually(t, 30*time.Second, func() error { return b.check(t) })
		if round%2 == 0 {
			continue // the next burst goes on with what there is
		}
		if ids := strings.Fields(h.Docker(t, "ps", "-aq")); len(ids) > 0 {
			h.Docker(t, append([]string{"rm", "-fv"}, ids...)...)
		}
		eventually(t, 30*time.Second, func() error { return b.check(t) })
		assert.Equal(t, h.Docker(t, "ps", "-aq"), "")
		assert.Equal(t, h.Records(t), records)
	}
}

// burst is several clients at work at once.
type burst struct {
	h         *lab.Host
	snapshots int // without containers

	mu     sync.Mutex
	names  []string
	killed map[string]bool // a client asked for its end
	ran    map[string]bool // a client was told that it runs
}

const (
	writes  = 400 // lines, by each container of the kind "ends"
	endCode = 7   // of the same
	cutCode = 255 // of one whose start was cut off with the daemon that nobody was told of: runc goes, and its init with it
)

// start returns a function that waits for all clients.
func (b *burst) start(ctx context.Context, rng *rand.Rand) (wait func()) {
	var clients sync.WaitGroup
	for range 6 {
		rng := rand.New(rand.NewPCG(rng.Uint64(), 0))
		clients.Go(func() {
			for ctx.Err() == nil {
				args := b.verb(rng)
				cmd := b.h.Command(ctx, args...)
				cmd.WaitDelay = time.Second
				if err := cmd.Run(); err == nil && args[0] == "run" { // else the daemon may be gone, the container too
					b.ranToo(args[3])
				}
			}
		})
	}
	return clients.Wait
}

func (b *burst) ranToo(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ran[name] = true
}

// verb is a command line for the docker client.
func (b *burst) verb(rng *rand.Rand) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	run := func(kind string, args ...string) []string {
		name := fmt.Sprintf("%s-%d", kind, len(b.names))
		b.names = append(b.names, name)
		return append([]string{"run", "-d", "--name", name}, args...)
	}
	switch n := rng.IntN(12); {
	case n < 3 || len(b.names) < 6:
		script := fmt.Sprintf("i=0; while [ $i -lt %d ]; do i=$((i+1)); echo $i; done; exit %d", writes, endCode)
		return run("ends", "busybox", "sh", "-c", script)
	case n < 4:
		return run("stays", "-p", "80", "busybox", "sleep", "600")
	case n < 6:
		return run("gone", "--rm", "busybox", "sleep", "0.2")
	case n < 7:
		return run("again", "--restart", "always", "busybox", "sleep", "0.3")
	}
	name := b.names[rng.IntN(len(b.names))]
	b.killed[name] = true
	return append([][]string{{"rm", "-f"}, {"restart", "-t", "0"}, {"stop", "-t", "0"}}[rng.IntN(3)], name)
}

// facts are what inspect tells of a container.
type facts struct {
	ID, Name string
	State    struct {
		Status        string
		Pid, ExitCode int
		Error         string
	}
}

// check tells what of the host is not as it should be.
func (b *burst) check(t *testing.T) error {
	all, err := b.inspect(t)
	if err != nil {
		return err
	}
	ids := map[string]*facts{}
	for i, c := range all {
		ids[c.ID] = &all[i]
		if err := b.checkContainer(t, &all[i]); err != nil {
			return fmt.Errorf("%s (%.12s) is %+v: %w", c.Name, c.ID, c.State, err)
		}
	}
	for _, kind := range []struct {
		what  string
		found []string
		rests bool // one that does not run has it too
	}{
		{"shim", b.shims(), false},
		{"mount", b.mounts(), false},
		{"network namespace", b.listed("exec", "netns"), false},
		{"cgroup", b.cgroups(), false},
		{"task", b.listed("exec", "containerd", "tasks", "admin"), false},
		{"bundle", b.listed("exec", "containerd", "io.containerd.runtime.v2.task", "admin"), false},
		{"record of runc", b.listed("exec", "containerd", "runc", "admin"), false},
		{"directory", b.listed("data", "containers", "admin"), true},
	} {
		for _, id := range kind.found {
			c := ids[id]
			if c == nil {
				return fmt.Errorf("%s of no container: %s", kind.what, id)
			}
			if !kind.rests && !mayRun(c) {
				return fmt.Errorf("%s of %s, which is %s", kind.what, c.Name, c.State.Status)
			}
		}
	}
	if n := b.countSnapshots() - b.snapshots; n != len(all) {
		return fmt.Errorf("%d snapshots of %d containers", n, len(all))
	}
	return nil
}

// mayRun: one with a restart policy may have come back since it was looked at.
func mayRun(c *facts) bool {
	return c.State.Pid != 0 || strings.HasPrefix(c.Name, "/again-") && c.State.Status != "created"
}

func (b *burst) inspect(t *testing.T) ([]facts, error) {
	ids := strings.Fields(b.h.Docker(t, "ps", "-aq", "--no-trunc"))
	if len(ids) == 0 {
		return nil, nil
	}
	r := b.h.Try(t, append([]string{"inspect"}, ids...)...)
	if r.Code != 0 {
		return nil, fmt.Errorf("inspect: %s", r.Combined()) // one with --rm went
	}
	var all []facts
	return all, json.Unmarshal([]byte(r.Stdout), &all)
}

// checkContainer tells what is wrong with one container by itself.
func (b *burst) checkContainer(t *testing.T, c *facts) error {
	kind, _, _ := strings.Cut(strings.TrimPrefix(c.Name, "/"), "-")
	b.mu.Lock()
	killed, ran := b.killed[strings.TrimPrefix(c.Name, "/")], b.ran[strings.TrimPrefix(c.Name, "/")]
	b.mu.Unlock()
	switch s := c.State; s.Status {
	case "created":
		return nil // the daemon died before it was started
	case "running":
		cgroup, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", s.Pid))
		if err != nil || !strings.Contains(string(cgroup), c.ID) {
			return fmt.Errorf("it has no process of its own (%w)", err)
		}
		if kind == "ends" || kind == "gone" {
			return fmt.Errorf("it still runs")
		}
		return nil
	case "restarting":
		if kind == "again" {
			return nil
		}
	case "exited":
		switch {
		case killed && s.ExitCode == 137:
			return nil
		case s.ExitCode == cutCode && (killed || !ran):
			return nil
		case kind == "ends" && s.ExitCode == endCode:
			return b.checkLog(t, c, killed)
		}
	}
	return fmt.Errorf("that should not be")
}

// checkLog wants every line once and in order.
func (b *burst) checkLog(t *testing.T, c *facts, again bool) error {
	lines := strings.Fields(b.h.Docker(t, "logs", c.ID))
	if len(lines) < writes || !again && len(lines) != writes {
		return fmt.Errorf("its log has %d lines", len(lines))
	}
	for i, l := range lines[len(lines)-writes:] {
		if l != strconv.Itoa(i+1) {
			return fmt.Errorf("line %d of its log is %q", i+1, l)
		}
	}
	return nil
}

// shims are the containers of the shims there are.
func (b *burst) shims() []string {
	var ids []string
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil || !strings.Contains(string(data), b.h.Dir+"/exec/containerd/containerd.sock") {
			continue
		}
		if _, rest, ok := strings.Cut(string(data), "\x00-id\x00"); ok {
			id, _, _ := strings.Cut(rest, "\x00")
			ids = append(ids, id)
		}
	}
	return ids
}

// mounts are the containers of which a root file system is mounted.
func (b *burst) mounts() []string {
	data, _ := os.ReadFile("/proc/self/mountinfo")
	var ids []string
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], filepath.Join(b.h.Dir, "exec", "containerd", "rootfs")+"/") {
			ids = append(ids, filepath.Base(f[4]))
		}
	}
	return ids
}

func (b *burst) cgroups() []string {
	dirs, _ := filepath.Glob("/sys/fs/cgroup/*/nereid-" + b.h.Name + "/*/cgroup.procs")
	unified, _ := filepath.Glob("/sys/fs/cgroup/nereid-" + b.h.Name + "/*/cgroup.procs")
	var ids []string
	for _, d := range append(dirs, unified...) {
		ids = append(ids, filepath.Base(filepath.Dir(d)))
	}
	return ids
}

// listed lists a directory of the host.
func (b *burst) listed(path ...string) []string {
	entries, _ := os.ReadDir(filepath.Join(append([]string{b.h.Dir}, path...)...))
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// countSnapshots counts the layers' and the containers'.
func (b *burst) countSnapshots() int {
	return len(strings.Fields(snapshots(filepath.Join(b.h.Dir, "data"))))
}

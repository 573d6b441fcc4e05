package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/poll"
)

// close removes all containers through the API, stops the daemon, checks that nothing of the host is left, and
// removes the namespaces and roots.
func (h *Host) close(t testing.TB) {
	t.Helper()
	if t.Failed() {
		t.Logf("the end of the daemon's log:\n%s", h.LogTail())
	}
	if h.daemon != nil && !h.Removed {
		if h.lone {
			h.empty(t)
		}
		h.settle()
		h.Stop(t)
		for _, left := range h.settledLeftovers() {
			t.Errorf("left behind: %s", left)
		}
	}
	h.wipe(t)
}

// empty removes all containers, by a daemon started again if need be.
func (h *Host) empty(t testing.TB) {
	t.Helper()
	if !h.Answers() {
		h.Kill9(t)
		if err := h.Launch(t); err == nil {
			poll.WaitOn(t, func(poll.LogT) poll.Result {
				if h.Answers() {
					return poll.Success()
				}
				return poll.Continue("the daemon does not answer for the clean-up")
			}, poll.WithTimeout(60*time.Second))
		}
	}
	if ids := strings.Fields(h.Try(t, "ps", "-aq").Stdout); len(ids) > 0 {
		h.Try(t, append([]string{"rm", "-fv"}, ids...)...)
	}
}

// settle waits until what removed containers had on the host is gone. It goes behind their records, and a daemon that is
// stopped before leaves it to the next one. What stays is told of later.
func (h *Host) settle() {
	for end := time.Now().Add(kernelTime); h.remains() && time.Now().Before(end); {
		<-time.After(50 * time.Millisecond)
	}
}

// remains tells whether the host has something of a container.
func (h *Host) remains() bool {
	own := "nereid-" + h.Name
	return len(h.Shims()) > 0 || len(h.links()) > 0 ||
		slices.ContainsFunc(h.cgroups(), func(path string) bool { return filepath.Base(path) != own })
}

// wipe removes whatever a failed test left, so that the next one starts clean.
func (h *Host) wipe(t testing.TB) {
	t.Helper()
	h.killAll()
	for i := range 3 { // mounts on mounts
		for _, m := range h.mounts() {
			if err := unix.Unmount(m, unix.MNT_DETACH); err != nil && i == 2 {
				t.Logf("unmount %s: %v", m, err)
			}
		}
	}
	spaces := []string{h.netns}
	if h.lone {
		spaces = append(spaces, h.client)
	}
	for _, ns := range spaces {
		execute(t, Cmd{}, nil, "ip", "netns", "delete", ns)
	}
	for _, cg := range h.cgroups() {
		err := unix.Rmdir(cg)
		for end := time.Now().Add(kernelTime); errors.Is(err, unix.EBUSY) && time.Now().Before(end); err = unix.Rmdir(cg) {
			<-time.After(10 * time.Millisecond) // its processes are ending
		}
		if err != nil {
			t.Errorf("left behind: cgroup %s: %v", cg, err)
		}
	}
	if err := os.RemoveAll(h.Dir); err != nil {
		t.Logf("remove %s: %v", h.Dir, err)
	}
}

// killAll ends every process of the host, and those of its containers, which know nothing of the host's folder.
func (h *Host) killAll() {
	pids := h.processes()
	for _, cg := range h.cgroups() {
		members, _ := os.ReadFile(filepath.Join(cg, "cgroup.procs"))
		for _, member := range strings.Fields(string(members)) {
			if pid, err := strconv.Atoi(member); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	for _, pid := range pids {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
}

// kernelTime bounds what the kernel takes to end what nobody refers to any more: it ends network namespaces, and the
// links in them, in its own time, one after the other for the whole machine.
const kernelTime = 60 * time.Second

// settledLeftovers are those that do not go by themselves.
func (h *Host) settledLeftovers() (left []string) {
	for end := time.Now().Add(kernelTime); ; {
		if left = h.Leftovers(); len(left) == 0 || time.Now().After(end) {
			return left
		}
		<-time.After(100 * time.Millisecond)
	}
}

// Leftovers names every process, mount, network namespace, link, nft element and cgroup of the host that no container
// and no daemon accounts for. Call it with the daemon stopped and no container left.
func (h *Host) Leftovers() []string {
	var left []string
	for _, pid := range h.processes() {
		cmd, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		left = append(left, fmt.Sprintf("process %d %s", pid, strings.ReplaceAll(string(cmd), "\x00", " ")))
	}
	for _, m := range h.mounts() {
		left = append(left, "mount "+m)
	}
	for _, cg := range h.cgroups() {
		left = append(left, "cgroup "+cg)
	}
	return append(left, h.links()...)
}

// processes are those whose command line or working directory lies in the host's folder.
func (h *Host) processes() []int {
	var pids []int
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		cmd, err := os.ReadFile(filepath.Join(d, "cmdline"))
		if err != nil || !strings.Contains(string(cmd), h.Dir+"/") {
			continue
		}
		var pid int
		if _, err := fmt.Sscan(filepath.Base(d), &pid); err == nil && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids
}

func (h *Host) mounts() []string {
	b, _ := os.ReadFile("/proc/self/mountinfo")
	var found []string
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], h.Dir+"/") {
			found = append([]string{f[4]}, found...) // deepest first
		}
	}
	return found
}

// cgroups below the daemon's own parent, deepest first.
func (h *Host) cgroups() []string {
	var found []string
	roots, _ := filepath.Glob("/sys/fs/cgroup/*")
	for _, root := range append(roots, "/sys/fs/cgroup") {
		_ = filepath.WalkDir(filepath.Join(root, "nereid-"+h.Name), func(path string, d os.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				found = append([]string{path}, found...)
			}
			return nil
		})
	}
	return found
}

// links are those in the host's network namespace that a container would have: the bridge and the cable stay.
func (h *Host) links() []string {
	out, err := nsOutput(h.netns, "ip", "-o", "link", "show", "type", "veth")
	if err != nil {
		return nil
	}
	var left []string
	for line := range strings.Lines(out) {
		if !strings.Contains(line, " up0@") {
			left = append(left, "link "+strings.TrimSpace(line))
		}
	}
	return left
}

// Mounts below the host's folder, Shims it runs, and Cgroups below its parent: for tests that compare.
func (h *Host) Mounts() []string { return h.mounts() }

// Cgroups below the daemon's own parent.
func (h *Host) Cgroups() []string { return h.cgroups() }

// Shims are the processes of the host but the daemon.
func (h *Host) Shims() []int {
	var shims []int
	for _, pid := range h.processes() {
		if pid != h.daemon.Process.Pid {
			shims = append(shims, pid)
		}
	}
	return shims
}

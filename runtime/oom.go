package runtime

import (
	"bufio"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

const cgroupRoot = "/sys/fs/cgroup"

// oomKilled tells whether the kernel killed a process of the container for want of memory: an event told so, or the
// counter of the cgroup, which lives until the task is deleted, does.
func (r *Runtime) oomKilled(t *task) bool {
	t.mu.Lock()
	told := t.oom
	t.mu.Unlock()
	return told || oomKills(r.host.Unified, t.cgroup) > 0
}

// oomKills reads the counter of a cgroup; 0 when the cgroup is gone.
func oomKills(unified bool, cgroup string) int {
	file := filepath.Join(cgroupRoot, "memory", cgroup, "memory.oom_control")
	if unified {
		file = filepath.Join(cgroupRoot, cgroup, "memory.events")
	}
	f, err := os.Open(file)
	if err != nil {
		return 0
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		name, value, _ := strings.Cut(s.Text(), " ")
		if name == "oom_kill" {
			n, _ := strconv.Atoi(value) // the kernel writes a number
			return n
		}
	}
	return 0
}

//go:build bench

package bench

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/nereid-paas/nereid/integration/lab"
)

// TestBenchMemory tells what containers that sleep take of a host's memory, part by part.
func TestBenchMemory(t *testing.T) {
	n := trials(t, "CONTAINERS", 1000)
	h := lab.NewWithBusybox(t)
	e := engine{name: "nereid", docker: h.Docker}
	h.Docker(t, "run", "--rm", "busybox", "true")
	daemon, before := pss(h.Pid()), meminfo()
	e.sleepers(t, 0, n)
	after := meminfo()
	shims := pss(h.Shims()...)
	sleeping := pss(withCommand("sleep", "100000")...)
	kernel := func(what ...string) (mb float64) {
		for _, w := range what {
			mb += after[w] - before[w]
		}
		return mb
	}
	all := before["MemAvailable"] - after["MemAvailable"]
	parts := []struct {
		what string
		mb   float64
	}{
		{"the daemon, with none", daemon},
		{"the daemon, what it grew by", pss(h.Pid()) - daemon},
		{"shims, their proportional share", shims},
		{"the containers' processes (busybox sleep), likewise", sleeping},
		{"kernel: slab (namespaces, links, mounts, cgroups)", kernel("Slab")},
		{"kernel: per processor (network namespaces, cgroups)", kernel("Percpu")},
		{"kernel: stacks and page tables", kernel("KernelStack", "PageTables")},
		{"all that is not available any more, page cache with changes among it", all},
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %d containers%s.\n\n| part | MB | KB a container |\n|---|---|---|\n", machine(), n, busy())
	for _, p := range parts {
		each := fmt.Sprintf("%.0f", p.mb*1000/float64(n))
		if p.mb == daemon {
			each = ""
		}
		fmt.Fprintf(&b, "| %s | %.1f | %s |\n", p.what, p.mb, each)
	}
	fmt.Println(b.String())
	keep(t, "bench-memory", b.String())
	e.removeAll(t)
}

// meminfo is what the kernel says of the machine's memory, in MB.
func meminfo() map[string]float64 {
	b, _ := os.ReadFile("/proc/meminfo")
	all := map[string]float64{}
	for line := range strings.Lines(string(b)) {
		var kb float64
		name, rest, _ := strings.Cut(line, ":")
		if _, err := fmt.Sscanf(rest, "%f kB", &kb); err == nil {
			all[name] = kb * 1024 / 1e6
		}
	}
	return all
}

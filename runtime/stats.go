package runtime

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/cgroups/v3/cgroup1"
	stats1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	"github.com/containerd/cgroups/v3/cgroup2"
	stats2 "github.com/containerd/cgroups/v3/cgroup2/stats"
	"github.com/docker/docker/api/types/container"
	"golang.org/x/sys/unix"
)

// Stats is one sample, without Name, ID and precpu, in the shape of Docker's: memory statistics have the names the
// kernel gives them in its version of cgroups. Networks are those of the namespace of the container's process.
func (r *Runtime) Stats(_ context.Context, key Key) (*container.StatsResponse, error) {
	t, err := r.live(key)
	if err != nil {
		return nil, err
	}
	s := &container.StatsResponse{Read: time.Now()}
	if r.host.Unified {
		err = unifiedStats(s, t.cgroup)
	} else {
		err = legacyStats(s, t.cgroup)
	}
	if err != nil {
		if t.ended() != nil {
			return nil, errNotRunning(key)
		}
		return nil, fmt.Errorf("stats of container %s: %w", key.ID, err)
	}
	if err := systemCPU(&s.CPUStats); err != nil {
		return nil, err
	}
	if err := capMemory(&s.MemoryStats); err != nil {
		return nil, err
	}
	if t.spec.Netns != "" {
		s.Networks, err = networkStats(t.pid)
	}
	return s, err
}

func legacyStats(s *container.StatsResponse, path string) error {
	cg, err := cgroup1.Load(cgroup1.StaticPath(path))
	if err != nil {
		return err
	}
	m, err := cg.Stat(cgroup1.IgnoreNotExist)
	if err != nil {
		return err
	}
	if u := m.GetCPU().GetUsage(); u != nil {
		s.CPUStats.CPUUsage = container.CPUUsage{
			TotalUsage: u.Total, PercpuUsage: u.PerCPU, UsageInKernelmode: u.Kernel, UsageInUsermode: u.User,
		}
	}
	if th := m.GetCPU().GetThrottling(); th != nil {
		s.CPUStats.ThrottlingData = container.ThrottlingData{
			Periods: th.Periods, ThrottledPeriods: th.ThrottledPeriods, ThrottledTime: th.ThrottledTime,
		}
	}
	if u := m.GetMemory().GetUsage(); u != nil {
		s.MemoryStats = container.MemoryStats{Usage: u.Usage, MaxUsage: u.Max, Limit: u.Limit, Failcnt: u.Failcnt}
	}
	s.PidsStats = container.PidsStats{Current: m.GetPids().GetCurrent(), Limit: m.GetPids().GetLimit()}
	s.BlkioStats = legacyBlkio(m.GetBlkio())
	s.MemoryStats.Stats, err = memoryStat(filepath.Join(cgroupRoot, "memory"), path)
	return err
}

func legacyBlkio(b *stats1.BlkIOStat) container.BlkioStats {
	return container.BlkioStats{
		IoServiceBytesRecursive: blkioEntries(b.GetIoServiceBytesRecursive()),
		IoServicedRecursive:     blkioEntries(b.GetIoServicedRecursive()),
		IoQueuedRecursive:       blkioEntries(b.GetIoQueuedRecursive()),
		IoServiceTimeRecursive:  blkioEntries(b.GetIoServiceTimeRecursive()),
		IoWaitTimeRecursive:     blkioEntries(b.GetIoWaitTimeRecursive()),
		IoMergedRecursive:       blkioEntries(b.GetIoMergedRecursive()),
		IoTimeRecursive:         blkioEntries(b.GetIoTimeRecursive()),
		SectorsRecursive:        blkioEntries(b.GetSectorsRecursive()),
	}
}

// blkioEntries is never nil: Docker's answer on such hosts has empty lists.
func blkioEntries(from []*stats1.BlkIOEntry) []container.BlkioStatEntry {
	to := make([]container.BlkioStatEntry, 0, len(from))
	for _, e := range from {
		to = append(to, container.BlkioStatEntry{Major: e.Major, Minor: e.Minor, Op: e.Op, Value: e.Value})
	}
	return to
}

func unifiedStats(s *container.StatsResponse, path string) error {
	cg, err := cgroup2.Load(path)
	if err != nil {
		return err
	}
	m, err := cg.Stat()
	if err != nil {
		return err
	}
	cpu := m.GetCPU()
	s.CPUStats = container.CPUStats{
		// The kernel counts microseconds here, Docker nanoseconds.
		CPUUsage: container.CPUUsage{
			TotalUsage: cpu.GetUsageUsec() * 1000, UsageInKernelmode: cpu.GetSystemUsec() * 1000,
			UsageInUsermode: cpu.GetUserUsec() * 1000,
		},
		ThrottlingData: container.ThrottlingData{
			Periods: cpu.GetNrPeriods(), ThrottledPeriods: cpu.GetNrThrottled(), ThrottledTime: cpu.GetThrottledUsec() * 1000,
		},
	}
	s.MemoryStats = container.MemoryStats{
		Usage: m.GetMemory().GetUsage(), Limit: m.GetMemory().GetUsageLimit(), Failcnt: m.GetMemoryEvents().GetOom(),
	}
	s.PidsStats = container.PidsStats{Current: m.GetPids().GetCurrent(), Limit: m.GetPids().GetLimit()}
	s.BlkioStats.IoServiceBytesRecursive = unifiedBlkio(m.GetIo())
	s.MemoryStats.Stats, err = memoryStat(cgroupRoot, path)
	return err
}

func unifiedBlkio(io *stats2.IOStat) []container.BlkioStatEntry {
	var out []container.BlkioStatEntry
	for _, e := range io.GetUsage() {
		out = append(out,
			container.BlkioStatEntry{Major: e.Major, Minor: e.Minor, Op: "read", Value: e.Rbytes},
			container.BlkioStatEntry{Major: e.Major, Minor: e.Minor, Op: "write", Value: e.Wbytes})
	}
	return out
}

// memoryStat reads a cgroup's memory.stat, of either version: names and numbers. A kernel that counts no memory, as some
// small machines' by default, has none: below cgroup v2 the file is missing, of v1 the whole hierarchy.
func memoryStat(hierarchy, path string) (map[string]uint64, error) {
	dir := filepath.Join(hierarchy, path)
	f, err := os.Open(filepath.Join(dir, "memory.stat"))
	if errors.Is(err, fs.ErrNotExist) && (isDir(dir) || !isDir(hierarchy)) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	stats := map[string]uint64{}
	in := bufio.NewScanner(f)
	for in.Scan() {
		name, value, _ := strings.Cut(in.Text(), " ")
		n, err := strconv.ParseUint(value, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("memory.stat: %w", err)
		}
		stats[name] = n
	}
	return stats, in.Err()
}

func isDir(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.IsDir()
}

// tick is the unit of /proc/stat in nanoseconds: the kernel shows hundredths of a second whatever it counts.
const tick = uint64(time.Second / 100)

// systemCPU is the time all processors spent, in nanoseconds, and how many there are.
func systemCPU(s *container.CPUStats) error {
	f, err := os.Open("/proc/stat")
	if err != nil {
		return err
	}
	defer f.Close()
	in := bufio.NewScanner(f)
	for in.Scan() {
		fields := strings.Fields(in.Text())
		switch {
		case len(fields) < 8 || !strings.HasPrefix(fields[0], "cpu"):
		case fields[0] == "cpu":
			// user, nice, system, idle, iowait, irq, softirq; what follows is in these already
			for _, field := range fields[1:8] {
				ticks, err := strconv.ParseUint(field, 10, 64)
				if err != nil {
					return fmt.Errorf("/proc/stat: %w", err)
				}
				s.SystemUsage += ticks * tick
			}
		default:
			s.OnlineCPUs++
		}
	}
	return in.Err()
}

// capMemory makes the machine's memory the limit of a container that has none.
func capMemory(s *container.MemoryStats) error {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return err
	}
	if total := info.Totalram * uint64(info.Unit); s.Limit > total {
		s.Limit = total
	}
	return nil
}

// networkStats are the counters of all links but the loopback in the network namespace of a process.
func networkStats(pid int) (map[string]container.NetworkStats, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/net/dev", pid))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	out := map[string]container.NetworkStats{}
	for in := bufio.NewScanner(f); in.Scan(); {
		name, rest, ok := strings.Cut(strings.TrimSpace(in.Text()), ":")
		fields := strings.Fields(rest)
		if !ok || name == "lo" || len(fields) < 12 {
			continue // the two lines of headings have no colon
		}
		n := make([]uint64, 12)
		for i := range n {
			n[i], _ = strconv.ParseUint(fields[i], 10, 64) // the kernel writes numbers
		}
		out[name] = container.NetworkStats{
			RxBytes: n[0], RxPackets: n[1], RxErrors: n[2], RxDropped: n[3],
			TxBytes: n[8], TxPackets: n[9], TxErrors: n[10], TxDropped: n[11],
		}
	}
	return out, nil
}

package spec

import (
	"time"

	"github.com/docker/docker/api/types/blkiodev"
	"github.com/docker/docker/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"
)

func setResources(s *specs.Spec, in *Input, _ *SecurityOpts) error {
	r := in.HostConfig.Resources
	cpu, err := cpuResources(r)
	if err != nil {
		return err
	}
	blkio, err := blockIO(r, in.Host)
	if err != nil {
		return err
	}
	s.Linux.Resources = &specs.LinuxResources{
		CPU: cpu, Memory: memoryResources(r, in.Host), BlockIO: blkio, Pids: pidsLimit(r),
	}
	return nil
}

// Resources are the limits for an update of a running container; values that are zero stay as they are.
func Resources(r container.Resources) (*specs.LinuxResources, error) {
	cpu, err := cpuResources(r)
	if err != nil {
		return nil, err
	}
	out := &specs.LinuxResources{CPU: cpu, Pids: pidsLimit(r), Memory: memoryLimits(r)}
	if r.BlkioWeight != 0 {
		out.BlockIO = &specs.LinuxBlockIO{Weight: &r.BlkioWeight}
	}
	return out, nil
}

// memoryLimits are those that may change while the container runs.
func memoryLimits(r container.Resources) *specs.LinuxMemory {
	var m specs.LinuxMemory
	if r.Memory > 0 {
		m.Limit = &r.Memory
	}
	if r.MemoryReservation > 0 {
		m.Reservation = &r.MemoryReservation
	}
	if r.MemorySwap != 0 { // -1: no limit
		m.Swap = &r.MemorySwap
	}
	if m == (specs.LinuxMemory{}) {
		return nil
	}
	return &m
}

func memoryResources(r container.Resources, h Host) *specs.LinuxMemory {
	var m specs.LinuxMemory
	if limits := memoryLimits(r); limits != nil {
		m = *limits
	}
	if r.MemorySwap == 0 && r.Memory > 0 && h.SwapLimit {
		twice := 2 * r.Memory // Docker's default: as much swap as memory
		m.Swap = &twice
	}
	if r.MemorySwappiness != nil && *r.MemorySwappiness >= 0 {
		swappiness := uint64(*r.MemorySwappiness)
		m.Swappiness = &swappiness
	}
	m.DisableOOMKiller = r.OomKillDisable
	if r.KernelMemoryTCP != 0 { //nolint:staticcheck // deprecated, and still honoured by Docker
		m.KernelTCP = &r.KernelMemoryTCP //nolint:staticcheck // as above
	}
	if m == (specs.LinuxMemory{}) {
		return nil
	}
	return &m
}

// cpuPeriod is the scheduler's default, in microseconds, that --cpus is a share of.
const cpuPeriod = uint64(100 * time.Millisecond / time.Microsecond)

func cpuResources(r container.Resources) (*specs.LinuxCPU, error) {
	cpu := specs.LinuxCPU{Cpus: r.CpusetCpus, Mems: r.CpusetMems}
	if r.CPUShares < 0 {
		return nil, invalid("invalid CPU shares (%d): value must be a positive integer", r.CPUShares)
	}
	cpu.Shares = unsigned(r.CPUShares)
	if r.NanoCPUs > 0 {
		period, quota := cpuPeriod, r.NanoCPUs*int64(cpuPeriod)/1e9
		cpu.Period, cpu.Quota = &period, &quota
	}
	if r.CPUPeriod != 0 {
		cpu.Period = unsigned(r.CPUPeriod)
	}
	if r.CPUQuota != 0 {
		cpu.Quota = &r.CPUQuota
	}
	cpu.RealtimePeriod = unsigned(r.CPURealtimePeriod)
	if r.CPURealtimeRuntime != 0 {
		cpu.RealtimeRuntime = &r.CPURealtimeRuntime
	}
	if cpu == (specs.LinuxCPU{}) {
		return nil, nil
	}
	return &cpu, nil
}

func unsigned(v int64) *uint64 {
	if v == 0 {
		return nil
	}
	u := uint64(v)
	return &u
}

// pidsLimit: zero and negative both lift the limit.
func pidsLimit(r container.Resources) *specs.LinuxPids {
	if r.PidsLimit == nil {
		return nil
	}
	limit := *r.PidsLimit
	if limit <= 0 {
		limit = -1
	}
	return &specs.LinuxPids{Limit: &limit}
}

func blockIO(r container.Resources, h Host) (*specs.LinuxBlockIO, error) {
	var (
		b   specs.LinuxBlockIO
		any bool
	)
	if r.BlkioWeight != 0 {
		b.Weight, any = &r.BlkioWeight, true
	}
	for _, d := range r.BlkioWeightDevice {
		major, minor, err := h.DeviceNumber(d.Path)
		if err != nil {
			return nil, err
		}
		w := specs.LinuxWeightDevice{Weight: &d.Weight}
		w.Major, w.Minor = major, minor
		b.WeightDevice, any = append(b.WeightDevice, w), true
	}
	for _, t := range []struct {
		from []*blkiodev.ThrottleDevice
		to   *[]specs.LinuxThrottleDevice
	}{
		{r.BlkioDeviceReadBps, &b.ThrottleReadBpsDevice},
		{r.BlkioDeviceWriteBps, &b.ThrottleWriteBpsDevice},
		{r.BlkioDeviceReadIOps, &b.ThrottleReadIOPSDevice},
		{r.BlkioDeviceWriteIOps, &b.ThrottleWriteIOPSDevice},
	} {
		list, err := throttles(t.from, h)
		if err != nil {
			return nil, err
		}
		*t.to = list
		any = any || len(list) > 0
	}
	if !any {
		return nil, nil
	}
	return &b, nil
}

func throttles(devs []*blkiodev.ThrottleDevice, h Host) ([]specs.LinuxThrottleDevice, error) {
	var out []specs.LinuxThrottleDevice
	for _, d := range devs {
		major, minor, err := h.DeviceNumber(d.Path)
		if err != nil {
			return nil, err
		}
		t := specs.LinuxThrottleDevice{Rate: d.Rate}
		t.Major, t.Minor = major, minor
		out = append(out, t)
	}
	return out, nil
}

package engine

import (
	"runtime"

	"github.com/docker/docker/api/types/blkiodev"
	"github.com/docker/docker/api/types/container"
)

// leastMemory is what Docker asks for at least: less does not hold runc's own start.
const leastMemory = 6 << 20

func (v *verifier) checkResources(r *container.Resources) error {
	return runChecks([]func() error{
		func() error { return v.checkMemory(r) },
		func() error { return v.checkSwappiness(r) },
		func() error { return v.checkReservation(r) },
		func() error { return v.checkKernelMemory(r) },
		func() error { v.discardKillers(r); return nil },
		func() error { return v.checkNanoCPUs(r) },
		func() error { return v.checkCPUTime(r) },
		func() error { return v.checkRealtime(r) },
		func() error { return v.checkCpuset(r) },
		func() error { return v.checkBlkio(r) },
		func() error { return checkUlimits(r.Ulimits) },
	})
}

func (v *verifier) checkMemory(r *container.Resources) error {
	if r.Memory != 0 && r.Memory < leastMemory {
		return errInvalid("Minimum memory limit allowed is 6MB")
	}
	if r.Memory > 0 && !v.sys.MemoryLimit {
		v.warn("Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded.")
		r.Memory, r.MemorySwap = 0, -1
	}
	if r.Memory > 0 && r.MemorySwap != -1 && !v.sys.SwapLimit {
		v.warn("Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap.")
		r.MemorySwap = -1
	}
	if r.Memory > 0 && r.MemorySwap > 0 && r.MemorySwap < r.Memory {
		return errInvalid("Minimum memoryswap limit should be larger than memory limit, see usage")
	}
	if r.Memory == 0 && r.MemorySwap > 0 && !v.update {
		return errInvalid("You should always set the Memory limit when using Memoryswap limit, see usage")
	}
	return nil
}

func (v *verifier) checkSwappiness(r *container.Resources) error {
	if r.MemorySwappiness != nil && *r.MemorySwappiness == -1 { // older clients' "not set"
		r.MemorySwappiness = nil
	}
	if r.MemorySwappiness != nil && !v.sys.MemorySwappiness {
		v.warn("Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded.")
		r.MemorySwappiness = nil
	}
	if s := r.MemorySwappiness; s != nil && (*s < 0 || *s > 100) {
		return errInvalid("Invalid value: %v, valid memory swappiness range is 0-100", *s)
	}
	return nil
}

func (v *verifier) checkReservation(r *container.Resources) error {
	if r.MemoryReservation > 0 && !v.sys.MemoryReservation {
		v.warn("Your kernel does not support memory soft limit capabilities or the cgroup is not mounted. Limitation discarded.")
		r.MemoryReservation = 0
	}
	if r.MemoryReservation > 0 && r.MemoryReservation < leastMemory {
		return errInvalid("Minimum memory reservation allowed is 6MB")
	}
	if r.Memory > 0 && r.MemoryReservation > 0 && r.Memory < r.MemoryReservation {
		return errInvalid("Minimum memory limit can not be less than memory reservation limit, see usage")
	}
	return nil
}

func (v *verifier) checkKernelMemory(r *container.Resources) error {
	if r.KernelMemory > 0 && !v.sys.KernelMemory {
		v.warn("Your kernel does not support kernel memory limit capabilities or the cgroup is not mounted. Limitation discarded.")
		r.KernelMemory = 0
	}
	if r.KernelMemory > 0 && r.KernelMemory < leastMemory {
		return errInvalid("Minimum kernel memory limit allowed is 6MB")
	}
	return nil
}

// discardKillers drops the OOM killer's and the pids' settings where the kernel has none.
func (v *verifier) discardKillers(r *container.Resources) {
	if r.OomKillDisable != nil && !v.sys.OomKillDisable {
		if *r.OomKillDisable {
			v.warn("Your kernel does not support OomKillDisable. OomKillDisable discarded.")
		}
		r.OomKillDisable = nil
	}
	if r.OomKillDisable != nil && *r.OomKillDisable && r.Memory == 0 {
		v.warn("OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.")
	}
	if r.PidsLimit != nil && !v.sys.PidsLimit {
		if *r.PidsLimit > 0 {
			v.warn("Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded.")
		}
		r.PidsLimit = nil
	}
}

func (v *verifier) checkNanoCPUs(r *container.Resources) error {
	if r.NanoCPUs > 0 && r.CPUPeriod > 0 {
		return errInvalid("Conflicting options: Nano CPUs and CPU Period cannot both be set")
	}
	if r.NanoCPUs > 0 && r.CPUQuota > 0 {
		return errInvalid("Conflicting options: Nano CPUs and CPU Quota cannot both be set")
	}
	if r.NanoCPUs > 0 && !v.sys.CPUCfs {
		return errInvalid("NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted")
	}
	if n := runtime.NumCPU(); r.NanoCPUs < 0 || r.NanoCPUs > int64(n)*1e9 {
		return errInvalid("range of CPUs is from 0.01 to %[1]d.00, as there are only %[1]d CPUs available", n)
	}
	return nil
}

func (v *verifier) checkCPUTime(r *container.Resources) error {
	if r.CPUShares < 0 && v.sys.CPUShares {
		return errInvalid("invalid CPU shares (%d): value must be a positive integer", r.CPUShares)
	}
	if r.CPUShares > 0 && !v.sys.CPUShares {
		v.warn("Your kernel does not support CPU shares or the cgroup is not mounted. Shares discarded.")
		r.CPUShares = 0
	}
	if (r.CPUPeriod != 0 || r.CPUQuota != 0) && !v.sys.CPUCfs {
		v.warn("Your kernel does not support CPU CFS scheduler. CPU period/quota discarded.")
		r.CPUPeriod, r.CPUQuota = 0, 0
	}
	if r.CPUPeriod != 0 && (r.CPUPeriod < 1000 || r.CPUPeriod > 1000000) {
		return errInvalid("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
	}
	if r.CPUQuota > 0 && r.CPUQuota < 1000 {
		return errInvalid("CPU cfs quota can not be less than 1ms (i.e. 1000)")
	}
	if r.CPUPercent > 0 {
		v.warn("linux does not support CPU percent. Percent discarded.")
		r.CPUPercent = 0
	}
	return nil
}

func (v *verifier) checkRealtime(r *container.Resources) error {
	if (r.CPURealtimePeriod != 0 || r.CPURealtimeRuntime != 0) && !v.sys.CPURealtime {
		return errInvalid("kernel does not support CPU real-time scheduler")
	}
	if r.CPURealtimePeriod != 0 && r.CPURealtimeRuntime > r.CPURealtimePeriod {
		return errInvalid("cpu real-time runtime cannot be higher than cpu real-time period")
	}
	return nil
}

func (v *verifier) checkCpuset(r *container.Resources) error {
	if (r.CpusetCpus != "" || r.CpusetMems != "") && !v.sys.Cpuset {
		v.warn("Your kernel does not support cpuset or the cgroup is not mounted. Cpuset discarded.")
		r.CpusetCpus, r.CpusetMems = "", ""
	}
	ok, err := v.sys.IsCpusetCpusAvailable(r.CpusetCpus)
	if err != nil {
		return errInvalid("Invalid value %s for cpuset cpus: %s", r.CpusetCpus, err)
	}
	if !ok {
		return errInvalid("Requested CPUs are not available - requested %s, available: %s", r.CpusetCpus, v.sys.Cpus)
	}
	ok, err = v.sys.IsCpusetMemsAvailable(r.CpusetMems)
	if err != nil {
		return errInvalid("Invalid value %s for cpuset mems: %s", r.CpusetMems, err)
	}
	if !ok {
		return errInvalid("Requested memory nodes are not available - requested %s, available: %s", r.CpusetMems, v.sys.Mems)
	}
	return nil
}

func (v *verifier) checkBlkio(r *container.Resources) error {
	if r.BlkioWeight > 0 && !v.sys.BlkioWeight {
		v.warn("Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.")
		r.BlkioWeight = 0
	}
	if r.BlkioWeight > 0 && (r.BlkioWeight < 10 || r.BlkioWeight > 1000) {
		return errInvalid("Range of blkio weight is from 10 to 1000")
	}
	if r.IOMaximumBandwidth != 0 {
		return errInvalid("invalid option: QoS maximum bandwidth configuration is not supported on linux")
	}
	if r.IOMaximumIOps != 0 {
		return errInvalid("invalid option: QoS maximum IOPs configuration is not supported on linux")
	}
	if len(r.BlkioWeightDevice) > 0 && !v.sys.BlkioWeightDevice {
		v.warn("Your kernel does not support Block I/O weight_device or the cgroup is not mounted. Weight-device discarded.")
		r.BlkioWeightDevice = nil
	}
	v.discardThrottle(&r.BlkioDeviceReadBps, v.sys.BlkioReadBpsDevice,
		"Your kernel does not support BPS Block I/O read limit or the cgroup is not mounted. Block I/O BPS read limit discarded.")
	v.discardThrottle(&r.BlkioDeviceWriteBps, v.sys.BlkioWriteBpsDevice,
		"Your kernel does not support BPS Block I/O write limit or the cgroup is not mounted. Block I/O BPS write limit discarded.")
	v.discardThrottle(&r.BlkioDeviceReadIOps, v.sys.BlkioReadIOpsDevice,
		"Your kernel does not support IOPS Block read limit or the cgroup is not mounted. Block I/O IOPS read limit discarded.")
	v.discardThrottle(&r.BlkioDeviceWriteIOps, v.sys.BlkioWriteIOpsDevice,
		"Your kernel does not support IOPS Block write limit or the cgroup is not mounted. Block I/O IOPS write limit discarded.")
	return nil
}

func (v *verifier) discardThrottle(limits *[]*blkiodev.ThrottleDevice, able bool, warning string) {
	if len(*limits) > 0 && !able {
		v.warn(warning)
		*limits = nil
	}
}

// checkUlimits refuses at create what runc would refuse at start.
func checkUlimits(limits []*container.Ulimit) error {
	for _, l := range limits {
		if _, err := l.GetRlimit(); err != nil {
			return errInvalid("invalid ulimit type: %s", l.Name)
		}
		if l.Hard != -1 && (l.Soft == -1 || l.Soft > l.Hard) {
			return errInvalid("ulimit soft limit must be less than or equal to hard limit: %d > %d", l.Soft, l.Hard)
		}
	}
	return nil
}

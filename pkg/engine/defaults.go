package engine

import (
	"strings"

	"github.com/containerd/cgroups/v3"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
)

// defaultShmSize of /dev/shm is Docker's.
const defaultShmSize = 64 << 20

// maskedPaths and readonlyPaths are what Docker hides from, or keeps from being written by, a container that is not
// privileged and says nothing of its own.
var (
	maskedPaths = []string{
		"/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
		"/sys/devices/virtual/powercap",
	}
	readonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)

// setDefaults fills in what Docker fills in for a new container, so that inspect shows it and the runtime need not
// guess.
func setDefaults(hc *container.HostConfig) {
	if hc.RestartPolicy.Name == "" {
		hc.RestartPolicy.Name = container.RestartPolicyDisabled
	}
	if hc.NetworkMode == "" || hc.NetworkMode.IsDefault() {
		hc.NetworkMode = network.NetworkBridge
	}
	if hc.Memory > 0 && hc.MemorySwap == 0 {
		hc.MemorySwap = hc.Memory * 2
	}
	if hc.ShmSize == 0 {
		hc.ShmSize = defaultShmSize
	}
	if hc.IpcMode.IsEmpty() {
		hc.IpcMode = container.IPCModePrivate
	}
	if hc.CgroupnsMode.IsEmpty() {
		hc.CgroupnsMode = defaultCgroupns(hc.Privileged)
	}
	hc.SecurityOpt = append(hc.SecurityOpt, defaultLabels(hc)...)
	if hc.OomKillDisable == nil {
		no := false
		hc.OomKillDisable = &no
	}
	if hc.MaskedPaths == nil && !hc.Privileged {
		hc.MaskedPaths = maskedPaths
	}
	if hc.ReadonlyPaths == nil && !hc.Privileged {
		hc.ReadonlyPaths = readonlyPaths
	}
}

// defaultLabels switch SELinux off for a container that shares the host's processes or memory, as inspect shows it with
// Docker on every host.
func defaultLabels(hc *container.HostConfig) []string {
	if !hc.Privileged && !hc.IpcMode.IsHost() && !hc.PidMode.IsHost() {
		return nil
	}
	for _, opt := range hc.SecurityOpt {
		if key, _, _ := strings.Cut(opt, "="); key == "label" {
			return nil
		}
	}
	return []string{"label=disable"}
}

func defaultCgroupns(privileged bool) container.CgroupnsMode {
	if cgroups.Mode() == cgroups.Unified {
		return container.CgroupnsModePrivate
	}
	return container.CgroupnsModeHost
}

package engine

import "github.com/docker/docker/api/types/container"

// checkUnsupported refuses, by name, what no Linux host can do: no option is accepted and then ignored.
func (v *verifier) checkUnsupported(hc *container.HostConfig) error {
	switch {
	case hc.Cgroup != "":
		return errInvalid("HostConfig.Cgroup %q is not supported", hc.Cgroup)
	case hc.CPUCount != 0:
		return errInvalid("HostConfig.CpuCount is not supported on linux")
	case hc.KernelMemoryTCP != 0:
		v.warn("Kernel memory TCP limits are not supported. Limitation discarded.")
		hc.KernelMemoryTCP = 0
	}
	return nil
}

package engine

import (
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/container"
)

// checkSecurity refuses a --security-opt that Docker does not know.
func checkSecurity(hc *container.HostConfig) error {
	for _, opt := range hc.SecurityOpt {
		if err := checkSecurityOpt(opt); err != nil {
			return err
		}
	}
	return nil
}

func checkSecurityOpt(opt string) error {
	switch opt {
	case "no-new-privileges", "writable-cgroups", "disable":
		return nil
	}
	k, value, ok := strings.Cut(opt, "=")
	if !ok {
		k, value, ok = strings.Cut(opt, ":") // the form of old clients
	}
	if !ok {
		return errInvalid("invalid --security-opt 1: %q", opt)
	}
	switch k {
	case "label", "apparmor", "seccomp":
		return nil
	case "no-new-privileges", "writable-cgroups":
		if _, err := strconv.ParseBool(value); err == nil {
			return nil
		}
	}
	return errInvalid("invalid --security-opt 2: %q", opt)
}

// checkUnsupported refuses, by name, what this host cannot do: no option is accepted and then ignored.
func (v *verifier) checkUnsupported(hc *container.HostConfig) error {
	if len(hc.DeviceRequests) > 0 {
		r := hc.DeviceRequests[0]
		return errInvalid("could not select device driver %q with capabilities: %v", r.Driver, r.Capabilities)
	}
	switch {
	case !hc.UsernsMode.Valid():
		return errInvalid("invalid user namespace mode: %v", hc.UsernsMode)
	case hc.Cgroup != "":
		return errInvalid("HostConfig.Cgroup %q is not supported", hc.Cgroup)
	case len(hc.StorageOpt) > 0:
		return errInvalid("--storage-opt is supported only for overlay over xfs with 'pquota' mount option")
	case hc.CPUCount != 0:
		return errInvalid("HostConfig.CpuCount is not supported on linux")
	case hc.KernelMemoryTCP != 0:
		v.warn("Kernel memory TCP limits are not supported. Limitation discarded.")
		hc.KernelMemoryTCP = 0
	}
	return nil
}

package spec

import (
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/go-units"
)

// Check refuses what this host cannot do for a container, naming it in Docker's words with class
// errdefs.ErrInvalidArgument, and warns of what it will not heed.
func (h Host) Check(hc *container.HostConfig) (warnings []string, err error) {
	warnings, err = h.checkSecurity(hc)
	if err != nil {
		return warnings, err
	}
	if !hc.UsernsMode.Valid() { // Docker's command refuses it, its engine does not
		warnings = append(warnings, "User namespace mode "+string(hc.UsernsMode)+" is not known. User namespace mode discarded.")
	}
	for _, check := range []func(*container.HostConfig) error{h.checkUserns, h.checkRuntime, h.checkStorage, checkIsolation} {
		if err := check(hc); err != nil {
			return warnings, err
		}
	}
	return warnings, nil
}

// checkSecurity: Docker heeds labels and profiles on hosts that have the module for them, and passes over them elsewhere.
func (h Host) checkSecurity(hc *container.HostConfig) (warnings []string, err error) {
	s, err := ParseSecurityOpts(hc.SecurityOpt)
	if err != nil {
		return nil, err
	}
	for _, l := range s.Labels {
		if l != "disable" {
			warnings = append(warnings, "SELinux is not supported. Security option label="+l+" discarded.")
		}
	}
	if h.AppArmor == nil && s.AppArmor != "" && s.AppArmor != "unconfined" {
		warnings = append(warnings, "Your kernel does not support AppArmor or it is not enabled. Security option apparmor="+s.AppArmor+" discarded.")
	}
	return warnings, nil
}

func (h Host) checkRuntime(hc *container.HostConfig) error {
	if _, ok := h.Runtimes[hc.Runtime]; !ok && hc.Runtime != "" {
		return invalid("unknown or invalid runtime name: %s", hc.Runtime)
	}
	return nil
}

func checkIsolation(hc *container.HostConfig) error {
	if !hc.Isolation.IsDefault() {
		return invalid("invalid isolation '%s' on linux", hc.Isolation)
	}
	return nil
}

func (h Host) checkStorage(hc *container.HostConfig) error {
	size, err := StorageSize(hc)
	if err != nil || size == 0 {
		return err
	}
	if h.Quota == nil || !h.Quota() {
		return invalid("--storage-opt is supported only for overlay over xfs with 'pquota' mount option")
	}
	return nil
}

// StorageSize is the limit of the writable layer that HostConfig.StorageOpt asks for, in bytes; 0: none.
func StorageSize(hc *container.HostConfig) (size int64, err error) {
	for key, value := range hc.StorageOpt {
		if !strings.EqualFold(key, "size") {
			return 0, invalid("Unknown option %s", key)
		}
		if size, err = units.RAMInBytes(value); err != nil {
			return 0, invalid("%s", err)
		}
		if size < 0 {
			return 0, invalid("invalid size: '%s'", value)
		}
	}
	return size, nil
}

// checkUserns refuses what a container in a user namespace cannot share with the host.
func (h Host) checkUserns(hc *container.HostConfig) error {
	switch {
	case !h.IDMap.Mapped(), hc.UsernsMode.IsHost():
		return nil
	case hc.Privileged:
		return invalid("privileged mode is incompatible with user namespaces.  You must run the container in the host namespace when running privileged mode")
	case hc.NetworkMode.IsHost():
		return invalid("cannot share the host's network namespace when user namespaces are enabled")
	case hc.IpcMode.IsHost(): // Docker fails to start it
		return invalid("cannot share the host IPC namespace when user namespaces are enabled")
	case hc.PidMode.IsHost():
		return invalid("cannot share the host PID namespace when user namespaces are enabled")
	}
	return nil
}

package engine

import (
	"github.com/docker/docker/api/types/container"
)

// checkNetworkMode refuses combinations of the network mode with options that belong to another network namespace.
func checkNetworkMode(cfg *container.Config, hc *container.HostConfig) error {
	if err := checkContainerNetworkMode(cfg, hc); err != nil {
		return err
	}
	if hc.UTSMode.IsHost() && cfg.Hostname != "" {
		return errInvalid("conflicting options: hostname and the UTS mode")
	}
	if hc.NetworkMode.IsHost() && len(hc.Links) > 0 {
		return errInvalid("conflicting options: host type networking can't be used with links. This would result in undefined behavior")
	}
	return nil
}

func checkContainerNetworkMode(cfg *container.Config, hc *container.HostConfig) error {
	if hc.NetworkMode != "container" && !hc.NetworkMode.IsContainer() {
		return nil
	}
	switch {
	case hc.NetworkMode.ConnectedContainer() == "":
		return errInvalid("invalid network mode: invalid container format container:<name|id>")
	case cfg.Hostname != "":
		return errInvalid("conflicting options: hostname and the network mode")
	case len(hc.Links) > 0:
		return errInvalid("conflicting options: container type network can't be used with links. This would result in undefined behavior")
	case len(hc.DNS) > 0:
		return errInvalid("conflicting options: dns and the network mode")
	case len(hc.ExtraHosts) > 0:
		return errInvalid("conflicting options: custom host-to-IP mapping and the network mode")
	case len(hc.PortBindings) > 0 || hc.PublishAllPorts:
		return errInvalid("conflicting options: port publishing and the container type network mode")
	case len(cfg.ExposedPorts) > 0:
		return errInvalid("conflicting options: port exposing and the container type network mode")
	}
	return nil
}

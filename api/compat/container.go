package compat

import (
	"slices"

	"github.com/docker/docker/api/types/container"
)

// ContainerList gives a list the form of version v, ready for JSON; it is never null. The summaries must be the caller's
// own.
func ContainerList(v Version, list []*container.Summary) any {
	if list == nil {
		list = []*container.Summary{}
	}
	for _, c := range list {
		if v < 48 {
			c.ImageManifestDescriptor = nil
		}
		if v < 46 {
			c.HostConfig.Annotations = nil
		}
	}
	if !NewestContainerList(v) {
		return summaries(v, list)
	}
	return list
}

// NewestContainerList tells whether version v has the list's newest form, which ContainerList leaves alone.
func NewestContainerList(v Version) bool { return v >= 48 }

// Inspected is what an inspect of a container answers.
type Inspected struct {
	*container.InspectResponse
	NetworkSettings any
}

// ContainerInspect gives an inspect answer the form of version v. The endpoint settings must be the caller's own.
func ContainerInspect(v Version, c *container.InspectResponse) Inspected {
	if v < 48 {
		c.ImageManifestDescriptor = nil
	}
	if v < 45 {
		addShortAliases(c)
	}
	if v < 48 && c.NetworkSettings != nil {
		return Inspected{c, &settings{c.NetworkSettings, endpoints(v, c.NetworkSettings.Networks)}}
	}
	return Inspected{c, c.NetworkSettings}
}

// addShortAliases lists the short id and the hostname among the aliases, where they were before DNSNames took them.
func addShortAliases(c *container.InspectResponse) {
	if c.NetworkSettings == nil || c.ContainerJSONBase == nil || c.Config == nil {
		return
	}
	short := c.ID[:min(len(c.ID), 12)]
	for name, ep := range c.NetworkSettings.Networks {
		if ep == nil || !container.NetworkMode(name).IsUserDefined() {
			continue
		}
		for _, alias := range []string{short, c.Config.Hostname} {
			if !slices.Contains(ep.Aliases, alias) {
				ep.Aliases = append(slices.Clone(ep.Aliases), alias)
			}
		}
	}
}

// Update turns an update request of version v into the present one.
func Update(v Version, u *container.UpdateConfig) {
	if v >= 42 {
		u.KernelMemory = 0 // gone since
	}
	if v < 40 {
		u.PidsLimit = nil
	}
}

// Stop turns the options of stop and restart of version v into the present ones.
func Stop(v Version, o *container.StopOptions) {
	if v < 42 {
		o.Signal = ""
	}
}

// ExecCreate turns an exec request of version v into the present one.
func ExecCreate(v Version, o *container.ExecOptions) {
	if v < 42 {
		o.ConsoleSize = nil
	}
}

// ExecStart turns an exec start of version v into the present one. A console has a size only with a tty.
func ExecStart(v Version, o *container.ExecStartOptions) {
	if v < 42 || !o.Tty {
		o.ConsoleSize = nil
	}
}

// Multiplexed tells whether version v knows the content type of multiplexed streams.
func Multiplexed(v Version) bool { return v >= 42 }

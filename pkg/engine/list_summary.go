package engine

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/go-connections/nat"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nereid-paas/nereid/pkg/state"
)

// hostLabel tells users on which of a fleet's hosts a container is, or something happened. They can always ask for it, and a
// host on its own does not show it: who compares a container's labels with those he gave it finds them as with any engine.
const hostLabel = "nereid.host"

// manyHosts tells whether there is a choice of hosts.
func manyHosts(v *state.View) bool { return len(v.Members()) > 1 }

// labelsOf are a container's own labels. The map is the caller's.
func labelsOf(r *state.Container) map[string]string {
	labels := map[string]string{}
	if r.Config != nil {
		maps.Copy(labels, r.Config.Labels)
	}
	return labels
}

// shownLabel is one of a container's labels, or its host.
func shownLabel(r *state.Container, key string) (string, bool) {
	if key == hostLabel {
		return string(r.Host), true
	}
	if r.Config == nil {
		return "", false
	}
	v, ok := r.Config.Labels[key]
	return v, ok
}

// summary is what a list says of a container. It shares nothing with the record that a caller may change.
func summary(r *state.Container, image, status string, nets *container.NetworkSettings) *container.Summary {
	s := &container.Summary{
		ID:                      string(r.ID),
		Names:                   []string{"/" + r.Name},
		Image:                   image,
		ImageID:                 string(r.ImageID),
		ImageManifestDescriptor: manifestOf(r),
		Command:                 commandText(r.Path, r.Args),
		Created:                 r.Created.Unix(),
		Ports:                   portList(nets),
		Labels:                  labelsOf(r),
		State:                   r.State.Status,
		Status:                  status,
		NetworkSettings:         &container.NetworkSettingsSummary{Networks: listedNetworks(nets)},
		Mounts:                  mountPoints(r),
	}
	if r.HostConfig != nil {
		s.HostConfig.NetworkMode = string(r.HostConfig.NetworkMode)
		s.HostConfig.Annotations = maps.Clone(r.HostConfig.Annotations)
	}
	return s
}

// manifestOf is the manifest a container was made from, with its platform.
func manifestOf(r *state.Container) *ocispec.Descriptor {
	if r.Manifest == nil {
		return nil
	}
	m := *r.Manifest
	if m.Platform == nil {
		p := r.Platform
		m.Platform = &p
	}
	return &m
}

// commandText writes a command line; arguments with a space in them are quoted, which is all that Docker does.
func commandText(path string, args []string) string {
	words := []string{path}
	for _, a := range args {
		if strings.Contains(a, " ") {
			a = "'" + a + "'"
		}
		words = append(words, a)
	}
	return strings.Join(words, " ")
}

// mountPoints are a container's mounts as inspect and lists show them; never nil.
func mountPoints(r *state.Container) []container.MountPoint {
	points := make([]container.MountPoint, 0, len(r.Mounts))
	for _, m := range r.Mounts {
		points = append(points, container.MountPoint{
			Type: mount.Type(m.Type), Name: m.Name, Source: m.Source, Destination: m.Destination, Driver: m.Driver,
			Mode: m.Mode, RW: m.RW, Propagation: mount.Propagation(m.Propagation),
		})
	}
	return points
}

// portList are the ports of a container, exposed and published, in the order of their numbers; never nil.
func portList(nets *container.NetworkSettings) []container.Port {
	list := []container.Port{}
	if nets == nil {
		return list
	}
	for port, bindings := range nets.Ports {
		private := container.Port{PrivatePort: uint16(port.Int()), Type: port.Proto()}
		if len(bindings) == 0 {
			list = append(list, private)
		}
		for _, b := range bindings {
			public, err := nat.ParsePort(b.HostPort)
			if err != nil {
				continue // claimed ports are numbers: there is nothing to show of another
			}
			p := private
			p.PublicPort, p.IP = uint16(public), b.HostIP
			list = append(list, p)
		}
	}
	slices.SortFunc(list, func(a, b container.Port) int {
		return cmp.Or(cmp.Compare(a.PrivatePort, b.PrivatePort), cmp.Compare(a.Type, b.Type), cmp.Compare(a.IP, b.IP), cmp.Compare(a.PublicPort, b.PublicPort))
	})
	return list
}

// listedNetworks keeps of each endpoint what lists show.
func listedNetworks(nets *container.NetworkSettings) map[string]*network.EndpointSettings {
	shown := map[string]*network.EndpointSettings{}
	if nets == nil {
		return shown
	}
	for name, ep := range nets.Networks {
		if ep == nil {
			continue
		}
		e := &network.EndpointSettings{
			EndpointID: ep.EndpointID, NetworkID: ep.NetworkID, MacAddress: ep.MacAddress, GwPriority: ep.GwPriority,
			Gateway: ep.Gateway, IPAddress: ep.IPAddress, IPPrefixLen: ep.IPPrefixLen,
			IPv6Gateway: ep.IPv6Gateway, GlobalIPv6Address: ep.GlobalIPv6Address, GlobalIPv6PrefixLen: ep.GlobalIPv6PrefixLen,
		}
		if ep.IPAMConfig != nil {
			e.IPAMConfig = &network.EndpointIPAMConfig{IPv4Address: ep.IPAMConfig.IPv4Address, IPv6Address: ep.IPAMConfig.IPv6Address}
		}
		shown[name] = e
	}
	return shown
}

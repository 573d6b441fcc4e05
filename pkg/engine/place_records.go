package engine

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/container"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nereid-paas/nereid/pkg/state"
	"github.com/nereid-paas/nereid/scheduler/snapshot"
)

// labelSlots is classic Swarm's label of a host that bounds its containers.
const labelSlots = "containerslots"

// placedHost is a host as the scheduler sees it. What classic Swarm's constraints could ask of every host is among its
// labels; a label of that name goes first.
func placedHost(h *state.Host) snapshot.Host {
	labels := map[string]string{
		"kernelversion": h.KernelVersion, "operatingsystem": h.OS, "ostype": h.OSType, "architecture": h.Architecture,
		"storagedriver": "overlayfs",
	}
	maps.Copy(labels, h.Labels)
	slots, err := strconv.Atoi(labels[labelSlots])
	if err != nil || slots < 0 {
		slots = 0
	}
	return snapshot.Host{
		Name: h.Name, Labels: labels,
		Platform:         platforms.FormatAll(platforms.Normalize(ocispec.Platform{OS: h.OSType, Architecture: h.Architecture})),
		Capacity:         snapshot.Resources{Memory: h.Memory, CPUs: int64(h.CPUs) * 1e9},
		OvercommitMemory: h.OvercommitMemory, OvercommitCPUs: h.OvercommitCPUs, MaxContainers: slots,
		Cordoned: h.Draining,
	}
}

// placedContainer is a container as the scheduler counts it. It holds what it reserves from its creation to its end, and
// again when it is started again.
func placedContainer(r *state.Container) snapshot.Container {
	cfg := r.Config
	if cfg == nil {
		cfg = &container.Config{}
	}
	named := *cfg
	named.Image = r.Image
	holds := r.State.Running() || r.State.Status == state.StatusCreated || r.State.Status == state.StatusRestarting
	return snapshot.Container{
		Account: r.Account, ID: r.ID, Host: r.Host, Name: r.Name, Service: serviceOf(&named), Labels: cfg.Labels,
		Ports: hostPortsOf(cfg.ExposedPorts, r.HostConfig), Resources: reservation(r.HostConfig), Holds: holds,
	}
}

// placedImage is an image with all names that an affinity may use.
func placedImage(v *state.View, img *state.Image) snapshot.Image {
	id := strings.TrimPrefix(string(img.ID), "sha256:")
	names := map[string]struct{}{id: {}, id[:min(12, len(id))]: {}}
	for _, ref := range references(v, img) {
		for _, name := range []string{ref.String(), reference.FamiliarString(ref), ref.Name(), reference.FamiliarName(ref)} {
			names[name] = struct{}{}
		}
	}
	return snapshot.Image{Account: img.Account, ID: img.ID, Names: slices.Sorted(maps.Keys(names)), Hosts: img.Hosts}
}

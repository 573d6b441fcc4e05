package engine

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/containerd/errdefs"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// Hosts are the use cases of the fleet's hosts. All methods may be called at once.
type Hosts struct{ Deps }

// NewHosts makes the use cases.
func NewHosts(d Deps) *Hosts { return &Hosts{d} }

// Self is this host.
func (h *Hosts) Self() nereid.Host { return h.Host }

// List answers from the view, by name.
func (h *Hosts) List(context.Context) ([]nereid.HostStatus, error) {
	hosts := []nereid.HostStatus{}
	for _, r := range h.State.View().Hosts() {
		hosts = append(hosts, h.status(r))
	}
	slices.SortFunc(hosts, func(a, b nereid.HostStatus) int { return cmp.Compare(a.Name, b.Name) })
	return hosts, nil
}

// Inspect answers from the view.
func (h *Hosts) Inspect(_ context.Context, name nereid.Host) (nereid.HostStatus, error) {
	r, ok := h.State.View().Host(name)
	if !ok {
		return nereid.HostStatus{}, errNoSuchHost(name)
	}
	return h.status(r), nil
}

func errNoSuchHost(name nereid.Host) error {
	return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("No such host: %s", name))
}

func (h *Hosts) status(r *state.Host) nereid.HostStatus {
	s := nereid.HostStatus{
		Name: r.Name, State: nereid.HostAlive, Server: true, Version: r.Version,
		CPUs: r.CPUs, Memory: r.Memory, Labels: map[string]string{}, OS: r.OS, Kernel: r.KernelVersion,
		StartedAt: r.StartedAt, Endpoint: r.Name == h.Host,
	}
	if r.Advertise.IsValid() {
		s.Address = r.Advertise.String()
	}
	maps.Copy(s.Labels, r.Labels)
	for _, c := range h.State.View().ContainersOn(r.Name) {
		s.Containers++
		if c.State.Running() {
			s.Running++
		}
	}
	return s
}

package engine

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/containerd/errdefs"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// Self says how this host takes part in the fleet.
type Self struct {
	Server bool   // holds a copy of the state
	Joined bool   // was let in by another host
	Peer   string // ADDR:PORT for other hosts
	Gossip string // ADDR:PORT of the rumour
	Key    string // fingerprint of its key
	Open   func(context.Context) error
	Token  func(secret string) string // what a host that is to join is given
}

// Hosts are the use cases of the fleet's hosts. All methods may be called at once.
type Hosts struct {
	Deps
	self       Self
	containers *Containers
	record     func(context.Context) *state.Host
	publishing sync.Mutex
	paths      paths
	drain      struct {
		run   sync.Mutex // held while containers move
		moved []nereid.Moved
	}
}

// NewHosts makes the use cases; record is this host's as the state shall have it. It starts nothing: Enrol, then Run.
func NewHosts(d Deps, self Self, c *Containers, record func(context.Context) *state.Host) *Hosts {
	return &Hosts{Deps: d, self: self, containers: c, record: record}
}

// Self is this host.
func (h *Hosts) Self() nereid.Host { return h.Host }

// List answers from the view, by name.
func (h *Hosts) List(context.Context) ([]nereid.HostStatus, error) {
	hosts := []nereid.HostStatus{}
	for _, m := range h.State.View().Members() {
		hosts = append(hosts, h.status(m))
	}
	slices.SortFunc(hosts, func(a, b nereid.HostStatus) int { return cmp.Compare(a.Name, b.Name) })
	return hosts, nil
}

// Inspect answers from the view.
func (h *Hosts) Inspect(_ context.Context, name nereid.Host) (nereid.HostStatus, error) {
	m, ok := h.State.View().Member(name)
	if !ok {
		return nereid.HostStatus{}, errNoSuchHost(name)
	}
	return h.status(m), nil
}

func errNoSuchHost(name nereid.Host) error {
	return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("No such host: %s", name))
}

// status is a member with what it says of itself now, or said last.
func (h *Hosts) status(m *state.Member) nereid.HostStatus {
	facts := &m.Facts
	if r, ok := h.State.View().Host(m.Name); ok {
		facts = r
	}
	s := nereid.HostStatus{
		Name: m.Name, State: h.Fleet.State(m.Name), Server: m.Server, Draining: m.Draining, Version: facts.Version,
		CPUs: facts.CPUs, Memory: facts.Memory, Labels: map[string]string{}, OS: facts.OS, Kernel: facts.KernelVersion,
		StartedAt: facts.StartedAt, Endpoint: m.Name == h.Host,
	}
	if facts.Advertise.IsValid() {
		s.Address = facts.Advertise.String()
	}
	maps.Copy(s.Labels, facts.Labels)
	s.DataPath = facts.DataPath
	for _, c := range h.State.View().ContainersOn(m.Name) {
		s.Containers++
		if c.State.Running() {
			s.Running++
		}
	}
	return s
}

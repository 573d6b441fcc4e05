package publish

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/docker/docker/api/types/container"

	"github.com/nereid-paas/nereid/cns/record"
	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// surroundings are what naming a container needs beside its record.
type surroundings struct {
	host   *state.Host // nil: not known
	naming *state.Naming
	// own tells whether an account made a network.
	own func(nereid.NetworkID) bool
}

// instances are a container as the naming rules see it, one for each plan.
func instances(ps plans, c *state.Container, s surroundings) []record.Instance {
	common := record.Instance{
		Account: string(c.Account), Name: c.Name, ID: string(c.ID), Running: c.State.Running(), NotServing: notServing(c.State),
		AtHost: c.HostConfig != nil && c.HostConfig.NetworkMode.IsHost(),
	}
	if c.Config != nil {
		common.Labels = c.Config.Labels
	}
	if s.naming != nil {
		common.Down, common.Up = s.naming.Status == "down", s.naming.Status == "up"
		common.Challenges = s.naming.Challenges
	}
	for _, p := range c.Ports {
		common.Ports = append(common.Ports, record.Port{Container: p.ContainerPort, Host: p.HostPort})
	}
	all := make([]record.Instance, len(ps))
	for i := range all {
		all[i] = common
		all[i].Unlisted = "it is on no network of this zone"
		if ps[i].Outer {
			outside(&all[i], c, s.host)
		}
	}
	enter := func(network string, e record.Endpoint) {
		for n, i := range ps.zonesOf(c.Account, network) {
			e.Pointer = n == 0 && !common.AtHost
			all[i].Endpoints = append(all[i].Endpoints, e)
		}
	}
	if at := advertised(s.host); common.AtHost && len(at) > 0 {
		enter("host", record.Endpoint{Addresses: at})
	}
	for _, a := range attachments(c) {
		enter(a.name, record.Endpoint{Network: a.name, Own: s.own(a.Network), Addresses: addresses(a.Endpoint)})
	}
	return all
}

// notServing says why a container may not answer, empty when it may.
func notServing(s state.RunState) string {
	switch {
	case !s.Running():
		return "not running"
	case s.Status == state.StatusPaused:
		return "paused"
	case s.Health == nil, s.Health.Status == "", s.Health.Status == container.NoHealthcheck, s.Health.Status == container.Healthy:
		return ""
	}
	return "health: " + s.Health.Status
}

// attachment is an endpoint with its network's name.
type attachment struct {
	*state.Endpoint
	name string
}

// attachments are the container's endpoints in the order of attachment.
func attachments(c *state.Container) []attachment {
	all := make([]attachment, 0, len(c.Networks))
	for name, e := range c.Networks {
		if e != nil {
			all = append(all, attachment{e, name})
		}
	}
	slices.SortFunc(all, func(a, b attachment) int { return cmp.Or(cmp.Compare(a.Order, b.Order), cmp.Compare(a.name, b.name)) })
	return all
}

func addresses(e *state.Endpoint) []netip.Addr {
	var found []netip.Addr
	for _, p := range []netip.Prefix{e.Address, e.Address6} {
		if p.IsValid() {
			found = append(found, p.Addr())
		}
	}
	return found
}

// outside gives an instance the addresses at which machines outside reach its published ports: its host's, of the
// families it is published on, or the one it is published on alone.
func outside(in *record.Instance, c *state.Container, h *state.Host) {
	in.Unlisted = "it publishes no port that other machines reach"
	at := public(h)
	var e record.Endpoint
	add := func(a netip.Addr) {
		if !slices.Contains(e.Addresses, a) {
			e.Addresses = append(e.Addresses, a)
		}
	}
	if in.AtHost {
		e.Addresses = at
	}
	in.Ports = nil
	for _, p := range c.Ports {
		ip := p.HostIP.Unmap()
		switch {
		case ip.IsLoopback():
			continue
		case ip.IsValid() && !ip.IsUnspecified():
			add(ip)
		default:
			for _, a := range at {
				if !ip.IsValid() || a.Is4() == ip.Is4() {
					add(a)
				}
			}
		}
		in.Ports = append(in.Ports, record.Port{Container: p.ContainerPort, Host: p.HostPort})
	}
	if len(e.Addresses) > 0 {
		in.Endpoints = append(in.Endpoints, e)
	}
}

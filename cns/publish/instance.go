package publish

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/docker/docker/api/types/container"

	"github.com/nereid-paas/nereid/cns/record"
	"github.com/nereid-paas/nereid/pkg/state"
)

// instance is a container as the naming rules see it.
func instance(c *state.Container) record.Instance {
	in := record.Instance{
		Account:   string(c.Account),
		Name:      c.Name,
		ID:        string(c.ID),
		Addresses: addresses(c),
		Running:   c.State.Running(),
	}
	if c.Config != nil {
		in.Labels = c.Config.Labels
	}
	in.NotServing = notServing(c.State)
	in.Serving = in.NotServing == ""
	return in
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

// addresses are those of the container's endpoints, in the order of attachment.
func addresses(c *state.Container) []netip.Addr {
	endpoints := make([]*state.Endpoint, 0, len(c.Networks))
	for _, e := range c.Networks {
		if e != nil {
			endpoints = append(endpoints, e)
		}
	}
	slices.SortFunc(endpoints, func(a, b *state.Endpoint) int {
		return cmp.Or(cmp.Compare(a.Order, b.Order), cmp.Compare(a.Network, b.Network))
	})
	var found []netip.Addr
	for _, e := range endpoints {
		for _, p := range []netip.Prefix{e.Address, e.Address6} {
			if p.IsValid() {
				found = append(found, p.Addr())
			}
		}
	}
	return found
}

package engine

import (
	"net/netip"
	"slices"
	"strings"

	networktypes "github.com/docker/docker/api/types/network"
	"github.com/docker/docker/opts"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/network"
	"github.com/nereid-paas/nereid/pkg/state"
)

var _ network.Names = (*Names)(nil)

// Names tells the containers' resolvers each other's addresses, from the view. Unlike Docker's, containers on the
// default network find each other too.
type Names struct{ view *state.View }

// NewNames needs nothing but the state, so that the host's networks can be made before the use cases.
func NewNames(v *state.View) *Names { return &Names{view: v} }

// Addresses looks up "name" on each network of the asker, and "name.network" on that network, as both may have dots:
// the longest name first.
func (n *Names) Addresses(a nereid.Account, asker nereid.ContainerID, name string, six bool) ([]netip.Addr, bool) {
	r, ok := n.view.Container(a, asker)
	if !ok {
		return nil, false
	}
	for host, on := name, ""; ; {
		if addrs, known := n.onNetworks(r, host, on, six); known {
			return addrs, true
		}
		cut := strings.LastIndexByte(host, '.')
		if cut < 0 {
			return nil, false
		}
		host, on = name[:cut], name[cut+1:]
	}
}

// onNetworks looks a name up on the asker's networks in order, or on one.
func (n *Names) onNetworks(r *state.Container, host, on string, six bool) ([]netip.Addr, bool) {
	for _, name := range endpointNames(r) {
		if on != "" && !strings.EqualFold(on, name) {
			continue
		}
		ep := r.Networks[name]
		if target, ok := linked(r, name, host); ok {
			if addrs, known := n.target(r, name, target, six); known {
				return addrs, true
			}
			continue
		}
		if addrs, known := n.named(ep.Network, name, host, six); known {
			return addrs, true
		}
	}
	return nil, false
}

// linked is the container that a name is the asker's own alias of.
func linked(r *state.Container, on, host string) (target string, ok bool) {
	links := r.Networks[on].Links
	if on == networktypes.NetworkBridge {
		links = append(slices.Clone(links), r.HostConfig.Links...)
	}
	for _, l := range links {
		if target, alias, err := opts.ParseLink(l); err == nil && strings.EqualFold(alias, host) {
			return target, true
		}
	}
	return "", false
}

// target is the address of one container on a network.
func (n *Names) target(r *state.Container, on, ref string, six bool) ([]netip.Addr, bool) {
	to, err := n.view.FindContainer(r.Account, ref)
	if err != nil {
		return nil, false
	}
	ep, ok := to.Networks[on]
	if !ok {
		return nil, false
	}
	return addrsOf(ep, six, nil)
}

// named are the addresses of all running containers on a network that have a name.
func (n *Names) named(id nereid.NetworkID, on, host string, six bool) (addrs []netip.Addr, known bool) {
	if id == "" {
		return nil, false
	}
	for _, r := range n.view.ContainersOnNetwork(id) {
		ep := r.Networks[on]
		if ep == nil || !isNamed(r, ep, host) {
			continue
		}
		var has bool
		addrs, has = addrsOf(ep, six, addrs)
		known = known || has
	}
	return addrs, known
}

// addrsOf adds an endpoint's addresses of a family; false when it has none of either, since it does not run.
func addrsOf(ep *state.Endpoint, six bool, addrs []netip.Addr) ([]netip.Addr, bool) {
	a := ep.Address
	if six {
		a = ep.Address6
	}
	if a.IsValid() {
		addrs = append(addrs, a.Addr())
	}
	return addrs, ep.Address.IsValid() || ep.Address6.IsValid()
}

// isNamed tells whether a container is known by a name on one of its networks: its own, its aliases, its id, its host
// name.
func isNamed(r *state.Container, ep *state.Endpoint, host string) bool {
	if strings.EqualFold(r.Name, host) || strings.EqualFold(r.Config.Hostname, host) {
		return true
	}
	if strings.EqualFold(r.ID.Short(), host) || strings.EqualFold(string(r.ID), host) {
		return true
	}
	return slices.ContainsFunc(ep.Aliases, func(alias string) bool { return strings.EqualFold(alias, host) })
}

// Pointer is the name of the container that has an address on one of the asker's networks.
func (n *Names) Pointer(a nereid.Account, asker nereid.ContainerID, addr netip.Addr) (string, bool) {
	r, ok := n.view.Container(a, asker)
	if !ok {
		return "", false
	}
	for _, name := range endpointNames(r) {
		claim, ok := n.view.Address(r.Networks[name].Network, addr.String())
		if !ok {
			continue
		}
		if owner, ok := n.view.Container(claim.Account, claim.Container); ok {
			return owner.Name + "." + name, true
		}
	}
	return "", false
}

// dnsNames are the names of an endpoint as inspect shows them: none on the predefined networks.
func dnsNames(r *state.Container, on string, ep *state.Endpoint) []string {
	if !isUserDefined(on) {
		return nil
	}
	var names []string
	seen := map[string]bool{"": true}
	for _, name := range slices.Concat([]string{r.Name}, ep.Aliases, []string{r.ID.Short(), r.Config.Hostname}) {
		if !seen[name] {
			names = append(names, name)
		}
		seen[name] = true
	}
	return names
}

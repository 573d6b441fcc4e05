package engine

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/network"
	"github.com/nereid-paas/nereid/pkg/state"
)

// way is how a container and the world reach each other: by which of its attachments in each family, nil for none.
// Published ports lead there.
type way struct{ v4, v6 *network.Attachment }

// wayOf is the way of a container with these endpoints. Only a network of the fabric carries published ports.
func (n *Networks) wayOf(a nereid.Account, endpoints map[string]*state.Endpoint) (w way) {
	var to []network.Attachment
	for _, name := range slices.Sorted(maps.Keys(endpoints)) {
		ep := endpoints[name]
		if record, ok := n.State.View().Network(a, ep.Network); ok && hasLinks(record) {
			to = append(to, network.Attachment{Network: record, Endpoint: ep})
		}
	}
	w.v4, w.v6 = network.Ways(to)
	if w.v4 != nil && !isFabric(w.v4.Network) {
		w.v4 = nil
	}
	if w.v6 != nil && !isFabric(w.v6.Network) {
		w.v6 = nil
	}
	return w
}

func (w way) none() bool { return w.v4 == nil && w.v6 == nil }

// endpoint is one to speak of in messages.
func (w way) endpoint() *state.Endpoint {
	if w.v4 != nil {
		return w.v4.Endpoint
	}
	return w.v6.Endpoint
}

// target is the container's address that a port published on an address of the host leads to. What comes over IPv6
// leads to the IPv4 address of a container that has no other.
func (w way) target(hostIP netip.Addr) (netip.Addr, bool) {
	switch {
	case hostIP.Is6() && w.v6 != nil:
		return w.v6.Endpoint.Address6.Addr(), true
	case w.v4 != nil:
		return w.v4.Endpoint.Address.Addr(), true
	}
	return netip.Addr{}, false
}

// published are the container's host ports with the addresses they lead to.
func (w way) published(ports []state.HostPort) []network.Published {
	list := make([]network.Published, 0, len(ports))
	for _, p := range ports {
		if addr, ok := w.target(p.HostIP); ok {
			list = append(list, network.Published{
				Proto: p.Proto, HostIP: p.HostIP, HostPort: p.HostPort, ContainerAddr: addr, ContainerPort: p.ContainerPort,
			})
		}
	}
	return list
}

// takeRouted takes out of a request the addresses of families that are routed: their ports are reached at the container's
// own addresses and take none of the host.
func (w way) takeRouted(q *portRequest) (ports []state.HostPort) {
	var rest []netip.Addr
	for _, ip := range q.hostIPs {
		at, any := w.v4, netip.IPv4Unspecified()
		if ip.Is6() {
			at, any = w.v6, netip.IPv6Unspecified()
		}
		if at == nil || !network.Routed(at.Network, ip.Is6()) {
			rest = append(rest, ip)
			continue
		}
		p := state.HostPort{Proto: q.proto, HostIP: any, ContainerPort: q.containerPort}
		if !slices.Contains(ports, p) {
			ports = append(ports, p)
		}
	}
	q.hostIPs = rest
	return ports
}

// gatewayIn is the gateway of endpoints in a subnet; none on a network without a way out.
func gatewayIn(record *state.Network, s state.Subnet) netip.Addr {
	if record.Internal {
		return netip.Addr{}
	}
	for _, aux := range []string{"DefaultGatewayIPv4", "DefaultGatewayIPv6"} { // Docker's names for another router's address
		if a, ok := s.Auxiliary[aux]; ok && a.Is6() == s.Prefix.Addr().Is6() {
			return a
		}
	}
	return s.Gateway
}

// optionInterface is Docker's endpoint option that names the interface.
const optionInterface = "com.docker.network.endpoint.ifname"

// chooseInterface names an endpoint's interface: as asked, or the first free of the network's kind.
func chooseInterface(record *state.Network, ep *state.Endpoint, claimed map[string]*state.Endpoint) (string, error) {
	taken := map[string]bool{"lo": true}
	for _, other := range claimed {
		taken[other.Interface] = true
	}
	if name := ep.DriverOpts[optionInterface]; name != "" {
		if taken[name] {
			return "", errInternal("error renaming interface on %s to %q: file exists", record.Name, name)
		}
		return name, network.CheckInterface(name)
	}
	for i := 0; ; i++ {
		if name := fmt.Sprintf("%s%d", network.LinkPrefix(record), i); !taken[name] {
			return name, nil
		}
	}
}

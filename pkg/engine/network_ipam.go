package engine

import (
	"crypto/rand"
	"maps"
	"net/netip"
	"slices"

	networktypes "github.com/docker/docker/api/types/network"

	"github.com/nereid-paas/nereid/pkg/network"
	"github.com/nereid-paas/nereid/pkg/state"
)

// setIPAM reads the subnets that the user asked for.
func setIPAM(record *state.Network, ipam *networktypes.IPAM) error {
	if err := networktypes.ValidateIPAM(ipam, record.IPv6); err != nil {
		return invalidArgument(err)
	}
	if ipam == nil {
		return nil
	}
	if ipam.Driver != "" && ipam.Driver != "default" {
		return errInvalid("IPAM driver %q is not supported: only \"default\" is", ipam.Driver)
	}
	record.IPAMOptions = maps.Clone(ipam.Options)
	for _, c := range ipam.Config {
		if s := subnetOf(c); s.Prefix.Addr().Is6() && record.IPv6 || s.Prefix.Addr().Is4() && record.IPv4 {
			record.Subnets = append(record.Subnets, s)
		}
	}
	return nil
}

// subnetOf reads a subnet that was checked.
func subnetOf(c networktypes.IPAMConfig) state.Subnet {
	s := state.Subnet{Asked: true, GatewayAsked: c.Gateway != ""}
	s.Prefix, _ = netip.ParsePrefix(c.Subnet)
	s.Range, _ = netip.ParsePrefix(c.IPRange)
	s.Gateway, _ = netip.ParseAddr(c.Gateway)
	for name, a := range c.AuxAddress {
		if s.Auxiliary == nil {
			s.Auxiliary = map[string]netip.Addr{}
		}
		s.Auxiliary[name], _ = netip.ParseAddr(a)
	}
	return s
}

// chooseSubnets gives a network a subnet of each of its families that has none, and each subnet its gateway. What the
// user asked for must be nobody's: no network's of any account, and not on a wire of this host.
func (n *Networks) chooseSubnets(record *state.Network, all []*state.Network) error {
	routes, err := n.routes()
	if err != nil {
		return err
	}
	taken := subnetsTaken(all)
	for i, s := range record.Subnets {
		if err := checkSubnet(record, s.Prefix, append(taken, prefixesOf(record.Subnets[:i])...), routes); err != nil {
			return err
		}
	}
	for _, r := range routes {
		taken = append(taken, r.Prefix)
	}
	if record.IPv4 && !hasFamily(record, false) {
		p, err := network.ChooseSubnet(n.pools, taken)
		if err != nil {
			return err
		}
		record.Subnets = append(record.Subnets, state.Subnet{Prefix: p})
	}
	if record.IPv6 && !hasFamily(record, true) {
		record.Subnets = append(record.Subnets, state.Subnet{Prefix: uniqueLocal(taken)})
	}
	return chooseGateways(record)
}

func subnetsTaken(all []*state.Network) (taken []netip.Prefix) {
	for _, other := range all {
		if !other.ConfigOnly {
			taken = append(taken, prefixesOf(other.Subnets)...)
		}
	}
	return taken
}

func prefixesOf(subnets []state.Subnet) (list []netip.Prefix) {
	for _, s := range subnets {
		list = append(list, s.Prefix)
	}
	return list
}

func hasFamily(record *state.Network, six bool) bool {
	return slices.ContainsFunc(record.Subnets, func(s state.Subnet) bool { return s.Prefix.Addr().Is6() == six })
}

// linkLocal is the prefix of the addresses that each interface gives itself. A network may be of these, and of nothing
// narrower or wider.
var linkLocal = netip.MustParsePrefix("fe80::/64")

// checkSubnet refuses a subnet that another network has, or a wire of this host. A network that is on the wire itself
// has the wire's addresses.
func checkSubnet(record *state.Network, p netip.Prefix, taken []netip.Prefix, routes []network.Route) error {
	if p.Bits() == 0 {
		return errInvalid("%s pool is empty", map[bool]string{false: "ipv4", true: "ipv6"}[p.Addr().Is6()])
	}
	if p.Addr().IsMulticast() {
		return errInvalid("multicast subnet '%s' is not allowed", p)
	}
	if p != linkLocal && p.Overlaps(linkLocal) {
		return errInvalid("'%s' clashes with the Link-Local prefix 'fe80::/64'", p)
	}
	if slices.ContainsFunc(taken, p.Overlaps) {
		return forbidden("Pool overlaps with other one on this address space")
	}
	if !isFabric(record) {
		return nil
	}
	for _, r := range routes {
		// A wide route by way of a router, as a VPN has, is refined and not hidden.
		if r.Prefix.Overlaps(p) && (!r.Via || r.Prefix.Bits() >= p.Bits()) {
			return forbidden("Pool overlaps with other one on this address space: the host has a route for %s", r.Prefix)
		}
	}
	return nil
}

// uniqueLocal is a subnet of IPv6 addresses of nobody else's (RFC 4193): with 56 random bits it need not be asked for.
func uniqueLocal(taken []netip.Prefix) netip.Prefix {
	for {
		b := [16]byte{0xfd}
		rand.Read(b[1:8]) // never fails, by its contract
		if p := netip.PrefixFrom(netip.AddrFrom16(b), 64); !slices.ContainsFunc(taken, p.Overlaps) {
			return p
		}
	}
}

// chooseGateways gives each subnet its first address for a gateway where the user named none: of the range, when there is
// one, as Docker does. None is chosen where neither the bridge nor a default route would have it.
func chooseGateways(record *state.Network) error {
	for i, s := range record.Subnets {
		if s.GatewayAsked || isFabric(record) && network.NoGateway(record, s.Prefix.Addr().Is6()) {
			continue
		}
		gw, ok := nextFree(s, netip.Addr{}, func(netip.Addr) bool { return false })
		if !ok {
			return errInternal("failed to allocate gateway (): no available addresses on this pool")
		}
		record.Subnets[i].Gateway = gw
	}
	return nil
}

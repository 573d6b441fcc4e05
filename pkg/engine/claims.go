package engine

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/containerd/errdefs"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/network"
	"github.com/nereid-paas/nereid/pkg/state"
)

// Claimed is what a container gets when it starts.
type Claimed struct {
	Endpoints map[string]*state.Endpoint // by network name, as in the record
	Ports     []state.HostPort
	// Ops store the claims. They belong into the transaction that stores the record.
	Ops []state.Op
}

// Apply puts what was claimed into the record, which is the caller's own.
func (c *Claimed) Apply(r *state.Container) { r.Networks, r.Ports = c.Endpoints, c.Ports }

// Claim chooses addresses and host ports for a container that is to start. It changes nothing: the caller applies the
// result to its record and commits both in one transaction, and calls Claim again when that stumbles over a
// state.Conflict. Errors have Docker's words without "failed to set up container networking: ", which the caller adds.
//
// A container that shares another's network, or the host's, claims nothing but endpoints without addresses.
func (n *Networks) Claim(r *state.Container) (*Claimed, error) {
	c := &Claimed{Endpoints: make(map[string]*state.Endpoint, len(r.Networks))}
	for _, name := range endpointNames(r) {
		ops, err := n.claimEndpoint(r, name, c.Endpoints)
		if err != nil {
			return nil, err
		}
		c.Ops = append(c.Ops, ops...)
	}
	way := n.wayOf(r.Account, c.Endpoints)
	if way.none() {
		return c, nil
	}
	ports, ops, err := n.claimPorts(r, way)
	if err != nil {
		return nil, connectivityError(r, way, err)
	}
	c.Ports, c.Ops = ports, append(c.Ops, ops...)
	return c, nil
}

// Release gives back all that the record claims: it clears the record, which is the caller's own, and returns the ops
// that belong into the transaction that stores or deletes it. After a state.Conflict the caller begins anew from the
// view. A record without claims yields no ops.
func (n *Networks) Release(r *state.Container) []state.Op {
	var ops []state.Op
	for _, ep := range r.Networks {
		ops = append(ops, releaseEndpoint(ep)...)
	}
	ops = append(ops, n.releasePorts(r)...)
	r.Ports = nil
	return ops
}

// releaseEndpoint gives back an endpoint's addresses and clears what it has only while the container runs.
func releaseEndpoint(ep *state.Endpoint) (ops []state.Op) {
	for _, a := range []netip.Prefix{ep.Address, ep.Address6} {
		if a.IsValid() {
			ops = append(ops, state.Delete(&state.Address{Network: ep.Network, Address: a.Addr()}))
		}
	}
	ep.ID, ep.MAC, ep.Interface = "", "", ""
	ep.Address, ep.Address6, ep.Gateway, ep.Gateway6 = netip.Prefix{}, netip.Prefix{}, netip.Addr{}, netip.Addr{}
	return ops
}

// claimEndpoint gives an endpoint a new id, addresses of its network and an interface, and enters it among those that
// are claimed already.
func (n *Networks) claimEndpoint(r *state.Container, name string, claimed map[string]*state.Endpoint) ([]state.Op, error) {
	ep := r.Networks[name].Clone()
	record, err := n.networkOf(r.Account, name, ep)
	if err != nil {
		return nil, err
	}
	if record.ConfigOnly {
		return nil, forbidden("cannot create endpoint on configuration-only network")
	}
	ep.Network, ep.ID, ep.DNSNames = record.ID, nereid.NewEndpointID(), dnsNames(r, name, ep)
	ops, err := n.claimLink(r, record, ep, claimed)
	if err != nil {
		return nil, err
	}
	claimed[name] = ep
	return ops, nil
}

// claimLink claims what an endpoint on a network with links has. The network must be there when the claim is stored.
func (n *Networks) claimLink(r *state.Container, record *state.Network, ep *state.Endpoint, claimed map[string]*state.Endpoint) ([]state.Op, error) {
	if !hasLinks(record) {
		return nil, nil
	}
	var ops []state.Op
	if !record.Predefined {
		ops = append(ops, state.Keep(record))
	}
	for _, six := range []bool{false, true} {
		op, err := n.claimAddress(r, record, ep, six)
		if err != nil {
			return nil, err
		}
		ops = append(ops, op...)
	}
	var err error
	if ep.Interface, err = chooseInterface(record, ep, claimed); err != nil {
		return nil, err
	}
	if ep.MAC = ep.WantMAC; ep.MAC == "" && ep.Address.IsValid() {
		ep.MAC = network.MAC(ep.Address.Addr())
	}
	if ep.MAC == "" {
		ep.MAC = randomMAC()
	}
	return ops, nil
}

// networkOf finds an endpoint's network: by its id, or by its name when it was not there, or another of that name is
// there now.
func (n *Networks) networkOf(a nereid.Account, name string, ep *state.Endpoint) (*state.Network, error) {
	if record, ok := n.State.View().Network(a, ep.Network); ok {
		return record, nil
	}
	return n.State.View().FindNetwork(a, name)
}

// claimAddress claims one address of a family, if the network and the container have that family.
func (n *Networks) claimAddress(r *state.Container, record *state.Network, ep *state.Endpoint, six bool) ([]state.Op, error) {
	if six && withoutIPv6(r) {
		return nil, nil
	}
	subnets := slices.Collect(func(yield func(state.Subnet) bool) {
		for _, s := range record.Subnets {
			if s.Prefix.Addr().Is6() == six && !yield(s) {
				return
			}
		}
	})
	if len(subnets) == 0 {
		return nil, nil
	}
	want := ep.WantAddress
	if six {
		want = ep.WantAddress6
	}
	s, addr, err := n.chooseAddress(record, subnets, want)
	if err != nil {
		return nil, err
	}
	if six {
		ep.Address6, ep.Gateway6 = netip.PrefixFrom(addr, s.Prefix.Bits()), gatewayIn(record, s)
	} else {
		ep.Address, ep.Gateway = netip.PrefixFrom(addr, s.Prefix.Bits()), gatewayIn(record, s)
	}
	return []state.Op{state.Create(&state.Address{
		Network: record.ID, Address: addr, Account: r.Account, Container: r.ID, Host: r.Host,
	})}, nil
}

func (n *Networks) chooseAddress(record *state.Network, subnets []state.Subnet, want netip.Addr) (state.Subnet, netip.Addr, error) {
	taken := func(a netip.Addr) bool {
		_, ok := n.State.View().Address(record.ID, a.String())
		return ok
	}
	if want.IsValid() {
		return wanted(subnets, want, taken)
	}
	for _, s := range subnets {
		if a, ok := n.ipam.propose(record.ID, s, taken); ok {
			return s, a, nil
		}
	}
	version := 4
	if subnets[0].Prefix.Addr().Is6() {
		version = 6
	}
	return state.Subnet{}, netip.Addr{}, errdefs.ErrUnavailable.WithMessage(fmt.Sprintf(
		"no available IPv%d addresses on this network's address pools: %s (%s)", version, record.Name, record.ID))
}

// wanted is the address that the user asked for, when a subnet has it and nobody else.
func wanted(subnets []state.Subnet, want netip.Addr, taken func(netip.Addr) bool) (state.Subnet, netip.Addr, error) {
	for _, s := range subnets {
		if !s.Prefix.Contains(want) {
			continue
		}
		if reservedIn(s, want) || taken(want) {
			return state.Subnet{}, netip.Addr{}, errdefs.ErrPermissionDenied.WithMessage("Address already in use")
		}
		return s, want, nil
	}
	return state.Subnet{}, netip.Addr{}, errdefs.ErrInvalidArgument.WithMessage("Invalid address " + want.String() + ": It does not belong to any of this network's subnets")
}

// reservedIn tells whether an address of a subnet is no endpoint's to have, asked for or not: the network's own,
// broadcast, the gateway's and auxiliary ones. Of the range only what is given out unasked must be.
func reservedIn(s state.Subnet, a netip.Addr) bool {
	first, last := usable(state.Subnet{Prefix: s.Prefix})
	return a == s.Gateway || a.Compare(first) < 0 || a.Compare(last) > 0 || slices.Contains(slices.Collect(maps.Values(s.Auxiliary)), a)
}

// connectivityError says that host ports could not be opened.
func connectivityError(r *state.Container, w way, err error) error {
	return errdefs.ErrInternal.WithMessage(fmt.Sprintf(
		"driver failed programming external connectivity on endpoint %s (%s): %v", r.Name, w.endpoint().ID, err))
}

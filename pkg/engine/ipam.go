package engine

import (
	"cmp"
	"crypto/rand"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// ipam proposes addresses. Whether one is free is for the transaction to say.
type ipam struct {
	mu sync.Mutex
	// last is the address last proposed in a subnet: the next proposal is after it, so that an address just given
	// back rests as long as possible, and two claims under way do not propose the same.
	last map[subnetKey]netip.Addr
}

type subnetKey struct {
	network nereid.NetworkID
	prefix  netip.Prefix
}

// propose returns a free address of the subnet; false when there is none. Its cost does not grow with the number of
// addresses that are taken, as long as they were given out in order.
func (i *ipam) propose(id nereid.NetworkID, s state.Subnet, taken func(netip.Addr) bool) (netip.Addr, bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	k := subnetKey{id, s.Prefix}
	a, ok := nextFree(s, i.last[k], taken)
	if !ok {
		return netip.Addr{}, false
	}
	if i.last == nil {
		i.last = map[subnetKey]netip.Addr{}
	}
	i.last[k] = a
	return a, true
}

// forget gives up what was remembered of a network that is gone.
func (i *ipam) forget(record *state.Network) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, s := range record.Subnets {
		delete(i.last, subnetKey{record.ID, s.Prefix})
	}
}

// nextFree is the first free address of the subnet after one given, going round at the end. Never free are the
// network's own address and broadcast, its gateway, and auxiliary ones.
func nextFree(s state.Subnet, after netip.Addr, taken func(netip.Addr) bool) (netip.Addr, bool) {
	first, last := usable(s)
	if !first.IsValid() || first.Compare(last) > 0 {
		return netip.Addr{}, false
	}
	start := first
	if after.IsValid() && after.Compare(first) >= 0 && after.Compare(last) < 0 {
		start = after.Next()
	}
	reserved := map[netip.Addr]bool{s.Gateway: true}
	for _, a := range s.Auxiliary {
		reserved[a] = true
	}
	for a := start; ; {
		if !reserved[a] && !taken(a) {
			return a, true
		}
		if a = a.Next(); !a.IsValid() || a.Compare(last) > 0 {
			a = first
		}
		if a == start {
			return netip.Addr{}, false
		}
	}
}

// usable are the first and the last address of a subnet that endpoints may have.
func usable(s state.Subnet) (first, last netip.Addr) {
	p := s.Prefix.Masked()
	first, last = p.Addr(), lastOf(p)
	if p.Addr().BitLen()-p.Bits() > 1 { // otherwise point to point: RFC 3021, RFC 6164
		first = first.Next()
		if p.Addr().Is4() {
			last = last.Prev()
		}
	}
	if r := s.Range; r.IsValid() {
		if a := r.Masked().Addr(); a.Compare(first) > 0 {
			first = a
		}
		if a := lastOf(r); a.Compare(last) < 0 {
			last = a
		}
	}
	return first, last
}

func lastOf(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for bit := p.Bits(); bit < len(b)*8; bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// endpointNames lists the names of a container's networks in the order of their attachment.
func endpointNames(r *state.Container) []string {
	return slices.SortedFunc(maps.Keys(r.Networks), func(a, b string) int {
		return cmp.Or(cmp.Compare(r.Networks[a].Order, r.Networks[b].Order), cmp.Compare(a, b))
	})
}

// randomMAC is a locally administered one, for an endpoint without an IPv4 address.
func randomMAC() string {
	mac := make(net.HardwareAddr, 6)
	rand.Read(mac) // never fails, by its contract
	mac[0] = mac[0]&^1 | 2
	return mac.String()
}

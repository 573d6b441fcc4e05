package network

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Pool is a range of addresses from which networks that ask for none get subnets of one size.
type Pool struct {
	Base netip.Prefix
	Size int // length of the subnets' prefixes
}

// DefaultPools leave alone what home routers, clouds, VPNs and Docker use most: 10.128.0.0/10 in 1,024 subnets of
// 4,096 addresses.
func DefaultPools() []Pool {
	return []Pool{{Base: netip.MustParsePrefix("10.128.0.0/10"), Size: 20}}
}

// ParsePool reads "10.128.0.0/10,size=20". Errors are of class errdefs.ErrInvalidArgument.
func ParsePool(s string) (Pool, error) {
	cidr, option, _ := strings.Cut(s, ",")
	size, found := strings.CutPrefix(strings.TrimSpace(option), "size=")
	base, err := netip.ParsePrefix(strings.TrimPrefix(strings.TrimSpace(cidr), "base="))
	if err != nil || !found {
		return Pool{}, fmt.Errorf("address pool %q is not CIDR,size=N: %w", s, errdefs.ErrInvalidArgument)
	}
	n, err := strconv.Atoi(size)
	switch {
	case err != nil || !base.Addr().Is4():
		return Pool{}, fmt.Errorf("address pool %q is not CIDR,size=N of IPv4: %w", s, errdefs.ErrInvalidArgument)
	case base != base.Masked():
		return Pool{}, fmt.Errorf("address pool %q: base is not the first address of its prefix: %w", s, errdefs.ErrInvalidArgument)
	case n < base.Bits() || n > 29: // below 29 nothing is left for containers
		return Pool{}, fmt.Errorf("address pool %q: size must be between %d and 29: %w", s, base.Bits(), errdefs.ErrInvalidArgument)
	}
	return Pool{Base: base, Size: n}, nil
}

// ChooseSubnet returns the first subnet of the pools that overlaps nothing taken. None left is an error of class
// errdefs.ErrInvalidArgument with Docker's words.
func ChooseSubnet(pools []Pool, taken []netip.Prefix) (netip.Prefix, error) {
	for _, p := range pools {
		if s, ok := p.choose(taken); ok {
			return s, nil
		}
	}
	return netip.Prefix{}, errdefs.ErrInvalidArgument.WithMessage("all predefined address pools have been fully subnetted")
}

func (p Pool) choose(taken []netip.Prefix) (netip.Prefix, bool) {
	if !p.Base.Addr().Is4() {
		return netip.Prefix{}, false
	}
	addr, end := uint64(number(p.Base.Addr())), uint64(number(lastAddr(p.Base)))
	for addr <= end {
		s := netip.PrefixFrom(addr4(uint32(addr)), p.Size)
		in, overlap := overlapping(s, taken)
		if !overlap {
			return s, true
		}
		// Past what is in the way, at the next multiple of the size: linear in what is taken, not in the pool.
		step := uint64(1) << (32 - p.Size)
		addr = (max(addr, uint64(number(lastAddr(in)))) / step * step) + step
	}
	return netip.Prefix{}, false
}

func overlapping(s netip.Prefix, taken []netip.Prefix) (netip.Prefix, bool) {
	for _, t := range taken {
		if t.Addr().Is4() && s.Overlaps(t) {
			return t, true
		}
	}
	return netip.Prefix{}, false
}

func number(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

func addr4(n uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n)
	return netip.AddrFrom4(b)
}

// Route is a destination that this host has a route for.
type Route struct {
	Prefix netip.Prefix
	Via    bool // by way of a router; otherwise it is on a wire of the host
}

// HostRoutes are the routes of this host, without the default ones, the kernel's own, and those to containers of other hosts: what a new subnet must not hide.
func HostRoutes() ([]Route, error) {
	nl, err := openNetlink(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	defer nl.Close()
	routes, err := untorn(func() ([]netlink.Route, error) { return nl.RouteList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	var list []Route
	for _, r := range routes {
		if r.Dst == nil || r.Protocol == routeProtocol {
			continue
		}
		addr, ok := netip.AddrFromSlice(r.Dst.IP)
		ones, _ := r.Dst.Mask.Size()
		if ok && ones > 0 && !addr.IsLinkLocalUnicast() && !addr.IsMulticast() {
			list = append(list, Route{netip.PrefixFrom(addr.Unmap(), ones), r.Gw != nil || len(r.MultiPath) > 0})
		}
	}
	return list, nil
}

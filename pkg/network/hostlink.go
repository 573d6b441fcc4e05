package network

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"

	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/nereid-paas/nereid/pkg/state"
)

// HostVNI is that of the link between hosts. No network has it.
const HostVNI = 1<<24 - 1

// routeProtocol marks the routes of the link between hosts: they are in no new network's way (rtnetlink(7), rtm_protocol).
const routeProtocol = 78

// hostLink is the VXLAN link by which what runs on this host itself, in no container, reaches containers of the others. On
// a network's own link it could not: it has the gateway's address there, which every host has. Each host has addresses of its
// own on this link, and a route by way of the owner to each container elsewhere; the owner has its gateway's address
// take the place of the other host's, so that the container sees what it would see of its own host.
type hostLink struct {
	mu     sync.Mutex
	index  int // 0: there is none
	hosts  map[netip.Addr]bool
	routes map[uint32]map[netip.Addr]netip.Addr // by VNI: whose each address is, by the address of the host
}

// fabricAddrs are a host's addresses on the link, one per family, made from the one at which it is reached: nobody has to be
// asked, and nothing claimed. The prefixes are those of the rules.
func fabricAddrs(host netip.Addr) [2]netip.Addr {
	sum := sha256.Sum256(host.AsSlice())
	four := [4]byte(sum[:4])
	if host.Is4() && !fabricPrefixes[v4].Contains(host) {
		four = host.As4() // two hosts that differ in the first four bits alone share one, and one has none
	}
	four[0] |= 0xf0
	six := fabricPrefixes[v6].Addr().As16()
	copy(six[8:], sum[8:16])
	return [2]netip.Addr{netip.AddrFrom4(four), netip.AddrFrom16(six)}
}

// fabricPrefixes hold all hosts' addresses on the link: of IPv4 what was never given to anybody (RFC 1112, section 4), of
// IPv6 a unique local prefix (RFC 4193).
var fabricPrefixes = [2]netip.Prefix{netip.MustParsePrefix("240.0.0.0/4"), netip.MustParsePrefix("fd4e:6572:6569:6400::/64")}

// fabricMAC is a host's hardware address on the link.
func fabricMAC(host netip.Addr) net.HardwareAddr {
	b := fabricAddrs(host)[v4].As4()
	return net.HardwareAddr{0x02, 0x4f, b[0], b[1], b[2], b[3]}
}

// SetHosts says at which addresses the other hosts of the fleet are reached. With none there is no link to them.
func (f *Fabric) SetHosts(_ context.Context, others []netip.Addr) error {
	l := &f.hostLink
	l.mu.Lock()
	defer l.mu.Unlock()
	want := f.distinct(others)
	if len(want) == 0 {
		l.index, l.hosts, l.routes = 0, nil, nil
		return f.deleteLink(f.names.hostLink())
	}
	if l.index == 0 {
		if err := f.makeHostLink(); err != nil {
			return fmt.Errorf("link to the other hosts: %w", err)
		}
	}
	var errs []error
	for host := range l.hosts {
		if !want[host] {
			errs = append(errs, f.eachOfHost(host, f.nl.NeighDel, f.nl.RouteDel))
			delete(l.hosts, host)
		}
	}
	for host := range want {
		if l.hosts[host] {
			continue
		}
		if err := f.eachOfHost(host, f.nl.NeighSet, f.nl.RouteReplace); err != nil {
			errs = append(errs, fmt.Errorf("host at %s: %w", host, err))
			continue
		}
		l.hosts[host] = true
	}
	return errors.Join(errs...)
}

// distinct are the hosts that the link can tell apart and reach from this one's address.
func (f *Fabric) distinct(others []netip.Addr) map[netip.Addr]bool {
	at, want := map[netip.Addr]netip.Addr{fabricAddrs(f.cfg.Advertise)[v4]: f.cfg.Advertise}, map[netip.Addr]bool{}
	for _, host := range slices.SortedFunc(slices.Values(others), netip.Addr.Compare) {
		a := fabricAddrs(host)[v4]
		if host.Is4() != f.cfg.Advertise.Is4() {
			continue // VXLAN speaks one family
		}
		if other, taken := at[a]; taken {
			f.log.Warn("processes of this host do not reach containers of a host", zap.Stringer("host", host), zap.Stringer("like", other))
			continue
		}
		at[a], want[host] = host, true
	}
	return want
}

// makeHostLink makes the link anew: one that an earlier daemon left has routes to containers that may be gone.
func (f *Fabric) makeHostLink() (retErr error) {
	name := f.names.hostLink()
	if err := f.deleteLink(name); err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr, attrs.MTU = name, fabricMAC(f.cfg.Advertise), defaultMTU
	if mtu, ok := f.wayMTU(); ok {
		attrs.MTU = mtu
	}
	link := &netlink.Vxlan{
		LinkAttrs: attrs, VxlanId: HostVNI, SrcAddr: f.cfg.Advertise.AsSlice(), Port: VXLANPort, Learning: false, UDPCSum: true,
	}
	if err := f.nl.LinkAdd(link); err != nil {
		return fmt.Errorf("add %q: %w", name, err)
	}
	defer func() {
		if retErr != nil {
			retErr = errors.Join(retErr, f.deleteLink(name))
		}
	}()
	if err := errors.Join(
		sysctl("ipv6/conf/"+name+"/accept_ra", "0", true),
		sysctl("ipv6/conf/"+name+"/accept_dad", "0", true),
		sysctl("ipv6/conf/"+name+"/disable_ipv6", "0", true),
	); err != nil {
		return err
	}
	for _, a := range f.onHostLink(fabricAddrs(f.cfg.Advertise)) {
		if err := f.nl.AddrReplace(link, &netlink.Addr{IPNet: hostNet(a)}); err != nil {
			return fmt.Errorf("address %s on %q: %w", a, name, err)
		}
	}
	if err := f.nl.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring up %q: %w", name, err)
	}
	l := &f.hostLink
	l.index, l.hosts, l.routes = link.Attrs().Index, map[netip.Addr]bool{}, map[uint32]map[netip.Addr]netip.Addr{}
	return nil
}

// onHostLink are those of the addresses whose family this host has.
func (f *Fabric) onHostLink(addrs [2]netip.Addr) []netip.Addr {
	if f.ipv6 == nil {
		return addrs[:1]
	}
	return addrs[:]
}

func hostNet(a netip.Addr) *net.IPNet { return ipNet(netip.PrefixFrom(a, a.BitLen())) }

// eachOfHost does something to all entries of a host: where its frames go, whose its addresses are, and which way.
func (f *Fabric) eachOfHost(host netip.Addr, neigh func(*netlink.Neigh) error, route func(*netlink.Route) error) error {
	index, mac := f.hostLink.index, fabricMAC(host)
	errs := []error{absent(neigh(&netlink.Neigh{
		LinkIndex: index, Family: unix.AF_BRIDGE, Flags: netlink.NTF_SELF, State: netlink.NUD_PERMANENT | netlink.NUD_NOARP,
		HardwareAddr: mac, IP: host.AsSlice(),
	}))}
	for _, a := range f.onHostLink(fabricAddrs(host)) {
		errs = append(errs,
			absent(neigh(&netlink.Neigh{LinkIndex: index, State: netlink.NUD_PERMANENT, HardwareAddr: mac, IP: a.AsSlice()})),
			absent(route(&netlink.Route{LinkIndex: index, Dst: hostNet(a), Scope: netlink.SCOPE_LINK, Protocol: routeProtocol})))
	}
	return errors.Join(errs...)
}

// absent has what is gone already be gone.
func absent(err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// setHostRoutes makes this host's routes to containers of a network on the others those given. The cost is that of the
// difference.
func (f *Fabric) setHostRoutes(n *state.Network, remotes []Remote) error {
	l := &f.hostLink
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.index == 0 {
		return nil
	}
	want := map[netip.Addr]netip.Addr{}
	for _, r := range remotes {
		for _, a := range []netip.Addr{r.Address, r.Address6} {
			if a.IsValid() && l.hosts[r.Host] && (a.Is4() || f.ipv6 != nil) {
				want[a] = r.Host
			}
		}
	}
	have := l.routes[n.VNI]
	if have == nil {
		have = map[netip.Addr]netip.Addr{}
	}
	var errs []error
	for a, host := range have {
		if _, ok := want[a]; !ok {
			errs = append(errs, absent(f.nl.RouteDel(l.by(a, host))))
			delete(have, a)
		}
	}
	for a, host := range want {
		if have[a] == host {
			continue
		}
		if err := f.nl.RouteReplace(l.by(a, host)); err != nil {
			errs = append(errs, fmt.Errorf("route to %s on %s: %w", a, host, err))
			continue
		}
		have[a] = host
	}
	l.routes[n.VNI] = have
	if len(have) == 0 {
		delete(l.routes, n.VNI)
	}
	return errors.Join(errs...)
}

// by is the route to a container by way of its host.
func (l *hostLink) by(a, host netip.Addr) *netlink.Route {
	return &netlink.Route{
		LinkIndex: l.index, Dst: hostNet(a), Gw: fabricAddrs(host)[familyOf(a)].AsSlice(), Flags: int(netlink.FLAG_ONLINK), Protocol: routeProtocol,
	}
}

package network

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/nereid-paas/nereid/pkg/state"
)

// VXLANPort is where hosts send each other the frames of their networks (RFC 7348).
const VXLANPort = 4789

// defaultMTU is that of networks that nobody says more of.
const defaultMTU = 1500

// vxlanOverhead is what a frame grows by on its way between hosts: Ethernet, VXLAN, UDP and the outer IPv4 or IPv6 header.
var vxlanOverhead = [2]int{v4: 50, v6: 70}

// Remote is an endpoint of a network on another host.
type Remote struct {
	MAC      string
	Address  netip.Addr // invalid: none of the family
	Address6 netip.Addr
	Host     netip.Addr // at which the other host is reached
}

// tunnel is a network's link to the other hosts. Nothing is flooded and nothing learned: it sends to endpoints that it was
// told of, and answers for their addresses itself.
type tunnel struct {
	index int
	have  map[Remote]bool
}

// SetRemotes has a network reach these endpoints of other hosts, and no others. On a host without the network it is the
// host's own processes alone that reach them, once SetHosts has said which hosts there are. The cost is that of the
// difference.
func (f *Fabric) SetRemotes(_ context.Context, n *state.Network, remotes []Remote) error {
	if isParented(n) {
		return nil
	}
	return errors.Join(f.setTunnel(n, remotes), f.setHostRoutes(n, remotes))
}

func (f *Fabric) setTunnel(n *state.Network, remotes []Remote) error {
	f.bridgesMu.Lock()
	defer f.bridgesMu.Unlock()
	b, ok := f.bridges[n.VNI]
	if !ok || (len(remotes) == 0 && b.tunnel == nil) {
		return nil
	}
	if b.tunnel == nil {
		t, err := f.makeTunnel(n, b)
		if err != nil {
			return fmt.Errorf("link of network %q to other hosts: %w", n.Name, err)
		}
		b.tunnel = t
	}
	return b.tunnel.set(f.nl, remotes)
}

// makeTunnel makes the link anew: one that an earlier daemon left knows endpoints that may be gone.
func (f *Fabric) makeTunnel(n *state.Network, b *bridge) (*tunnel, error) {
	name := f.names.tunnel(n.VNI)
	if err := f.deleteLink(name); err != nil {
		return nil, err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.MasterIndex = name, b.mtu, b.index
	link := &netlink.Vxlan{
		LinkAttrs: attrs, VxlanId: int(n.VNI), SrcAddr: f.cfg.Advertise.AsSlice(), Port: VXLANPort, Learning: false, Proxy: true, UDPCSum: true,
	}
	if err := f.nl.LinkAdd(link); err != nil {
		return nil, fmt.Errorf("add %q: %w", name, err)
	}
	if !optionsOf(n).ICC {
		if err := f.nl.LinkSetIsolated(link, true); err != nil {
			return nil, errors.Join(err, f.deleteLink(name))
		}
	}
	if err := f.nl.LinkSetUp(link); err != nil {
		return nil, errors.Join(err, f.deleteLink(name))
	}
	return &tunnel{index: link.Attrs().Index, have: map[Remote]bool{}}, nil
}

// set enters and removes what differs.
func (t *tunnel) set(nl *netlink.Handle, remotes []Remote) error {
	want := make(map[Remote]bool, len(remotes))
	for _, r := range remotes {
		want[r] = true
	}
	var errs []error
	for r := range t.have {
		if !want[r] {
			errs = append(errs, t.each(r, nl.NeighDel))
			delete(t.have, r)
		}
	}
	for r := range want {
		if t.have[r] {
			continue
		}
		if err := t.each(r, nl.NeighSet); err != nil {
			errs = append(errs, fmt.Errorf("endpoint %s on %s: %w", r.MAC, r.Host, err))
			continue
		}
		t.have[r] = true
	}
	return errors.Join(errs...)
}

// each does something to all entries of an endpoint: where its frames go, and whose its addresses are.
func (t *tunnel) each(r Remote, do func(*netlink.Neigh) error) error {
	mac, err := net.ParseMAC(r.MAC)
	if err != nil {
		return err
	}
	entries := []*netlink.Neigh{{
		LinkIndex: t.index, Family: unix.AF_BRIDGE, Flags: netlink.NTF_SELF, State: netlink.NUD_PERMANENT | netlink.NUD_NOARP,
		HardwareAddr: mac, IP: r.Host.AsSlice(),
	}}
	for _, a := range []netip.Addr{r.Address, r.Address6} {
		if a.IsValid() {
			entries = append(entries, &netlink.Neigh{LinkIndex: t.index, State: netlink.NUD_PERMANENT, HardwareAddr: mac, IP: a.AsSlice()})
		}
	}
	var errs []error
	for _, e := range entries {
		if err := do(e); err != nil && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// mtu of a network's links on this host: as the user says; else 1500, or what is left of the way to the other hosts
// where there are any. Only a network's first container here asks.
func (f *Fabric) mtu(n *state.Network) int {
	o := optionsOf(n)
	if _, asked := n.Options[optionMTU]; asked && !n.Predefined || f.cfg.Others == nil || !f.cfg.Others() {
		return o.MTU
	}
	if mtu, ok := f.wayMTU(); ok {
		return mtu
	}
	return o.MTU
}

// wayMTU is what is left of the way to the other hosts for a network's packets, as far as this host's own link tells.
func (f *Fabric) wayMTU() (int, bool) {
	links, err := untorn(f.nl.LinkList)
	if err != nil {
		return 0, false
	}
	for _, l := range links {
		addrs, err := f.nl.AddrList(l, netlink.FAMILY_ALL)
		for _, a := range addrs {
			if ip, ok := netip.AddrFromSlice(a.IP); err == nil && ok && ip.Unmap() == f.cfg.Advertise {
				return l.Attrs().MTU - vxlanOverhead[familyOf(f.cfg.Advertise)], true
			}
		}
	}
	return 0, false
}

// bridgeMAC is a bridge's hardware address: its own on each host, as frames that a host gets under its own are lost.
func (f *Fabric) bridgeMAC(n *state.Network) net.HardwareAddr {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s/%d", f.cfg.Host, n.VNI))
	return net.HardwareAddr{0x02, 0x4e, sum[0], sum[1], sum[2], sum[3]}
}

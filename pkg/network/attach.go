package network

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

// plug is one endpoint's two ends: the link on the host's bridge, and the interface in the container.
type plug struct {
	Attachment
	host   string // name of the link on the host
	inside string // name of the interface in the container
}

// Attach makes the container's links those of the endpoints given: what is missing is plugged in, what is not named is
// unplugged, and the default routes follow. Endpoints that are there already cost nothing.
func (f *Fabric) Attach(ctx context.Context, id nereid.ContainerID, to []Attachment) (retErr error) {
	sb, err := f.sandbox(id)
	if err != nil {
		return err
	}
	defer sb.mu.Unlock()
	plugs := f.plugs(to)
	if err := f.unplugOthers(sb, plugs); err != nil {
		return fmt.Errorf("detach container %q: %w", id.Short(), err)
	}
	fresh := slices.DeleteFunc(slices.Clone(plugs), func(p plug) bool { _, have := sb.links[p.Endpoint.ID]; return have })
	for _, p := range fresh {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := f.leaving.evict(p.Endpoint); err != nil {
			return err
		}
		if err := f.plugIn(sb, p); err != nil {
			return fmt.Errorf("attach container %q to network %q: %w", id.Short(), p.Network.Name, err)
		}
		defer func() {
			if _, have := sb.links[p.Endpoint.ID]; retErr != nil && !have {
				retErr = errors.Join(retErr, f.unplug(sb, p.leaver()))
			}
		}()
	}
	if err := inNetns(sb.ns, func() error { return setUpInside(ctx, fresh, waysOf(plugs)) }); err != nil {
		return fmt.Errorf("interfaces of container %q: %w", id.Short(), err)
	}
	for _, p := range fresh {
		sb.links[p.Endpoint.ID] = p.leaver()
	}
	f.settle(ctx, fresh)
	return nil
}

// unplugOthers deletes the sandbox's links that are none of the plugs.
func (f *Fabric) unplugOthers(sb *sandbox, plugs []plug) error {
	for id, l := range sb.links {
		if slices.ContainsFunc(plugs, func(p plug) bool { return p.Endpoint.ID == id }) {
			continue
		}
		if err := f.unplug(sb, l); err != nil {
			return err
		}
		delete(sb.links, id)
	}
	return nil
}

// leaver is what remains to be done for the plug when it goes.
func (p plug) leaver() leaver {
	l := leaver{network: p.Endpoint.Network, addr: p.Endpoint.Address.Addr()}
	if isParented(p.Network) {
		l.inside = p.inside
	} else {
		l.link = p.host
	}
	return l
}

// unplug deletes a link of a sandbox.
func (f *Fabric) unplug(sb *sandbox, l leaver) error {
	if l.inside != "" {
		return deleteInside(sb.ns, l.inside)
	}
	return f.deleteLink(l.link)
}

// settleTime is how long the kernel may take to have new links carry; it takes some 100 µs.
const settleTime = 500 * time.Millisecond

// settle waits until the links carry. The kernel opens a bridge's port some time after both ends are up; what is sent
// before is lost, and an address that is asked for in vain is asked for again only a second later.
func (f *Fabric) settle(ctx context.Context, plugs []plug) {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	for _, p := range plugs {
		if isParented(p.Network) {
			continue
		}
		for _, name := range []string{p.host, BridgeName(f.cfg.Host, p.Network)} {
			for !carries(f.nl, name) && pause(ctx, time.Millisecond) {
			}
		}
		gw := p.Endpoint.Gateway6
		for gw.IsValid() && !optionsOf(p.Network).noAddress(true) && !hears(f.nl, gw) && pause(ctx, time.Millisecond) {
		}
	}
}

// carries also has the kernel bring its view of the link up to date (since Linux 6.9).
func carries(nl *netlink.Handle, name string) bool {
	link, err := nl.LinkByName(name)
	return err != nil || link.Attrs().OperState == netlink.OperUp
}

// plugs orders the endpoints by attachment. Records of before interfaces had names in them are counted.
func (f *Fabric) plugs(to []Attachment) []plug {
	sorted := slices.SortedFunc(slices.Values(to), func(a, b Attachment) int {
		return cmp.Or(cmp.Compare(a.Endpoint.Order, b.Endpoint.Order), cmp.Compare(a.Endpoint.Network, b.Endpoint.Network))
	})
	plugs := make([]plug, len(sorted))
	for i, a := range sorted {
		plugs[i] = plug{Attachment: a, host: f.names.veth(a.Endpoint.ID), inside: a.Endpoint.Interface}
		if plugs[i].inside == "" {
			plugs[i].inside = fmt.Sprintf("eth%d", i)
		}
	}
	return plugs
}

// plugIn makes the pair of links with its far end in the sandbox. A pair of this name that leads elsewhere, which
// only a crash can leave, is replaced.
func (f *Fabric) plugIn(sb *sandbox, p plug) error {
	if isParented(p.Network) {
		return f.addBehind(sb.ns, p)
	}
	b, err := f.ensureBridge(p.Network)
	if err != nil {
		return err
	}
	err = f.addVeth(sb.ns, b, p)
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	if inside, err := hasLink(sb.ns, p.inside); err != nil || inside {
		return err
	}
	if err := f.deleteLink(p.host); err != nil {
		return err
	}
	return f.addVeth(sb.ns, b, p)
}

func (f *Fabric) addVeth(ns *os.File, b *bridge, p plug) error {
	mac, err := net.ParseMAC(p.Endpoint.MAC)
	if err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.MasterIndex, attrs.Flags = p.host, b.mtu, b.index, net.FlagUp
	veth := &netlink.Veth{
		LinkAttrs: attrs, PeerName: p.inside, PeerMTU: uint32(attrs.MTU),
		PeerHardwareAddr: mac, PeerNamespace: netlink.NsFd(int(ns.Fd())),
	}
	if err := f.nl.LinkAdd(veth); errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add link %q: %w", p.host, err)
	} else if err != nil { // it may have been added and not joined the bridge
		return errors.Join(fmt.Errorf("add link %q: %w", p.host, err), f.deleteLink(p.host))
	}
	if err := f.setPort(veth, optionsOf(p.Network)); err != nil {
		return errors.Join(fmt.Errorf("bridge port %q: %w", p.host, err), f.deleteLink(p.host))
	}
	return nil
}

// setPort sets how a bridge passes on what comes from a container: back to it too, as with br_netfilter a packet to itself
// through a published port turns round within the bridge; and not to other containers where these are to be apart. That
// is done in the bridge: no firewall sees what it passes on.
func (f *Fabric) setPort(link netlink.Link, o Options) error {
	if err := f.nl.LinkSetHairpin(link, true); err != nil {
		return err
	}
	if o.ICC {
		return nil
	}
	return f.nl.LinkSetIsolated(link, true)
}

func hasLink(ns *os.File, name string) (has bool, err error) {
	err = inNetns(ns, func() error {
		_, err := net.InterfaceByName(name)
		has = err == nil
		return nil
	})
	return has, err
}

func (f *Fabric) linkExists(name string) bool {
	_, err := f.nl.LinkByName(name)
	var gone netlink.LinkNotFoundError
	return !errors.As(err, &gone)
}

// deleteLink removes a link of the host, and with it the far end. Not there is no error.
func (f *Fabric) deleteLink(name string) error {
	link, err := f.nl.LinkByName(name)
	if err == nil {
		err = f.nl.LinkDel(link)
	}
	var gone netlink.LinkNotFoundError
	if err == nil || errors.Is(err, unix.ENODEV) || errors.As(err, &gone) {
		return nil
	}
	return fmt.Errorf("delete link %q: %w", name, err)
}

// setUpInside runs in the sandbox: addresses, links up, default routes, over one socket.
func setUpInside(ctx context.Context, plugs []plug, w ways) error {
	if len(plugs) == 0 && w.v4 == nil && w.v6 == nil {
		return nil
	}
	nl, err := openNetlink(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer nl.Close()
	for _, p := range plugs {
		if err := p.setUp(ctx, nl); err != nil {
			return fmt.Errorf("%s: %w", p.inside, err)
		}
	}
	return w.set(nl)
}

func (p plug) setUp(ctx context.Context, nl *netlink.Handle) error {
	link, err := nl.LinkByName(p.inside)
	if err != nil {
		return err
	}
	four, six := p.addresses()
	if len(six) > 0 {
		if err := sysctl("ipv6/conf/"+p.inside+"/disable_ipv6", "0", false); err != nil {
			return err
		}
	}
	if err := p.sysctls(); err != nil {
		return err
	}
	if err := addAddresses(nl, link, four); err != nil {
		return err
	}
	if err := nl.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring up: %w", err)
	}
	if len(six) == 0 {
		return nil
	}
	return p.addSix(ctx, nl, link, six)
}

// addSix gives the interface its IPv6 addresses and waits until the kernel takes what is sent there, which it does a
// moment after: the answer to the container's first question would be lost, and asked for again only a second later.
func (p plug) addSix(ctx context.Context, nl *netlink.Handle, link netlink.Link, addrs []*netlink.Addr) error {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	for !carries(nl, p.inside) && pause(ctx, time.Millisecond) {
	}
	if err := addAddresses(nl, link, addrs); err != nil {
		return err
	}
	for p.Endpoint.Address6.IsValid() && !hears(nl, p.Endpoint.Address6.Addr()) && pause(ctx, time.Millisecond) {
	}
	return nil
}

// hears tells whether the namespace takes packets for an address.
func hears(nl *netlink.Handle, a netip.Addr) bool {
	routes, err := nl.RouteGet(a.AsSlice())
	return err == nil && len(routes) > 0 && routes[0].Type == unix.RTN_LOCAL
}

func addAddresses(nl *netlink.Handle, link netlink.Link, addrs []*netlink.Addr) error {
	for _, a := range addrs {
		if err := nl.AddrReplace(link, a); err != nil {
			return fmt.Errorf("address %s: %w", a, err)
		}
	}
	return nil
}

// addresses of the interface by family. Those of IPv6 are not probed for duplicates: the claim made them unique.
func (p plug) addresses() (four, six []*netlink.Addr) {
	if a := p.Endpoint.Address; a.IsValid() {
		four = append(four, &netlink.Addr{IPNet: ipNet(a), Broadcast: lastAddr(a).AsSlice()})
	}
	if a := p.Endpoint.Address6; a.IsValid() {
		six = append(six, &netlink.Addr{IPNet: ipNet(a), Flags: unix.IFA_F_NODAD})
	}
	for _, a := range p.Endpoint.LinkLocal {
		if a.Is4() {
			four = append(four, linkLocal(a))
		} else {
			six = append(six, linkLocal(a))
		}
	}
	return four, six
}

func linkLocal(a netip.Addr) *netlink.Addr {
	if a.Is4() {
		return &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(a, 16)), Scope: unix.RT_SCOPE_LINK}
	}
	return &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(a, 64)), Flags: unix.IFA_F_NODAD}
}

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
			if retErr != nil && sb.links[p.Endpoint.ID].link == "" {
				retErr = errors.Join(retErr, f.deleteLink(p.host))
			}
		}()
	}
	if err := inNetns(sb.ns, func() error { return setUpInside(fresh, waysOf(plugs)) }); err != nil {
		return fmt.Errorf("interfaces of container %q: %w", id.Short(), err)
	}
	for _, p := range fresh {
		sb.links[p.Endpoint.ID] = leaver{link: p.host, network: p.Endpoint.Network, addr: p.Endpoint.Address.Addr()}
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
		if err := f.deleteLink(l.link); err != nil {
			return err
		}
		delete(sb.links, id)
	}
	return nil
}

// settleTime is how long the kernel may take to have new links carry; it takes some 100 µs.
const settleTime = 500 * time.Millisecond

// settle waits until the links carry. The kernel opens a bridge's port some time after both ends are up; what is sent
// before is lost, and an address that is asked for in vain is asked for again only a second later.
func (f *Fabric) settle(ctx context.Context, plugs []plug) {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	for _, p := range plugs {
		for _, name := range []string{p.host, BridgeName(f.cfg.Host, p.Network)} {
			for !f.carries(name) && pause(ctx, time.Millisecond) {
			}
		}
	}
}

// carries also has the kernel bring its view of the link up to date (since Linux 6.9).
func (f *Fabric) carries(name string) bool {
	link, err := f.nl.LinkByName(name)
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
	attrs.Name, attrs.MTU, attrs.MasterIndex, attrs.Flags = p.host, optionsOf(p.Network).MTU, b.index, net.FlagUp
	veth := &netlink.Veth{
		LinkAttrs: attrs, PeerName: p.inside, PeerMTU: uint32(attrs.MTU),
		PeerHardwareAddr: mac, PeerNamespace: netlink.NsFd(int(ns.Fd())),
	}
	if err := f.nl.LinkAdd(veth); errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add link %q: %w", p.host, err)
	} else if err != nil { // it may have been added and not joined the bridge
		return errors.Join(fmt.Errorf("add link %q: %w", p.host, err), f.deleteLink(p.host))
	}
	// With br_netfilter a container's packet to itself through a published port turns round within the bridge.
	if err := f.nl.LinkSetHairpin(veth, true); err != nil {
		return errors.Join(fmt.Errorf("hairpin of %q: %w", p.host, err), f.deleteLink(p.host))
	}
	return nil
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
func setUpInside(plugs []plug, w ways) error {
	if len(plugs) == 0 && w.v4 == nil && w.v6 == nil {
		return nil
	}
	nl, err := openNetlink(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer nl.Close()
	for _, p := range plugs {
		if err := p.setUp(nl); err != nil {
			return fmt.Errorf("%s: %w", p.inside, err)
		}
	}
	return w.set(nl)
}

func (p plug) setUp(nl *netlink.Handle) error {
	link, err := nl.LinkByName(p.inside)
	if err != nil {
		return err
	}
	if p.Endpoint.Address6.IsValid() {
		if err := sysctl("ipv6/conf/"+p.inside+"/disable_ipv6", "0", false); err != nil {
			return err
		}
	}
	for _, a := range p.addresses() {
		if err := nl.AddrReplace(link, a); err != nil {
			return fmt.Errorf("address %s: %w", a, err)
		}
	}
	if err := nl.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring up: %w", err)
	}
	return nil
}

// addresses of the interface. Those of IPv6 are not probed for duplicates: the claim made them unique.
func (p plug) addresses() []*netlink.Addr {
	var list []*netlink.Addr
	if a := p.Endpoint.Address; a.IsValid() {
		list = append(list, &netlink.Addr{IPNet: ipNet(a), Broadcast: lastAddr(a).AsSlice()})
	}
	if a := p.Endpoint.Address6; a.IsValid() {
		list = append(list, &netlink.Addr{IPNet: ipNet(a), Flags: unix.IFA_F_NODAD})
	}
	for _, a := range p.Endpoint.LinkLocal {
		list = append(list, linkLocal(a))
	}
	return list
}

func linkLocal(a netip.Addr) *netlink.Addr {
	if a.Is4() {
		return &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(a, 16)), Scope: unix.RT_SCOPE_LINK}
	}
	return &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(a, 64)), Flags: unix.IFA_F_NODAD}
}

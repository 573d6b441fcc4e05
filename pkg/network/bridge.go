package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/nereid-paas/nereid/pkg/state"
)

// bridge is a network's bridge on this host.
type bridge struct {
	name   string
	index  int
	mtu    int
	tunnel *tunnel // to the other hosts; nil: none of them has an endpoint of the network
}

// ensureBridge makes the network's bridge and its rules, or returns the one that is there. Only the first of a network
// costs anything.
func (f *Fabric) ensureBridge(n *state.Network) (*bridge, error) {
	f.bridgesMu.Lock()
	defer f.bridgesMu.Unlock()
	if b, ok := f.bridges[n.VNI]; ok {
		return b, nil
	}
	b, err := f.makeBridge(n)
	if err != nil {
		return nil, fmt.Errorf("bridge of network %q: %w", n.Name, err)
	}
	if err := f.fw.addZone(zoneOf(b.name, n)); err != nil {
		return nil, fmt.Errorf("rules of network %q: %w", n.Name, err)
	}
	f.bridges[n.VNI] = b
	return b, nil
}

// lostBridge forgets a bridge that is not there any more, and tells so.
func (f *Fabric) lostBridge(n *state.Network, b *bridge) bool {
	f.bridgesMu.Lock()
	defer f.bridgesMu.Unlock()
	if l, err := f.nl.LinkByIndex(b.index); err == nil && l.Attrs().Name == b.name {
		return false
	}
	if f.bridges[n.VNI] == b {
		delete(f.bridges, n.VNI)
	}
	return true
}

// makeBridge is idempotent: every step takes what is already there.
func (f *Fabric) makeBridge(n *state.Network) (*bridge, error) {
	name, opts := BridgeName(f.cfg.Host, n), optionsOf(n)
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.TxQLen = name, f.mtu(n), 1000
	attrs.HardwareAddr = f.bridgeMAC(n) // set, so that it stays when ports come and go
	// With snooping the first question of a new port for an IPv6 neighbour is lost, and asked again a second later.
	snooping := false
	addErr := f.nl.LinkAdd(&netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &snooping})
	if addErr != nil && !errors.Is(addErr, unix.EEXIST) {
		return nil, fmt.Errorf("add %q: %w", name, addErr)
	}
	link, err := f.nl.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("find %q: %w", name, err)
	}
	if link.Type() != "bridge" {
		return nil, fmt.Errorf("existing interface %s is not a bridge", name)
	}
	if addErr == nil {
		if err := f.nl.LinkSetAlias(link, f.names.alias(n)); err != nil {
			return nil, fmt.Errorf("mark %q: %w", name, err)
		}
	}
	if err := bridgeSysctls(name, n); err != nil {
		return nil, err
	}
	if n.IPv6 {
		if err := forwardIPv6(); err != nil {
			return nil, fmt.Errorf("IPv6 forwarding: %w", err)
		}
	}
	for _, s := range n.Subnets {
		if !s.Gateway.IsValid() || opts.noAddress(s.Gateway.Is6()) {
			continue
		}
		addr := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(s.Gateway, s.Prefix.Bits()))}
		if s.Gateway.Is6() {
			addr.Flags = unix.IFA_F_NODAD // the same gateway is on every host
		}
		if err := f.nl.AddrReplace(link, addr); err != nil {
			return nil, fmt.Errorf("address %s on %q: %w", s.Gateway, name, err)
		}
	}
	if err := f.nl.LinkSetUp(link); err != nil {
		return nil, fmt.Errorf("bring up %q: %w", name, err)
	}
	return &bridge{name: name, index: link.Attrs().Index, mtu: link.Attrs().MTU}, nil
}

// bridgeSysctls prepare a bridge's link. route_localnet is what lets 127.0.0.1 reach them; the rules
// drop what comes from a container for 127.0.0.0/8, which it would open otherwise. Without accept_dad the bridge has its
// link-local address at once, by which it asks for its neighbours.
func bridgeSysctls(name string, n *state.Network) error {
	six := "1"
	if n.IPv6 {
		six = "0"
	}
	return errors.Join(
		sysctl("ipv4/conf/"+name+"/route_localnet", "1", false),
		sysctl("ipv6/conf/"+name+"/accept_ra", "0", true),
		sysctl("ipv6/conf/"+name+"/accept_dad", "0", true),
		sysctl("ipv6/conf/"+name+"/disable_ipv6", six, true),
	)
}

// macOf derives a locally administered MAC from an IPv4 address, as Docker's 02:42 ones. An address that is used
// again has the same MAC again, so no neighbour cache goes stale.
func macOf(a netip.Addr) net.HardwareAddr {
	b := a.As4()
	return net.HardwareAddr{0x02, 0x42, b[0], b[1], b[2], b[3]}
}

// MAC is the hardware address that an endpoint with this IPv4 address gets unless the user wants another.
func MAC(a netip.Addr) string { return macOf(a).String() }

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

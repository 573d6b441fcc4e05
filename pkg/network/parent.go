package network

import (
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/nereid-paas/nereid/pkg/state"
)

// Docker's options of networks whose containers are on a wire of the host itself, behind a link of it: the parent.
const (
	optionParent      = "parent"
	optionMacvlanMode = "macvlan_mode"
	optionIPvlanMode  = "ipvlan_mode"
	optionIPvlanFlag  = "ipvlan_flag"
)

var macvlanModes = map[string]netlink.MacvlanMode{
	"": netlink.MACVLAN_MODE_BRIDGE, "bridge": netlink.MACVLAN_MODE_BRIDGE, "private": netlink.MACVLAN_MODE_PRIVATE,
	"vepa": netlink.MACVLAN_MODE_VEPA, "passthru": netlink.MACVLAN_MODE_PASSTHRU,
}

var ipvlanModes = map[string]netlink.IPVlanMode{
	"": netlink.IPVLAN_MODE_L2, "l2": netlink.IPVLAN_MODE_L2, "l3": netlink.IPVLAN_MODE_L3, "l3s": netlink.IPVLAN_MODE_L3S,
}

var ipvlanFlags = map[string]netlink.IPVlanFlag{
	"": netlink.IPVLAN_FLAG_BRIDGE, "bridge": netlink.IPVLAN_FLAG_BRIDGE, "private": netlink.IPVLAN_FLAG_PRIVATE, "vepa": netlink.IPVLAN_FLAG_VEPA,
}

// isParented tells whether a network's containers are behind a link of the host.
func isParented(n *state.Network) bool { return n.Driver == "macvlan" || n.Driver == "ipvlan" }

// CheckParent checks the options of such a network against this host, and returns by name those that mean nothing.
// Errors are errdefs.ErrInvalidArgument with Docker's words.
func CheckParent(n *state.Network) (unknown []string, err error) {
	known := map[string][]string{
		"macvlan": {optionParent, optionMacvlanMode}, "ipvlan": {optionParent, optionIPvlanMode, optionIPvlanFlag},
	}[n.Driver]
	for name := range n.Options {
		if !slices.Contains(append(known, optionMTU, OptionIPv4, OptionIPv6), name) {
			unknown = append(unknown, name)
		}
	}
	slices.Sort(unknown)
	if _, _, err := ParseOptions(map[string]string{optionMTU: orElse(n.Options[optionMTU], "0")}); err != nil {
		return nil, err
	}
	for _, c := range []struct {
		option, usual string
		known         bool
	}{
		{optionMacvlanMode, "'bridge' mode is the macvlan driver default", has(macvlanModes, n.Options[optionMacvlanMode])},
		{optionIPvlanMode, "'l2' mode is the ipvlan driver default", has(ipvlanModes, n.Options[optionIPvlanMode])},
		{optionIPvlanFlag, "'bridge' is the ipvlan driver default", has(ipvlanFlags, n.Options[optionIPvlanFlag])},
	} {
		if !c.known {
			return nil, invalid("requested %s '%s' is not valid, %s", strings.ReplaceAll(c.option, "_", " "), n.Options[c.option], c.usual)
		}
	}
	if err := checkParentLink(n); err != nil {
		return nil, err
	}
	return unknown, checkKernel(n)
}

// checkKernel refuses what this host's kernel cannot make. A link with a parent that is not there tells: it is wrong
// where the kernel knows its kind, and not supported where it does not.
func checkKernel(n *state.Network) error {
	probe := netlink.NewLinkAttrs()
	probe.Name, probe.ParentIndex = "nereid-probe", math.MaxInt32
	links := map[string]netlink.Link{"macvlan": &netlink.Macvlan{LinkAttrs: probe}, "ipvlan": &netlink.IPVlan{LinkAttrs: probe}}
	needs := []netlink.Link{links[n.Driver]}
	if parent := n.Options[optionParent]; parent == "" {
		needs = append(needs, &netlink.Dummy{LinkAttrs: probe})
	} else if _, err := net.InterfaceByName(parent); err != nil {
		needs = append(needs, &netlink.Vlan{LinkAttrs: probe, VlanId: 1})
	}
	nl, err := openNetlink(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer nl.Close()
	for _, link := range needs {
		err := nl.LinkAdd(link)
		if errors.Is(err, unix.EOPNOTSUPP) {
			return invalid("network driver %q is not supported: the kernel of this host has no %s links", n.Driver, link.Type())
		}
		if err == nil { // a parent that does not matter to this kind
			if err := nl.LinkDel(link); err != nil {
				return err
			}
		}
	}
	return nil
}

func has[V any](m map[string]V, k string) bool { _, ok := m[k]; return ok }

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// checkParentLink refuses a parent that this host has not and cannot make.
func checkParentLink(n *state.Network) error {
	name := n.Options[optionParent]
	if name == "" {
		return nil
	}
	if name == "lo" {
		return invalid("loopback interface is not a valid %s parent link", n.Driver)
	}
	if _, err := net.InterfaceByName(name); err == nil {
		return nil
	}
	base, _, err := parseVLAN(name)
	if err != nil {
		return err
	}
	if _, err := net.InterfaceByName(base); err != nil {
		return invalid("-o parent interface was not found on the host: %s", base)
	}
	return nil
}

// parseVLAN reads "eth0.10": a VLAN on a link.
func parseVLAN(name string) (base string, id int, err error) {
	base, tag, found := strings.Cut(name, ".")
	if !found {
		return "", 0, invalid("-o parent interface was not found on the host: %s", name)
	}
	id, err = strconv.Atoi(tag)
	if err != nil {
		return "", 0, invalid("unable to parse a valid vlan id from: %s (ex. eth0.10 for vlan 10)", tag)
	}
	if id < 1 || id > 4094 {
		return "", 0, invalid("vlan id must be between 1-4094, received: %d", id)
	}
	return base, id, nil
}

// ensureParent is the link that a network's containers are behind: the host's own, a VLAN on it, or, where the user
// named none, one that leads nowhere. The latter two are made when they are missing, and marked as ours.
func (f *Fabric) ensureParent(n *state.Network) (netlink.Link, error) {
	f.bridgesMu.Lock()
	defer f.bridgesMu.Unlock()
	name := n.Options[optionParent]
	if name == "" {
		name = f.names.dummy(n.VNI)
	}
	link, err := f.nl.LinkByName(name)
	if err == nil {
		return link, nil
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.Flags = name, net.FlagUp
	var made netlink.Link = &netlink.Dummy{LinkAttrs: attrs}
	if n.Options[optionParent] != "" {
		base, id, err := parseVLAN(name)
		if err != nil {
			return nil, err
		}
		under, err := f.nl.LinkByName(base)
		if err != nil {
			return nil, invalid("-o parent interface was not found on the host: %s", base)
		}
		attrs.ParentIndex = under.Attrs().Index
		made = &netlink.Vlan{LinkAttrs: attrs, VlanId: id}
	}
	if err := f.nl.LinkAdd(made); err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, fmt.Errorf("add link %q, a %s: %w", name, made.Type(), err)
	}
	if link, err = f.nl.LinkByName(name); err != nil {
		return nil, err
	}
	return link, f.nl.LinkSetAlias(link, f.names.alias(n))
}

// addBehind makes an endpoint's interface in the sandbox, behind the network's parent.
func (f *Fabric) addBehind(ns *os.File, p plug) error {
	parent, err := f.ensureParent(p.Network)
	if err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.ParentIndex, attrs.Namespace = p.inside, parent.Attrs().Index, netlink.NsFd(int(ns.Fd()))
	if v := p.Network.Options[optionMTU]; v != "" && v != "0" {
		attrs.MTU = optionsOf(p.Network).MTU
	}
	var link netlink.Link
	if p.Network.Driver == "ipvlan" { // it has the parent's hardware address
		link = &netlink.IPVlan{
			LinkAttrs: attrs, Mode: ipvlanModes[p.Network.Options[optionIPvlanMode]], Flag: ipvlanFlags[p.Network.Options[optionIPvlanFlag]],
		}
	} else {
		if attrs.HardwareAddr, err = net.ParseMAC(p.Endpoint.MAC); err != nil {
			return err
		}
		link = &netlink.Macvlan{LinkAttrs: attrs, Mode: macvlanModes[p.Network.Options[optionMacvlanMode]]}
	}
	if err := f.nl.LinkAdd(link); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add %q behind %q: %w", p.inside, parent.Attrs().Name, err)
	}
	return nil
}

// deleteInside removes an interface of a sandbox. Not there is no error.
func deleteInside(ns *os.File, name string) error {
	return inNetns(ns, func() error {
		nl, err := openNetlink(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer nl.Close()
		link, err := nl.LinkByName(name)
		var gone netlink.LinkNotFoundError
		if errors.As(err, &gone) {
			return nil
		}
		if err != nil {
			return err
		}
		return nl.LinkDel(link)
	})
}

// onWire tells whether a network's default route leads to no router: ipvlan above the second layer has none.
func onWire(n *state.Network) bool {
	mode := ipvlanModes[n.Options[optionIPvlanMode]]
	return n.Driver == "ipvlan" && mode != netlink.IPVLAN_MODE_L2
}

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
	sb.leadsOut.Store(leadOut(to))
	if sb.resolver == nil && len(to) > 0 { // it was made without a network
		if err := f.reopenResolver(sb); err != nil {
			return fmt.Errorf("resolver of container %q: %w", id.Short(), err)
		}
	}
	plugs := f.plugs(to)
	if err := f.unplugOthers(sb, plugs); err != nil {
		return fmt.Errorf("detach container %q: %w", id.Short(), err)
	}
	fresh := slices.DeleteFunc(slices.Clone(plugs), func(p plug) bool { _, have := sb.links[p.Endpoint.ID]; return have })
	nl, err := dialRtnl()
	if err != nil {
		return err
	}
	defer nl.close()
	for _, p := range fresh {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := f.leaving.evict(p.Endpoint); err != nil {
			return err
		}
		if err := f.plugIn(nl, sb, p); err != nil {
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
	f.settle(ctx, nl, fresh)
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
// before is lost, and an address that is asked for in vain is asked for again only a second later. To ask has the kernel
// do it (since Linux 6.9).
func (f *Fabric) settle(ctx context.Context, nl *rtnl, plugs []plug) {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	for _, p := range plugs {
		if !isParented(p.Network) {
			for !p.settled(nl, BridgeName(f.cfg.Host, p.Network)) && pause(ctx, time.Millisecond) {
			}
		}
	}
}

// settled tells whether the plug's link and its bridge carry, and the bridge takes what is for the gateway.
func (p plug) settled(nl *rtnl, bridge string) bool {
	questions := []request{getLink(p.host), getLink(bridge)}
	if gw := p.Endpoint.Gateway6; gw.IsValid() && !optionsOf(p.Network).noAddress(true) {
		questions = append(questions, getRoute(gw))
	}
	answers, err := nl.do(questions...)
	if len(answers) == 3 && !answers[2].local() {
		return false
	}
	return err != nil || answers[0].carries() && answers[1].carries() // one that is gone is not waited for
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
// only a crash can leave, is replaced; a bridge that someone deleted is made anew.
func (f *Fabric) plugIn(nl *rtnl, sb *sandbox, p plug) error {
	if isParented(p.Network) {
		return f.addBehind(sb.ns, p)
	}
	b, err := f.ensureBridge(p.Network)
	if err != nil {
		return err
	}
	err = f.addVeth(nl, sb.ns, b, p)
	if err != nil && f.lostBridge(p.Network, b) {
		if b, err = f.ensureBridge(p.Network); err != nil {
			return err
		}
		err = f.addVeth(nl, sb.ns, b, p)
	}
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	if inside, err := hasLink(sb.ns, p.inside); err != nil || inside {
		return err
	}
	if err := f.deleteLink(p.host); err != nil {
		return err
	}
	return f.addVeth(nl, sb.ns, b, p)
}

// addVeth makes the pair with its near end in the bridge. That one has no use for IPv6 of its own, and the kernel looks at
// all links that have it whenever one comes or goes: without, an attachment costs the same however many there are.
func (f *Fabric) addVeth(nl *rtnl, ns *os.File, b *bridge, p plug) (retErr error) {
	mac, err := net.ParseMAC(p.Endpoint.MAC)
	if err != nil {
		return err
	}
	made, err := nl.do(newPair(pair{here: p.host, there: p.inside, mtu: b.mtu, mac: mac, ns: ns}), getLink(p.host))
	if errors.Is(err, unix.EEXIST) {
		return err
	}
	defer func() {
		if retErr != nil { // it may have been added and not joined the bridge
			retErr = errors.Join(retErr, f.deleteLink(p.host))
		}
	}()
	if err != nil {
		return err
	}
	if err := f.withoutIPv6(p.host); err != nil {
		return err
	}
	index := made[1].index()
	_, err = nl.do(setMaster(index, b.index), setPort(index, !optionsOf(p.Network).ICC), setBehind(index, mac), setUp(index))
	return err
}

// withoutIPv6 switches it off for a link of the host.
func (f *Fabric) withoutIPv6(link string) error {
	if f.ipv6 == nil {
		return nil
	}
	return f.ipv6.WriteFile(link+"/disable_ipv6", []byte("1"), 0)
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
	for _, p := range plugs {
		if err := p.settings(); err != nil {
			return fmt.Errorf("%s: %w", p.inside, err)
		}
	}
	nl, err := dialRtnl()
	if err != nil {
		return err
	}
	defer nl.close()
	index, err := indexes(nl, append(slices.Clone(plugs), w.plugs()...))
	if err != nil {
		return err
	}
	if err := setUpLinks(ctx, nl, plugs, index); err != nil {
		return err
	}
	var routes []request
	for _, p := range plugs {
		routes = append(routes, p.add(index[p.inside], v6)...)
	}
	if _, err := nl.do(append(routes, w.routes(index)...)...); err != nil {
		return err
	}
	hear(ctx, nl, plugs)
	return nil
}

// indexes of the plugs' interfaces, by name.
func indexes(nl *rtnl, plugs []plug) (map[string]int, error) {
	var questions []request
	for _, p := range plugs {
		questions = append(questions, getLink(p.inside))
	}
	answers, err := nl.do(questions...)
	if err != nil {
		return nil, err
	}
	index := make(map[string]int, len(plugs))
	for i, p := range plugs {
		index[p.inside] = answers[i].index()
	}
	return index, nil
}

// settings of the interface that are none of netlink.
func (p plug) settings() error {
	if p.has6() {
		if err := sysctl("ipv6/conf/"+p.inside+"/disable_ipv6", "0", false); err != nil {
			return err
		}
	}
	return p.sysctls()
}

// setUpLinks gives the interfaces their IPv4 addresses and brings them up. It waits until those that are to have IPv6
// carry: before, the kernel takes its addresses and does not listen to them.
func setUpLinks(ctx context.Context, nl *rtnl, plugs []plug, index map[string]int) error {
	var steps []request
	for _, p := range plugs {
		i := index[p.inside]
		steps = append(append(steps, p.add(i, v4)...), setUp(i))
	}
	if _, err := nl.do(steps...); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	for _, p := range plugs {
		for p.has6() && !nl.carries(p.inside) && pause(ctx, time.Millisecond) {
		}
	}
	return nil
}

// hear waits until the kernel takes what is sent to the IPv6 addresses, which it does a moment after it has them: the
// answer to the container's first question would be lost, and asked for again only a second later.
func hear(ctx context.Context, nl *rtnl, plugs []plug) {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	for _, p := range plugs {
		for p.Endpoint.Address6.IsValid() && !nl.hears(p.Endpoint.Address6.Addr()) && pause(ctx, time.Millisecond) {
		}
	}
}

// add are the requests that give an interface its addresses of a family.
func (p plug) add(index, family int) (steps []request) {
	for _, a := range p.addresses()[family] {
		steps = append(steps, addAddress(index, a))
	}
	return steps
}

func (p plug) has6() bool { return len(p.addresses()[v6]) > 0 }

// addresses of the interface by family. Those of IPv6 are not probed for duplicates: the claim made them unique.
func (p plug) addresses() (list [2][]address) {
	if a := p.Endpoint.Address; a.IsValid() {
		list[v4] = append(list[v4], address{Prefix: a})
	}
	if a := p.Endpoint.Address6; a.IsValid() {
		list[v6] = append(list[v6], address{Prefix: a, noDAD: true})
	}
	for _, a := range p.Endpoint.LinkLocal {
		bits := [2]int{v4: 16, v6: 64}[familyOf(a)]
		list[familyOf(a)] = append(list[familyOf(a)], address{Prefix: netip.PrefixFrom(a, bits), link: a.Is4(), noDAD: a.Is6()})
	}
	return list
}

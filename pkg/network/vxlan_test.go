package network

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
)

// fleetFabric is that of a host with others.
func fleetFabric(t *testing.T) *Fabric {
	t.Helper()
	return newFabric(t, func(c *Config) {
		c.Advertise = netip.MustParseAddr("192.0.2.1")
		c.Others = func() bool { return true }
	})
}

func TestRemotesFollow(t *testing.T) {
	f := fleetFabric(t)
	machine(t)
	n := dualNetwork(0x123456)
	one := Remote{MAC: "02:42:0a:c8:56:09", Address: netip.MustParseAddr("10.200.86.9"), Address6: netip.MustParseAddr("fd00:200:56::9"), Host: netip.MustParseAddr("192.0.2.2")}
	two := Remote{MAC: "02:42:0a:c8:56:0a", Address: netip.MustParseAddr("10.200.86.10"), Host: netip.MustParseAddr("192.0.2.3")}
	assert.NilError(t, f.SetRemotes(t.Context(), n, []Remote{one}), "a network that is not here")
	assert.Check(t, !f.linkExists(f.names.tunnel(n.VNI)))

	b, _ := dualBox(t, f, 2, n)
	assert.NilError(t, f.SetRemotes(t.Context(), n, nil))
	assert.Check(t, !f.linkExists(f.names.tunnel(n.VNI)), "a link to nobody")
	for _, want := range [][]Remote{{one}, {one, two}, {two}, {}, {one}} {
		assert.NilError(t, f.SetRemotes(t.Context(), n, want))
		assert.DeepEqual(t, tunnelEntries(t, f, n.VNI), entriesOf(want))
	}
	link, err := f.nl.LinkByName(f.names.tunnel(n.VNI))
	assert.NilError(t, err)
	assert.Equal(t, link.Attrs().MTU, 1450)
	assert.Equal(t, link.(*netlink.Vxlan).Learning, false)
	assert.Equal(t, link.(*netlink.Vxlan).VxlanId, 0x123456)

	// Another daemon knows nothing of what is there, and is told.
	f.bridges[n.VNI].tunnel = nil
	assert.NilError(t, f.SetRemotes(t.Context(), n, []Remote{two}))
	assert.DeepEqual(t, tunnelEntries(t, f, n.VNI), entriesOf([]Remote{two}))
	assert.NilError(t, f.Remove(t.Context(), b.id))
	assert.NilError(t, f.RemoveNetwork(t.Context(), n))
	assert.Check(t, !f.linkExists(f.names.tunnel(n.VNI)))
}

// TestAddressComesFromAnotherHost: a container gets the address of one that was on another host, which the bridge has
// heard from there. Who asks for it through the tunnel finds it without its having spoken.
func TestAddressComesFromAnotherHost(t *testing.T) {
	f := fleetFabric(t)
	machine(t)
	n := dualNetwork(0x123457)
	dualBox(t, f, 2, n)
	there := attachment(n, 0, 3).Endpoint
	assert.NilError(t, f.SetRemotes(t.Context(), n, []Remote{{MAC: there.MAC, Address: there.Address.Addr(), Host: netip.MustParseAddr("192.0.2.2")}}))
	mac, err := net.ParseMAC(there.MAC)
	assert.NilError(t, err)
	heard := func(link string) *netlink.Neigh {
		l, err := f.nl.LinkByName(link)
		assert.NilError(t, err)
		return &netlink.Neigh{LinkIndex: l.Attrs().Index, Family: unix.AF_BRIDGE, Flags: netlink.NTF_MASTER, State: netlink.NUD_NOARP, HardwareAddr: mac}
	}
	far := heard(f.names.tunnel(n.VNI))
	assert.NilError(t, f.nl.NeighSet(far))

	b, _ := dualBox(t, f, 3, n)
	assert.NilError(t, f.SetRemotes(t.Context(), n, nil))
	near := heard(f.names.veth(b.to[0].Endpoint.ID))
	entries, err := f.nl.NeighList(0, unix.AF_BRIDGE)
	assert.NilError(t, err)
	var at []int
	for _, e := range entries {
		if e.HardwareAddr.String() == there.MAC && e.MasterIndex != 0 {
			at = append(at, e.LinkIndex)
		}
	}
	assert.DeepEqual(t, at, []int{near.LinkIndex})
}

// tunnelEntries are where a tunnel sends frames, and the addresses it answers for.
func tunnelEntries(t *testing.T, f *Fabric, vni uint32) []string {
	t.Helper()
	link, err := f.nl.LinkByName(f.names.tunnel(vni))
	assert.NilError(t, err)
	list := []string{}
	for _, family := range []int{unix.AF_BRIDGE, unix.AF_INET, unix.AF_INET6} {
		neighs, err := f.nl.NeighList(link.Attrs().Index, family)
		assert.NilError(t, err)
		for _, n := range neighs {
			if n.State&netlink.NUD_PERMANENT != 0 && len(n.IP) > 0 && !n.IP.IsMulticast() {
				list = append(list, fmt.Sprint(n.HardwareAddr, " ", n.IP))
			}
		}
	}
	slices.Sort(list)
	return list
}

func entriesOf(remotes []Remote) []string {
	list := []string{}
	for _, r := range remotes {
		for _, a := range []netip.Addr{r.Host, r.Address, r.Address6} {
			if a.IsValid() {
				list = append(list, r.MAC+" "+a.String())
			}
		}
	}
	slices.Sort(list)
	return list
}

// TestHostRoutesFollow: the host's own processes get a way to each container of another host, whether or not the network is
// here, and nothing of it remains.
func TestHostRoutesFollow(t *testing.T) {
	f := fleetFabric(t)
	machine(t)
	n, other := dualNetwork(0x123458), dualNetwork(0x123459)
	at := func(s string) netip.Addr { return netip.MustParseAddr(s) }
	one := Remote{MAC: "02:42:0a:c8:56:09", Address: at("10.200.88.9"), Address6: at("fd00:200:58::9"), Host: at("192.0.2.2")}
	two := Remote{MAC: "02:42:0a:c8:56:0a", Address: at("10.200.88.10"), Host: at("192.0.2.3")}
	assert.NilError(t, f.SetRemotes(t.Context(), n, []Remote{one}), "before it is known which hosts there are")
	assert.Check(t, !f.linkExists(f.names.hostLink()))

	assert.NilError(t, f.SetHosts(t.Context(), []netip.Addr{one.Host, two.Host}))
	hosts := []string{
		"240.0.2.2/32 via ", "240.0.2.3/32 via ", fabricAddrs(one.Host)[v6].String() + "/128 via ", fabricAddrs(two.Host)[v6].String() + "/128 via ",
	}
	far := func(r Remote) (list []string) {
		for _, a := range []netip.Addr{r.Address, r.Address6} {
			if a.IsValid() {
				list = append(list, fmt.Sprintf("%s/%d via %s", a, a.BitLen(), fabricAddrs(r.Host)[familyOf(a)]))
			}
		}
		return list
	}
	assert.DeepEqual(t, linkRoutes(t, f), sorted(hosts))
	moved := one
	moved.Host = two.Host
	for _, want := range [][]Remote{{one}, {one, two}, {moved, two}, {two}, {}, {one}} {
		assert.NilError(t, f.SetRemotes(t.Context(), n, want))
		all := hosts
		for _, r := range want {
			all = append(slices.Clip(all), far(r)...)
		}
		assert.DeepEqual(t, linkRoutes(t, f), sorted(all))
	}
	elsewhere := Remote{MAC: "02:42:0a:c8:56:0b", Address: at("10.200.89.10"), Host: two.Host}
	assert.NilError(t, f.SetRemotes(t.Context(), other, []Remote{elsewhere}))
	routes, err := HostRoutes()
	assert.NilError(t, err)
	assert.Check(t, !slices.ContainsFunc(routes, func(r Route) bool { return r.Prefix.Contains(one.Address) }), "they are in no new network's way")

	assert.NilError(t, f.RemoveNetwork(t.Context(), other))
	assert.DeepEqual(t, linkRoutes(t, f), sorted(append(slices.Clip(hosts), far(one)...)))
	assert.NilError(t, f.SetHosts(t.Context(), []netip.Addr{one.Host}))
	assert.NilError(t, f.SetRemotes(t.Context(), n, []Remote{one, two}), "of a host that is no member")
	assert.DeepEqual(t, linkRoutes(t, f), sorted(append([]string{hosts[0], hosts[2]}, far(one)...)))
	assert.NilError(t, f.SetHosts(t.Context(), nil))
	assert.Check(t, !f.linkExists(f.names.hostLink()))
}

// TestHostsAlike: two hosts with the same address between hosts are told apart, not mixed up.
func TestHostsAlike(t *testing.T) {
	f := fleetFabric(t)
	at := func(s string) netip.Addr { return netip.MustParseAddr(s) }
	got := f.distinct([]netip.Addr{at("26.0.0.2"), at("10.0.0.2"), at("208.0.2.1"), at("2001:db8::7"), at("10.0.0.3")})
	assert.DeepEqual(t, got, map[netip.Addr]bool{at("10.0.0.2"): true, at("10.0.0.3"): true}, cmpAddr)
	for _, host := range []string{"10.0.0.2", "255.1.2.3", "2001:db8::7"} {
		for family, a := range fabricAddrs(at(host)) {
			assert.Check(t, fabricPrefixes[family].Contains(a) && a != at(host), "%s has %s", host, a)
		}
	}
}

// linkRoutes are the routes over the link between hosts.
func linkRoutes(t *testing.T, f *Fabric) (list []string) {
	t.Helper()
	link, err := f.nl.LinkByName(f.names.hostLink())
	assert.NilError(t, err)
	routes, err := f.nl.RouteList(link, netlink.FAMILY_ALL)
	assert.NilError(t, err)
	for _, r := range routes {
		if r.Protocol == routeProtocol {
			gw := ""
			if r.Gw != nil {
				gw = r.Gw.String()
			}
			list = append(list, r.Dst.String()+" via "+gw)
		}
	}
	return sorted(list)
}

func sorted(list []string) []string { return slices.Sorted(slices.Values(list)) }

// TestProbe tries the way to another machine by real packets, when all is well, when larger ones are lost, and when all are.
func TestProbe(t *testing.T) {
	f := fleetFabric(t)
	there := machine(t)
	one, two := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	_, err := f.Probe(t.Context(), two)
	assert.ErrorContains(t, err, "link to the other hosts")
	assert.NilError(t, f.SetHosts(t.Context(), []netip.Addr{two}))
	want := func(want Way) {
		t.Helper()
		var way Way
		for range 20 { // an answer that is late is none
			var err error
			way, err = f.Probe(t.Context(), two)
			assert.NilError(t, err)
			if way == want {
				break
			}
		}
		assert.Equal(t, way, want)
	}
	want(Way{Full: 1450})
	within(t, there, func() error {
		other, err := New(Config{Host: "other", ExecRoot: t.TempDir(), Advertise: two, Others: func() bool { return true }})
		if err != nil {
			return err
		}
		defer other.close()
		return other.SetHosts(t.Context(), []netip.Addr{one})
	})
	want(Way{Full: 1450, Passes: 1450})
	within(t, there, func() error {
		return withNetlink(func(nl *netlink.Handle) error {
			wire, err := nl.LinkByName("wire1")
			if err != nil {
				return err
			}
			return nl.LinkSetMTU(wire, 1400)
		})
	})
	want(Way{Full: 1450, Passes: 1354}) // such a link lets pass what would be too large by the tag of a VLAN alone
	assert.NilError(t, f.SetHosts(t.Context(), nil))
}

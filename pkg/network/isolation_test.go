package network

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
	gocmp "github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

var cmpAddr = gocmp.Comparer(func(a, b netip.Addr) bool { return a == b })

// dualNetwork is a test network with both families.
func dualNetwork(n uint32, options ...string) *state.Network {
	net := testNetwork(n)
	a := netip.MustParseAddr("fd00:200::").As16()
	a[5] = byte(n)
	p := netip.PrefixFrom(netip.AddrFrom16(a), 64)
	net.IPv6 = true
	net.Subnets = append(net.Subnets, state.Subnet{Prefix: p, Gateway: p.Addr().Next()})
	net.Options = map[string]string{}
	for i := 0; i+1 < len(options); i += 2 {
		net.Options[options[i]] = options[i+1]
	}
	return net
}

// dualBox is a box with an address of each family.
func dualBox(t *testing.T, f *Fabric, n byte, networks ...*state.Network) (b *box, six netip.Addr) {
	t.Helper()
	b = newBox(t, f, n)
	for i, network := range networks {
		a := attachment(network, i, n)
		s := network.Subnets[1]
		last := s.Prefix.Addr().As16()
		last[15] = n
		a.Endpoint.Address6, a.Endpoint.Gateway6 = netip.PrefixFrom(netip.AddrFrom16(last), 64), s.Gateway
		if network.Internal {
			a.Endpoint.Gateway, a.Endpoint.Gateway6 = netip.Addr{}, netip.Addr{}
		}
		b.to = append(b.to, a)
	}
	assert.NilError(t, f.Attach(t.Context(), b.id, b.to))
	b.addr = b.to[0].Endpoint.Address.Addr()
	return b, b.to[0].Endpoint.Address6.Addr()
}

func at(a netip.Addr, port uint16) string { return netip.AddrPortFrom(a, port).String() }

// TestIsolationMatrix: who reaches whom, by real packets of both protocols and families, with bridged packets passing
// the firewall and not.
func TestIsolationMatrix(t *testing.T) {
	for _, netfilter := range []string{"0", "1"} {
		t.Run("br_netfilter="+netfilter, func(t *testing.T) {
			bridgeNetfilter(t, netfilter)
			f := newFabric(t)
			client := machine(t)
			blue, red, apart, inner := dualNetwork(1), dualNetwork(2), dualNetwork(3, optionICC, "false"), dualNetwork(4)
			inner.Internal = true
			type place struct {
				ns        *os.File
				four, six netip.Addr
			}
			in := func(n byte, network *state.Network) place {
				b, six := dualBox(t, f, n, network)
				return place{b.ns, b.addr, six}
			}
			places := map[string]place{
				"blue": in(2, blue), "blue2": in(3, blue), "red": in(2, red),
				"apart": in(2, apart), "apart2": in(3, apart), "inner": in(2, inner), "inner2": in(3, inner),
				"machine": {client, netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("2001:db8::2")},
				"host":    {nil, netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")},
			}
			within(t, client, func() error { return addRoute("10.200.0.0/16", "192.0.2.1") })
			within(t, client, func() error { return addRoute("fd00:200::/32", "2001:db8::1") })
			may := map[string]string{ // from, to
				"blue": "blue2 machine host", "blue2": "blue machine host", "red": "machine host",
				"apart": "machine host", "apart2": "machine host", "inner": "inner2", "inner2": "inner",
				"host": "blue blue2 red apart apart2 inner inner2 machine", "machine": "host",
			}
			for name, p := range places {
				for _, a := range []netip.Addr{p.four, p.six} { // from the address it was asked at, UDP answers
					listen(t, p.ns, name, at(a, 80))
				}
			}
			var all sync.WaitGroup
			for from, p := range places {
				for to, q := range places {
					if from == to {
						continue
					}
					open := slices.Contains(strings.Fields(may[from]), to)
					for _, a := range []netip.Addr{q.four, q.six} {
						all.Go(func() {
							for _, network := range []string{"tcp", "udp"} {
								if open {
									answer, _ := askUntil(p.ns, network, at(a, 80), to+" ")
									assert.Check(t, strings.HasPrefix(answer, to+" "), "%s to %s over %s at %s: %q", from, to, network, a, answer)
									continue
								}
								answer := ask(t, p.ns, network, at(a, 80))
								assert.Check(t, answer == "", "%s may not reach %s over %s at %s: %q", from, to, network, a, answer)
							}
						})
					}
				}
			}
			all.Wait()
		})
	}
}

func TestIPv6Publishing(t *testing.T) {
	f := newFabric(t)
	client := machine(t)
	n := dualNetwork(1)
	web, six := dualBox(t, f, 2, n)
	mate, _ := dualBox(t, f, 3, n)
	listen(t, web.ns, "web", ":80")
	listen(t, client, "client", ":90")
	ports := both("0.0.0.0", 8080, web, 80)
	for _, proto := range []string{"tcp", "udp"} {
		ports = append(ports, Published{Proto: proto, HostIP: netip.IPv6Unspecified(), HostPort: 8080, ContainerAddr: six, ContainerPort: 80})
	}
	assert.NilError(t, f.Publish(t.Context(), web.id, ports))
	for _, c := range []struct {
		name string
		from *os.File
		at   string
	}{
		{"the host's loopback", nil, "[::1]:8080"},
		{"the host", nil, "[2001:db8::1]:8080"},
		{"another machine", client, "[2001:db8::1]:8080"},
		{"the container itself", web.ns, "[2001:db8::1]:8080"},
		{"a container of its network", mate.ns, "[2001:db8::1]:8080"},
	} {
		t.Run(c.name, func(t *testing.T) { reaches(t, c.from, c.at, "web") })
	}
	hears(t, client, "tcp", "[2001:db8::1]:8080", "web 2001:db8::2: hello")  // the client's own address is kept
	hears(t, web.ns, "tcp", "[2001:db8::2]:90", "client 2001:db8::1: hello") // the way out is by the host's address
	assert.NilError(t, f.Publish(t.Context(), web.id, nil))
	misses(t, client, "[2001:db8::1]:8080")
}

// TestPublishingAtALinkLocalAddress: where such a client is, only the host can answer it.
func TestPublishingAtALinkLocalAddress(t *testing.T) {
	f := newFabric(t)
	client := machine(t)
	web, six := dualBox(t, f, 2, dualNetwork(1))
	listen(t, web.ns, "web", ":80")
	var ports []Published
	for _, proto := range []string{"tcp", "udp"} {
		ports = append(ports, Published{Proto: proto, HostIP: netip.IPv6Unspecified(), HostPort: 8080, ContainerAddr: six, ContainerPort: 80})
	}
	assert.NilError(t, f.Publish(t.Context(), web.id, ports))
	here := linkLocal(t, nil, "wire0", "fe80::a")
	there := linkLocal(t, client, "wire1", "fe80::b")
	reaches(t, nil, fmt.Sprintf("[fe80::a%%%d]:8080", here), "web")
	reaches(t, client, fmt.Sprintf("[fe80::a%%%d]:8080", there), "web")
}

// linkLocal gives an interface an address and returns the interface's number, which is its zone: names of interfaces
// are remembered by the process, whatever the namespace.
func linkLocal(t *testing.T, ns *os.File, name, addr string) (index int) {
	t.Helper()
	within(t, ns, func() error {
		return withNetlink(func(nl *netlink.Handle) error {
			link, err := nl.LinkByName(name)
			if err != nil {
				return err
			}
			index = link.Attrs().Index
			return nl.AddrReplace(link, &netlink.Addr{IPNet: ipNet(netip.MustParsePrefix(addr + "/64")), Flags: unix.IFA_F_NODAD})
		})
	})
	return index
}

func TestGatewayModes(t *testing.T) {
	f := newFabric(t)
	client := machine(t)
	within(t, client, func() error { return addRoute("10.200.0.0/16", "192.0.2.1") })
	within(t, client, func() error { return addRoute("fd00:200::/32", "2001:db8::1") })
	listen(t, client, "client", ":90")
	routed, _ := dualBox(t, f, 2, dualNetwork(1, optionGateway4, "routed", optionGateway6, "routed"))
	open, _ := dualBox(t, f, 2, dualNetwork(2, optionGateway4, "nat-unprotected", optionGateway6, "nat-unprotected"))
	plain, _ := dualBox(t, f, 2, dualNetwork(3, optionMasquerade, "false"))
	fixed, _ := dualBox(t, f, 2, dualNetwork(4, optionHost4, "192.0.2.1"))
	for name, b := range map[string]*box{"routed": routed, "open": open, "plain": plain} {
		listen(t, b.ns, name, ":80")
		listen(t, b.ns, name, ":81")
	}
	direct := func(a netip.Addr) Published {
		return Published{Proto: "tcp", HostIP: netip.IPv4Unspecified(), ContainerAddr: a, ContainerPort: 80}
	}
	assert.NilError(t, f.Publish(t.Context(), routed.id, []Published{direct(routed.addr), direct(routed.to[0].Endpoint.Address6.Addr())}))
	for _, a := range []netip.Addr{routed.addr, routed.to[0].Endpoint.Address6.Addr()} {
		answer, err := askUntil(client, "tcp", at(a, 80), "routed ")
		assert.Check(t, strings.HasPrefix(answer, "routed "), "a published port of a routed network: %s: %q, %v", a, answer, err)
		misses(t, client, at(a, 81))
	}
	for _, a := range []netip.Addr{open.addr, open.to[0].Endpoint.Address6.Addr()} {
		reaches(t, client, at(a, 80), "open")
		reaches(t, client, at(a, 81), "open")
		misses(t, plain.ns, at(a, 80))
	}
	misses(t, client, at(plain.addr, 80))
	hears(t, routed.ns, "tcp", "192.0.2.2:90", "client 10.200.1.2: hello")
	hears(t, open.ns, "tcp", "192.0.2.2:90", "client 192.0.2.1: hello")
	hears(t, plain.ns, "tcp", "192.0.2.2:90", "client 10.200.3.2: hello")
	hears(t, fixed.ns, "tcp", "192.0.2.2:90", "client 192.0.2.1: hello")
}

func TestIsolatedGatewayHasNoAddress(t *testing.T) {
	f := newFabric(t)
	n := dualNetwork(1, optionGateway4, "isolated", optionGateway6, "isolated")
	n.Internal = true
	a, _ := dualBox(t, f, 2, n)
	b, six := dualBox(t, f, 3, n)
	listen(t, nil, "host", "[::]:77")
	listen(t, b.ns, "b", ":80")
	reaches(t, a.ns, at(b.addr, 80), "b")
	reaches(t, a.ns, at(six, 80), "b")
	misses(t, a.ns, "10.200.1.1:77")
}

func TestAttachFollowsTheRecord(t *testing.T) {
	f := newFabric(t)
	blue, red := testNetwork(1), testNetwork(2)
	web := newBox(t, f, 2, blue)
	mate, other := newBox(t, f, 3, blue), newBox(t, f, 3, red)
	listen(t, web.ns, "web", ":80")
	listen(t, web.ns, "also", ":81")
	assert.NilError(t, f.Publish(t.Context(), web.id, both("0.0.0.0", 8080, web, 80)))
	reaches(t, mate.ns, "10.200.1.2:80", "web")

	second := attachment(red, 1, 2)
	second.Endpoint.Interface = "backend"
	assert.NilError(t, f.Attach(t.Context(), web.id, append(web.to, second)))
	reaches(t, other.ns, "10.200.2.2:80", "web")
	assert.Equal(t, defaultGateway(t, web.ns), "10.200.1.1")

	assert.NilError(t, f.Attach(t.Context(), web.id, []Attachment{second}))
	misses(t, mate.ns, "10.200.1.2:80")
	reaches(t, other.ns, "10.200.2.2:80", "web")
	assert.Equal(t, defaultGateway(t, web.ns), "10.200.2.1")
	moved := both("0.0.0.0", 8080, &box{addr: netip.MustParseAddr("10.200.2.2")}, 80)
	assert.NilError(t, f.Publish(t.Context(), web.id, moved))
	reaches(t, nil, "127.0.0.1:8080", "web")
	assert.Equal(t, len(f.fw.have.ports), 2)

	assert.NilError(t, f.Attach(t.Context(), web.id, nil))
	assert.DeepEqual(t, linksIn(t, web.ns), []string{"lo"})
}

func TestNamedBridges(t *testing.T) {
	f := newFabric(t)
	assert.NilError(t, f.nl.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br-theirs"}}))
	t.Cleanup(func() { assert.Check(t, f.deleteLink("br-theirs")) })
	assert.NilError(t, f.nl.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "br-none"}, PeerName: "br-none2"}))
	t.Cleanup(func() { assert.Check(t, f.deleteLink("br-none")) })
	ours, theirs, none := dualNetwork(1, optionBridgeName, "br-ours"), dualNetwork(2, optionBridgeName, "br-theirs"), dualNetwork(3, optionBridgeName, "br-none")
	dualBox(t, f, 2, ours)
	dualBox(t, f, 2, theirs)
	b := newBox(t, f, 2)
	err := f.Attach(t.Context(), b.id, []Attachment{attachment(none, 0, 2)})
	assert.Check(t, cmp.ErrorContains(err, "existing interface br-none is not a bridge"))
	for _, n := range []*state.Network{ours, theirs, none} {
		assert.NilError(t, f.RemoveNetwork(t.Context(), n))
		assert.NilError(t, f.RemoveNetwork(t.Context(), n))
	}
	assert.Check(t, !f.linkExists("br-ours"))
	assert.Check(t, f.linkExists("br-theirs"), "a bridge of somebody else was removed")
	assert.Check(t, f.linkExists("br-none"))
}

func TestInterfaceOptions(t *testing.T) {
	f := newFabric(t)
	b := newBox(t, f, 2)
	a := attachment(dualNetwork(1, optionMTU, "1400"), 0, 2)
	a.Endpoint.DriverOpts = map[string]string{optionSysctls: "net.ipv4.conf.IFNAME.log_martians=1,net.ipv4.neigh.IFNAME.gc_stale_time=77"}
	a.Endpoint.LinkLocal = []netip.Addr{netip.MustParseAddr("169.254.7.7"), netip.MustParseAddr("fe80::77")}
	a.Endpoint.MAC, a.Endpoint.Interface = "02:42:ac:11:00:99", "front0"
	assert.NilError(t, f.Attach(t.Context(), b.id, []Attachment{a}))
	within(t, b.ns, func() error {
		for path, want := range map[string]string{"ipv4/conf/front0/log_martians": "1\n", "ipv4/neigh/front0/gc_stale_time": "77\n"} {
			got, err := os.ReadFile("/proc/sys/net/" + path)
			assert.Check(t, err == nil && string(got) == want, "%s: %q %v", path, got, err)
		}
		return withNetlink(func(nl *netlink.Handle) error {
			link, err := nl.LinkByName("front0")
			if err != nil {
				return err
			}
			assert.Equal(t, link.Attrs().MTU, 1400)
			assert.Equal(t, link.Attrs().HardwareAddr.String(), "02:42:ac:11:00:99")
			addrs, err := nl.AddrList(link, netlink.FAMILY_V4)
			assert.Equal(t, len(addrs), 2)
			return err
		})
	})
}

func TestParentedNetworks(t *testing.T) {
	f := newFabric(t)
	client := machine(t) // behind wire0
	for _, c := range []struct {
		driver, option, mode string
	}{
		{"macvlan", optionMacvlanMode, "bridge"}, {"ipvlan", optionIPvlanMode, "l2"}, {"ipvlan", optionIPvlanMode, "l3"},
	} {
		t.Run(c.driver+" "+c.mode, func(t *testing.T) {
			n := &state.Network{
				Name: "wire", ID: nereid.NewNetworkID(), Driver: c.driver, IPv4: true, VNI: 9,
				Options: map[string]string{optionParent: "wire0", c.option: c.mode},
				Subnets: []state.Subnet{{Prefix: netip.MustParsePrefix("192.0.2.0/24"), Gateway: netip.MustParseAddr("192.0.2.2")}},
			}
			canMake(t, n)
			web, mate := newBox(t, f, 40, n), newBox(t, f, 41, n)
			listen(t, web.ns, "web", ":80")
			reaches(t, mate.ns, "192.0.2.40:80", "web")
			if c.mode != "l3" { // another machine must route there
				reaches(t, client, "192.0.2.40:80", "web")
				assert.Equal(t, defaultGateway(t, web.ns), "192.0.2.2")
			}
			assert.NilError(t, f.Remove(t.Context(), web.id))
			again := newBox(t, f, 40, n)
			listen(t, again.ns, "again", ":80")
			reaches(t, mate.ns, "192.0.2.40:80", "again")
			assert.NilError(t, f.Attach(t.Context(), again.id, nil))
			assert.DeepEqual(t, linksIn(t, again.ns), []string{"lo"})
			for _, b := range []*box{again, mate} {
				assert.NilError(t, f.Remove(t.Context(), b.id))
			}
			assert.NilError(t, f.RemoveNetwork(t.Context(), n))
			assert.Check(t, f.linkExists("wire0"), "the host's own link was removed")
		})
	}
	t.Run("no parent", func(t *testing.T) {
		n := &state.Network{
			Name: "nowhere", ID: nereid.NewNetworkID(), Driver: "macvlan", IPv4: true, VNI: 10,
			Subnets: []state.Subnet{{Prefix: netip.MustParsePrefix("10.99.0.0/24"), Gateway: netip.MustParseAddr("10.99.0.1")}},
		}
		canMake(t, n)
		a, b := newBox(t, f, 2, n), newBox(t, f, 3, n)
		listen(t, a.ns, "a", ":80")
		reaches(t, b.ns, "10.99.0.2:80", "a")
		for _, x := range []*box{a, b} {
			assert.NilError(t, f.Remove(t.Context(), x.id))
		}
		assert.NilError(t, f.RemoveNetwork(t.Context(), n))
		assert.Check(t, !f.linkExists(f.names.dummy(10)))
	})
	t.Run("a VLAN", func(t *testing.T) {
		n := &state.Network{
			Name: "vlan", ID: nereid.NewNetworkID(), Driver: "macvlan", IPv4: true, VNI: 11, Options: map[string]string{optionParent: "wire0.7"},
			Subnets: []state.Subnet{{Prefix: netip.MustParsePrefix("10.99.7.0/24"), Gateway: netip.MustParseAddr("10.99.7.1")}},
		}
		canMake(t, n)
		a := newBox(t, f, 2, n)
		assert.Check(t, f.linkExists("wire0.7"))
		assert.NilError(t, f.Remove(t.Context(), a.id))
		assert.NilError(t, f.RemoveNetwork(t.Context(), n))
		assert.Check(t, !f.linkExists("wire0.7"))
	})
	for options, words := range map[[2]string]string{
		{optionParent, "lo"}:            "loopback interface is not a valid macvlan parent link",
		{optionParent, "nosuch"}:        "-o parent interface was not found on the host: nosuch",
		{optionParent, "nosuch.10"}:     "-o parent interface was not found on the host: nosuch",
		{optionParent, "wire0.x"}:       "unable to parse a valid vlan id from: x (ex. eth0.10 for vlan 10)",
		{optionParent, "wire0.9999"}:    "vlan id must be between 1-4094, received: 9999",
		{optionMacvlanMode, "triangle"}: "requested macvlan mode 'triangle' is not valid, 'bridge' mode is the macvlan driver default",
	} {
		_, err := CheckParent(&state.Network{Driver: "macvlan", Options: map[string]string{options[0]: options[1]}})
		assert.Check(t, cmp.ErrorContains(err, words))
	}
}

// canMake skips the test where the kernel has not what the network is made of, which is refused by name.
func canMake(t *testing.T, n *state.Network) {
	t.Helper()
	if _, err := CheckParent(n); err != nil {
		assert.Check(t, errdefs.IsInvalidArgument(err))
		assert.Assert(t, cmp.ErrorContains(err, "the kernel of this host has no "))
		t.Skip(err)
	}
}

// TestFramesAreNotForged: what a container sends where hosts take each other's frames comes neither to this host nor to
// another; between containers it is a port like any other.
func TestFramesAreNotForged(t *testing.T) {
	f := newFabric(t)
	client := machine(t)
	n := dualNetwork(1)
	forger, _ := dualBox(t, f, 2, n)
	mate, six := dualBox(t, f, 3, n)
	addrs := map[string][]netip.Addr{
		"host": {netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}, "machine": {netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("2001:db8::2")},
		"mate": {mate.addr, six},
	}
	for name, ns := range map[string]*os.File{"host": nil, "machine": client, "mate": mate.ns} {
		for _, a := range addrs[name] {
			listen(t, ns, name, at(a, VXLANPort))
			if name != "mate" {
				assert.Equal(t, ask(t, forger.ns, "udp", at(a, VXLANPort)), "", name)
				answer, err := askUntil(forger.ns, "tcp", at(a, VXLANPort), name+" ")
				assert.Check(t, strings.HasPrefix(answer, name+" "), "%s: %v", name, err)
				continue
			}
			reaches(t, forger.ns, at(a, VXLANPort), name)
		}
	}
	reaches(t, nil, at(addrs["machine"][0], VXLANPort), "machine")
}

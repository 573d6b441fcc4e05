package network

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"
)

// both publishes a port over TCP and UDP.
func both(at string, port uint16, b *box, inside uint16) []Published {
	var list []Published
	for _, proto := range []string{"tcp", "udp"} {
		list = append(list, Published{
			Proto: proto, HostIP: netip.MustParseAddr(at), HostPort: port, ContainerAddr: b.addr, ContainerPort: inside,
		})
	}
	return list
}

func TestPublishedPortAnswersEverywhere(t *testing.T) {
	for _, netfilter := range []string{"0", "1"} {
		t.Run("br_netfilter="+netfilter, func(t *testing.T) {
			bridgeNetfilter(t, netfilter)
			f := newFabric(t)
			client := machine(t)
			n, other := testNetwork(1), testNetwork(2)
			web, mate, stranger := newBox(t, f, 2, n), newBox(t, f, 3, n), newBox(t, f, 2, other)
			listen(t, web.ns, "web", ":80")
			assert.NilError(t, f.Publish(t.Context(), web.id, append(both("0.0.0.0", 8080, web, 80), both("::", 8080, web, 80)...)))

			for _, c := range []struct {
				name string
				from *os.File
				at   string
			}{
				{"the host, loopback", nil, "127.0.0.1:8080"},
				{"the host, another loopback address", nil, "127.0.0.5:8080"},
				{"the host, its own address", nil, "192.0.2.1:8080"},
				{"the host, the gateway's address", nil, "10.200.1.1:8080"},
				{"the host, the container's address", nil, "10.200.1.2:80"},
				{"the host, IPv6 loopback", nil, "[::1]:8080"},
				{"the host, IPv6", nil, "[2001:db8::1]:8080"},
				{"another machine", client, "192.0.2.1:8080"},
				{"another machine, IPv6", client, "[2001:db8::1]:8080"},
				{"the container itself, by the host's address", web.ns, "192.0.2.1:8080"},
				{"the container itself, by the gateway", web.ns, "10.200.1.1:8080"},
				{"a container of its network, directly", mate.ns, "10.200.1.2:80"},
				{"a container of its network, by the host's address", mate.ns, "192.0.2.1:8080"},
				{"a container of its network, by the gateway", mate.ns, "10.200.1.1:8080"},
				{"a container of another network, by the host's address", stranger.ns, "192.0.2.1:8080"},
				{"a container of another network, by its gateway", stranger.ns, "10.200.2.1:8080"},
			} {
				t.Run(c.name, func(t *testing.T) { reaches(t, c.from, c.at, "web") })
			}
			t.Run("not a container of another network directly", func(t *testing.T) { misses(t, stranger.ns, "10.200.1.2:80") })

			assert.NilError(t, f.Publish(t.Context(), web.id, nil))
			for _, at := range []string{"127.0.0.1:8080", "192.0.2.1:8080", "[::1]:8080"} {
				misses(t, nil, at)
			}
			misses(t, client, "192.0.2.1:8080")
		})
	}
}

// bridgeNetfilter has bridged packets pass the IP firewall or not, where the kernel has br_netfilter.
func bridgeNetfilter(t *testing.T, value string) {
	t.Helper()
	const path = "/proc/sys/net/bridge/bridge-nf-call-iptables"
	if err := os.WriteFile(path, []byte(value), 0); err != nil {
		t.Skip("no br_netfilter here: ", err)
	}
	t.Cleanup(func() { os.WriteFile(path, []byte("0"), 0) })
}

func TestSourceAddresses(t *testing.T) {
	f := newFabric(t)
	client := machine(t)
	web := newBox(t, f, 2, testNetwork(1))
	listen(t, web.ns, "web", ":80")
	listen(t, client, "client", ":90")
	assert.NilError(t, f.Publish(t.Context(), web.id, both("0.0.0.0", 8080, web, 80)))
	hears(t, client, "tcp", "192.0.2.1:8080", "web 192.0.2.2: hello") // the client's own
	hears(t, web.ns, "tcp", "192.0.2.2:90", "client 192.0.2.1: hello")
	hears(t, web.ns, "udp", "192.0.2.2:90", "client 192.0.2.1: hello")
	hears(t, nil, "tcp", "127.0.0.1:8080", "web 10.200.1.1: hello")
}

func TestPortOnOneAddressAnswersOnlyThere(t *testing.T) {
	f := newFabric(t)
	client := machine(t)
	n := testNetwork(1)
	for i, c := range []struct {
		at    string
		open  []string
		shut  []string
		other bool // another machine reaches it
	}{
		{"127.0.0.1", []string{"127.0.0.1"}, []string{"192.0.2.1", "10.200.1.1", "[::1]", "127.0.0.2"}, false},
		{"192.0.2.1", []string{"192.0.2.1"}, []string{"127.0.0.1", "10.200.1.1", "[::1]"}, true},
		{"::1", []string{"[::1]"}, []string{"127.0.0.1", "192.0.2.1", "[2001:db8::1]"}, false},
		{"0.0.0.0", []string{"127.0.0.1", "192.0.2.1"}, []string{"[::1]", "[2001:db8::1]"}, true},
		{"::", []string{"[::1]", "[2001:db8::1]"}, []string{"127.0.0.1", "192.0.2.1"}, false},
	} {
		t.Run(c.at, func(t *testing.T) {
			b := newBox(t, f, byte(10+i), n)
			listen(t, b.ns, "web", ":80")
			assert.NilError(t, f.Publish(t.Context(), b.id, both(c.at, 8080, b, 80)))
			defer func() { assert.NilError(t, f.Remove(t.Context(), b.id)) }()
			for _, a := range c.open {
				reaches(t, nil, a+":8080", "web")
			}
			for _, a := range c.shut {
				misses(t, nil, a+":8080")
			}
			if c.other {
				reaches(t, client, "192.0.2.1:8080", "web")
			} else {
				misses(t, client, "192.0.2.1:8080")
			}
		})
	}
}

// A published SCTP port ended the daemon: on all addresses, as IPv6 has them.
func TestSCTPPort(t *testing.T) {
	f := newFabric(t)
	b := newBox(t, f, 2, testNetwork(1))
	var ports []Published
	for _, at := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		ports = append(ports, Published{Proto: "sctp", HostIP: at, HostPort: 8080, ContainerAddr: b.addr, ContainerPort: 80})
	}
	assert.NilError(t, f.Publish(t.Context(), b.id, ports))
	assert.NilError(t, f.Publish(t.Context(), b.id, nil))
}

func TestPortTakenByAnotherProcess(t *testing.T) {
	f := newFabric(t)
	listen(t, nil, "squatter", "127.0.0.1:8080")
	b := newBox(t, f, 2, testNetwork(1))
	for proto, words := range map[string]string{
		"tcp": "failed to bind host port for 0.0.0.0:8080:10.200.1.2:80/tcp: address already in use",
		"udp": "failed to bind host port for 0.0.0.0:8080:10.200.1.2:80/udp: address already in use",
	} {
		free := Published{Proto: proto, HostIP: netip.IPv4Unspecified(), HostPort: 8081, ContainerAddr: b.addr, ContainerPort: 81}
		taken := free
		taken.HostPort, taken.ContainerPort = 8080, 80
		err := f.Publish(t.Context(), b.id, []Published{free, taken})
		assert.Error(t, err, words)
		assert.Check(t, errdefs.IsUnavailable(err))
		assert.Check(t, f.PortFree(proto, netip.IPv4Unspecified(), 8081), "the port bound first is still held")
		assert.Check(t, !f.PortFree(proto, netip.IPv4Unspecified(), 8080))
	}
	assert.Check(t, len(f.fw.have.ports) == 0)
}

func TestPublishedPortIsHeld(t *testing.T) {
	f := newFabric(t)
	b := newBox(t, f, 2, testNetwork(1))
	assert.NilError(t, f.Publish(t.Context(), b.id, both("0.0.0.0", 8080, b, 80)))
	for _, proto := range []string{"tcp", "udp"} {
		assert.Check(t, !f.PortFree(proto, netip.MustParseAddr("127.0.0.1"), 8080))
	}
	assert.NilError(t, f.Remove(t.Context(), b.id))
	for _, proto := range []string{"tcp", "udp"} {
		assert.Check(t, f.PortFree(proto, netip.MustParseAddr("127.0.0.1"), 8080))
	}
}

func TestPublishIsIdempotent(t *testing.T) {
	f := newFabric(t)
	b := newBox(t, f, 2, testNetwork(1))
	listen(t, b.ns, "web", ":80")
	first, second := both("0.0.0.0", 8080, b, 80), both("0.0.0.0", 9090, b, 80)
	assert.NilError(t, f.Publish(t.Context(), b.id, first))
	assert.NilError(t, f.Publish(t.Context(), b.id, append(first, first...)))
	reaches(t, nil, "127.0.0.1:8080", "web")
	assert.NilError(t, f.Publish(t.Context(), b.id, second))
	misses(t, nil, "127.0.0.1:8080")
	reaches(t, nil, "127.0.0.1:9090", "web")
}

func TestUDPClientThatWasThereFirst(t *testing.T) {
	f := newFabric(t)
	b := newBox(t, f, 2, testNetwork(1))
	listen(t, b.ns, "web", ":80")
	from := "127.0.0.1:45454"
	assert.Equal(t, askFrom(t, from, "127.0.0.1:8080"), "") // the kernel now remembers a way to nobody
	assert.NilError(t, f.Publish(t.Context(), b.id, both("0.0.0.0", 8080, b, 80)))
	assert.Assert(t, strings.HasPrefix(askFrom(t, from, "127.0.0.1:8080"), "web "))

	other := newBox(t, f, 3, b.to[0].Network)
	listen(t, other.ns, "other", ":80")
	assert.NilError(t, f.Remove(t.Context(), b.id))
	assert.NilError(t, f.Publish(t.Context(), other.id, both("0.0.0.0", 8080, other, 80)))
	assert.Assert(t, strings.HasPrefix(askFrom(t, from, "127.0.0.1:8080"), "other "))
	// That it was another's port is dealt with a moment later, and ends no conversation of who has it now.
	f.forgetUDP(both("0.0.0.0", 8080, b, 80), nil)
	assert.Equal(t, flowsTo(t, f, other), 1)
	f.forgetUDP(nil, both("0.0.0.0", 8080, other, 80))
	assert.Equal(t, flowsTo(t, f, other), 1)
	f.forgetUDP(both("0.0.0.0", 8080, other, 80), nil)
	assert.Equal(t, flowsTo(t, f, other), 0)
}

// flowsTo counts the conversations that lead to a container.
func flowsTo(t *testing.T, f *Fabric, b *box) (n int) {
	t.Helper()
	flows, err := f.nl.ConntrackTableList(netlink.ConntrackTable, unix.AF_INET)
	assert.NilError(t, err)
	for _, flow := range flows {
		if addrOf(flow.Reverse.SrcIP) == b.addr {
			n++
		}
	}
	return n
}

func TestNetworksAreApart(t *testing.T) {
	f := newFabric(t)
	client := machine(t)
	a, b, inner := testNetwork(1), testNetwork(2), testNetwork(3)
	inner.Internal = true
	boxA, boxB, boxI, mateI := newBox(t, f, 2, a), newBox(t, f, 2, b), newBox(t, f, 2, inner), newBox(t, f, 3, inner)
	for name, x := range map[string]*box{"a": boxA, "b": boxB, "i": boxI} {
		listen(t, x.ns, name, ":80")
	}
	listen(t, client, "client", ":80")
	listen(t, nil, "host", "127.0.0.1:7070")

	misses(t, boxA.ns, "10.200.2.2:80")
	misses(t, boxB.ns, "10.200.1.2:80")
	misses(t, boxA.ns, "10.200.3.2:80")
	reaches(t, mateI.ns, "10.200.3.2:80", "i")
	misses(t, boxI.ns, "192.0.2.2:80")
	reaches(t, boxA.ns, "192.0.2.2:80", "client")

	// Another machine that routes to the containers by way of the host gets nowhere.
	within(t, client, func() error { return addRoute("10.200.0.0/16", "192.0.2.1") })
	misses(t, client, "10.200.1.2:80")
	// A container that forges packets for the host's loopback is not heard.
	within(t, boxA.ns, func() error { return loopbackElsewhere() })
	misses(t, boxA.ns, "127.0.0.1:7070")
}

func TestHostPolicyOfDropOnInput(t *testing.T) {
	f := newFabric(t)
	client := machine(t)
	b := newBox(t, f, 2, testNetwork(1))
	listen(t, b.ns, "web", ":80")
	assert.NilError(t, f.Publish(t.Context(), b.id, both("0.0.0.0", 8080, b, 80)))
	foreignTable(t, "nereid-test-input", dropInput)
	reaches(t, client, "192.0.2.1:8080", "web")
}

func TestRulesComeBackAfterFlush(t *testing.T) {
	f := newFabric(t)
	b := newBox(t, f, 2, testNetwork(1))
	listen(t, b.ns, "web", ":80")
	assert.NilError(t, f.Publish(t.Context(), b.id, both("0.0.0.0", 8080, b, 80)))
	flushRules(t)
	misses(t, nil, "192.0.2.1:8080")

	// The next change repairs what is gone.
	c := newBox(t, f, 3, b.to[0].Network)
	assert.NilError(t, f.Publish(t.Context(), c.id, both("0.0.0.0", 8081, c, 80)))
	reaches(t, b.ns, "10.200.1.1:8080", "web")
}

func TestManyNetworksAndPorts(t *testing.T) {
	f := newFabric(t)
	want := newRules()
	for i := range 40 {
		n := testNetwork(uint32(i)) // subnets side by side: their intervals touch
		z := zoneOf(BridgeName(f.cfg.Host, n), n)
		want.zones[z.bridge] = z
	}
	for i := range 3000 {
		want.ports[portKey{proto: 6, addr: netip.IPv4Unspecified(), port: uint16(10000 + i)}] = netip.AddrPortFrom(netip.MustParseAddr("10.200.1.2"), uint16(i+1))
	}
	assert.NilError(t, f.fw.replace(want))
	assert.NilError(t, f.fw.removeZones(BridgeName(f.cfg.Host, testNetwork(7))))
	assert.NilError(t, f.fw.addZone(want.zones[BridgeName(f.cfg.Host, testNetwork(7))]))
	assert.NilError(t, f.fw.replace(want))
}

func TestSandboxWithoutNetwork(t *testing.T) {
	f := newFabric(t)
	id := testBoxID(1)
	path, err := f.NewSandbox(t.Context(), id, SandboxOptions{LoopbackOnly: true})
	assert.NilError(t, err)
	again, err := f.NewSandbox(t.Context(), id, SandboxOptions{LoopbackOnly: true})
	assert.NilError(t, err)
	assert.Equal(t, path, again)
	ns, err := os.Open(path)
	assert.NilError(t, err)
	defer ns.Close()
	listen(t, ns, "lo", "127.0.0.1:80")
	reaches(t, ns, "127.0.0.1:80", "lo")
	assert.DeepEqual(t, linksIn(t, ns), []string{"lo"})
	assert.NilError(t, f.Remove(t.Context(), id))
	assert.NilError(t, f.Remove(t.Context(), id))
	_, err = os.Stat(path)
	assert.Check(t, os.IsNotExist(err))
}

func TestSeveralNetworks(t *testing.T) {
	f := newFabric(t)
	a, b, inner := testNetwork(1), testNetwork(2), testNetwork(3)
	inner.Internal = true
	x := newBox(t, f, 5, inner, a, b)
	assert.DeepEqual(t, linksIn(t, x.ns), []string{"eth0", "eth1", "eth2", "lo"})
	assert.Equal(t, defaultGateway(t, x.ns), "10.200.1.1")
	x.to[2].Endpoint.GwPriority = 10
	assert.NilError(t, f.Attach(t.Context(), x.id, x.to))
	assert.Equal(t, defaultGateway(t, x.ns), "10.200.2.1")
}

func TestNamesFitAndDiffer(t *testing.T) {
	one, two := newNaming("host-1"), newNaming("host-2")
	assert.Check(t, one != two)
	for _, name := range []string{one.bridge(0xffffff), one.veth("e")} {
		assert.Check(t, len(name) <= 15, name)
	}
	assert.Check(t, one.veth("a") != one.veth("b"))
	assert.Check(t, cmp.Contains(one.bridge(1), one.bridgePrefix()))
	assert.Check(t, !strings.HasPrefix(one.bridge(1), two.bridgePrefix()))
	assert.Equal(t, fmt.Sprint(len(one.table())), "11")
}

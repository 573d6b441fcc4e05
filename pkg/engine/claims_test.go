package engine

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	networktypes "github.com/docker/docker/api/types/network"
	"github.com/docker/go-connections/nat"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

func TestNextFree(t *testing.T) {
	subnet := func(prefix, gateway string) state.Subnet {
		return state.Subnet{Prefix: netip.MustParsePrefix(prefix), Gateway: netip.MustParseAddr(gateway)}
	}
	ranged := subnet("10.0.0.0/24", "10.0.0.1")
	ranged.Range = netip.MustParsePrefix("10.0.0.128/30")
	aux := subnet("10.0.0.0/29", "10.0.0.1")
	aux.Auxiliary = map[string]netip.Addr{"router": netip.MustParseAddr("10.0.0.3")}
	for _, c := range []struct {
		name   string
		subnet state.Subnet
		after  string
		taken  string
		want   string
	}{
		{"the first after the gateway", subnet("10.0.0.0/24", "10.0.0.1"), "", "", "10.0.0.2"},
		{"the next after the last", subnet("10.0.0.0/24", "10.0.0.1"), "10.0.0.2", "", "10.0.0.3"},
		{"not one that is taken", subnet("10.0.0.0/24", "10.0.0.1"), "10.0.0.2", "10.0.0.3 10.0.0.4", "10.0.0.5"},
		{"round at the end, not the broadcast", subnet("10.0.0.0/24", "10.0.0.1"), "10.0.0.254", "", "10.0.0.2"},
		{"not a gateway in the middle", subnet("10.0.0.0/29", "10.0.0.4"), "10.0.0.3", "", "10.0.0.5"},
		{"within the range", ranged, "", "", "10.0.0.128"},
		{"round within the range", ranged, "10.0.0.131", "10.0.0.128", "10.0.0.129"},
		{"not an auxiliary address", aux, "10.0.0.2", "", "10.0.0.4"},
		{"none left", subnet("10.0.0.0/30", "10.0.0.1"), "", "10.0.0.2", ""},
		{"point to point", subnet("10.0.0.0/31", "10.0.0.0"), "", "", "10.0.0.1"},
		{"nothing but the gateway", subnet("10.0.0.1/32", "10.0.0.1"), "", "", ""},
		{"a last one of another subnet", subnet("10.0.0.0/24", "10.0.0.1"), "192.0.2.1", "", "10.0.0.2"},
		{"IPv6", subnet("2001:db8::/64", "2001:db8::1"), "", "", "2001:db8::2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			after, _ := netip.ParseAddr(c.after)
			taken := func(a netip.Addr) bool { return slices.Contains(strings.Fields(c.taken), a.String()) }
			a, ok := nextFree(c.subnet, after, taken)
			assert.Equal(t, ok, c.want != "")
			if ok {
				assert.Equal(t, a.String(), c.want)
			}
		})
	}
}

func TestAddressesRestBeforeTheyAreUsedAgain(t *testing.T) {
	f := newNetFixture(t)
	a := f.started(f.container("a"))
	first := a.Networks["bridge"].Address
	f.stop(a)
	b := f.started(f.container("b"))
	assert.Check(t, b.Networks["bridge"].Address != first)
	a = f.started(a)
	assert.Check(t, a.Networks["bridge"].Address != first)
	assert.Equal(t, len(f.State.View().Addresses(a.Networks["bridge"].Network)), 2)
}

func TestLargeNetworkFillsAndIsFull(t *testing.T) {
	f := newNetFixture(t)
	record := &state.Network{
		Account: nereid.Admin, ID: nereid.NewNetworkID(), Name: "small", Driver: driverBridge,
		Subnets: []state.Subnet{{Prefix: netip.MustParsePrefix("10.9.0.0/29"), Gateway: netip.MustParseAddr("10.9.0.1")}},
	}
	f.commit(state.Create(record), state.Create(&state.NetworkName{Account: nereid.Admin, Name: "small", Network: record.ID}))
	on := func(r *state.Container) { r.HostConfig.NetworkMode = "small" }
	for i := range 5 {
		f.started(f.container(fmt.Sprintf("c%d", i), on))
	}
	_, err := f.start(f.container("last", on))
	assert.Error(t, err, fmt.Sprintf("no available IPv4 addresses on this network's address pools: small (%s)", record.ID))
}

func TestAskedForAddress(t *testing.T) {
	f := newNetFixture(t)
	want := func(r *state.Container) *state.Container {
		next := r.Clone()
		next.Networks["bridge"].WantAddress = netip.MustParseAddr("10.129.0.77")
		next.Networks["bridge"].WantMAC = "02:00:00:00:00:77"
		f.commit(state.Update(next))
		return f.read(r)
	}
	a := f.started(want(f.container("a")))
	assert.Equal(t, a.Networks["bridge"].Address.String(), "10.129.0.77/20")
	assert.Equal(t, a.Networks["bridge"].MAC, "02:00:00:00:00:77")
	b := want(f.container("b"))
	_, err := f.start(b)
	assert.Error(t, err, "Address already in use")
	a = f.stop(a)
	assert.Equal(t, f.started(a).Networks["bridge"].Address.String(), "10.129.0.77/20")
}

func TestAddressesThatNobodyMayHave(t *testing.T) {
	f := newNetFixture(t)
	f.network("lan", subnets(
		networktypes.IPAMConfig{Subnet: "10.9.0.0/24", IPRange: "10.9.0.128/25", Gateway: "10.9.0.200", AuxAddress: map[string]string{"router": "10.9.0.9"}},
		networktypes.IPAMConfig{Subnet: "10.9.1.0/31"},
	))
	for want, free := range map[string]bool{
		"10.9.0.0": false, "10.9.0.255": false, "10.9.0.9": false, "10.9.0.200": false,
		"10.9.0.1": true, "10.9.0.128": true, "10.9.1.1": true,
	} {
		t.Run(want, func(t *testing.T) {
			r := f.container("c"+want, func(r *state.Container) { r.HostConfig.NetworkMode = "lan" })
			next := r.Clone()
			next.Networks["lan"].WantAddress = netip.MustParseAddr(want)
			f.commit(state.Update(next))
			_, err := f.start(f.read(r))
			if free {
				assert.NilError(t, err)
				return
			}
			assert.Error(t, err, "Address already in use")
		})
	}
}

func TestNetworkThatIsNotThere(t *testing.T) {
	f := newNetFixture(t)
	r := f.container("a", func(r *state.Container) { r.HostConfig.NetworkMode = "later" })
	_, err := f.start(r)
	assert.Error(t, err, "network later not found")
}

func TestHostPorts(t *testing.T) {
	f, n := newNetFixture(t), 0
	for _, c := range []struct {
		name   string
		first  []func(*state.Container)
		second []func(*state.Container)
		words  string // of the second's failure, after Docker's prefix
	}{
		{"the same port", binds1("80/tcp", "", "8080"), binds1("80/tcp", "", "8080"), "Bind for 0.0.0.0:8080 failed: port is already allocated"},
		{"another port", binds1("80/tcp", "", "8080"), binds1("80/tcp", "", "8081"), ""},
		{"another protocol", binds1("80/tcp", "", "8080"), binds1("80/udp", "", "8080"), ""},
		{"one address after all", binds1("80/tcp", "", "8080"), binds1("80/tcp", "127.0.0.1", "8080"), "Bind for 0.0.0.0:8080 failed: port is already allocated"},
		{"all after one address", binds1("80/tcp", "127.0.0.1", "8080"), binds1("80/tcp", "", "8080"), "Bind for 127.0.0.1:8080 failed: port is already allocated"},
		{"different addresses", binds1("80/tcp", "127.0.0.1", "8080"), binds1("80/tcp", "127.0.0.2", "8080"), ""},
		{"the other family", binds1("80/tcp", "0.0.0.0", "8080"), binds1("80/tcp", "::", "8080"), ""},
		{"the same address of IPv6", binds1("80/tcp", "::1", "8080"), binds1("80/tcp", "::", "8080"), "Bind for ::1:8080 failed: port is already allocated"},
		{"a range that is used up", binds1("80/tcp", "", "8000-8001"), append(binds1("80/tcp", "", "8000"), binds1("81/tcp", "", "8001")...), "Bind for 0.0.0.0:8000 failed: port is already allocated"},
		{"a range with room", binds1("80/tcp", "", "8000-8001"), binds1("80/tcp", "", "8000-8001"), ""},
		{"a range without room", append(binds1("80/tcp", "", "8000"), binds1("81/tcp", "", "8001")...), binds1("80/tcp", "", "8000-8001"), "all ports are allocated"},
		{"sctp", binds1("80/sctp", "", "8080"), binds1("80/tcp", "", "8080"), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			n++
			one := f.started(f.container(fmt.Sprintf("one%d", n), c.first...))
			two := f.container(fmt.Sprintf("two%d", n), c.second...)
			_, err := f.start(two)
			if c.words == "" {
				assert.NilError(t, err)
			} else {
				assert.Check(t, strings.HasPrefix(err.Error(), "driver failed programming external connectivity on endpoint "+two.Name+" ("), err)
				assert.Check(t, strings.HasSuffix(err.Error(), "): "+c.words), err)
				assert.Check(t, errdefs.IsInternal(err))
			}
			f.stop(one)
			f.stop(f.read(two))
			assert.Equal(t, len(f.State.View().Ports()), 0)
		})
	}
}

func binds1(port, hostIP, hostPort string) []func(*state.Container) {
	return []func(*state.Container){binds(port, hostIP, hostPort)}
}

func TestChosenPorts(t *testing.T) {
	f := newNetFixture(t)
	first, last := ephemeralPorts()
	f.host.busy = map[uint16]bool{first: true, 9000: true}
	r := f.started(f.container("a", binds("80/tcp", "", ""), binds("81/tcp", "", "9000-9005"), binds("9001/tcp", "127.0.0.1", "9001")))
	got := map[string]uint16{}
	for _, p := range r.Ports {
		got[fmt.Sprintf("%s %d", p.HostIP, p.ContainerPort)] = p.HostPort
	}
	assert.Equal(t, got["0.0.0.0 80"], first+1, "not one that another process has")
	assert.Equal(t, got["0.0.0.0 81"], uint16(9002), "not one that another process, or this container, has")
	assert.Equal(t, got["127.0.0.1 9001"], uint16(9001))
	if len(anyAddress()) > 1 {
		assert.Equal(t, got[":: 80"], got["0.0.0.0 80"], "one port for both families")
	}

	again := f.started(f.container("b", binds("80/tcp", "", "")))
	assert.Equal(t, again.Ports[0].HostPort, first+2)
	assert.Check(t, last > first)
}

func TestPublishAll(t *testing.T) {
	f := newNetFixture(t)
	r := f.started(f.container("a", binds("80/tcp", "", "8080"), func(r *state.Container) {
		r.HostConfig.PublishAllPorts = true
		r.Config.ExposedPorts["53/udp"] = struct{}{}
	}))
	m := portMap(r)
	assert.Equal(t, m["80/tcp"][0].HostPort, "8080")
	assert.Check(t, m["53/udp"][0].HostPort >= "1")

	r = f.started(f.container("b", func(r *state.Container) {
		r.HostConfig.PortBindings = nat.PortMap{"80/tcp": {}}
		r.Config.ExposedPorts = nat.PortSet{"80/tcp": {}, "81/tcp": {}}
	}))
	m = portMap(r)
	assert.Assert(t, len(m["80/tcp"]) > 0, "an empty list of bindings is any port")
	assert.Equal(t, len(m["81/tcp"]), 0)
}

// TestPortsAsWritten: Compose exposes "80" where an image has "80/tcp", and it is one port.
func TestPortsAsWritten(t *testing.T) {
	f := newNetFixture(t)
	r := f.started(f.container("a", binds("82/TCP", "127.0.0.1", "8082"), func(r *state.Container) {
		r.Config.ExposedPorts = nat.PortSet{"80": {}, "80/tcp": {}, "81/UDP": {}, "82/TCP": {}}
	}))
	assert.DeepEqual(t, portMap(r), nat.PortMap{"80/tcp": nil, "81/udp": nil, "82/tcp": {{HostIP: "127.0.0.1", HostPort: "8082"}}})
	assert.Equal(t, len(portList(f.Settings(r))), 3)
}

func TestSamePortOnSeveralAddresses(t *testing.T) {
	requests, err := portRequests(&container.Config{}, &container.HostConfig{PortBindings: nat.PortMap{"80/tcp": {
		{HostIP: "127.0.0.1"}, {HostIP: "127.0.0.2"}, {HostIP: "127.0.0.1", HostPort: "8080"},
	}}}, anyAddress())
	assert.NilError(t, err)
	assert.Equal(t, len(requests), 2)
	assert.Check(t, requests[0].fixed() && !requests[1].fixed())
	assert.Equal(t, len(requests[1].hostIPs), 2)
}

func TestManyClaimsAtOnce(t *testing.T) {
	f := newNetFixture(t)
	const count = 24
	var all sync.WaitGroup
	for i := range count {
		r := f.container(fmt.Sprintf("c%d", i), binds("80/tcp", fmt.Sprintf("127.0.0.%d", i+1), "8080"), binds("81/udp", "", ""))
		all.Go(func() {
			_, err := f.start(r)
			assert.Check(t, err)
		})
	}
	all.Wait()
	seen := map[string]bool{}
	for _, r := range f.State.View().Containers(nereid.Admin) {
		ep := r.Networks["bridge"]
		assert.Check(t, !seen[ep.Address.String()], "address %s twice", ep.Address)
		seen[ep.Address.String()] = true
		for _, p := range r.Ports {
			key := fmt.Sprintf("%s %s %d", p.Proto, p.HostIP, p.HostPort)
			assert.Check(t, !seen[key], "port %s twice", key)
			seen[key] = true
		}
	}
	rec, ok := f.State.View().Port("tcp", 8080)
	assert.Assert(t, ok)
	assert.Equal(t, len(rec.Claims), count)

	for _, r := range f.State.View().Containers(nereid.Admin) {
		f.stop(r)
	}
	assert.Equal(t, len(f.State.View().Ports()), 0)
	assert.Equal(t, len(f.State.View().Addresses(f.State.View().Containers(nereid.Admin)[0].Networks["bridge"].Network)), 0)
}

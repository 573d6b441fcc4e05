package engine

import (
	"os"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	networktypes "github.com/docker/docker/api/types/network"
	"github.com/docker/go-connections/nat"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"

	"github.com/nereid-paas/nereid/pkg/network"
	"github.com/nereid-paas/nereid/pkg/state"
)

func on(network string) func(*state.Container) {
	return func(r *state.Container) { r.HostConfig.NetworkMode = container.NetworkMode(network) }
}

func pool(subnet, gateway string) networktypes.IPAMConfig {
	return networktypes.IPAMConfig{Subnet: subnet, Gateway: gateway}
}

func TestEndpointsOfBothFamilies(t *testing.T) {
	f := newNetFixture(t)
	f.network("dual", six, subnets(pool("172.28.0.0/16", ""), pool("2001:db8:1::/64", "2001:db8:1::fe")))
	r := f.started(f.container("web", on("dual"), binds("80/tcp", "", "8080"), func(r *state.Container) {
		r.HostConfig.NetworkMode = "dual"
	}))
	ep := r.Networks["dual"]
	assert.Equal(t, ep.Address.String()+" "+ep.Gateway.String(), "172.28.0.2/16 172.28.0.1")
	assert.Equal(t, ep.Address6.String()+" "+ep.Gateway6.String(), "2001:db8:1::1/64 2001:db8:1::fe")
	w := f.wayOf(r.Account, r.Networks)
	for _, p := range w.published(r.Ports) {
		assert.Equal(t, p.HostIP.Is4(), p.ContainerAddr.Is4(), "each family leads to its own: %s", p)
	}
	s := f.Settings(r).Networks["dual"]
	assert.Equal(t, s.GlobalIPv6Address, "2001:db8:1::1")
	assert.Equal(t, s.IPv6Gateway, "2001:db8:1::fe")
}

func TestInternalNetworksHaveNoWayOut(t *testing.T) {
	f := newNetFixture(t)
	f.network("inner", func(r *networktypes.CreateRequest) { r.Internal = true })
	r := f.started(f.container("web", on("inner"), binds("80/tcp", "", "8080")))
	assert.Check(t, !r.Networks["inner"].Gateway.IsValid())
	assert.Equal(t, len(r.Ports), 0)
	assert.Equal(t, len(portList(f.Settings(r))), 0)
}

func TestAnotherRouterForAGateway(t *testing.T) {
	f := newNetFixture(t)
	f.network("lan", subnets(networktypes.IPAMConfig{Subnet: "172.28.0.0/24", AuxAddress: map[string]string{"DefaultGatewayIPv4": "172.28.0.254", "x": "172.28.0.2"}}))
	r := f.started(f.container("web", on("lan")))
	assert.Equal(t, r.Networks["lan"].Gateway.String(), "172.28.0.254")
	assert.Equal(t, r.Networks["lan"].Address.String(), "172.28.0.3/24", "neither the bridge's address nor an auxiliary one")
}

// TestContainerThatSwitchesIPv6Off: it has no address of that family, and so no name in DNS and no line in hosts.
func TestContainerThatSwitchesIPv6Off(t *testing.T) {
	f := newNetFixture(t)
	f.network("dual", six, subnets(pool("172.28.0.0/16", ""), pool("2001:db8:1::/64", "")))
	for _, key := range []string{"all", "lo", "default", "eth0"} {
		with := key == "default" || key == "eth0" // as Docker, which looks at the loopback
		r := f.started(f.container("off-"+key, on("dual"), binds("80/tcp", "", ""), func(r *state.Container) {
			r.HostConfig.Sysctls = map[string]string{"net.ipv6.conf." + key + ".disable_ipv6": "1"}
		}))
		ep := r.Networks["dual"]
		assert.Equal(t, ep.Address6.IsValid(), with, key)
		assert.Check(t, ep.Address.IsValid())
		_, err := f.Sandbox(f.ctx, r)
		assert.NilError(t, err)
		hosts, err := os.ReadFile(f.EtcFiles(r).Hosts)
		assert.NilError(t, err)
		assert.Equal(t, strings.Contains(string(hosts), "::1\tlocalhost"), with && network.HasIPv6(), key)
		assert.Equal(t, f.wayOf(r.Account, r.Networks).v6 != nil, with, key)
	}
}

func TestWhereANetworkPublishes(t *testing.T) {
	f := newNetFixture(t)
	f.network("local", opt("com.docker.network.bridge.host_binding_ipv4", "127.0.0.1"))
	r := f.started(f.container("web", on("local"), binds("80/tcp", "", "8080"), binds("81/tcp", "127.0.0.9", "8081")))
	assert.DeepEqual(t, portMap(r), nat.PortMap{
		"80/tcp": {{HostIP: "127.0.0.1", HostPort: "8080"}}, "81/tcp": {{HostIP: "127.0.0.9", HostPort: "8081"}},
	})

	f.network("routed", opt("com.docker.network.bridge.gateway_mode_ipv4", "routed"))
	r = f.started(f.container("direct", on("routed"), binds("80/tcp", "127.0.0.1", "8080")))
	assert.DeepEqual(t, portMap(r), nat.PortMap{"80/tcp": {{HostIP: "0.0.0.0"}}})
	assert.DeepEqual(t, portList(f.Settings(r)), []container.Port{{IP: "0.0.0.0", PrivatePort: 80, Type: "tcp"}})
	if network.HasIPv6() {
		f.network("routed6", six, opt("com.docker.network.bridge.gateway_mode_ipv6", "routed"))
		both := f.started(f.container("both", on("routed6"), binds("80/tcp", "", "8083")))
		assert.DeepEqual(t, portMap(both), nat.PortMap{"80/tcp": {{HostIP: "0.0.0.0", HostPort: "8083"}, {HostIP: "::"}}})
	}
	published := f.wayOf(r.Account, r.Networks).published(r.Ports)
	assert.Equal(t, len(published), 1)
	assert.Equal(t, published[0].HostPort, uint16(0))
	f.stop(r)

	f.network("six", six, func(r *networktypes.CreateRequest) { no := false; r.EnableIPv4 = &no })
	_, err := f.start(f.container("no4", on("six"), binds("80/tcp", "127.0.0.1", "8082")))
	assert.Check(t, cmp.ErrorContains(err, "to a container without an IPv4 address"))
}

func TestInterfaceNames(t *testing.T) {
	f := newNetFixture(t)
	n := f.network("net", opt("com.docker.network.container_iface_prefix", "net"))
	r := f.container("web", on("net"))
	next := r.Clone()
	next.Networks["bridge"] = &state.Endpoint{Order: 1}
	next.Networks["net"].DriverOpts = map[string]string{optionInterface: "front"}
	f.commit(state.Update(next))
	r = f.started(next)
	assert.Equal(t, r.Networks["net"].Interface, "front")
	assert.Equal(t, r.Networks["bridge"].Interface, "eth0")

	twice := r.Clone()
	twice.Networks["bridge"].DriverOpts = map[string]string{optionInterface: "front"}
	_, err := chooseInterface(n, twice.Networks["bridge"], twice.Networks)
	assert.Check(t, errdefs.IsInternal(err))
	assert.Check(t, cmp.ErrorContains(err, `to "front": file exists`))

	err = checkEndpoint(nil, "net", &networktypes.EndpointSettings{DriverOpts: map[string]string{optionInterface: "a/b"}})
	assert.Check(t, cmp.ErrorContains(err, `invalid interface name "a/b"`))
	err = checkEndpoint(nil, "net", &networktypes.EndpointSettings{DriverOpts: map[string]string{"com.docker.network.endpoint.sysctls": "net.ipv4.ip_forward=1"}})
	assert.Check(t, cmp.ErrorContains(err, "unrecognised network interface sysctl 'net.ipv4.ip_forward=1'"))
}

func TestNetworkModeByID(t *testing.T) {
	f := newNetFixture(t)
	n := f.network("blue")
	r := f.container("web", on(string(n.ID[:10])))
	assert.Equal(t, string(r.HostConfig.NetworkMode), string(n.ID))
	assert.Check(t, r.Networks["blue"] != nil, "%v", r.Networks)
	list, err := f.Endpoints(r, &networktypes.NetworkingConfig{EndpointsConfig: map[string]*networktypes.EndpointSettings{
		string(n.ID): {Aliases: []string{"www"}},
	}})
	assert.NilError(t, err)
	assert.DeepEqual(t, list["blue"].Aliases, []string{"www"})
}

// An internal network whose bridge has no address gave one of two to a gateway that nobody had.
func TestPointToPointNetwork(t *testing.T) {
	for name, option := range map[string][2]string{
		"isolated":   {"com.docker.network.bridge.gateway_mode_ipv4", "isolated"},
		"no address": {"com.docker.network.bridge.inhibit_ipv4", "true"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newNetFixture(t)
			n := f.network("pair", subnets(networktypes.IPAMConfig{Subnet: "172.28.0.0/31"}), opt(option[0], option[1]),
				func(r *networktypes.CreateRequest) { r.Internal = true })
			assert.Check(t, !n.Subnets[0].Gateway.IsValid())
			a, b := f.started(f.container("a", on("pair"))), f.started(f.container("b", on("pair")))
			assert.Equal(t, a.Networks["pair"].Address.String(), "172.28.0.0/31")
			assert.Equal(t, b.Networks["pair"].Address.String(), "172.28.0.1/31")
		})
	}
}

func TestNoAddressLeft(t *testing.T) {
	f := newNetFixture(t)
	n := f.network("tiny", subnets(networktypes.IPAMConfig{Subnet: "172.28.0.0/29", IPRange: "172.28.0.4/31"}))
	assert.Equal(t, n.Subnets[0].Gateway.String(), "172.28.0.4", "the first of the range, as Docker's")
	f.started(f.container("a", on("tiny")))
	_, err := f.start(f.container("b", on("tiny")))
	assert.Check(t, errdefs.IsUnavailable(err))
	assert.Check(t, cmp.ErrorContains(err, "no available IPv4 addresses on this network's address pools: tiny ("))
}

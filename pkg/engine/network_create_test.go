package engine

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/filters"
	networktypes "github.com/docker/docker/api/types/network"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// req is a request to create a network, changed as the test wants it.
func req(name string, change ...func(*networktypes.CreateRequest)) networktypes.CreateRequest {
	r := networktypes.CreateRequest{Name: name}
	for _, f := range change {
		f(&r)
	}
	return r
}

func subnets(configs ...networktypes.IPAMConfig) func(*networktypes.CreateRequest) {
	return func(r *networktypes.CreateRequest) { r.IPAM = &networktypes.IPAM{Config: configs} }
}

func opt(name, value string) func(*networktypes.CreateRequest) {
	return func(r *networktypes.CreateRequest) {
		if r.Options == nil {
			r.Options = map[string]string{}
		}
		r.Options[name] = value
	}
}

func driver(name string) func(*networktypes.CreateRequest) {
	return func(r *networktypes.CreateRequest) { r.Driver = name }
}

func six(r *networktypes.CreateRequest) { yes := true; r.EnableIPv6 = &yes }

func (f *netFixture) network(name string, change ...func(*networktypes.CreateRequest)) *state.Network {
	f.t.Helper()
	resp, err := f.Create(f.ctx, req(name, change...))
	assert.NilError(f.t, err)
	n, ok := f.State.View().Network(nereid.Admin, nereid.NetworkID(resp.ID))
	assert.Assert(f.t, ok)
	return n
}

func TestCreateNetwork(t *testing.T) {
	f := newNetFixture(t)
	first := f.network("blue")
	assert.Equal(t, first.Driver, "bridge")
	assert.Equal(t, first.Subnets[0].Prefix.String(), "10.129.16.0/20")
	assert.Equal(t, first.Subnets[0].Gateway.String(), "10.129.16.1")
	assert.Check(t, first.VNI >= 4096)

	for _, c := range []struct {
		name string
		req  networktypes.CreateRequest
		want []networktypes.IPAMConfig
	}{
		{"a subnet", req("a", subnets(networktypes.IPAMConfig{Subnet: "172.28.0.0/16"})),
			[]networktypes.IPAMConfig{{Subnet: "172.28.0.0/16"}}},
		{"a gateway and a range", req("b", subnets(networktypes.IPAMConfig{Subnet: "172.29.0.0/16", Gateway: "172.29.5.254", IPRange: "172.29.5.0/24",
			AuxAddress: map[string]string{"router": "172.29.5.5"}})),
			[]networktypes.IPAMConfig{{Subnet: "172.29.0.0/16", Gateway: "172.29.5.254", IPRange: "172.29.5.0/24", AuxAddress: map[string]string{"router": "172.29.5.5"}}}},
		{"both families", req("c", six, subnets(networktypes.IPAMConfig{Subnet: "172.30.0.0/16"}, networktypes.IPAMConfig{Subnet: "2001:db8:1::/64"})),
			[]networktypes.IPAMConfig{{Subnet: "172.30.0.0/16"}, {Subnet: "2001:db8:1::/64"}}},
		{"IPv6 first", req("c6", six, subnets(networktypes.IPAMConfig{Subnet: "2001:db8:6::/64"}, networktypes.IPAMConfig{Subnet: "172.26.0.0/24"})),
			[]networktypes.IPAMConfig{{Subnet: "172.26.0.0/24"}, {Subnet: "2001:db8:6::/64"}}},
		{"link-local addresses", req("ll", six, subnets(networktypes.IPAMConfig{Subnet: "172.27.0.0/24"}, networktypes.IPAMConfig{Subnet: "fe80::/64"})),
			[]networktypes.IPAMConfig{{Subnet: "172.27.0.0/24"}, {Subnet: "fe80::/64"}}},
		{"other link-local addresses", req("ll2", six, subnets(networktypes.IPAMConfig{Subnet: "172.27.1.0/24"}, networktypes.IPAMConfig{Subnet: "fe80:1234::/64"})),
			[]networktypes.IPAMConfig{{Subnet: "172.27.1.0/24"}, {Subnet: "fe80:1234::/64"}}},
		{"two subnets", req("d", driver("overlay"), subnets(networktypes.IPAMConfig{Subnet: "172.31.0.0/24"}, networktypes.IPAMConfig{Subnet: "172.31.1.0/24"})),
			[]networktypes.IPAMConfig{{Subnet: "172.31.0.0/24"}, {Subnet: "172.31.1.0/24"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := f.Create(f.ctx, c.req)
			assert.NilError(t, err)
			got, err := f.Inspect(f.ctx, c.req.Name, "", false)
			assert.NilError(t, err)
			assert.DeepEqual(t, got.IPAM.Config, c.want)
		})
	}
	b, err := f.State.View().FindNetwork(nereid.Admin, "a")
	assert.NilError(t, err)
	assert.Equal(t, b.Subnets[0].Gateway.String(), "172.28.0.1", "one was chosen all the same")

	auto := f.network("e", six)
	assert.Equal(t, len(auto.Subnets), 2)
	assert.Equal(t, auto.Subnets[1].Prefix.Bits(), 64)
	assert.Check(t, auto.Subnets[1].Prefix.Addr().IsPrivate())
	only6 := f.network("g", six, func(r *networktypes.CreateRequest) { no := false; r.EnableIPv4 = &no })
	assert.Equal(t, len(only6.Subnets), 1)
}

func TestCreateNetworkRefused(t *testing.T) {
	f := newNetFixture(t)
	f.network("blue", subnets(networktypes.IPAMConfig{Subnet: "172.28.0.0/16"}), opt("com.docker.network.bridge.name", "br-blue"))
	f.network("settings", func(r *networktypes.CreateRequest) { r.ConfigOnly = true })
	for _, c := range []struct {
		name  string
		req   networktypes.CreateRequest
		class func(error) bool
		words string
	}{
		{"predefined", req("host"), errdefs.IsPermissionDenied, "operation is not permitted on predefined host network "},
		{"no name", req(" "), errdefs.IsInvalidArgument, "invalid name: name is empty"},
		{"a name that is there", req("blue"), errdefs.IsConflict, "network with name blue already exists"},
		{"a driver of nobody", req("x", driver("weave")), errdefs.IsNotFound, `plugin "weave" not found`},
		{"a second host network", req("x", driver("host")), errdefs.IsPermissionDenied, `only one instance of "host" network is allowed`},
		{"overlap", req("x", subnets(networktypes.IPAMConfig{Subnet: "172.28.9.0/24"})), errdefs.IsPermissionDenied,
			"Pool overlaps with other one on this address space"},
		{"overlap with itself", req("x", subnets(networktypes.IPAMConfig{Subnet: "172.29.0.0/24"}, networktypes.IPAMConfig{Subnet: "172.29.0.0/25"})),
			errdefs.IsPermissionDenied, "Pool overlaps with other one on this address space"},
		{"a wire of the host", req("x", subnets(networktypes.IPAMConfig{Subnet: "10.128.3.0/24"})), errdefs.IsPermissionDenied,
			"Pool overlaps with other one on this address space: the host has a route for 10.128.0.0/16"},
		{"a part of the link-local prefix", req("x", six, subnets(networktypes.IPAMConfig{Subnet: "fe80::/65"})), errdefs.IsInvalidArgument,
			"'fe80::/65' clashes with the Link-Local prefix 'fe80::/64'"},
		{"more than the link-local prefix", req("x", six, subnets(networktypes.IPAMConfig{Subnet: "fe80::/63"})), errdefs.IsInvalidArgument,
			"'fe80::/63' clashes with the Link-Local prefix 'fe80::/64'"},
		{"not a subnet", req("x", subnets(networktypes.IPAMConfig{Subnet: "172.29.0.1/24"})), errdefs.IsInvalidArgument,
			"invalid network config:\ninvalid subnet 172.29.0.1/24: it should be 172.29.0.0/24"},
		{"a gateway elsewhere", req("x", subnets(networktypes.IPAMConfig{Subnet: "172.29.0.0/24", Gateway: "172.30.0.1"})), errdefs.IsInvalidArgument,
			"invalid network config:\ninvalid gateway 172.30.0.1: parent subnet 172.29.0.0/24 doesn't contain this address"},
		{"no MTU", req("x", opt("com.docker.network.driver.mtu", "big")), errdefs.IsInvalidArgument,
			`failed to parse com.docker.network.driver.mtu value: big (strconv.Atoi: parsing "big": invalid syntax)`},
		{"no bool", req("x", opt("com.docker.network.bridge.enable_icc", "maybe")), errdefs.IsInvalidArgument,
			`failed to parse com.docker.network.bridge.enable_icc value: maybe (strconv.ParseBool: parsing "maybe": invalid syntax)`},
		{"a bridge that is another network's", req("x", opt("com.docker.network.bridge.name", "br-blue")), errdefs.IsPermissionDenied,
			"networks have same bridge name"},
		{"isolated and not internal", req("x", opt("com.docker.network.bridge.gateway_mode_ipv4", "isolated")), errdefs.IsInternal,
			"gateway mode 'isolated' can only be used for an internal network"},
		{"swarm scope", req("x", func(r *networktypes.CreateRequest) { r.Scope = "swarm" }), errdefs.IsPermissionDenied,
			"cannot create a swarm scoped network when swarm is not active"},
		{"no family", req("x", func(r *networktypes.CreateRequest) { no := false; r.EnableIPv4 = &no }), errdefs.IsInvalidArgument,
			"IPv4 or IPv6 must be enabled"},
		{"an IPAM driver of nobody", req("x", func(r *networktypes.CreateRequest) { r.IPAM = &networktypes.IPAM{Driver: "dhcp"} }),
			errdefs.IsInvalidArgument, `IPAM driver "dhcp" is not supported`},
		{"settings of nobody", req("x", func(r *networktypes.CreateRequest) { r.ConfigFrom = &networktypes.ConfigReference{Network: "blue"} }),
			errdefs.IsNotFound, `configuration network "blue" does not exist`},
		{"settings and options", req("x", opt("a", "b"), func(r *networktypes.CreateRequest) {
			r.ConfigFrom = &networktypes.ConfigReference{Network: "settings"}
		}), errdefs.IsPermissionDenied, "network driver options are not supported if the network depends on a configuration network"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := f.Create(f.ctx, c.req)
			failsWith(t, err, c.class, c.words)
		})
	}
	assert.Equal(t, len(f.State.View().Networks(nereid.Admin)), 5, "a refused network was stored")
}

func TestUnknownNetworkOptionsAreNamed(t *testing.T) {
	f := newNetFixture(t)
	resp, err := f.Create(f.ctx, req("x", opt("colour", "red"), opt("com.docker.network.driver.mtu", "1400")))
	assert.NilError(t, err)
	assert.Equal(t, resp.Warning, "ignored unknown driver options: colour")
}

func TestConfigNetworks(t *testing.T) {
	f := newNetFixture(t)
	f.network("settings", func(r *networktypes.CreateRequest) { r.ConfigOnly = true }, opt("com.docker.network.driver.mtu", "1400"),
		subnets(networktypes.IPAMConfig{Subnet: "172.28.0.0/16"}))
	made := f.network("blue", func(r *networktypes.CreateRequest) {
		r.ConfigFrom = &networktypes.ConfigReference{Network: "settings"}
	})
	assert.Equal(t, made.Options["com.docker.network.driver.mtu"], "1400")
	assert.Equal(t, made.Subnets[0].Prefix.String(), "172.28.0.0/16")
	err := f.Remove(f.ctx, "settings")
	failsWith(t, err, errdefs.IsPermissionDenied, `configuration network "settings" is in use`)
	assert.NilError(t, f.Remove(f.ctx, "blue"))
	assert.NilError(t, f.Remove(f.ctx, "settings"))
}

func TestHostsNeverChooseTheSame(t *testing.T) {
	f := newNetFixture(t)
	other := NewNetworks(f.Deps) // a host that has not seen what the first is about to do
	other.routes = f.routes
	const each = 20
	var all sync.WaitGroup
	for i := range each {
		for host, n := range map[string]*Networks{"h1": f.Networks, "h2": other} {
			all.Go(func() {
				_, err := n.Create(f.ctx, req(fmt.Sprintf("%s-%d", host, i)))
				assert.Check(t, err)
			})
		}
	}
	all.Wait()
	prefixes, vnis := map[netip.Prefix]bool{}, map[uint32]bool{}
	for _, n := range f.State.View().Networks(nereid.Admin) {
		for _, s := range n.Subnets {
			assert.Check(t, !prefixes[s.Prefix], "%s twice", s.Prefix)
			prefixes[s.Prefix] = true
		}
		if n.VNI != 0 {
			assert.Check(t, !vnis[n.VNI], "VNI %d twice", n.VNI)
			vnis[n.VNI] = true
		}
	}
	assert.Equal(t, len(prefixes), 2*each+1)
}

func TestRemoveNetwork(t *testing.T) {
	f := newNetFixture(t)
	n := f.network("blue")
	r := f.started(f.container("web", func(r *state.Container) { r.HostConfig.NetworkMode = "blue" }))
	err := f.Remove(f.ctx, "blue")
	failsWith(t, err, errdefs.IsPermissionDenied, fmt.Sprintf(
		`error while removing network: network blue has active endpoints (name:"web" id:%q)`, r.Networks["blue"].ID[:12]))
	f.stop(r)
	idle := f.read(r)
	assert.NilError(t, f.Remove(f.ctx, string(n.ID)[:8]))
	assert.DeepEqual(t, f.host.removed, []string{"blue"})
	failsWith(t, f.Remove(f.ctx, "blue"), errdefs.IsNotFound, "network blue not found")

	_, err = f.Claim(idle)
	failsWith(t, err, errdefs.IsNotFound, "network blue not found")
	f.network("blue") // the name is free, and the container finds the new network
	_, err = f.start(idle)
	assert.NilError(t, err)
}

// TestNetworkGoneUnderAClaim: what a claim relied on is part of its transaction.
func TestNetworkGoneUnderAClaim(t *testing.T) {
	f := newNetFixture(t)
	n := f.network("blue")
	r := f.container("web", func(r *state.Container) { r.HostConfig.NetworkMode = "blue" })
	next := r.Clone()
	c, err := f.Claim(next)
	assert.NilError(t, err)
	assert.NilError(t, f.Remove(f.ctx, "blue"))
	_, err = f.State.Commit(f.ctx, c.Ops...)
	_, conflict := state.AsConflict(err)
	assert.Check(t, conflict, "%v", err)
	assert.Equal(t, len(f.State.View().Addresses(n.ID)), 0)

	again := f.network("blue")
	f.started(f.read(r))
	_, err = f.State.Commit(f.ctx, state.Remove(again), state.Vacant(again))
	_, conflict = state.AsConflict(err)
	assert.Check(t, conflict, "a network was removed under a container's address: %v", err)
}

func TestPruneNetworks(t *testing.T) {
	f := newNetFixture(t)
	f.network("used")
	f.network("kept", func(r *networktypes.CreateRequest) { r.Labels = map[string]string{"keep": "yes"} })
	f.network("idle")
	f.started(f.container("web", func(r *state.Container) { r.HostConfig.NetworkMode = "used" }))
	report, err := f.Prune(f.ctx, filters.NewArgs(filters.Arg("label!", "keep")))
	assert.NilError(t, err)
	assert.DeepEqual(t, report.NetworksDeleted, []string{"idle"})
	report, err = f.Prune(f.ctx, filters.NewArgs())
	assert.NilError(t, err)
	assert.DeepEqual(t, report.NetworksDeleted, []string{"kept"})
	_, err = f.Prune(f.ctx, filters.NewArgs(filters.Arg("colour", "red")))
	assert.Check(t, cmp.ErrorContains(err, "invalid filter 'colour'"))
}

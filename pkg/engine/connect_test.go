package engine

import (
	"errors"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	networktypes "github.com/docker/docker/api/types/network"
	"github.com/docker/go-connections/nat"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// connections are the rig's, with two networks made for the test.
func (r *containerRig) connections() *Connections {
	r.t.Helper()
	c := NewConnections(r.networks, r.Containers, nil)
	for _, name := range []string{"blue", "red"} {
		_, err := c.Create(r.ctx, networktypes.CreateRequest{Name: name})
		assert.NilError(r.t, err)
		r.t.Cleanup(func() {
			for _, rec := range r.store.View().ContainersOn("h1") {
				_ = c.Disconnect(r.ctx, name, networktypes.DisconnectOptions{Container: string(rec.ID)})
			}
			assert.Check(r.t, c.Remove(r.ctx, name))
		})
	}
	return c
}

func (r *containerRig) addresses(network string) int {
	r.t.Helper()
	n, err := r.store.View().FindNetwork(nereid.Admin, network)
	assert.NilError(r.t, err)
	return len(r.store.View().Addresses(n.ID))
}

func connectTo(name string, cfg ...*networktypes.EndpointSettings) networktypes.ConnectOptions {
	o := networktypes.ConnectOptions{Container: name}
	if len(cfg) > 0 {
		o.EndpointConfig = cfg[0]
	}
	return o
}

func TestConnectAndDisconnect(t *testing.T) {
	rig := newContainerRig(t)
	c := rig.connections()
	key := rig.create("web")
	assert.NilError(t, c.Connect(rig.ctx, "blue", connectTo("web", &networktypes.EndpointSettings{Aliases: []string{"www"}})))
	assert.NilError(t, c.Connect(rig.ctx, "blue", connectTo("web")), "again, while it does not run")
	assert.Equal(t, rig.addresses("blue"), 0, "claimed before it runs")

	assert.NilError(t, rig.Start(rig.ctx, "web"))
	ep := rig.record(key).Networks["blue"]
	assert.Equal(t, ep.Interface, "eth1")
	assert.DeepEqual(t, ep.Aliases, []string{"www"})
	assert.NilError(t, c.Connect(rig.ctx, "red", connectTo("web")))
	assert.Equal(t, rig.record(key).Networks["red"].Interface, "eth2")
	err := c.Connect(rig.ctx, "red", connectTo("web"))
	failsWith(t, err, errdefs.IsPermissionDenied, "endpoint with name web already exists in network red")

	assert.NilError(t, c.Disconnect(rig.ctx, "blue", networktypes.DisconnectOptions{Container: "web"}))
	assert.Equal(t, rig.addresses("blue"), 0)
	assert.NilError(t, c.Connect(rig.ctx, "blue", connectTo("web")))
	assert.Equal(t, rig.record(key).Networks["blue"].Interface, "eth1", "the name that became free")
	assert.NilError(t, rig.Kill(rig.ctx, "web", ""))
	rig.awaitStatus(key, state.StatusExited)
	assert.Equal(t, rig.addresses("blue")+rig.addresses("red"), 0)
	assert.NilError(t, c.Disconnect(rig.ctx, "red", networktypes.DisconnectOptions{Container: "web"}))
	_, there := rig.record(key).Networks["red"]
	assert.Check(t, !there)
	rig.wantNetworkEvents("blue", "create", "connect", "disconnect", "connect", "disconnect")
	rig.wantNetworkEvents("red", "create", "connect", "disconnect")
}

func (r *containerRig) wantNetworkEvents(name string, want ...string) {
	r.t.Helper()
	var got []string
	for _, e := range r.store.View().Events(r.since, 0).Ready() {
		if e.Message.Type == "network" && e.Message.Actor.Attributes["name"] == name {
			got = append(got, string(e.Message.Action))
		}
	}
	assert.DeepEqual(r.t, got, want)
}

func TestConnectThatFailsLeavesNothing(t *testing.T) {
	rig := newContainerRig(t)
	c := rig.connections()
	key := rig.run("web")
	rig.d.failOn("net.Attach", errors.New("no more links"))
	assert.Error(t, c.Connect(rig.ctx, "blue", connectTo("web")), "no more links")
	_, there := rig.record(key).Networks["blue"]
	assert.Check(t, !there)
	assert.Equal(t, rig.addresses("blue"), 0)
	rig.d.failOn("net.Attach", nil)
	assert.NilError(t, c.Connect(rig.ctx, "blue", connectTo("web")))
}

func TestPortsFollowTheWay(t *testing.T) {
	rig := newContainerRig(t)
	c := rig.connections()
	key := rig.run("web", func(s *spec) {
		s.host.PortBindings = nat.PortMap{"80/tcp": {{HostIP: "127.0.0.1", HostPort: "18080"}}}
	})
	assert.Equal(t, len(rig.record(key).Ports), 1)
	assert.NilError(t, c.Disconnect(rig.ctx, "bridge", networktypes.DisconnectOptions{Container: "web"}))
	assert.Equal(t, len(rig.record(key).Ports), 0)
	assert.Equal(t, len(rig.store.View().Ports()), 0, "still claimed")
	assert.NilError(t, c.Connect(rig.ctx, "blue", connectTo("web")))
	assert.Equal(t, len(rig.record(key).Ports), 1)
}

func TestConnectRefused(t *testing.T) {
	rig := newContainerRig(t)
	c := rig.connections()
	rig.run("web")
	rig.run("shared", func(s *spec) { s.host.NetworkMode = "container:web" })
	rig.run("alone", func(s *spec) { s.host.NetworkMode = container.NetworkMode("none") })
	for _, tc := range []struct {
		name, network string
		opts          networktypes.ConnectOptions
		class         func(error) bool
		words         string
	}{
		{"no container", "blue", connectTo("nobody"), errdefs.IsNotFound, "No such container: nobody"},
		{"no network", "green", connectTo("web"), errdefs.IsNotFound, "network green not found"},
		{"the host's", "host", connectTo("web"), errdefs.IsInvalidArgument, "cannot connect container to host network - container must be created in host network mode"},
		{"none", "none", connectTo("web"), errdefs.IsInvalidArgument, "container cannot be connected to multiple networks with one of the networks in private (none) mode"},
		{"one with none", "blue", connectTo("alone"), errdefs.IsInvalidArgument, "container cannot be connected to multiple networks with one of the networks in private (none) mode"},
		{"one that shares", "blue", connectTo("shared"), errdefs.IsInvalidArgument, "container sharing network namespace with another container or host cannot be connected to any other network"},
		{"a bad address", "blue", connectTo("web", &networktypes.EndpointSettings{IPAMConfig: &networktypes.EndpointIPAMConfig{IPv4Address: "x"}}),
			errdefs.IsInvalidArgument, "invalid endpoint settings:\n* invalid IPv4 address: x"},
	} {
		t.Run(tc.name, func(t *testing.T) { failsWith(t, c.Connect(rig.ctx, tc.network, tc.opts), tc.class, tc.words) })
	}
	err := c.Disconnect(rig.ctx, "blue", networktypes.DisconnectOptions{Container: "web"})
	failsWith(t, err, errdefs.IsInternal, "is not connected to network blue")
}

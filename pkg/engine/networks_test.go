package engine

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	networktypes "github.com/docker/docker/api/types/network"
	"github.com/docker/go-connections/nat"
	gocmp "github.com/google/go-cmp/cmp"
	"go.uber.org/zap/zaptest"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/network"
	"github.com/nereid-paas/nereid/pkg/state"
)

// netFixture is the networks over a real state, with a host that only takes notes.
type netFixture struct {
	*Networks
	t    *testing.T
	ctx  context.Context
	host *notedNetwork
}

func newNetFixture(t *testing.T) *netFixture {
	t.Helper()
	ctx := nereid.WithAccount(t.Context(), nereid.Admin)
	dir, err := os.MkdirTemp("", "net") // short: a unix socket's path holds 107 bytes
	assert.NilError(t, err)
	t.Cleanup(func() { assert.Check(t, os.RemoveAll(dir)) })
	store, err := state.Open(ctx, state.Config{
		Dir: filepath.Join(dir, "etcd"), Socket: filepath.Join(dir, "s"), Host: "h1", Log: zaptest.NewLogger(t),
	})
	assert.NilError(t, err)
	run, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- store.Run(run) }()
	t.Cleanup(func() {
		stop()
		assert.Check(t, <-done)
		assert.Check(t, store.Close())
	})
	host := &notedNetwork{t: t, sandboxes: map[nereid.ContainerID]network.SandboxOptions{}}
	n := NewNetworks(Deps{Host: "h1", DataRoot: filepath.Join(dir, "data"), ExecRoot: "/run/x", State: store, Network: host})
	n.routes = func() ([]network.Route, error) {
		return []network.Route{{Prefix: netip.MustParsePrefix("10.128.0.0/16")}}, nil
	}
	assert.NilError(t, n.EnsureDefaults(ctx, nereid.Admin))
	return &netFixture{Networks: n, t: t, ctx: ctx, host: host}
}

// notedNetwork is a host that makes nothing and fails the test when it is used out of order.
type notedNetwork struct {
	t         *testing.T
	mu        sync.Mutex
	sandboxes map[nereid.ContainerID]network.SandboxOptions
	attached  []network.Attachment
	published []network.Published
	busy      map[uint16]bool // ports of other processes
	removed   []string
	mesh      []network.MeshPort
	hosts     []netip.Addr
	remotes   map[string][]network.Remote // by network
	fail      error
}

func (h *notedNetwork) NewSandbox(_ context.Context, id nereid.ContainerID, opts network.SandboxOptions) (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sandboxes[id] = opts
	return "/run/x/netns/" + string(id), nil
}

func (h *notedNetwork) Attach(_ context.Context, id nereid.ContainerID, to []network.Attachment) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, ok := h.sandboxes[id]
	assert.Check(h.t, ok, "attached without a sandbox")
	h.attached = to
	return nil
}

func (h *notedNetwork) Publish(_ context.Context, _ nereid.ContainerID, ports []network.Published) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	assert.Check(h.t, len(h.attached) > 0, "published before attached")
	h.published = ports
	return h.fail
}

func (h *notedNetwork) Remove(_ context.Context, id nereid.ContainerID) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.sandboxes, id)
	return nil
}

func (h *notedNetwork) RemoveNetwork(_ context.Context, n *state.Network) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.removed = append(h.removed, n.Name)
	return nil
}

func (h *notedNetwork) SetRemotes(_ context.Context, n *state.Network, remotes []network.Remote) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.remotes == nil {
		h.remotes = map[string][]network.Remote{}
	}
	h.remotes[n.Name] = remotes
	return nil
}

func (h *notedNetwork) SetHosts(_ context.Context, others []netip.Addr) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hosts = others
	return nil
}

func (h *notedNetwork) Probe(context.Context, netip.Addr) (network.Way, error) {
	return network.Way{}, nil
}

func (h *notedNetwork) SetMesh(_ context.Context, ports []network.MeshPort) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mesh = ports
	return nil
}

func (h *notedNetwork) Restore(context.Context, []network.Restored) error { return nil }

func (h *notedNetwork) PortFree(_ string, _ netip.Addr, port uint16) bool { return !h.busy[port] }

// container is one that is created on the default network, with its record and name stored.
func (f *netFixture) container(name string, edit ...func(*state.Container)) *state.Container {
	f.t.Helper()
	r := &state.Container{
		Account: nereid.Admin, ID: nereid.NewContainerID(), Name: name, Host: "h1", Created: time.Now(),
		Config: &container.Config{Hostname: name + "-host"}, HostConfig: &container.HostConfig{NetworkMode: "bridge"},
		State: state.RunState{Status: state.StatusCreated},
	}
	for _, e := range edit {
		e(r)
	}
	var err error
	r.Networks, err = f.Endpoints(r, nil)
	assert.NilError(f.t, err)
	f.commit(state.Create(r), state.Create(&state.Name{Account: r.Account, Name: name, Container: r.ID}))
	return f.read(r)
}

func (f *netFixture) commit(ops ...state.Op) {
	f.t.Helper()
	_, err := f.State.Commit(f.ctx, ops...)
	assert.NilError(f.t, err)
}

func (f *netFixture) read(r *state.Container) *state.Container {
	f.t.Helper()
	now, ok := f.State.View().Container(r.Account, r.ID)
	assert.Assert(f.t, ok)
	return now
}

// start claims as the engine does: again after a conflict.
func (f *netFixture) start(r *state.Container) (*state.Container, error) {
	for range 50 {
		next := f.read(r).Clone()
		c, err := f.Claim(next)
		if err != nil {
			return nil, err
		}
		c.Apply(next)
		next.State = state.RunState{Status: state.StatusRunning, StartedAt: time.Now()}
		_, err = f.State.Commit(f.ctx, append(c.Ops, state.Update(next))...)
		if _, conflict := state.AsConflict(err); !conflict {
			return next, err
		}
	}
	return nil, fmt.Errorf("conflicts without end")
}

func (f *netFixture) started(r *state.Container) *state.Container {
	f.t.Helper()
	_, err := f.start(r)
	assert.NilError(f.t, err)
	return f.read(r)
}

func (f *netFixture) stop(r *state.Container) *state.Container {
	f.t.Helper()
	next := f.read(r).Clone()
	ops := f.Release(next)
	next.State.Status = state.StatusExited
	f.commit(append(ops, state.Update(next))...)
	return f.read(r)
}

// compareText compares addresses, whose fields are their own.
var compareText = gocmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })

// binds is an edit: bindings as "80/tcp" to host addresses and ports as the CLI has them.
func binds(port, hostIP, hostPort string) func(*state.Container) {
	return func(r *state.Container) {
		if r.HostConfig.PortBindings == nil {
			r.HostConfig.PortBindings, r.Config.ExposedPorts = nat.PortMap{}, nat.PortSet{}
		}
		p := nat.Port(port)
		r.Config.ExposedPorts[p] = struct{}{}
		r.HostConfig.PortBindings[p] = append(r.HostConfig.PortBindings[p], nat.PortBinding{HostIP: hostIP, HostPort: hostPort})
	}
}

func TestPredefinedNetworks(t *testing.T) {
	f := newNetFixture(t)
	list, err := f.List(f.ctx, filters.NewArgs())
	assert.NilError(t, err)
	names := []string{}
	for _, n := range list {
		names = append(names, n.Name+" "+n.Driver+" "+n.Scope)
	}
	assert.DeepEqual(t, names, []string{"bridge bridge local", "host host local", "none null local"})

	before := list[0]
	assert.NilError(t, f.EnsureDefaults(f.ctx, nereid.Admin))
	after, err := f.Inspect(f.ctx, "bridge", "", false)
	assert.NilError(t, err)
	assert.Equal(t, after.ID, before.ID)
	assert.DeepEqual(t, after.IPAM, networktypes.IPAM{Driver: "default", Config: []networktypes.IPAMConfig{
		{Subnet: "10.129.0.0/20", Gateway: "10.129.0.1"}, // the host has a route for what comes before
	}})
	assert.Equal(t, after.Options["com.docker.network.bridge.default_bridge"], "true")
	assert.Check(t, cmp.Regexp("^nr.{4}-[0-9a-f]{6}$", after.Options["com.docker.network.bridge.name"]))

	assert.NilError(t, f.EnsureDefaults(f.ctx, "alice"))
	other, err := f.State.View().FindNetwork("alice", "bridge")
	assert.NilError(t, err)
	mine, err := f.State.View().FindNetwork(nereid.Admin, "bridge")
	assert.NilError(t, err)
	assert.Equal(t, other.Subnets[0].Prefix.String(), "10.129.16.0/20")
	assert.Check(t, other.VNI != mine.VNI)
}

func TestNetworkListFilters(t *testing.T) {
	f := newNetFixture(t)
	for _, c := range []struct {
		name  string
		args  []filters.KeyValuePair
		want  []string
		words string
	}{
		{"driver", []filters.KeyValuePair{filters.Arg("driver", "null")}, []string{"none"}, ""},
		{"part of a name", []filters.KeyValuePair{filters.Arg("name", "idg")}, []string{"bridge"}, ""},
		{"two names", []filters.KeyValuePair{filters.Arg("name", "host"), filters.Arg("name", "none")}, []string{"host", "none"}, ""},
		{"builtin", []filters.KeyValuePair{filters.Arg("type", "builtin")}, []string{"bridge", "host", "none"}, ""},
		{"custom", []filters.KeyValuePair{filters.Arg("type", "custom")}, nil, ""},
		{"dangling", []filters.KeyValuePair{filters.Arg("dangling", "true")}, nil, ""},
		{"in use or predefined", []filters.KeyValuePair{filters.Arg("dangling", "false")}, []string{"bridge", "host", "none"}, ""},
		{"label", []filters.KeyValuePair{filters.Arg("label", "a")}, nil, ""},
		{"scope", []filters.KeyValuePair{filters.Arg("scope", "swarm")}, nil, ""},
		{"no such filter", []filters.KeyValuePair{filters.Arg("colour", "red")}, nil, "invalid filter 'colour'"},
		{"no such type", []filters.KeyValuePair{filters.Arg("type", "x")}, nil, "invalid filter: 'type'='x'"},
	} {
		t.Run(c.name, func(t *testing.T) {
			list, err := f.List(f.ctx, filters.NewArgs(c.args...))
			if c.words != "" {
				assert.Error(t, err, c.words)
				return
			}
			assert.NilError(t, err)
			var names []string
			for _, n := range list {
				names = append(names, n.Name)
			}
			assert.DeepEqual(t, names, c.want)
		})
	}
}

func TestInspectShowsRunningContainers(t *testing.T) {
	f := newNetFixture(t)
	r := f.started(f.container("web"))
	f.container("idle")
	got, err := f.Inspect(f.ctx, "bridge", "", false)
	assert.NilError(t, err)
	ep := r.Networks["bridge"]
	assert.DeepEqual(t, got.Containers, map[string]networktypes.EndpointResource{string(r.ID): {
		Name: "web", EndpointID: string(ep.ID), MacAddress: "02:42:0a:81:00:02", IPv4Address: "10.129.0.2/20",
	}})
	_, err = f.Inspect(f.ctx, "nope", "", false)
	assert.Error(t, err, "network nope not found")
	assert.Check(t, errdefs.IsNotFound(err))
	_, err = f.Inspect(f.ctx, "bridge", "swarm", false)
	assert.Check(t, errdefs.IsNotFound(err))
}

func TestSandboxAndPlumb(t *testing.T) {
	f := newNetFixture(t)
	r := f.started(f.container("web", binds("80/tcp", "", "8080"), func(r *state.Container) {
		r.HostConfig.ExtraHosts = []string{"gw:host-gateway", "db:192.0.2.7"}
		r.HostConfig.DNS = []string{"192.0.2.53"}
		r.HostConfig.DNSSearch = []string{"example.com"}
	}))
	path, err := f.Sandbox(f.ctx, r)
	assert.NilError(t, err)
	assert.Equal(t, path, "/run/x/netns/"+string(r.ID))
	assert.DeepEqual(t, f.host.sandboxes[r.ID].Upstreams, []netip.AddrPort{netip.MustParseAddrPort("192.0.2.53:53")}, compareText)

	files := f.EtcFiles(r)
	hosts, err := os.ReadFile(files.Hosts)
	assert.NilError(t, err)
	assert.Check(t, cmp.Contains(string(hosts), "10.129.0.1\tgw\n192.0.2.7\tdb\n10.129.0.2\tweb-host\n"))
	resolv, err := os.ReadFile(files.ResolvConf)
	assert.NilError(t, err)
	assert.Check(t, cmp.Contains(string(resolv), "nameserver 127.0.0.11\nsearch example.com\n"))
	hostname, err := os.ReadFile(files.Hostname)
	assert.NilError(t, err)
	assert.Equal(t, string(hostname), "web-host\n")
	assert.Equal(t, len(f.EtcMounts(r)), 3)

	assert.NilError(t, f.Plumb(f.ctx, r))
	assert.Equal(t, len(f.host.attached), 1)
	assert.Equal(t, f.host.published[0].String(), "0.0.0.0:8080:10.129.0.2:80/tcp")

	restored, ok := f.Restored(r)
	assert.Assert(t, ok)
	assert.Equal(t, len(restored.Attachments), 1)
	assert.Equal(t, len(restored.Ports), len(f.host.published))

	f.host.fail = fmt.Errorf("failed to bind host port for 0.0.0.0:8080:10.129.0.2:80/tcp: %w", os.ErrExist)
	assert.Error(t, f.Plumb(f.ctx, r), fmt.Sprintf("driver failed programming external connectivity on endpoint web (%s): "+
		"failed to bind host port for 0.0.0.0:8080:10.129.0.2:80/tcp: file already exists", r.Networks["bridge"].ID))
	assert.NilError(t, f.Unplumb(f.ctx, r))
}

func TestNetworkModes(t *testing.T) {
	f := newNetFixture(t)
	for _, c := range []struct {
		mode     container.NetworkMode
		sandbox  bool
		loopback bool
		networks []string
		files    bool
	}{
		{"bridge", true, false, []string{"bridge"}, true},
		{"default", true, false, []string{"bridge"}, true},
		{"none", true, true, []string{"none"}, true},
		{"host", false, false, []string{"host"}, true},
		{"container:x", false, false, nil, false},
	} {
		t.Run(string(c.mode), func(t *testing.T) {
			r := f.started(f.container("c"+string(c.mode[0])+string(c.mode[1]), func(r *state.Container) { r.HostConfig.NetworkMode = c.mode }))
			path, err := f.Sandbox(f.ctx, r)
			assert.NilError(t, err)
			assert.Equal(t, path != "", c.sandbox)
			opts, made := f.host.sandboxes[r.ID]
			assert.Equal(t, made, c.sandbox)
			assert.Equal(t, opts.LoopbackOnly, c.loopback)
			assert.NilError(t, f.Plumb(f.ctx, r))
			_, restored := f.Restored(r)
			assert.Equal(t, restored, c.sandbox)
			var names []string
			for name := range f.Settings(r).Networks {
				names = append(names, name)
			}
			assert.DeepEqual(t, names, c.networks)
			_, err = os.Stat(f.EtcFiles(r).Hosts)
			assert.Equal(t, err == nil, c.files)
		})
	}
}

func TestSettings(t *testing.T) {
	f := newNetFixture(t)
	r := f.container("web", binds("80/tcp", "127.0.0.1", "8080"), func(r *state.Container) {
		r.Config.ExposedPorts["443/tcp"] = struct{}{}
	})
	s := f.Settings(r)
	assert.Equal(t, s.SandboxID+s.SandboxKey+s.Networks["bridge"].IPAddress, "")
	assert.DeepEqual(t, s.Ports, nat.PortMap{})
	assert.DeepEqual(t, portList(f.Settings(r)), []container.Port{})

	r = f.started(r)
	s = f.Settings(r)
	assert.Equal(t, s.IPAddress, "10.129.0.2")
	assert.Equal(t, s.Networks["bridge"].IPAddress, "10.129.0.2")
	assert.Equal(t, s.Networks["bridge"].IPPrefixLen, 20)
	assert.Equal(t, s.Networks["bridge"].Gateway, "10.129.0.1")
	assert.Equal(t, s.Networks["bridge"].MacAddress, "02:42:0a:81:00:02")
	assert.Equal(t, len(s.SandboxID), 64)
	assert.DeepEqual(t, s.Ports, nat.PortMap{"80/tcp": {{HostIP: "127.0.0.1", HostPort: "8080"}}, "443/tcp": nil})
	assert.DeepEqual(t, portList(s), []container.Port{
		{IP: "127.0.0.1", PrivatePort: 80, PublicPort: 8080, Type: "tcp"},
		{PrivatePort: 443, Type: "tcp"},
	})
	assert.Equal(t, f.SummarySettings(r).Networks["bridge"].IPAddress, "10.129.0.2")

	r = f.stop(r)
	s = f.Settings(r)
	assert.Equal(t, s.SandboxID+s.Networks["bridge"].IPAddress+s.Networks["bridge"].EndpointID+s.Networks["bridge"].MacAddress, "")
	assert.DeepEqual(t, s.Ports, nat.PortMap{})
}

func TestEndpointsRefused(t *testing.T) {
	f := newNetFixture(t)
	r := &state.Container{Account: nereid.Admin, Config: &container.Config{}, HostConfig: &container.HostConfig{NetworkMode: "bridge"}}
	for _, c := range []struct {
		name  string
		cfg   *networktypes.EndpointSettings
		words string
	}{
		{"no settings", nil, "invalid config for network bridge: EndpointsConfig is nil"},
		{"an address on the default network", &networktypes.EndpointSettings{IPAMConfig: &networktypes.EndpointIPAMConfig{IPv4Address: "10.129.0.9"}},
			"invalid config for network bridge: invalid endpoint settings:\nuser specified IP address is supported on user defined networks only"},
		{"an alias on the default network", &networktypes.EndpointSettings{Aliases: []string{"db"}},
			"invalid config for network bridge: invalid endpoint settings:\nnetwork-scoped alias is supported only for containers in user defined networks"},
		{"all wrong", &networktypes.EndpointSettings{Aliases: []string{"db"}, IPAMConfig: &networktypes.EndpointIPAMConfig{IPv4Address: "x"}},
			"invalid config for network bridge: invalid endpoint settings:\n* user specified IP address is supported on user defined networks only\n" +
				"* network-scoped alias is supported only for containers in user defined networks\n* invalid IPv4 address: x"},
		{"no MAC", &networktypes.EndpointSettings{MacAddress: "zz"}, "invalid config for network bridge: invalid MAC address zz"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := f.Endpoints(r, &networktypes.NetworkingConfig{EndpointsConfig: map[string]*networktypes.EndpointSettings{"bridge": c.cfg}})
			assert.Error(t, err, c.words)
			assert.Check(t, errdefs.IsInvalidArgument(err))
		})
	}
	_, err := f.Create(f.ctx, networktypes.CreateRequest{Name: "host"})
	assert.Error(t, err, "operation is not permitted on predefined host network ")
	err = f.Remove(f.ctx, "bridge")
	assert.Error(t, err, "bridge is a pre-defined network and cannot be removed")
	assert.Check(t, errdefs.IsPermissionDenied(err))
	assert.Check(t, errdefs.IsNotFound(f.Remove(f.ctx, "nope")))
}

func TestNamesInContainers(t *testing.T) {
	f := newNetFixture(t)
	names := NewNames(f.State.View())
	db := f.started(f.container("db"))
	web := f.started(f.container("web", func(r *state.Container) { r.HostConfig.Links = []string{"db:store"} }))
	down := f.container("down")
	assert.NilError(t, f.EnsureDefaults(f.ctx, "alice"))

	for _, c := range []struct {
		name  string
		asked string
		want  string // empty: unknown
	}{
		{"its name", "db", "10.129.0.2"},
		{"in capitals", "DB", "10.129.0.2"},
		{"with the network", "db.bridge", "10.129.0.2"},
		{"its host name", "db-host", "10.129.0.2"},
		{"its short id", db.ID.Short(), "10.129.0.2"},
		{"its id", string(db.ID), "10.129.0.2"},
		{"a link's alias", "store", "10.129.0.2"},
		{"itself", "web", "10.129.0.3"},
		{"one that does not run", "down", ""},
		{"on another network", "db.other", ""},
		{"nobody", "nobody", ""},
		{"a name of the world", "db.example.com", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			addrs, known := names.Addresses(nereid.Admin, web.ID, c.asked, false)
			assert.Equal(t, known, c.want != "")
			if known {
				assert.Equal(t, fmt.Sprint(addrs), "["+c.want+"]")
			}
			six, known6 := names.Addresses(nereid.Admin, web.ID, c.asked, true)
			assert.Equal(t, known6, known, "NODATA where there is an address of the other family")
			assert.Equal(t, len(six), 0)
		})
	}
	name, ok := names.Pointer(nereid.Admin, web.ID, netip.MustParseAddr("10.129.0.2"))
	assert.Check(t, ok && name == "db.bridge", name)
	_, ok = names.Pointer(nereid.Admin, web.ID, netip.MustParseAddr("10.129.0.99"))
	assert.Check(t, !ok)
	_, known := names.Addresses("alice", web.ID, "db", false)
	assert.Check(t, !known, "another account knows the container")
	_, known = names.Addresses(nereid.Admin, down.ID, "web", false)
	assert.Check(t, known)
}

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/miekg/dns"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/nereid-paas/nereid/api/server"
	"github.com/nereid-paas/nereid/cns/admin"
	"github.com/nereid-paas/nereid/cns/publish"
	cns "github.com/nereid-paas/nereid/cns/server"
	"github.com/nereid-paas/nereid/cns/transfer"
	"github.com/nereid-paas/nereid/pkg/engine"
	"github.com/nereid-paas/nereid/pkg/image"
	"github.com/nereid-paas/nereid/pkg/metrics"
	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/network"
	"github.com/nereid-paas/nereid/pkg/state"
	"github.com/nereid-paas/nereid/pkg/volume"
	"github.com/nereid-paas/nereid/runtime"
)

// daemon is the host's parts in the order they are built; run starts them, close stops them in reverse.
type daemon struct {
	log        *zap.Logger
	fleet      *fleet
	store      *state.Store
	runtime    *runtime.Runtime
	fabric     *network.Fabric
	data       *volume.Store
	containers *engine.Containers
	networks   *engine.Networks
	images     *engine.Images
	volumes    *engine.Volumes
	system     *engine.System
	hosts      *engine.Hosts
	publisher  *publish.Publisher
	transfers  *transfer.Transfers
	namesAdmin *admin.Admin
	names      *cns.Server
	zones      []zoneLine     // of the configuration file
	raises     errgroup.Group // see raiseSerial
	api        *server.Server
	peers      *server.Server // the API for other hosts
	forwarded  http.Handler   // to it
	listeners  []net.Listener
	waiting    *server.Waiting // on them, until the API is served; nil: nobody waits
	metrics    net.Listener
	host       nereid.Host
}

// programs are the executables the daemon starts.
type programs struct{ shim, runc, init string }

// build makes every part and opens what can fail: the state, the ports. Nothing of the containers is touched yet.
func build(ctx context.Context, o options, log *zap.Logger) (_ *daemon, retErr error) {
	d := &daemon{log: log, host: nereid.Host(o.name)}
	defer func() {
		if retErr != nil {
			d.close()
		}
	}()
	for _, step := range []func(context.Context, options) error{d.enter, d.waitOpenly, d.openState, d.buildNames, d.buildHost, d.listen} {
		if err := step(ctx, o); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// certsDir is where Docker looks for the certificates of registries: one folder each, named host[:port].
const certsDir = "/etc/docker/certs.d"

// bootTimeout bounds the wait for the state at start.
const bootTimeout = 60 * time.Second

func (d *daemon) enter(ctx context.Context, o options) (err error) {
	if d.fleet, err = enterFleet(ctx, o, d.log); err != nil {
		return err
	}
	if d.fleet.mustOpen() {
		return d.fleet.open(ctx)
	}
	return nil
}

// waitOpenly has a host that needs others for its state say so to users until it is ready.
func (d *daemon) waitOpenly(ctx context.Context, o options) error {
	if !d.fleet.clustered() {
		return nil
	}
	if err := d.listen(ctx, o); err != nil {
		return err
	}
	why := "this host waits for the state of the fleet: most of its servers do not answer yet"
	d.waiting = server.Wait(o.name, version, why, d.log.Named("api"), d.listeners...)
	return nil
}

func (d *daemon) openState(ctx context.Context, o options) (err error) {
	if !d.fleet.clustered() { // else it waits for the others: they may all be starting
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, bootTimeout)
		defer cancel()
	}
	cfg := state.Config{
		Dir: filepath.Join(o.dataRoot, "etcd"), Socket: filepath.Join(o.execRoot, "etcd.sock"),
		Endpoints: o.stateEndpoints, Host: d.host, Events: o.keepEvents, Log: d.log.Named("state"),
	}
	if len(o.stateEndpoints) == 0 {
		cfg = d.fleet.stateConfig(cfg)
	}
	if d.store, err = state.Open(ctx, cfg); err != nil {
		return err
	}
	d.fleet.use(d.store)
	return nil
}

func (d *daemon) buildHost(ctx context.Context, o options) error {
	p, err := findPrograms(o)
	if err != nil {
		return err
	}
	pool, err := network.ParsePool(o.addressPool)
	if err != nil {
		return err
	}
	ids, err := o.remap(ctx)
	if err != nil {
		return err
	}
	// The runtime tells the containers what ended, and the containers use the runtime.
	events := &handler{}
	d.runtime, err = runtime.New(runtime.Config{
		Root: filepath.Join(o.dataRoot, "containerd"), State: filepath.Join(o.execRoot, "containerd"), Address: o.containerd,
		Shim: p.shim, Runc: p.runc, Init: p.init, CgroupParent: "/nereid-" + o.name, Log: d.log.Named("runtime"),
		Runtimes: o.addedRuntimes(), CDISpecDirs: o.specDirs(), IDMap: ids,
	}, events)
	if err != nil {
		return err
	}
	d.fabric, err = network.New(network.Config{
		Host: d.host, ExecRoot: o.execRoot, Zone: o.dc + "." + o.zone, CNS: (*authority)(d), Names: engine.NewNames(d.store.View()), Log: d.log.Named("network"),
		Advertise: d.fleet.advertise, Others: func() bool { return len(d.store.View().Members()) > 1 },
	})
	if err != nil {
		return err
	}
	d.data = volume.NewStore(o.dataRoot)
	deps := engine.Deps{
		Host: d.host, DC: o.dc, Zone: o.zone, Version: version, DataRoot: o.dataRoot, ExecRoot: o.execRoot,
		State: d.store, Runtime: d.runtime, Network: d.fabric, Volumes: d.data, Fleet: d.fleet.live, LabelProblems: labelProblems, Log: d.log,
		Peers: peers{d.fleet.forwarder}, Road: d.fleet.forwarder, DefaultRuntime: o.defaultRuntime, IDMap: ids,
	}
	d.networks = engine.NewNetworks(deps, pool)
	d.volumes = engine.NewVolumes(deps)
	d.images = engine.NewImages(deps, image.New(image.Config{
		Client: d.runtime.Client, Version: version, Insecure: o.insecure, Mirrors: o.mirrors, Certs: certsDir,
	}))
	d.containers = engine.NewContainers(deps, d.networks, d.volumes, d.images)
	events.Containers = d.containers
	d.system = engine.NewSystem(deps, engine.SystemConfig{
		Advertise: advertised(ctx, o), Labels: labels(o.labels), Runc: p.runc, Init: p.init, Containerd: o.containerd, Debug: o.debug,
		Commit: commit, Built: built, Insecure: o.insecure, Mirrors: o.mirrors, OvercommitMemory: o.overMemory, OvercommitCPUs: o.overCPUs,
		Runtimes: o.addedRuntimes(), CDISpecDirs: o.specDirs(), Devices: d.runtime.Devices,
	}, d.containers, d.images, d.volumes)
	self, err := d.fleet.self()
	if err != nil {
		return err
	}
	d.hosts = engine.NewHosts(deps, self, d.containers, d.system.HostRecord)
	d.fleet.server.ServeFleet(d.hosts, d.fleet.servers)
	cfg := server.Config{
		Containers: d.containers, Exec: d.containers, Images: d.images, Networks: engine.NewConnections(d.networks, d.containers, peers{d.fleet.forwarder}), Volumes: d.volumes,
		System: d.system, Hosts: d.hosts, Names: d.namesAdmin, Version: version, Log: d.log.Named("api"),
		Forwarder: owners{view: d.store.View(), host: d.host, to: d.fleet.forwarder}, Debug: o.debug, Present: present{d.store},
	}
	d.api = server.New(cfg)
	d.peers, d.forwarded = forwarded(cfg, d.fleet, d.containers, d.images, d.volumes)
	return nil
}

// handler lets the runtime be made before those it reports to.
type handler struct{ *engine.Containers }

// authority answers the containers' questions for CNS names.
type authority daemon

// ServeDNS implements network.Authority.
func (a *authority) ServeDNS(ctx context.Context, query *dns.Msg) *dns.Msg {
	if m, ours := a.names.Answer(ctx, query); ours {
		return m
	}
	return nil
}

func (d *daemon) listen(ctx context.Context, o options) error {
	if d.waiting != nil {
		return nil // they listen already
	}
	for _, h := range o.hosts {
		l, err := server.Listen(ctx, h)
		if err != nil {
			return err
		}
		d.listeners = append(d.listeners, l)
	}
	if o.metricsListen == "" {
		return nil
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", o.metricsListen)
	d.metrics = l
	return err
}

// run takes up what is there and serves until the context ends or a part fails. The state and the network outlast the
// API and the containers' use cases, which end with them.
func (d *daemon) run(ctx context.Context) error {
	base, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	under, baseCtx := errgroup.WithContext(base)
	under.Go(func() error { return named("state", d.store.Run(baseCtx)) })
	under.Go(func() error { return named("network", d.fabric.Run(baseCtx)) })
	under.Go(func() error { return named("name service", d.publisher.Run(baseCtx)) })
	under.Go(func() error { return named("name service", d.names.Run(baseCtx)) })
	under.Go(func() error { return named("zone transfers", d.transfers.Run(baseCtx)) })

	err := d.serve(ctx, baseCtx)
	stop()
	return errors.Join(err, under.Wait(), d.raises.Wait())
}

// serve adopts, then answers requests until either context ends.
func (d *daemon) serve(ctx, base context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(base, cancel)()
	if err := d.takeUp(ctx); err != nil {
		return err
	}
	d.waiting.Stop()
	d.fleet.server.ServeAPI(d.forwarded)
	defer d.peers.Stop()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return named("containers", d.containers.Run(ctx)) })
	g.Go(func() error { return named("networks", d.networks.Run(ctx)) })
	g.Go(func() error { return named("images", d.images.Run(ctx)) })
	g.Go(func() error { return named("hosts", d.hosts.Run(ctx)) })
	g.Go(func() error { return named("fleet", d.fleet.serve(ctx)) })
	g.Go(func() error { return named("api", d.api.Serve(ctx, d.listeners...)) })
	if d.metrics != nil {
		g.Go(func() error {
			return named("metrics", metrics.Serve(ctx, d.metrics, metrics.Containers{View: d.store.View(), Host: d.host}, metrics.Lanes(d.lanes), d.names, d.namesAdmin))
		})
	}
	d.log.Info("ready", zap.String("host", string(d.host)), zap.String("version", version))
	return g.Wait()
}

// lanes is what is bounded on this host, for the metrics.
func (d *daemon) lanes() []metrics.Lane {
	var all []metrics.Lane
	for _, l := range d.containers.Lanes() {
		all = append(all, metrics.Lane(l))
	}
	return all
}

// takeUp makes the records and the host agree before the first request.
func (d *daemon) takeUp(ctx context.Context) error {
	defaults := func(ctx context.Context) error { return d.networks.EnsureDefaults(ctx, nereid.Admin) }
	for _, step := range []func(context.Context) error{d.system.EnsureAdmin, d.hosts.Enrol, defaults, d.ensureZones} {
		if err := d.insist(ctx, step); err != nil {
			return err
		}
	}
	begin := time.Now()
	if err := d.runtime.Start(ctx); err != nil {
		return fmt.Errorf("runtime: %w", err)
	}
	started := time.Now()
	if err := d.images.Reconcile(ctx); err != nil {
		return err
	}
	if err := d.data.Sweep(ctx); err != nil {
		return err
	}
	if err := d.containers.Adopt(ctx); err != nil {
		return err
	}
	d.log.Info("containers adopted", zap.Int("containers", len(d.store.View().ContainersOn(d.host))),
		zap.Duration("runtime", started.Sub(begin)), zap.Duration("records", time.Since(started)))
	return nil
}

// insistPause is the pause before the state is asked again.
const insistPause = 500 * time.Millisecond

// insist tries a step again while other hosts' state cannot be changed: its servers may all be starting.
func (d *daemon) insist(ctx context.Context, step func(context.Context) error) error {
	for {
		err := step(ctx)
		if !errdefs.IsUnavailable(err) || !d.fleet.clustered() {
			return err
		}
		d.log.Warn("the state does not answer; trying again", zap.Error(err))
		select {
		case <-ctx.Done():
			return err
		case <-time.After(insistPause):
		}
	}
}

func named(part string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", part, err)
	}
	return nil
}

// close stops what build and run left open, newest first.
func (d *daemon) close() {
	d.waiting.Stop()
	for _, l := range append(d.listeners, d.metrics) {
		if l != nil {
			_ = l.Close()
		}
	}
	if d.runtime != nil {
		if err := d.runtime.Close(); err != nil {
			d.log.Warn("stop the runtime", zap.Error(err))
		}
	}
	if d.store != nil {
		if err := d.store.Close(); err != nil {
			d.log.Warn("close the state", zap.Error(err))
		}
	}
	if d.fleet != nil {
		d.fleet.close()
	}
}

// findPrograms looks beside this program, then in PATH.
func findPrograms(o options) (programs, error) {
	self, err := os.Executable()
	if err != nil {
		return programs{}, err
	}
	find := func(names ...string) string {
		for _, name := range names {
			beside := filepath.Join(filepath.Dir(self), name)
			if _, err := os.Stat(beside); err == nil {
				return beside
			}
			if path, err := exec.LookPath(name); err == nil {
				return path
			}
		}
		return ""
	}
	p := programs{shim: find("nereid-shim"), runc: o.runc, init: find("docker-init", "tini-static")}
	if p.runc == "" {
		p.runc = find("runc")
	}
	if p.shim == "" || p.runc == "" {
		return programs{}, errors.New("nereid-shim and runc must be beside this program or in PATH")
	}
	return p, nil
}

// advertised is the address given, or the one this host would use to reach others.
func advertised(ctx context.Context, o options) netip.Addr {
	if a, err := netip.ParseAddr(o.advertise); err == nil {
		return a
	}
	// No packet is sent: connecting a UDP socket only asks the routing table. The address is one of documentation's.
	c, err := new(net.Dialer).DialContext(ctx, "udp", "192.0.2.1:9")
	if err != nil {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
}

func labels(kvs []string) map[string]string {
	m := map[string]string{}
	for _, kv := range kvs {
		k, v, _ := strings.Cut(kv, "=")
		m[k] = v
	}
	return m
}

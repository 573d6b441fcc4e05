package engine

import (
	"cmp"
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/docker/docker/api/types/backend"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/opts"
	"github.com/docker/go-connections/nat"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
	"github.com/nereid-paas/nereid/pkg/volume"
	"github.com/nereid-paas/nereid/scheduler/expr"
	"github.com/nereid-paas/nereid/scheduler/snapshot"
)

// readPlacement takes what a request says of placement out of its environment and into its labels. What is wrong with it
// is ErrInvalidArgument, with the place.
func readPlacement(cfg *container.Config) (expr.Ask, error) {
	ask, labels, env, err := expr.Read(cfg.Labels, cfg.Env)
	if err != nil {
		return ask, asInvalid(err)
	}
	cfg.Labels, cfg.Env = labels, env
	return ask, nil
}

// request is what a create asks of a host. What is wrong with it beside the placement itself, such as an image that is
// not there, is told where the container is made, in Docker's order: here it asks for nothing.
func (c *Containers) request(ctx context.Context, req *backend.ContainerCreateConfig) (*snapshot.Request, error) {
	ask, err := readPlacement(req.Config)
	if err != nil {
		return nil, err
	}
	cfg, hc := req.Config, req.HostConfig
	r := &snapshot.Request{
		Account: nereid.AccountFrom(ctx), Service: serviceOf(cfg), Resources: reservation(hc),
		Constraints: ask.Constraints, Affinities: ask.Affinities,
		Strategy: strategies[ask.Strategy], Spread: spreads[ask.Spread],
	}
	exposed := cfg.ExposedPorts
	if img, err := c.images.ResolvePlatform(ctx, cfg.Image, req.Platform); err == nil {
		r.Image = img.ID
		if p, err := c.images.Platform(img); err == nil {
			r.Platform = platforms.FormatAll(platforms.Normalize(p))
		}
		if ic, err := c.images.ContainerConfig(img); err == nil {
			exposed = joined[nat.PortSet](exposed, ic.ExposedPorts)
		}
	}
	r.Ports = hostPortsOf(exposed, hc)
	r.Pins = c.pins(r.Account, hc)
	return r, nil
}

var (
	strategies = map[string]snapshot.Strategy{"spread": snapshot.Spread, "binpack": snapshot.Binpack, "random": snapshot.Random}
	spreads    = map[string]snapshot.SpreadBy{"host": snapshot.ByHost, "rack": snapshot.ByRack}
)

// serviceLabels name the set that a container is one of; the first that is there counts.
var serviceLabels = [][]string{
	{"com.docker.compose.project", "com.docker.compose.service"}, {"nereid.cns.services"}, {"triton.cns.services"},
}

// serviceOf is the set of like containers that one belongs to: by its labels, else by its image.
func serviceOf(cfg *container.Config) string {
	for _, keys := range serviceLabels {
		var parts []string
		for _, k := range keys {
			if v := cfg.Labels[k]; v != "" {
				parts = append(parts, v)
			}
		}
		if len(parts) == len(keys) {
			return keys[0] + "=" + strings.Join(parts, "/")
		}
	}
	return "image=" + cfg.Image
}

// reservation is what a container asks of its host for itself: the memory it is promised, or else may use, and the CPUs.
func reservation(hc *container.HostConfig) snapshot.Resources {
	if hc == nil {
		return snapshot.Resources{}
	}
	r := snapshot.Resources{Memory: cmp.Or(hc.MemoryReservation, hc.Memory), CPUs: hc.NanoCPUs}
	if r.CPUs == 0 && hc.CPUQuota > 0 {
		r.CPUs = int64(float64(hc.CPUQuota) / float64(cmp.Or(hc.CPUPeriod, defaultCPUPeriod)) * 1e9)
	}
	return r
}

// defaultCPUPeriod is the kernel's, in microseconds.
const defaultCPUPeriod = 100_000

// hostPortsOf are the ports of the host's own that a container takes: those it exposes in the host's network. Published
// ones are the mesh's.
func hostPortsOf(exposed nat.PortSet, hc *container.HostConfig) []snapshot.Port {
	if hc == nil || !hc.NetworkMode.IsHost() {
		return nil
	}
	var ports []snapshot.Port
	for p := range exposed {
		if n := p.Int(); n > 0 {
			ports = append(ports, snapshot.Port{Proto: protoOf(p), IP: netip.IPv4Unspecified(), Port: uint16(n)})
		}
	}
	slices.SortFunc(ports, func(a, b snapshot.Port) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.Proto, b.Proto))
	})
	return ports
}

// pins are what ties a new container to a host.
func (c *Containers) pins(a nereid.Account, hc *container.HostConfig) []snapshot.Pin {
	p := pinner{view: c.State.View(), account: a}
	for _, l := range hc.Links {
		if name, _, err := opts.ParseLink(l); err == nil {
			p.container(snapshot.PinLink, name)
		}
	}
	for _, raw := range hc.VolumesFrom {
		if name, _, err := volume.ParseFrom(raw); err == nil {
			p.container(snapshot.PinVolumesFrom, name)
		}
	}
	if hc.NetworkMode.IsContainer() {
		p.container(snapshot.PinNetwork, hc.NetworkMode.ConnectedContainer())
	}
	if hc.PidMode.IsContainer() {
		p.container(snapshot.PinPID, hc.PidMode.Container())
	}
	if hc.IpcMode.IsContainer() {
		p.container(snapshot.PinIPC, hc.IpcMode.Container())
	}
	for _, raw := range hc.Binds {
		if s, err := volume.ParseBind(raw, hc.VolumeDriver); err == nil {
			p.mount(s.Type, s.Source, c.Host)
		}
	}
	for _, m := range hc.Mounts {
		p.mount(m.Type, m.Source, c.Host)
	}
	for _, bindings := range hc.PortBindings {
		for _, b := range bindings {
			p.address(b.HostIP, c.Host, c.networks)
		}
	}
	return p.pins
}

type pinner struct {
	view    *state.View
	account nereid.Account
	pins    []snapshot.Pin
}

func (p *pinner) container(kind snapshot.PinKind, ref string) {
	if r, err := p.view.FindContainer(p.account, ref); err == nil {
		p.add(kind, r.Name, r.Host)
	}
}

func (p *pinner) mount(kind mount.Type, source string, here nereid.Host) {
	switch kind {
	case mount.TypeBind:
		p.add(snapshot.PinBind, source, here)
	case mount.TypeVolume:
		if v, ok := p.view.Volume(p.account, source); ok && v.Home != "" {
			p.add(snapshot.PinVolume, v.Name, v.Home)
		}
	}
}

// address ties a port that is published on one address to the host that has it: loopback and what else this host has
// means the endpoint's.
func (p *pinner) address(text string, here nereid.Host, n *Networks) {
	ip, err := netip.ParseAddr(text)
	if ip = ip.Unmap(); err != nil || ip.IsUnspecified() {
		return
	}
	for _, m := range p.view.Members() {
		if n.addressOf(m.Name) == ip {
			p.add(snapshot.PinAddress, text, m.Name)
			return
		}
	}
	if ip.IsLoopback() || hasAddress(ip) {
		p.add(snapshot.PinAddress, text, here)
	}
}

// hasAddress tells whether an address is this machine's.
func hasAddress(ip netip.Addr) bool {
	all, _ := net.InterfaceAddrs()
	return slices.ContainsFunc(all, func(a net.Addr) bool {
		p, err := netip.ParsePrefix(a.String())
		return err == nil && p.Addr().Unmap() == ip
	})
}

// add enters a tie, unless the same host is tied to for the same kind of reason already: the first is enough to tell.
func (p *pinner) add(kind snapshot.PinKind, name string, to nereid.Host) {
	same := func(o snapshot.Pin) bool { return o.Kind == kind && o.Host == to }
	if !slices.ContainsFunc(p.pins, same) {
		p.pins = append(p.pins, snapshot.Pin{Kind: kind, Name: name, Host: to})
	}
}

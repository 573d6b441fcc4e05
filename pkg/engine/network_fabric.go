package engine

import (
	"context"
	"net/netip"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/network"
	"github.com/nereid-paas/nereid/pkg/state"
)

// Run has this host's part of each network follow what the state says of the other hosts, until the context ends: which
// endpoints and ports they have, which of them are lost, and which networks are gone.
func (n *Networks) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return n.followOthers(ctx) })
	g.Go(func() error { return n.watchLost(ctx) })
	return g.Wait()
}

func (n *Networks) followOthers(ctx context.Context) error {
	w := n.State.View().Watch(state.KindContainer, state.KindNetwork, state.KindHost, state.KindMember, state.KindPort)
	defer w.Close()
	n.spanAll(ctx)
	n.meshAll(ctx)
	for {
		changes, err := w.Next(ctx)
		if err != nil {
			return nil //nolint:nilerr // the context's end is no error
		}
		n.react(ctx, changes)
	}
}

// react acts on what changed, once for each network.
func (n *Networks) react(ctx context.Context, changes []state.Change) {
	touched := map[nereid.NetworkID]*state.Network{}
	hosts, ports := false, false
	for _, c := range changes {
		for _, rec := range []state.Record{c.Old, c.New} {
			switch r := rec.(type) {
			case *state.Container:
				n.touch(touched, r)
				if rec == c.New && r.Host != n.Host {
					n.repoint(r)
				}
			case *state.Network:
				if c.New == nil && hasLinks(r) {
					n.dropLinks(ctx, r)
				}
			case *state.Host, *state.Member:
				hosts, ports = true, true
			case *state.Port:
				ports = true
			}
		}
	}
	if hosts {
		n.spanAll(ctx)
	} else {
		for _, record := range touched {
			n.span(ctx, record)
		}
	}
	if ports {
		n.meshAll(ctx)
	}
}

// meshAll has this host answer on the ports that containers of other hosts have published on every address, unless those
// are lost. What is published on one address answers there alone: that is an address of the owner.
func (n *Networks) meshAll(ctx context.Context) {
	n.meshing.Lock() // what is read last is set last
	defer n.meshing.Unlock()
	var list []network.MeshPort
	for _, p := range n.State.View().Ports() {
		if p.Proto == "sctp" {
			continue
		}
		for _, c := range p.Claims {
			if c.Host == n.Host || !c.HostIP.IsUnspecified() || n.lost.absence(c.Host) != nil {
				continue
			}
			if at := n.addressOf(c.Host); at.IsValid() {
				list = append(list, network.MeshPort{Proto: p.Proto, HostIP: c.HostIP, Port: p.Port, Owner: at})
			}
		}
	}
	if err := n.Network.SetMesh(ctx, list); err != nil {
		n.Log.Error("ports of other hosts do not answer here", zap.Error(err))
	}
}

// touch notes the networks of a container on another host.
func (n *Networks) touch(touched map[nereid.NetworkID]*state.Network, r *state.Container) {
	if r.Host == n.Host {
		return
	}
	for _, ep := range r.Networks {
		if record, ok := n.State.View().Network(r.Account, ep.Network); ok {
			touched[record.ID] = record
		}
	}
}

// dropLinks takes a network off this host that another host removed.
func (n *Networks) dropLinks(ctx context.Context, record *state.Network) {
	ctx, cancel := work(ctx)
	defer cancel()
	if err := n.Network.RemoveNetwork(ctx, record); err != nil {
		n.Log.Error("links of a removed network remain", zap.String("network", record.Name), zap.Error(err))
	}
}

// spanAll spans every network, over the hosts that there are now.
func (n *Networks) spanAll(ctx context.Context) {
	if err := n.spanHosts(ctx); err != nil {
		n.Log.Error("processes of this host do not reach containers of others", zap.Error(err))
	}
	for _, record := range n.State.View().AllNetworks() {
		n.span(ctx, record)
	}
}

func (n *Networks) spanHosts(ctx context.Context) error {
	n.spanning.Lock() // what is read last is set last
	defer n.spanning.Unlock()
	var others []netip.Addr
	for _, m := range n.State.View().Members() {
		if at := n.addressOf(m.Name); m.Name != n.Host && at.IsValid() {
			others = append(others, at)
		}
	}
	return n.Network.SetHosts(ctx, others)
}

// span has a network on this host reach its endpoints on the others. A failure is logged: the next change tries again.
func (n *Networks) span(ctx context.Context, record *state.Network) {
	if !isFabric(record) || !n.Others() {
		return
	}
	n.spanning.Lock() // what is read last is set last
	defer n.spanning.Unlock()
	if err := n.Network.SetRemotes(ctx, record, n.remotes(record)); err != nil {
		n.Log.Error("a network does not reach other hosts", zap.String("network", record.Name), zap.Error(err))
	}
}

// Others tells whether the fleet has other hosts.
func (n *Networks) Others() bool { return manyHosts(n.State.View()) }

// remotes are a network's endpoints on other hosts. A host that does not answer may well go on: its containers are
// reached as long as it is a member.
func (n *Networks) remotes(record *state.Network) []network.Remote {
	at := map[nereid.Host]netip.Addr{}
	var list []network.Remote
	for _, r := range n.State.View().ContainersOnNetwork(record.ID) {
		if r.Host == n.Host {
			continue
		}
		addr, known := at[r.Host]
		if !known {
			addr = n.addressOf(r.Host)
			at[r.Host] = addr
		}
		for _, ep := range r.Networks {
			if ep.Network == record.ID && ep.ID != "" && addr.IsValid() {
				list = append(list, network.Remote{MAC: ep.MAC, Address: ep.Address.Addr(), Address6: ep.Address6.Addr(), Host: addr})
			}
		}
	}
	return list
}

// addressOf is where a host is reached, alive or not; invalid when nobody knows.
func (d Deps) addressOf(h nereid.Host) netip.Addr {
	if m, ok := d.State.View().Member(h); ok {
		if at, err := netip.ParseAddrPort(m.Peer); err == nil {
			return at.Addr().Unmap()
		}
	}
	if rec, ok := d.State.View().Host(h); ok {
		return rec.Advertise
	}
	return netip.Addr{}
}

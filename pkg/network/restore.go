package network

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// Restore makes what is there equal to what should be after a restart. What fails for one container is logged and
// leaves the others as they should be: its namespace may be gone, or another process may have taken a port that the
// rules still carry. An error returned is one of the host.
func (f *Fabric) Restore(ctx context.Context, running []Restored) error {
	// The host routes for its containers, from the first one on.
	errs := []error{sysctl("ipv4/ip_forward", "1", false), f.sweepNetns(running), f.sweepLinks(running)}
	want := newRules()
	var there []Restored
	for _, r := range running {
		sb, err := f.reopen(r)
		if err != nil {
			f.log.Error("a container's network is not restored", zap.Error(err))
			continue
		}
		there = append(there, r)
		f.holdAgain(sb, r.Ports)
		f.want(want, r)
	}
	f.mesh.mu.Lock()
	maps.Copy(want.mesh, f.mesh.rules)
	f.mesh.restored = true
	err := f.fw.replace(want)
	f.mesh.mu.Unlock()
	if err != nil {
		errs = append(errs, fmt.Errorf("rules of the networks: %w", err))
	}
	for _, r := range there {
		if err := f.Attach(ctx, r.ID, r.Attachments); err != nil {
			f.log.Error("a container's links are not restored", zap.Error(err))
		}
	}
	return errors.Join(errs...)
}

// want adds what a container needs to the rules.
func (f *Fabric) want(w rules, r Restored) {
	for _, a := range r.Attachments {
		if isParented(a.Network) {
			continue
		}
		name := BridgeName(f.cfg.Host, a.Network)
		w.zones[name] = zoneOf(name, a.Network)
	}
	for _, p := range r.Ports {
		if k, ok := p.key(); ok {
			w.ports[k] = p.target()
		}
	}
}

// reopen takes up a container's namespace where an earlier run left it, and opens its resolver anew.
func (f *Fabric) reopen(r Restored) (*sandbox, error) {
	if sb, err := f.sandbox(r.ID); err == nil {
		defer sb.mu.Unlock()
		return sb, nil
	}
	path := f.netnsPath(r.ID)
	ns, err := openNetns(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("network namespace of container %q: %w", r.ID, errdefs.ErrNotFound)
	} else if err != nil {
		return nil, err
	}
	sb := &sandbox{
		id: r.ID, path: path, opts: r.Options, ns: ns,
		links: map[nereid.EndpointID]leaver{}, ports: map[Published]*hold{},
	}
	sb.leadsOut.Store(leadOut(r.Attachments))
	if !r.Options.LoopbackOnly {
		if err := f.reopenResolver(sb); err != nil {
			_ = ns.Close()
			return nil, fmt.Errorf("resolver of container %q: %w", r.ID, err)
		}
	}
	return sb, f.keep(sb)
}

func (f *Fabric) reopenResolver(sb *sandbox) error {
	var sockets *resolverSockets
	err := inNetns(sb.ns, func() (err error) {
		sockets, err = openResolverSockets(true)
		return err
	})
	if err != nil {
		return err
	}
	f.forgetQuestions(sb.ns)
	sb.resolver = newResolver(f, sb)
	sb.resolver.serve(sockets)
	return nil
}

// forgetQuestions deletes the memory of what a container asked the resolver that is gone: a client that asks again
// from the same port would be led there.
func (f *Fabric) forgetQuestions(ns *os.File) {
	err := inNetns(ns, func() error {
		nl, err := openNetlink(unix.NETLINK_NETFILTER)
		if err != nil {
			return err
		}
		defer nl.Close()
		return forgetFlows(nl, staleFlows{53: {{at: resolverAddr}}})
	})
	if err != nil {
		f.log.Warn("a container's old DNS questions remain in connection tracking", zap.Error(err))
	}
}

// holdAgain binds the ports that the rules carry already.
func (f *Fabric) holdAgain(sb *sandbox, ports []Published) {
	sb.mu.Lock()
	defer sb.mu.Unlock()
	for _, p := range ports {
		if _, held := sb.ports[p]; held {
			continue
		}
		h, err := f.hold(p)
		if err != nil {
			f.log.Warn("a published port was taken while the daemon was away", zap.Error(err))
			h = newHold(p, nil, f.log)
		}
		sb.ports[p] = h
	}
}

// sweepNetns removes namespaces of containers that do not run.
func (f *Fabric) sweepNetns(running []Restored) error {
	keep := make(map[string]bool, len(running))
	for _, r := range running {
		keep[string(r.ID)] = true
	}
	dir := filepath.Join(f.cfg.ExecRoot, "netns")
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var errs []error
	for _, e := range entries {
		if !keep[e.Name()] {
			f.abandon(nereid.ContainerID(e.Name()))
			errs = append(errs, removeNetns(filepath.Join(dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// abandon closes what this daemon itself holds for a container that should not be there.
func (f *Fabric) abandon(id nereid.ContainerID) {
	if sb, err := f.sandbox(id); err == nil {
		sb.stopLocked()
		sb.mu.Unlock()
		f.forget(sb)
	}
}

// sweepLinks removes our veths without an endpoint and our bridges without one.
func (f *Fabric) sweepLinks(running []Restored) error {
	keep := map[string]bool{f.names.hostLink(): true} // SetHosts says whether it stays
	for _, r := range running {
		for _, a := range r.Attachments {
			keep[f.names.veth(a.Endpoint.ID)] = true
			keep[f.linkOf(a.Network)], keep[f.names.tunnel(a.Network.VNI)] = true, true
		}
	}
	links, err := untorn(f.nl.LinkList)
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	var errs []error
	for _, l := range links {
		name := l.Attrs().Name
		if (strings.HasPrefix(name, f.names.vethPrefix()) || f.made(l)) && !keep[name] {
			errs = append(errs, f.deleteLink(name))
		}
	}
	f.bridgesMu.Lock()
	f.bridges = map[uint32]*bridge{}
	f.bridgesMu.Unlock()
	return errors.Join(errs...)
}

// linkOf is the name of the link that a network has on the host.
func (f *Fabric) linkOf(n *state.Network) string {
	switch {
	case !isParented(n):
		return BridgeName(f.cfg.Host, n)
	case n.Options[optionParent] != "":
		return n.Options[optionParent]
	}
	return f.names.dummy(n.VNI)
}

// made tells whether this daemon made the link of a network, whatever its name; what was there before is not ours to
// remove.
func (f *Fabric) made(l netlink.Link) bool {
	return strings.HasPrefix(l.Attrs().Alias, f.names.aliasPrefix()) || strings.HasPrefix(l.Attrs().Name, f.names.bridgePrefix()) ||
		strings.HasPrefix(l.Attrs().Name, f.names.tunnelPrefix())
}

// RemoveNetwork takes a network's bridge and rules away from this host. Not there is no error. Nothing may be
// attached.
func (f *Fabric) RemoveNetwork(_ context.Context, n *state.Network) error {
	f.bridgesMu.Lock()
	defer f.bridgesMu.Unlock()
	name := f.linkOf(n)
	delete(f.bridges, n.VNI)
	err := errors.Join(f.fw.removeZones(name), f.deleteLink(f.names.tunnel(n.VNI)), f.setHostRoutes(n, nil))
	link, linkErr := f.nl.LinkByName(name)
	if linkErr != nil || !f.made(link) {
		return err
	}
	return errors.Join(err, f.deleteLink(name))
}

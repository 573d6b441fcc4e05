package network

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"sync"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// MeshPort is a port that a container on another host has published.
type MeshPort struct {
	Proto  string
	HostIP netip.Addr // unspecified: every address of its family
	Port   uint16
	Owner  netip.Addr // the other host, where the port answers too
}

func (p MeshPort) socket() socket {
	return socket{proto: p.Proto, at: netip.AddrPortFrom(p.HostIP, p.Port)}
}

// key is the port as the rules have it; only what stays in its family is the kernel's to carry.
func (p MeshPort) key() (portKey, bool) {
	ok := p.HostIP.IsUnspecified() && p.HostIP.Is4() == p.Owner.Is4()
	return portKey{proto: protocols[p.Proto], addr: p.HostIP, port: p.Port}, ok
}

// mesh is the ports of other hosts that this one answers on: the kernel carries what comes there to the owner, whether this
// daemon runs or not, and a listener keeps the port and carries what the kernel cannot: from loopback addresses, and from
// IPv6 to an owner that has none. The owner sees this host as the source.
type mesh struct {
	log *zap.Logger

	mu    sync.Mutex
	holds map[socket]*hold
	rules map[portKey]netip.AddrPort
	// restored: the rules are the kernel's. Before, they are for Restore to write.
	restored bool
}

// SetMesh makes the ports of other hosts that this host answers on those given. One that another process has is logged,
// and tried again with the next call. Called before Restore, the rules that an earlier run left are followed by these
// without a gap.
func (f *Fabric) SetMesh(_ context.Context, ports []MeshPort) error {
	f.mesh.mu.Lock()
	defer f.mesh.mu.Unlock()
	want := make(map[socket]netip.AddrPort, len(ports))
	for _, p := range ports {
		want[p.socket()] = netip.AddrPortFrom(p.Owner, p.Port)
	}
	for s, h := range f.mesh.holds {
		if _, ok := want[s]; !ok {
			h.close()
			delete(f.mesh.holds, s)
		}
	}
	for s, to := range want {
		if h := f.mesh.holds[s]; h != nil {
			h.lead(to)
			continue
		}
		f.mesh.openLocked(s, to)
	}
	rules := map[portKey]netip.AddrPort{}
	for _, p := range ports {
		if k, ok := p.key(); ok && f.mesh.holds[p.socket()] != nil {
			rules[k] = netip.AddrPortFrom(p.Owner, p.Port)
		}
	}
	return f.setMeshRules(rules)
}

// setMeshRules has the kernel follow. The mesh's lock is held.
func (f *Fabric) setMeshRules(rules map[portKey]netip.AddrPort) error {
	old := f.mesh.rules
	f.mesh.rules = rules
	if !f.mesh.restored || maps.Equal(old, rules) {
		return nil
	}
	if err := f.fw.setMesh(old, rules); err != nil {
		f.mesh.rules = old
		return fmt.Errorf("rules of other hosts' ports: %w", err)
	}
	var closed, opened []Published
	note := func(list *[]Published) func(portKey, netip.AddrPort) {
		return func(k portKey, to netip.AddrPort) {
			if k.proto == unix.IPPROTO_UDP {
				*list = append(*list, Published{Proto: "udp", HostIP: k.addr, HostPort: k.port, ContainerAddr: to.Addr(), ContainerPort: to.Port()})
			}
		}
	}
	missing(old, rules, note(&closed))
	missing(rules, old, note(&opened))
	f.forgetUDP(closed, opened)
	return nil
}

func (m *mesh) openLocked(s socket, to netip.AddrPort) {
	log := m.log.With(zap.String("port", s.proto+" "+s.at.String()), zap.Stringer("owner", to))
	l, err := bindPort(s.proto, s.at)
	if err != nil {
		log.Warn("a port of another host does not answer here", zap.Error(err))
		return
	}
	m.holds[s] = newHold(Published{Proto: s.proto, ContainerAddr: to.Addr(), ContainerPort: to.Port()}, l, log)
}

// evict lets go of ports in the way of one that a container of this host has claimed: the claim is the fleet's, so their
// owner has given them back, and only the news of it is under way.
func (m *mesh) evict(p Published) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for s, h := range m.holds {
		if s.proto == p.Proto && s.at.Port() == p.HostPort && s.at.Addr().Is4() == p.HostIP.Is4() {
			h.close()
			delete(m.holds, s)
		}
	}
}

func (m *mesh) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for s, h := range m.holds {
		h.close()
		delete(m.holds, s)
	}
}

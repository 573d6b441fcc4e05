package network

import (
	"context"
	"net/netip"
	"sync"

	"go.uber.org/zap"
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

// mesh is the ports of other hosts that this one answers on: it carries what comes there to the owner, by the listeners
// alone. The owner sees this host as the source.
type mesh struct {
	log *zap.Logger

	mu    sync.Mutex
	holds map[socket]*hold
}

// SetMesh makes the ports of other hosts that this host answers on those given. One that another process has is logged,
// and tried again with the next call.
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

package snapshot

import (
	"net/netip"
	"slices"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

// Container is one container, or the reservation of one that is being created.
type Container struct {
	Account nereid.Account
	ID      nereid.ContainerID
	Host    nereid.Host
	Name    string // empty: not known yet
	Service string // what it is one of; empty: of nothing
	Labels  map[string]string
	Ports   []Port
	Resources
	// Holds tells whether it takes up what it reserves: it runs, or is about to. One that ended does not.
	Holds bool
}

// entry is a container as it is counted.
type entry struct {
	Container
	slot int32
}

// account is an account's containers. Names are unique in it.
type account struct {
	containers map[nereid.ContainerID]*entry
	names      map[string]*entry
	answers
}

// PutContainer enters a container or replaces it; its labels and ports are not to be changed any more.
func (s *Snapshot) PutContainer(c Container) {
	a := s.accounts[c.Account]
	if a == nil {
		a = &account{
			containers: map[nereid.ContainerID]*entry{}, names: map[string]*entry{},
			answers: answers{labels: map[string]*lens{}, patterns: map[string]*match{}},
		}
		s.accounts[c.Account] = a
	}
	// The new one first: a slot both use, and the answers kept for the account, stay.
	old := a.containers[c.ID]
	e := &entry{Container: c, slot: s.slotOf(c.Host)}
	a.containers[c.ID] = e
	if c.Name != "" {
		a.names[c.Name] = e
	}
	s.count(a, e, 1)
	if old != nil {
		s.forget(a, old)
	}
}

// RemoveContainer takes a container out. Not there is fine.
func (s *Snapshot) RemoveContainer(of nereid.Account, id nereid.ContainerID) {
	a := s.accounts[of]
	if a == nil {
		return
	}
	e := a.containers[id]
	if e == nil {
		return
	}
	delete(a.containers, id)
	s.forget(a, e)
	if len(a.containers) == 0 {
		delete(s.accounts, of)
	}
}

// Container as it was put.
func (s *Snapshot) Container(of nereid.Account, id nereid.ContainerID) (Container, bool) {
	a := s.accounts[of]
	if a == nil || a.containers[id] == nil {
		return Container{}, false
	}
	return a.containers[id].Container, true
}

// forget takes an entry out of all that counts it.
func (s *Snapshot) forget(a *account, e *entry) {
	if a.names[e.Name] == e {
		delete(a.names, e.Name)
	}
	s.count(a, e, -1)
	s.release(e.slot)
}

// count adds a container to, or takes it from, all that is counted.
func (s *Snapshot) count(a *account, e *entry, by int32) {
	h := &s.slots[e.slot]
	h.containers += int(by)
	a.count(e, by)
	if !e.Holds {
		return
	}
	h.held += int(by)
	h.used.Memory += int64(by) * e.Memory
	h.used.CPUs += int64(by) * e.CPUs
	for _, p := range e.Ports {
		h.countPort(p, by)
	}
	if e.Service != "" {
		s.countService(e, h.rack, by)
	}
}

func (s *Snapshot) countService(e *entry, rack, by int32) {
	key := service{e.Account, e.Service}
	g := s.services[key]
	if g == nil {
		g = &Group{}
		s.services[key] = g
	}
	g.inRack(rack, by)
	if !g.Hosts.change(e.slot, by) {
		delete(s.services, key)
	}
}

func (h *host) countPort(p Port, by int32) {
	k := portKey{p.Proto, p.Port}
	if by > 0 {
		if h.ports == nil {
			h.ports = map[portKey][]netip.Addr{}
		}
		h.ports[k] = append(h.ports[k], p.IP)
		return
	}
	list := slices.Clone(h.ports[k])
	if i := slices.Index(list, p.IP); i >= 0 {
		list = slices.Delete(list, i, i+1)
	}
	if h.ports[k] = list; len(list) == 0 {
		delete(h.ports, k)
	}
}

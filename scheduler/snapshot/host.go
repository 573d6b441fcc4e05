package snapshot

import (
	"hash/fnv"
	"maps"
	"net/netip"
	"slices"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

// Resources are what containers reserve and hosts have.
type Resources struct {
	Memory int64 // bytes
	CPUs   int64 // billionths of one, as Docker's NanoCpus
}

// Health is what is rumoured of a host.
type Health uint8

// The values of Health.
const (
	Alive Health = iota
	Suspect
	Unreachable
)

// Host is one host of the fleet.
type Host struct {
	Name     nereid.Host
	Labels   map[string]string // those of the host, and what constraints may ask of any host; "node" is its name
	Platform string            // "linux/amd64"
	Capacity Resources
	// OvercommitMemory and OvercommitCPUs are how many times its capacity may be reserved; 0: without limit.
	OvercommitMemory, OvercommitCPUs float64
	MaxContainers                    int // 0: without limit
	Cordoned                         bool
}

// LabelRack is the label of a host that says in which rack it is.
const LabelRack = "rack"

// host is a slot.
type host struct {
	Host
	health     Health
	rack       int32     // its number; 0: none
	hash       uint64    // of the name
	allowed    Resources // to be reserved
	used       Resources
	containers int // all
	held       int // that hold what they reserve
	ports      map[portKey][]netip.Addr
}

type portKey struct {
	proto string
	port  uint16
}

// Port is a port of a host's own address, which one container of the host can have.
type Port struct {
	Proto string
	IP    netip.Addr // unspecified or invalid: every address
	Port  uint16
}

func (p Port) overlaps(ip netip.Addr) bool {
	any := func(a netip.Addr) bool { return !a.IsValid() || a.IsUnspecified() }
	return any(p.IP) || any(ip) || p.IP == ip
}

// slotOf finds a host's slot, or gives it one.
func (s *Snapshot) slotOf(name nereid.Host) int32 {
	if slot, ok := s.slot[name]; ok {
		return slot
	}
	var slot int32
	if n := len(s.free); n > 0 {
		slot, s.free = s.free[n-1], s.free[:n-1]
	} else {
		slot = int32(len(s.slots))
		s.slots = append(s.slots, host{})
		s.known, s.alive, s.open = s.known.grown(int(slot)), s.alive.grown(int(slot)), s.open.grown(int(slot))
	}
	s.slots[slot] = host{Host: Host{Name: name}, hash: hash(name)}
	s.slot[name] = slot
	s.epoch++
	return slot
}

// release gives a slot back that neither a host nor containers need.
func (s *Snapshot) release(slot int32) {
	h := &s.slots[slot]
	if s.known.Has(int(slot)) || h.containers > 0 {
		return
	}
	delete(s.slot, h.Name)
	*h = host{}
	s.epoch++
	s.free = append(s.free, slot)
}

// PutHost enters a host or replaces what was known of it; its labels are not to be changed any more.
func (s *Snapshot) PutHost(h Host) {
	slot := s.slotOf(h.Name)
	old := &s.slots[slot]
	s.unlist(slot)
	s.describe(slot, h)
	s.known.Add(int(slot))
	for k, v := range h.Labels {
		values := s.labels[k]
		if values == nil {
			values = map[string]*Tally{}
			s.labels[k] = values
		}
		tally(values, v).change(slot, 1)
	}
	tally(s.platforms, h.Platform).change(slot, 1)
	if !h.Cordoned {
		s.open.Add(int(slot))
	}
	if old.health == Alive {
		s.alive.Add(int(slot))
	}
}

// RemoveHost takes a host out of the fleet. Its containers stay counted, in case it comes back.
func (s *Snapshot) RemoveHost(name nereid.Host) {
	slot, ok := s.slot[name]
	if !ok {
		return
	}
	s.unlist(slot)
	s.describe(slot, Host{Name: name})
	s.slots[slot].health = Alive
	s.release(slot)
}

// unlist takes a host out of the sets and tallies of hosts.
func (s *Snapshot) unlist(slot int32) {
	if !s.known.Has(int(slot)) {
		return
	}
	h := &s.slots[slot]
	for k, v := range h.Labels {
		uncount(s.labels[k], v, slot)
		if len(s.labels[k]) == 0 {
			delete(s.labels, k)
		}
	}
	uncount(s.platforms, h.Platform, slot)
	for _, set := range []Set{s.known, s.alive, s.open} {
		set.Remove(int(slot))
	}
}

// SetHealth notes what is rumoured of a host. A host that is not in the fleet is not remembered.
func (s *Snapshot) SetHealth(name nereid.Host, health Health) {
	slot, ok := s.Find(name)
	if !ok {
		return
	}
	s.slots[slot].health = health
	if health == Alive {
		s.alive.Add(slot)
	} else {
		s.alive.Remove(slot)
	}
}

// Health of the host in a slot.
func (s *Snapshot) Health(slot int) Health { return s.slots[slot].health }

// tally finds a value's tally, or makes it.
func tally[K comparable](m map[K]*Tally, key K) *Tally {
	t := m[key]
	if t == nil {
		t = &Tally{}
		m[key] = t
	}
	return t
}

// uncount takes one from a host's count, and the tally away when nothing is left.
func uncount[K comparable](m map[K]*Tally, key K, slot int32) {
	if t := m[key]; t != nil && !t.change(slot, -1) {
		delete(m, key)
	}
}

// describe notes what is to be known of a host, and what follows from it.
func (s *Snapshot) describe(slot int32, is Host) {
	h := &s.slots[slot]
	h.Host = is
	h.allowed = Resources{
		Memory: int64(is.OvercommitMemory * float64(is.Capacity.Memory)),
		CPUs:   int64(is.OvercommitCPUs * float64(is.Capacity.CPUs)),
	}
	from := h.rack
	if h.rack = s.rackID(is.Labels[LabelRack]); h.rack != from {
		s.moveRack(slot, from, h.rack)
	}
}

// rackID is a rack's number. Racks are few, and are not forgotten.
func (s *Snapshot) rackID(name string) int32 {
	if name == "" {
		return 0
	}
	id, ok := s.rackIDs[name]
	if !ok {
		id = int32(len(s.rackIDs) + 1)
		s.rackIDs[name] = id
	}
	return id
}

func hash(name nereid.Host) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name)) // never fails, by its contract
	return h.Sum64()
}

// Hash is a number that goes by the name of the host in a slot.
func (s *Snapshot) Hash(slot int) uint64 { return s.slots[slot].hash }

// moveRack counts the containers of a host that is in another rack now.
func (s *Snapshot) moveRack(slot, from, to int32) {
	for _, g := range s.services {
		n := int32(g.OnHost(int(slot)))
		if n == 0 {
			continue
		}
		g.inRack(from, -n)
		g.inRack(to, n)
	}
}

func (g *Group) inRack(rack, by int32) {
	if rack == 0 {
		return
	}
	if g.racks == nil {
		g.racks = map[int32]int32{}
	}
	if g.racks[rack] += by; g.racks[rack] <= 0 {
		delete(g.racks, rack)
	}
}

// Free is what can be reserved on a host yet, and whether that is limited at all. It is negative where more is
// reserved than may be, as after a factor was lowered.
func (s *Snapshot) Free(slot int) (free Resources, memory, cpus bool) {
	h := &s.slots[slot]
	free = Resources{Memory: h.allowed.Memory - h.used.Memory, CPUs: h.allowed.CPUs - h.used.CPUs}
	return free, h.OvercommitMemory > 0, h.OvercommitCPUs > 0
}

// Containers is the number of containers on a host, whatever their state.
func (s *Snapshot) Containers(slot int) int { return s.slots[slot].containers }

// nominalPerCPU is how many containers a CPU is taken to be full with, when containers that reserve nothing are
// compared: a few dozen idle ones fit, hundreds do not. It is a measure, never a limit.
const nominalPerCPU = 50

// Share is the dominant share of a host's capacity with a container more that asks for what is given: the greatest of
// the parts of memory, CPUs and nominal places that are reserved.
func (s *Snapshot) Share(slot int, asked Resources) float64 {
	h := &s.slots[slot]
	part := func(used, of int64) float64 {
		if of <= 0 {
			return 0
		}
		return float64(used) / float64(of)
	}
	return max(
		part(h.used.Memory+asked.Memory, h.Capacity.Memory),
		part(h.used.CPUs+asked.CPUs, h.Capacity.CPUs),
		float64(h.held+1)*s.Place(slot),
	)
}

// Place is the share of a host's capacity that a container takes which reserves nothing.
func (s *Snapshot) Place(slot int) float64 {
	if cpus := s.slots[slot].Capacity.CPUs; cpus > 0 {
		return 1e9 / nominalPerCPU / float64(cpus)
	}
	return 0
}

// PortTaken tells whether a container of the host has a port.
func (s *Snapshot) PortTaken(slot int, p Port) bool {
	return slices.ContainsFunc(s.slots[slot].ports[portKey{p.Proto, p.Port}], p.overlaps)
}

// HostsWhere are the hosts with a label whose value is wanted, "node" being the host's name. The set is the caller's.
func (s *Snapshot) HostsWhere(key string, p Matcher) Set {
	out := NewSet(len(s.slots))
	if key == KeyNode {
		s.hostsNamed(p, out)
		return out
	}
	values := s.labels[key]
	if v, ok := p.Exact(); ok {
		values[v].AddTo(out)
		return out
	}
	for v, t := range values {
		if p.Match(v) {
			t.AddTo(out)
		}
	}
	return out
}

// KeyNode is the key of constraints that means the host's name.
const KeyNode = "node"

func (s *Snapshot) hostsNamed(p Matcher, out Set) {
	if v, ok := p.Exact(); ok {
		if slot, ok := s.Find(nereid.Host(v)); ok {
			out.Add(slot)
		}
		return
	}
	for slot := range s.known.All() {
		if p.Match(string(s.slots[slot].Name)) {
			out.Add(slot)
		}
	}
}

// LabelValues are the values of a hosts' label, with the number of hosts of each.
func (s *Snapshot) LabelValues(key string) map[string]int {
	out := map[string]int{}
	for v, t := range maps.All(s.labels[key]) {
		out[v] = t.Hosts()
	}
	return out
}

// PlatformHosts counts the hosts of a platform.
func (s *Snapshot) PlatformHosts(platform string) *Tally { return s.platforms[platform] }

// Matcher is the value an expression asks for: one text, when Exact says so, or all that match.
type Matcher interface {
	Exact() (string, bool)
	Match(string) bool
	String() string
}

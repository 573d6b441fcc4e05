// Package snapshot holds what the scheduler knows of a fleet, indexed so that a placement looks at a few hosts of many,
// and what a placement asks for. It is kept up to date record by record, at a cost that does not grow with the fleet.
package snapshot

import (
	"github.com/nereid-paas/nereid/pkg/nereid"
)

// Snapshot is a fleet at one moment. It has one owner: neither its methods nor a placement over it may run at once.
// Readers fill caches in it, which change no answer.
//
// Hosts have slots, small numbers that sets and tallies go by. A slot is a host's until it is removed.
type Snapshot struct {
	slots []host // by slot
	slot  map[nereid.Host]int32
	free  []int32 // slots of no host

	known     Set // in the fleet
	alive     Set
	open      Set                          // not cordoned
	labels    map[string]map[string]*Tally // of hosts: by key, then value
	platforms map[string]*Tally

	accounts map[nereid.Account]*account
	services map[service]*Group
	images   map[nereid.Account]map[nereid.ImageID]*image

	rackIDs map[string]int32 // from 1
	epoch   int              // of the slots: which host has which
}

// service is an account's set of like containers.
type service struct {
	account nereid.Account
	name    string
}

// Group is where the containers of one service are.
type Group struct {
	Hosts Tally
	racks map[int32]int32 // by the rack's number
}

// InRack counts those in the rack of a host; 0 when it is in none. A nil group is empty.
func (g *Group) InRack(s *Snapshot, slot int) int {
	if g == nil {
		return 0
	}
	return int(g.racks[s.slots[slot].rack])
}

// OnHost counts those on a host. A nil group is empty.
func (g *Group) OnHost(slot int) int {
	if g == nil {
		return 0
	}
	return g.Hosts.On(slot)
}

// New is a fleet without hosts.
func New() *Snapshot {
	return &Snapshot{
		slot:      map[nereid.Host]int32{},
		labels:    map[string]map[string]*Tally{},
		platforms: map[string]*Tally{},
		accounts:  map[nereid.Account]*account{},
		services:  map[service]*Group{},
		rackIDs:   map[string]int32{},
		images:    map[nereid.Account]map[nereid.ImageID]*image{},
	}
}

// Hosts is the number of hosts in the fleet.
func (s *Snapshot) Hosts() int { return s.known.Len() }

// Slots is the number that every slot is below.
func (s *Snapshot) Slots() int { return len(s.slots) }

// Known are the hosts in the fleet; the set is the caller's.
func (s *Snapshot) Known() Set { return s.known.Clone() }

// Alive are the hosts not rumoured to be away. It is the snapshot's: do not change it.
func (s *Snapshot) Alive() Set { return s.alive }

// Open are the hosts that take new containers. It is the snapshot's: do not change it.
func (s *Snapshot) Open() Set { return s.open }

// Find is the slot of a host in the fleet.
func (s *Snapshot) Find(name nereid.Host) (int, bool) {
	slot, ok := s.slot[name]
	return int(slot), ok && s.known.Has(int(slot))
}

// Host in a slot; it is the snapshot's: do not change it.
func (s *Snapshot) Host(slot int) *Host { return &s.slots[slot].Host }

// Group is where an account's service runs; nil when nowhere.
func (s *Snapshot) Group(a nereid.Account, name string) *Group {
	return s.services[service{a, name}]
}

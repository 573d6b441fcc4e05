package publish

import (
	"net/netip"
	"slices"

	"github.com/nereid-paas/nereid/cns/record"
	"github.com/nereid-paas/nereid/cns/zone"
	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// Builder makes zones of the state, change by change: only what changed is named anew. It has no clock and does no
// I/O. One goroutine uses it.
type Builder struct {
	apex string
	set  *zone.Set

	containers map[containerKey][]record.Record
	hosts      map[nereid.Host][]record.Record
	networks   map[nereid.NetworkID][]string // reverse zones
	reverse    map[string]int                // reverse zones, and how many networks are in each
}

type containerKey struct {
	account nereid.Account
	id      nereid.ContainerID
}

// NewBuilder makes a Builder whose zone has the apex DC.ZONE.
func NewBuilder(cfg Config) (*Builder, error) {
	apex, err := record.FQDN(cfg.DC + "." + cfg.Zone)
	if err != nil {
		return nil, err
	}
	b := &Builder{
		apex:       apex,
		containers: map[containerKey][]record.Record{},
		hosts:      map[nereid.Host][]record.Record{},
		networks:   map[nereid.NetworkID][]string{},
		reverse:    map[string]int{},
	}
	e := zone.New().Edit()
	e.AddZone(b.authority(apex))
	b.set = e.Done(0)
	return b, nil
}

// Apex is the zone of the names, fully qualified.
func (b *Builder) Apex() string { return b.apex }

// authority is what the SOA and NS records of one of our zones say.
func (b *Builder) authority(apex string) zone.Authority {
	return zone.Authority{Apex: apex, Servers: []string{"ns." + b.apex}, Mailbox: "hostmaster." + b.apex}
}

// Apply returns the set after some changes, as of a revision of the state, which becomes the serial of the zones that
// changed: it grows with every change, is the same on every host and outlives restarts.
func (b *Builder) Apply(changes []state.Change, rev state.Revision) *zone.Set {
	e := b.set.Edit()
	for _, c := range changes {
		switch r := either(c).(type) {
		case *state.Container:
			b.container(e, r, c.New == nil)
		case *state.Network:
			b.network(e, r, c.New == nil)
		case *state.Host:
			b.host(e, r, c.New == nil)
		}
	}
	b.set = e.Done(uint32(rev))
	return b.set
}

// either is the newest there is of a changed record.
func either(c state.Change) state.Record {
	if c.New != nil {
		return c.New
	}
	return c.Old
}

func (b *Builder) container(e *zone.Edit, c *state.Container, gone bool) {
	key := containerKey{c.Account, c.ID}
	var now []record.Record
	if !gone {
		now, _ = record.Build(b.apex, instance(c))
	}
	swap(e, b.containers, key, now)
}

// host makes each host a name server: the name that NS records lead to has the addresses of them all.
func (b *Builder) host(e *zone.Edit, h *state.Host, gone bool) {
	var now []record.Record
	if !gone && h.Advertise.IsValid() {
		now = append(now, addressRecord("ns."+b.apex, h.Advertise))
	}
	swap(e, b.hosts, h.Name, now)
}

func addressRecord(name string, a netip.Addr) record.Record {
	r := record.Record{Name: name, Type: record.A, TTL: record.TTL, Addr: a.Unmap().WithZone("")}
	if r.Addr.Is6() {
		r.Type = record.AAAA
	}
	return r
}

// swap puts the records that somebody has now in the place of those it had.
func swap[K comparable](e *zone.Edit, all map[K][]record.Record, key K, now []record.Record) {
	before := all[key]
	if slices.Equal(before, now) {
		return
	}
	for _, r := range before {
		e.Remove(r)
	}
	for _, r := range now {
		e.Add(r)
	}
	if len(now) == 0 {
		delete(all, key)
		return
	}
	all[key] = now
}

// network makes the reverse zones of a network's subnets ours for as long as a network is in them.
func (b *Builder) network(e *zone.Edit, n *state.Network, gone bool) {
	var now []string
	if !gone {
		for _, s := range n.Subnets {
			now = append(now, record.ReverseZones(s.Prefix)...)
		}
	}
	before := b.networks[n.ID]
	if slices.Equal(before, now) {
		return
	}
	for _, apex := range now {
		if b.reverse[apex]++; b.reverse[apex] == 1 {
			e.AddZone(b.authority(apex))
		}
	}
	for _, apex := range before {
		if b.reverse[apex]--; b.reverse[apex] == 0 {
			delete(b.reverse, apex)
			e.RemoveZone(apex)
		}
	}
	b.networks[n.ID] = now
	if len(now) == 0 {
		delete(b.networks, n.ID)
	}
}

package publish

import (
	"maps"
	"slices"

	"github.com/nereid-paas/nereid/cns/record"
	"github.com/nereid-paas/nereid/cns/zone"
	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// Builder makes zones of the state, change by change: only what changed is named anew. It has no clock and does no
// I/O: the same state gives the same zones on every host. One goroutine uses it.
type Builder struct {
	apex  string // of the default zone
	self  nereid.Host
	set   *zone.Set
	plans plans

	containers map[containerKey]*named
	on         map[nereid.Host]map[containerKey]bool
	hosts      map[nereid.Host]*serving
	namings    map[containerKey]*state.Naming
	networks   map[nereid.NetworkID]*state.Network
	absent     map[nereid.Host]bool // as the state says
	doubted    map[nereid.Host]bool // as this host believes
	zones      map[string]*state.Zone
	keys       map[string]map[uint16]*state.ZoneKey // by apex and tag
	signers    map[string]signer
	reverse    map[string]bool // apexes that are ours now
}

type containerKey struct {
	account nereid.Account
	id      nereid.ContainerID
}

// named is a container and what it has in the zones.
type named struct {
	container *state.Container
	entered
}

// serving is a host, a server of all zones, and what it has in them.
type serving struct {
	host   *state.Host   // nil: it holds no lease
	member *state.Member // nil: it is not in the fleet (any more)
	entered
}

// facts are what the host last said of itself; nil: it is not known.
func (s *serving) facts() *state.Host {
	switch {
	case s == nil:
		return nil
	case s.host == nil && s.member != nil:
		return &s.member.Facts
	}
	return s.host
}

// entered are somebody's records in the zones.
type entered struct {
	records []record.Record
	hidden  bool
}

// Kinds are the records of the state that zones are made of.
func Kinds() []state.Kind {
	return []state.Kind{
		state.KindContainer, state.KindNetwork, state.KindHost, state.KindMember, state.KindNaming, state.KindAbsence, state.KindZone, state.KindZoneKey,
	}
}

// NewBuilder makes a Builder whose default zone has the apex DC.ZONE.
func NewBuilder(cfg Config) (*Builder, error) {
	apex, err := record.FQDN(cfg.DC + "." + cfg.Zone)
	if err != nil {
		return nil, err
	}
	b := &Builder{
		apex: apex, self: cfg.Host, set: zone.New(),
		containers: map[containerKey]*named{}, on: map[nereid.Host]map[containerKey]bool{}, hosts: map[nereid.Host]*serving{},
		namings: map[containerKey]*state.Naming{}, networks: map[nereid.NetworkID]*state.Network{},
		absent: map[nereid.Host]bool{}, doubted: map[nereid.Host]bool{},
		zones: map[string]*state.Zone{}, keys: map[string]map[uint16]*state.ZoneKey{}, signers: map[string]signer{}, reverse: map[string]bool{},
	}
	return b, nil
}

// Apex is the default zone, fully qualified.
func (b *Builder) Apex() string { return b.apex }

// Apply returns the set after some changes, as of a revision of the state, and what changed in it. The revision becomes
// the serial of the zones that changed: it grows with every change, is the same on every host and outlives restarts.
func (b *Builder) Apply(changes []state.Change, rev state.Revision) (*zone.Set, []zone.Diff) {
	doubted := b.doubted
	if len(doubted) > 0 { // what changes is what the state says, not what this host makes of it
		b.Doubt(nil)
	}
	diffs := b.apply(changes, rev)
	if len(doubted) > 0 {
		b.Doubt(doubted)
	}
	return b.set, diffs
}

func (b *Builder) apply(changes []state.Change, rev state.Revision) []zone.Diff {
	e := b.set.Edit()
	d := dirt{containers: map[containerKey]bool{}, hosts: map[nereid.Host]bool{}}
	for _, c := range changes {
		b.learn(c, &d)
	}
	if len(b.plans) == 0 || d.zones {
		b.replan(e, &d)
	}
	if d.zones || d.networks {
		b.reverseZones(e, d.zones)
	}
	b.rename(e, d)
	b.set = e.Done(uint32(rev))
	return e.Diffs()
}

// Doubt hides what some hosts run, and nobody else, on this host alone: for as long as the state cannot be asked.
func (b *Builder) Doubt(hosts map[nereid.Host]bool) *zone.Set {
	e := b.set.Edit()
	e.Quiet()
	d := dirt{containers: map[containerKey]bool{}, hosts: map[nereid.Host]bool{}}
	for h := range b.hosts {
		if hosts[h] != b.doubted[h] {
			d.host(b, h)
		}
	}
	if b.doubted = maps.Clone(hosts); b.doubted == nil {
		b.doubted = map[nereid.Host]bool{}
	}
	b.rename(e, d)
	b.set = e.Done(0)
	return b.set
}

// dirt is what is to be named anew.
type dirt struct {
	containers map[containerKey]bool
	hosts      map[nereid.Host]bool
	all        bool
	zones      bool // and settings of zones and keys
	networks   bool
}

// host marks a host and all it runs.
func (d *dirt) host(b *Builder, h nereid.Host) {
	d.hosts[h] = true
	for key := range b.on[h] {
		d.containers[key] = true
	}
}

// learn remembers a changed record and marks what depends on it.
func (b *Builder) learn(c state.Change, d *dirt) {
	gone := c.New == nil
	switch r := either(c).(type) {
	case *state.Container:
		b.container(r, gone, d)
	case *state.Network:
		keep(b.networks, r.ID, r, gone)
		d.networks = true
		d.networkOf(b, r)
	case *state.Host:
		h := b.server(r.Name)
		if h.host = r; gone {
			h.host = nil
		}
		d.host(b, r.Name)
	case *state.Member:
		h := b.server(r.Name)
		if h.member = r; gone {
			h.member = nil
		}
		d.host(b, r.Name)
	case *state.Naming:
		key := containerKey{r.Account, r.Container}
		keep(b.namings, key, r, gone)
		d.containers[key] = true
	case *state.Absence:
		keep(b.absent, r.Host, true, gone)
		d.host(b, r.Host)
	case *state.Zone:
		keep(b.zones, r.Apex, r, gone)
		d.zones = true
	case *state.ZoneKey:
		b.key(r, gone)
		d.zones = true
	}
}

// networkOf marks the containers of a network that came after them: whether it is an account's own shows in their names.
// Those that come with or after their network know it.
func (d *dirt) networkOf(b *Builder, n *state.Network) {
	for key, c := range b.containers {
		if c.container == nil {
			continue // it went in the same change
		}
		for _, e := range c.container.Networks {
			if e != nil && e.Network == n.ID {
				d.containers[key] = true
			}
		}
	}
}

func keep[K comparable, V any](all map[K]V, key K, v V, gone bool) {
	if gone {
		delete(all, key)
		return
	}
	all[key] = v
}

// either is the newest there is of a changed record.
func either(c state.Change) state.Record {
	if c.New != nil {
		return c.New
	}
	return c.Old
}

func (b *Builder) server(h nereid.Host) *serving {
	if b.hosts[h] == nil {
		b.hosts[h] = &serving{}
	}
	return b.hosts[h]
}

func (b *Builder) container(c *state.Container, gone bool, d *dirt) {
	key := containerKey{c.Account, c.ID}
	d.containers[key] = true
	n := b.containers[key]
	if n == nil {
		n = &named{}
		b.containers[key] = n
	}
	if n.container != nil && n.container.Host != c.Host {
		delete(b.on[n.container.Host], key)
	}
	if n.container = c; gone {
		n.container = nil
		delete(b.on[c.Host], key)
		return
	}
	if b.on[c.Host] == nil {
		b.on[c.Host] = map[containerKey]bool{}
	}
	b.on[c.Host][key] = true
}

// replan takes up what operators said of zones.
func (b *Builder) replan(e *zone.Edit, d *dirt) {
	before := b.plans
	b.plans = makePlans(b.apex, b.zones)
	for _, p := range before {
		if !slices.ContainsFunc(b.plans, func(q plan) bool { return q.Apex == p.Apex }) {
			e.RemoveZone(p.Apex)
			delete(b.signers, p.Apex)
		}
	}
	for _, p := range b.plans {
		e.AddZone(b.authority(p.Apex, p.cfg))
	}
	d.all = d.all || !slices.EqualFunc(before, b.plans, plan.same) || !sameServers(before, b.plans)
}

func sameServers(a, b plans) bool {
	return slices.EqualFunc(a, b, func(p, q plan) bool { return p.hidden() == q.hidden() })
}

// hidden tells whether hosts of ours are no servers of the zone that others know of.
func (p plan) hidden() bool { return p.cfg != nil && p.cfg.HiddenPrimary }

// rename puts what is dirty into the zones.
func (b *Builder) rename(e *zone.Edit, d dirt) {
	if d.all {
		for key := range b.containers {
			d.containers[key] = true
		}
		for h := range b.hosts {
			d.hosts[h] = true
		}
	}
	for h := range d.hosts {
		b.renameHost(e, h)
	}
	for key := range d.containers {
		n := b.containers[key]
		if n == nil {
			continue // said of a container that is not there
		}
		var now []record.Record
		hidden := false
		if c := n.container; c != nil {
			hidden = b.unreachable(c.Host)
			for i, in := range instances(b.plans, c, b.surroundings(c)) {
				records, _ := record.Build(b.plans[i].Zone, in)
				now = append(now, records...)
			}
		} else {
			delete(b.containers, key)
		}
		n.swap(e, now, hidden)
	}
}

func (b *Builder) surroundings(c *state.Container) surroundings {
	s := surroundings{naming: b.namings[containerKey{c.Account, c.ID}], own: func(id nereid.NetworkID) bool {
		n := b.networks[id]
		return n != nil && !n.Predefined
	}}
	s.host = b.hosts[c.Host].facts()
	return s
}

// unreachable tells whether what a host runs is to be hidden: it cannot be reached, or is in the fleet no more. One whose
// daemon was stopped is neither: what it runs goes on. This host itself is here.
func (b *Builder) unreachable(h nereid.Host) bool {
	if h == b.self {
		return false
	}
	return b.absent[h] || b.doubted[h] || b.hosts[h].facts() == nil
}

// renameHost makes each host a name server of every zone that is not a hidden primary's, and one that has metrics: the
// names that NS and CNAME records lead to have the addresses of them all.
func (b *Builder) renameHost(e *zone.Edit, name nereid.Host) {
	h := b.server(name)
	var now []record.Record
	for _, p := range b.plans {
		at := public(h.facts())
		if !p.Outer {
			at = advertised(h.facts())
		}
		for _, a := range at {
			if !p.hidden() {
				now = append(now, record.Address(serverLabel+"."+p.Apex, p.TTL, a))
			}
			now = append(now, record.Address(record.Monitors+"."+p.Apex, p.TTL, a))
		}
	}
	h.swap(e, now, b.unreachable(name))
	if h.facts() == nil {
		delete(b.hosts, name)
	}
}

// swap puts the records that somebody has now in the place of those it had.
func (t *entered) swap(e *zone.Edit, now []record.Record, hidden bool) {
	if t.hidden == hidden && slices.Equal(t.records, now) {
		return
	}
	remove, add := e.Remove, e.Add
	if t.hidden {
		remove = e.RemoveHidden
	}
	if hidden {
		add = e.AddHidden
	}
	for _, r := range t.records {
		remove(r)
	}
	for _, r := range now {
		add(r)
	}
	t.records, t.hidden = now, hidden
}

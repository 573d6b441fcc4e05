// Package zone answers DNS questions from memory: immutable sets of zones, changed by making the next one.
package zone

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/nereid-paas/nereid/cns/record"
)

// Timers of the SOA record, in seconds, for secondaries of a zone that changes with every start and stop (RFC 1912,
// section 2.2): they are told of changes, and ask each minute in case they were not.
const (
	soaRefresh = 60
	soaRetry   = 10
	soaExpire  = 7 * 24 * 3600
)

// Authority is the start of a zone: its apex and what its SOA and NS records say.
type Authority struct {
	Apex    string   // fully qualified, lower case
	Servers []string // names of its name servers
	// Primary is the name the SOA record gives; the first of Servers when empty. A hidden primary is not among Servers.
	Primary string
	Mailbox string // of the one responsible, as a name
	// TTL is that of the records at the apex, NegativeTTL how long "not there" may be believed; seconds, 0: the package
	// record's.
	TTL, NegativeTTL uint32
	// SerialBase is added to the serials given to Done.
	SerialBase uint32
	Serial     uint32
	Signer     Signer // nil: not signed
}

// ttl is that of the apex' records.
func (z *Authority) ttl() uint32 { return cmp.Or(z.TTL, record.TTL) }

// Negative is how long "not there" may be believed, in seconds.
func (z *Authority) Negative() uint32 { return cmp.Or(z.NegativeTTL, record.NegativeTTL) }

// SOA is the zone's SOA record.
func (z *Authority) SOA() record.Record { return z.SOAAt(z.Serial) }

// SOAAt is the SOA record as it was, or would be, at a serial.
func (z *Authority) SOAAt(serial uint32) record.Record {
	primary := z.Primary
	if primary == "" && len(z.Servers) > 0 {
		primary = z.Servers[0]
	}
	b := record.AppendName(nil, primary)
	b = record.AppendName(b, z.Mailbox)
	for _, n := range []uint32{serial, soaRefresh, soaRetry, soaExpire, z.Negative()} {
		b = binary.BigEndian.AppendUint32(b, n)
	}
	return record.Record{Name: z.Apex, Type: record.SOA, TTL: z.ttl(), Data: string(b)}
}

// apexRecords are those that the zone has by itself, but for the SOA.
func (z *Authority) apexRecords() []record.Record {
	var all []record.Record
	for _, server := range z.Servers {
		all = append(all, record.Record{Name: z.Apex, Type: record.NS, TTL: z.ttl(), Target: server})
	}
	if z.Signer != nil {
		all = append(all, z.Signer.Keys(z.Apex, z.ttl())...)
	}
	return all
}

// same tells whether two zones say the same at their apex and count alike, whatever their serials are.
func (z *Authority) same(o *Authority) bool {
	return slices.Equal(z.apexRecords(), o.apexRecords()) && z.SOAAt(0) == o.SOAAt(0) && z.Signer == o.Signer && z.SerialBase == o.SerialBase
}

// Set is some zones and all their names. It never changes: readers need no lock.
type Set struct {
	zones  map[string]*area // by apex
	names  *table
	serial uint32 // last given to Done

	generation, layout uint64 // see Generation and Layout
}

// area is a zone with its names.
type area struct {
	Authority
	apex  []record.Record // see Authority.apexRecords
	order *order          // of the names that have records, the apex and cuts among them
	// signed is what proves the records at the apex.
	signed *signed
	cuts   []cut // sorted by apex
}

// New returns a set without zones.
func New() *Set { return &Set{zones: map[string]*area{}, names: &table{}} }

// Zones are the zones, by apex.
func (s *Set) Zones() []*Authority {
	zones := make([]*Authority, 0, len(s.zones))
	for _, z := range s.zones {
		zones = append(zones, &z.Authority)
	}
	slices.SortFunc(zones, func(a, b *Authority) int { return cmp.Compare(a.Apex, b.Apex) })
	return zones
}

// Zone finds the zone a name (fully qualified, lower case) is in: the one with the longest apex.
func (s *Set) Zone(name string) (*Authority, bool) {
	if a := s.area(name); a != nil {
		return &a.Authority, true
	}
	return nil, false
}

func (s *Set) area(name string) *area { return areaOf(s.zones, name) }

func areaOf(zones map[string]*area, name string) *area {
	for rest := name; ; {
		if z, ok := zones[rest]; ok {
			return z
		}
		if rest == "." {
			return nil
		}
		rest = parent(rest)
	}
}

// at are all records of a zone at a name, but for signatures and what they prove.
func (s *Set) at(z *area, name string) []record.Record {
	if c := z.cut(name); c != nil {
		return c.records
	}
	var all []record.Record
	if name == z.Apex {
		all = append(all, z.SOA())
		all = append(all, z.apex...)
	}
	if n := s.names.get(name); n != nil {
		all = n.appendTo(all)
	}
	return all
}

// signedAt is what proves the records at a name; nil in a zone that is not signed.
func (s *Set) signedAt(z *area, name string) *signed {
	if name == z.Apex {
		return z.signed
	}
	if c := z.cut(name); c != nil {
		return c.signed
	}
	if n := s.names.get(name); n != nil {
		return n.signed
	}
	return nil
}

// Records are all records of a zone but SOA and NS and what signs them, sorted by their text.
func (s *Set) Records(apex string) []record.Record {
	var all []record.Record
	z, ok := s.zones[apex]
	if !ok {
		return nil
	}
	for name := range z.order.all {
		if c := z.cut(name); c != nil {
			all = append(all, c.all()...)
		} else if n := s.names.get(name); n != nil {
			all = n.appendTo(all)
		}
	}
	slices.SortFunc(all, func(a, b record.Record) int { return cmp.Compare(a.String(), b.String()) })
	return all
}

// Each visits all records of a zone, signatures included, in the order of RFC 4034, section 6.1, SOA first, until visit
// returns false.
func (s *Set) Each(apex string, visit func(record.Record) bool) {
	z, ok := s.zones[apex]
	if !ok {
		return
	}
	for name := range z.order.all {
		for _, r := range s.at(z, name) {
			if !visit(r) {
				return
			}
		}
		for _, r := range s.signedAt(z, name).records() {
			if !visit(r) {
				return
			}
		}
		if c := z.cut(name); c != nil {
			for _, r := range c.glue {
				if !visit(r) {
					return
				}
			}
		}
	}
}

// Names is how many names with records a zone has.
func (s *Set) Names(apex string) int {
	if z, ok := s.zones[apex]; ok {
		return z.order.n
	}
	return 0
}

// parent is the name without its first label; "." has none above it.
func parent(name string) string {
	for i := 0; i < len(name); i++ {
		switch name[i] {
		case '\\':
			i++ // what is escaped separates nothing (RFC 1035, section 5.1)
		case '.':
			if i+1 == len(name) {
				return "."
			}
			return name[i+1:]
		}
	}
	return "."
}

// Canonical is a name in the form this package wants: lower case, with the root's dot.
func Canonical(name string) string {
	name = strings.ToLower(name)
	if !strings.HasSuffix(name, ".") {
		name += "."
	}
	return name
}

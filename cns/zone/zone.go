// Package zone answers DNS questions from memory: immutable sets of zones, changed by making the next one.
package zone

import (
	"cmp"
	"slices"
	"strings"

	"github.com/nereid-paas/nereid/cns/record"
)

// Verdict is what a question comes to.
type Verdict int

// The verdicts.
const (
	// Refused: the name is in no zone of ours.
	Refused Verdict = iota
	// Answer: there are records.
	Answer
	// NoData: the name is there, or is above one that is, but has no records of the type (RFC 2308, section 2.2).
	NoData
	// NXDomain: neither the name nor anything below it is there (RFC 2308, section 2.1; RFC 8020).
	NXDomain
)

// String is the verdict's name.
func (v Verdict) String() string {
	return [...]string{"Refused", "Answer", "NoData", "NXDomain"}[v]
}

// Authority is the start of a zone: its apex and what its SOA and NS records say.
type Authority struct {
	Apex    string   // fully qualified, lower case
	Servers []string // names of its name servers, the first is the primary
	Mailbox string   // of the one responsible, as a name
	Serial  uint32
}

// Result is the answer to a question.
type Result struct {
	Verdict    Verdict
	Answer     []record.Record
	Additional []record.Record // addresses of the answer's targets
	// Zone is the zone asked; nil when refused. Its SOA is the answer to a question for it, and belongs into the authority
	// section when there is none.
	Zone *Authority
}

// Set is some zones and all their names. It never changes: readers need no lock.
type Set struct {
	zones map[string]*Authority // by apex
	names *table
}

// New returns a set without zones.
func New() *Set { return &Set{zones: map[string]*Authority{}, names: &table{}} }

// Zones are the zones, by apex.
func (s *Set) Zones() []*Authority {
	zones := make([]*Authority, 0, len(s.zones))
	for _, z := range s.zones {
		zones = append(zones, z)
	}
	slices.SortFunc(zones, func(a, b *Authority) int { return cmp.Compare(a.Apex, b.Apex) })
	return zones
}

// Zone finds the zone a name (fully qualified, lower case) is in: the one with the longest apex.
func (s *Set) Zone(name string) (*Authority, bool) {
	for rest := name; ; {
		if z, ok := s.zones[rest]; ok {
			return z, true
		}
		if rest == "." {
			return nil, false
		}
		rest = parent(rest)
	}
}

// Lookup answers a question for records of one type at a name, fully qualified and in lower case.
func (s *Set) Lookup(name string, t record.Type) Result {
	z, ok := s.Zone(name)
	if !ok {
		return Result{Verdict: Refused}
	}
	r := Result{Zone: z, Answer: s.records(z, name, t)}
	switch {
	case len(r.Answer) > 0 || name == z.Apex && t == record.SOA:
		r.Verdict = Answer
		r.Additional = s.targets(r.Answer)
	case name == z.Apex || s.names.get(name) != nil:
		r.Verdict = NoData
	default:
		r.Verdict = NXDomain
	}
	return r
}

// records are those of one type at a name, in the order in which they were added.
func (s *Set) records(z *Authority, name string, t record.Type) []record.Record {
	var found []record.Record
	if name == z.Apex && t == record.NS {
		for _, server := range z.Servers {
			found = append(found, record.Record{Name: name, Type: record.NS, TTL: record.TTL, Target: server})
		}
	}
	if n := s.names.get(name); n != nil {
		for _, c := range n.records {
			if c.Type == t {
				found = append(found, c.Record)
			}
		}
	}
	return found
}

// targets are the addresses of the names that SRV and NS records lead to, as far as they are in our zones.
func (s *Set) targets(answer []record.Record) []record.Record {
	var found []record.Record
	seen := map[string]bool{}
	for _, r := range answer {
		if (r.Type != record.SRV && r.Type != record.NS) || seen[r.Target] {
			continue
		}
		seen[r.Target] = true
		if z, ok := s.Zone(r.Target); ok {
			found = append(found, s.records(z, r.Target, record.A)...)
			found = append(found, s.records(z, r.Target, record.AAAA)...)
		}
	}
	return found
}

// Records are all records of a zone but SOA and NS, sorted by their text.
func (s *Set) Records(apex string) []record.Record {
	var all []record.Record
	s.names.each(func(name string, n *node) {
		if z, ok := s.Zone(name); ok && z.Apex == apex {
			for _, c := range n.records {
				all = append(all, c.Record)
			}
		}
	})
	slices.SortFunc(all, func(a, b record.Record) int { return cmp.Compare(a.String(), b.String()) })
	return all
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

// Edit collects the changes from one set to the next. One goroutine uses it.
type Edit struct {
	zones   map[string]*Authority
	names   *tableEdit
	touched map[string]bool // names
}

// Edit begins the next set.
func (s *Set) Edit() *Edit {
	zones := make(map[string]*Authority, len(s.zones))
	for apex, z := range s.zones {
		zones[apex] = z
	}
	return &Edit{zones: zones, names: s.names.edit(), touched: map[string]bool{}}
}

// Add enters a record. Added by several, it is there until all have removed it.
func (e *Edit) Add(r record.Record) {
	e.touched[r.Name] = true
	if e.names.add(r) {
		for name := parent(r.Name); name != "."; name = parent(name) {
			e.names.below(name, 1)
		}
	}
}

// Remove takes back one Add of the same record; without one it does nothing.
func (e *Edit) Remove(r record.Record) {
	e.touched[r.Name] = true
	if e.names.remove(r) {
		for name := parent(r.Name); name != "."; name = parent(name) {
			e.names.below(name, -1)
		}
	}
}

// AddZone makes an apex ours, or changes what its SOA and NS say. Its Serial is set by Done.
func (e *Edit) AddZone(z Authority) {
	e.zones[z.Apex] = &z
	e.touched[z.Apex] = true
}

// RemoveZone gives an apex up. Records below it stay, unseen, until removed.
func (e *Edit) RemoveZone(apex string) { delete(e.zones, apex) }

// Done returns the next set. Zones that changed get the serial, or the one after theirs if that is not higher in the
// arithmetic of RFC 1982: no serial ever stands for two contents.
func (e *Edit) Done(serial uint32) *Set {
	next := &Set{zones: e.zones, names: e.names.done()}
	changed := map[string]bool{}
	for name := range e.touched {
		if z, ok := next.Zone(name); ok {
			changed[z.Apex] = true
		}
	}
	for apex := range changed {
		z := *e.zones[apex]
		if int32(serial-z.Serial) <= 0 && z.Serial != 0 {
			z.Serial++
		} else {
			z.Serial = serial
		}
		e.zones[apex] = &z
	}
	return next
}

// Canonical is a name in the form this package wants: lower case, with the root's dot.
func Canonical(name string) string {
	name = strings.ToLower(name)
	if !strings.HasSuffix(name, ".") {
		name += "."
	}
	return name
}

package zone

import "github.com/nereid-paas/nereid/cns/record"

// Generation numbers a set among those made from one another by edits: the next has a higher one.
func (s *Set) Generation() uint64 { return s.generation }

// Layout changes when zones come and go: while it stays, every name is in the zone it was in.
func (s *Set) Layout() uint64 { return s.layout }

// Version stands for all that a set has at a name, signatures included. Sets made from one another have equal ones for
// as long as that does not change.
type Version struct {
	node *node
	area *area // of an apex: it has what the zone says of itself
}

// Version is the one of a name, fully qualified and in lower case. It does not allocate.
func (s *Set) Version(name string) Version {
	return Version{node: s.names.get(name), area: s.zones[name]}
}

// Denied judges a question without looking for its answer. With Answer there are records, or an alias, and Lookup has
// them; the other verdicts are those that Lookup comes to. It does not allocate.
func (s *Set) Denied(name string, t record.Type) (Verdict, *Authority) {
	z := s.area(name)
	switch {
	case z == nil:
		return Refused, nil
	case s.has(z, name, t):
		return Answer, &z.Authority
	}
	return s.verdict(z, name), &z.Authority
}

// has tells whether there are records of a type at a name, or an alias.
func (s *Set) has(z *area, name string, t record.Type) bool {
	if t == record.NSEC || t == record.RRSIG {
		return s.signedAt(z, name) != nil
	}
	if name == z.Apex {
		if t == record.SOA {
			return true
		}
		for i := range z.apex {
			if z.apex[i].Type == t {
				return true
			}
		}
	}
	n := s.names.get(name)
	if n == nil {
		return false
	}
	for i := range n.records {
		if found := n.records[i].Type; found == t || found == record.CNAME {
			return true
		}
	}
	return false
}

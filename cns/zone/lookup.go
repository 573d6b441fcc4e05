package zone

import "github.com/nereid-paas/nereid/cns/record"

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
	// Unsure: all that the name has is on hosts that cannot be reached. It may be served there, so this is a failure of
	// ours to know (SERVFAIL) and never "not there".
	Unsure
)

// String is the verdict's name.
func (v Verdict) String() string {
	return [...]string{"Refused", "Answer", "NoData", "NXDomain", "Unsure"}[v]
}

// Result is the answer to a question.
type Result struct {
	Verdict Verdict
	// Answer are the records asked for: of one name and type, or an alias (CNAME) and what it leads to in our zones. With
	// NoData and NXDomain it has the aliases to a name that is so.
	Answer     []record.Record
	Additional []record.Record // addresses of the answer's targets
	// Signatures are those of Answer, Proof those of the SOA record and what proves that there is no answer: NSEC records
	// and their signatures. Both only of LookupSigned in a zone that is signed.
	Signatures, Proof []record.Record
	// Zone is the zone asked, or the one that aliases led to; nil when refused. Its SOA belongs into the authority section when there is no answer.
	Zone *Authority
}

// maxAliases bounds how many aliases are followed: ours lead to a name with addresses at once.
const maxAliases = 4

// Lookup answers a question for records of one type at a name, fully qualified and in lower case.
func (s *Set) Lookup(name string, t record.Type) Result { return s.lookup(name, t, false) }

// LookupSigned is Lookup for who wants to see signatures (RFC 4035, section 3.1).
func (s *Set) LookupSigned(name string, t record.Type) Result { return s.lookup(name, t, true) }

func (s *Set) lookup(name string, t record.Type, signed bool) Result {
	z := s.asked(name, t)
	if z == nil {
		return Result{Verdict: Refused}
	}
	r := Result{Zone: &z.Authority}
	signed = signed && z.signed != nil
	for range maxAliases {
		found, alias := s.records(z, name, t)
		r.Answer = append(r.Answer, found...)
		if signed && len(found) > 0 {
			r.Signatures = append(r.Signatures, s.signedAt(z, name).of(found[0].Type)...)
		}
		if alias == "" {
			s.judge(&r, z, name, len(found) > 0, signed)
			return r
		}
		if name, z = alias, s.area(alias); z == nil {
			break
		}
		signed = signed && z.signed != nil
	}
	r.Verdict = Answer // an alias to elsewhere
	return r
}

// asked is the zone that a question is for: the one the name is in, but of a zone's own digests the one above (RFC 4035,
// section 3.1.4.1).
func (s *Set) asked(name string, t record.Type) *area {
	z := s.area(name)
	if t == record.DS && z != nil && z.Apex == name {
		if a := above(s.zones, name); a != nil {
			return a
		}
	}
	return z
}

// judge says what the last name looked at comes to: the one asked, or the one that aliases lead to (RFC 6604, section 3).
func (s *Set) judge(r *Result, z *area, name string, found, signed bool) {
	if found {
		r.Verdict = Answer
		r.Additional = s.targets(r.Answer, len(r.Signatures) > 0)
		return
	}
	r.Zone = &z.Authority
	r.Verdict = s.verdict(z, name)
	if signed && r.Verdict != Unsure {
		r.Proof = s.denial(z, name, s.names.get(name))
	}
}

// verdict is what a name comes to that has no records of the type asked for.
func (s *Set) verdict(z *area, name string) Verdict {
	n := s.names.get(name)
	switch {
	case n != nil && n.unsure() && z.cut(name) == nil:
		return Unsure
	case name == z.Apex || n != nil || z.cut(name) != nil:
		return NoData
	}
	return NXDomain
}

// records are those of one type at a name, in the order in which they were added, or the alias that stands there
// instead. Names that are unsure have none.
func (s *Set) records(z *area, name string, t record.Type) (found []record.Record, alias string) {
	switch t {
	case record.NSEC:
		if p := s.signedAt(z, name); p != nil {
			return []record.Record{p.nsec}, ""
		}
	case record.RRSIG:
		return s.signedAt(z, name).signatures(), ""
	}
	if c := z.cut(name); c != nil {
		return ofType(c.records, t), ""
	}
	if name == z.Apex {
		if t == record.SOA {
			return []record.Record{z.SOA()}, ""
		}
		for _, r := range z.apex {
			if r.Type == t {
				found = append(found, r)
			}
		}
	}
	n := s.names.get(name)
	if n == nil {
		return found, ""
	}
	for _, c := range n.records {
		switch c.Type {
		case t:
			found = append(found, c.Record)
		case record.CNAME: // nothing else is beside it (RFC 2181, section 10.1)
			return []record.Record{c.Record}, c.Target
		}
	}
	return found, ""
}

// targets are the addresses of the names that SRV and NS records lead to, as far as they are in our zones.
func (s *Set) targets(answer []record.Record, signed bool) []record.Record {
	var found []record.Record
	seen := map[string]bool{}
	for _, r := range answer {
		if (r.Type != record.SRV && r.Type != record.NS) || seen[r.Target] {
			continue
		}
		seen[r.Target] = true
		z := s.area(r.Target)
		if z == nil {
			continue
		}
		for _, t := range []record.Type{record.A, record.AAAA} {
			addrs, alias := s.records(z, r.Target, t)
			if alias != "" || len(addrs) == 0 {
				continue
			}
			found = append(found, addrs...)
			if signed {
				found = append(found, s.signedAt(z, r.Target).of(t)...)
			}
		}
	}
	return found
}

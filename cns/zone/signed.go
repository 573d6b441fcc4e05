package zone

import (
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/nereid-paas/nereid/cns/record"
)

// Signer signs a zone's records. Its methods may be called at once from anywhere, and give the same answer to the same
// question on every host: an incremental transfer that began at one host may go on at another.
type Signer interface {
	// Keys are the records at the apex that tell of the keys.
	Keys(apex string, ttl uint32) []record.Record
	// Sign returns the signatures of records of one name and type.
	Sign(apex string, set []record.Record) []record.Record
	// Same tells whether another signer, never nil, signs a name's records as this one does.
	Same(other Signer, name string) bool
}

// signed is what proves the records at a name. It never changes.
type signed struct {
	nsec record.Record
	sigs []signature
}

// signature is that of the records of one type.
type signature struct {
	of record.Type
	record.Record
}

// of are the signatures of a type.
func (s *signed) of(t record.Type) []record.Record {
	if s == nil {
		return nil
	}
	var found []record.Record
	for _, sig := range s.sigs {
		if sig.of == t {
			found = append(found, sig.Record)
		}
	}
	return found
}

// records are all that a signed name has more than one that is not.
func (s *signed) records() []record.Record {
	if s == nil {
		return nil
	}
	return append([]record.Record{s.nsec}, s.signatures()...)
}

func (s *signed) signatures() []record.Record {
	if s == nil {
		return nil
	}
	var all []record.Record
	for _, sig := range s.sigs {
		all = append(all, sig.Record)
	}
	return all
}

// sign brings the signatures of a zone up with its records, and tells which records of DNSSEC went and came. Names that
// did not change keep theirs.
func (d *draft) sign(e *Edit, next *Set, a, before *area) (gone, come []record.Record) {
	was := before != nil && before.Signer != nil
	switch {
	case a.Signer == nil && !was && !d.whole:
		return nil, nil
	case a.Signer == nil:
		return d.unsign(e, next, a)
	}
	all := d.whole || !was || a.Signer != before.Signer || a.Negative() != before.Negative()
	names := d.names
	if all {
		names = slices.Collect(a.order.all)
	} else {
		names = d.neighbours(a, names)
	}
	made := make([]*signed, len(names))
	each(len(names), func(i int) {
		made[i] = d.prove(e.base, next, a, before, names[i])
	})
	for i, name := range names {
		var old *signed
		if was && !d.whole {
			old = e.base.signedAt(before, name)
		}
		if old != made[i] {
			g, c := differ(old.records(), made[i].records())
			gone, come = append(gone, g...), append(come, c...)
			d.store(e, a, name, made[i])
		}
	}
	for _, name := range d.vanished {
		if was {
			gone = append(gone, e.base.signedAt(before, name).records()...)
		}
		if n := e.names.next.get(name); n != nil && n.signed != nil { // it is still above others
			d.store(e, a, name, nil)
		}
	}
	return gone, come
}

func (d *draft) store(e *Edit, a *area, name string, s *signed) {
	if name == a.Apex {
		a.signed = s
		return
	}
	if a.cut(name) != nil {
		a.cuts = slices.Clone(a.cuts)
		a.cut(name).signed = s
		return
	}
	n := e.names.node(name)
	n.signed = s
	e.names.set(name, n)
}

// unsign drops all signatures of a zone that is not signed, or not any more.
func (d *draft) unsign(e *Edit, next *Set, a *area) (gone, come []record.Record) {
	for name := range a.order.all {
		if old := next.signedAt(a, name); old != nil {
			gone = append(gone, old.records()...)
			d.store(e, a, name, nil)
		}
	}
	return gone, nil
}

// neighbours are the names to look at when some changed: themselves, those before a name that came or went, and the
// apex with its SOA.
func (d *draft) neighbours(a *area, names []string) []string {
	seen := map[string]bool{a.Apex: true}
	for _, name := range names {
		seen[name] = true
	}
	for _, name := range append(slices.Clone(d.appeared), d.vanished...) {
		if b, ok := a.order.before(name); ok {
			seen[b] = true
		}
	}
	for _, name := range d.vanished {
		delete(seen, name)
	}
	all := make([]string, 0, len(seen))
	for name := range seen {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

// prove makes the signatures of a name, keeping those that are right.
func (d *draft) prove(base, next *Set, a, before *area, name string) *signed {
	var old *signed
	var oldRecords []record.Record
	if before != nil && before.Signer != nil && base.holds(before, name) && (a.Signer == before.Signer || a.Signer.Same(before.Signer, name)) {
		old, oldRecords = base.signedAt(before, name), base.at(before, name)
	}
	records := next.at(a, name)
	s := &signed{nsec: nsec(a, name, records)}
	changed := old == nil || old.nsec != s.nsec
	for _, set := range sets(records) {
		t := set[0].Type
		if t == record.NS && name != a.Apex { // of a cut: the zone below signs them (RFC 4035, section 2.2)
			continue
		}
		if sigs := old.of(t); len(sigs) > 0 && slices.Equal(ofType(oldRecords, t), set) {
			s.add(t, sigs)
			continue
		}
		changed = true
		s.add(t, a.Signer.Sign(a.Apex, set))
	}
	if old != nil && old.nsec == s.nsec {
		s.add(record.NSEC, old.of(record.NSEC))
	} else {
		s.add(record.NSEC, a.Signer.Sign(a.Apex, []record.Record{s.nsec}))
	}
	if !changed && len(s.sigs) == len(old.sigs) {
		return old
	}
	return s
}

// holds tells whether what is at a name was the zone's, and not that of a zone within it.
func (s *Set) holds(z *area, name string) bool { return z.cut(name) != nil || s.area(name) == z }

func (s *signed) add(t record.Type, sigs []record.Record) {
	for _, r := range sigs {
		s.sigs = append(s.sigs, signature{of: t, Record: r})
	}
}

// sets divides records of one name by type.
func sets(records []record.Record) [][]record.Record {
	var all [][]record.Record
	var seen []record.Type
	for _, r := range records {
		if !slices.Contains(seen, r.Type) {
			seen = append(seen, r.Type)
			all = append(all, ofType(records, r.Type))
		}
	}
	return all
}

func ofType(records []record.Record, t record.Type) []record.Record {
	var found []record.Record
	for _, r := range records {
		if r.Type == t {
			found = append(found, r)
		}
	}
	return found
}

// nsec tells which types a name has and which name is next (RFC 4034, section 4). Its TTL is that of negative answers
// (RFC 9077).
func nsec(a *area, name string, records []record.Record) record.Record {
	types := []record.Type{record.RRSIG, record.NSEC}
	for _, r := range records {
		if !slices.Contains(types, r.Type) {
			types = append(types, r.Type)
		}
	}
	slices.Sort(types)
	var bits [32]byte // all our types are in the first window
	last := 0
	for _, t := range types {
		bits[t/8] |= 0x80 >> (t % 8)
		last = int(t / 8)
	}
	data := record.AppendName(nil, a.order.after(name))
	data = append(data, 0, byte(last+1))
	data = append(data, bits[:last+1]...)
	return record.Record{Name: name, Type: record.NSEC, TTL: min(a.ttl(), a.Negative()), Data: string(data)}
}

// denial proves that a name has no records of a type, or is not there (RFC 4035, sections 3.1.3.1 and 3.1.3.2), after
// the signature of the SOA record.
func (s *Set) denial(z *area, name string, n *node) []record.Record {
	proof := s.signedAt(z, z.Apex).of(record.SOA)
	covering := []string{name}
	if n == nil && name != z.Apex {
		covering = append(covering, "*."+s.closest(z, name))
	}
	seen := map[string]bool{}
	for _, c := range covering {
		owner, ok := z.order.floor(c)
		if !ok || seen[owner] {
			continue
		}
		seen[owner] = true
		if p := s.signedAt(z, owner); p != nil {
			proof = append(append(proof, p.nsec), p.of(record.NSEC)...)
		}
	}
	return proof
}

// closest is the nearest name above that is there.
func (s *Set) closest(z *area, name string) string {
	for above := parent(name); ; above = parent(above) {
		if above == z.Apex || s.names.get(above) != nil || !strings.HasSuffix(above, "."+z.Apex) {
			return above
		}
	}
}

// parallelFrom is how many names are worth a second processor.
const parallelFrom = 64

// each calls for the numbers below n, on all processors when there are many.
func each(n int, call func(int)) {
	workers := runtime.GOMAXPROCS(0)
	if n < parallelFrom || workers < 2 {
		for i := range n {
			call(i)
		}
		return
	}
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := w; i < n; i += workers {
				call(i)
			}
		})
	}
	wg.Wait()
}

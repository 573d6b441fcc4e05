package transfer

import (
	"slices"

	"github.com/nereid-paas/nereid/cns/record"
	"github.com/nereid-paas/nereid/cns/zone"
)

// minKept is how many records of changes are kept at least; of a zone with more names, as many as it has names: beyond,
// the whole zone is the shorter answer.
const minKept = 20_000

// history is what changed in a zone.
type history struct {
	apex    string
	entries []zone.Diff // each continues the one before
	size    int         // records in them
	// before is what a run before left, until the zone is known to go on from there.
	before *past
	raised bool // higher serials were asked for
}

// add keeps a change, and forgets the oldest beyond the limit.
func (h *history) add(d zone.Diff, names int) {
	h.entries = append(h.entries, d)
	h.size += size(d)
	drop := 0
	for h.size > max(minKept, names) && drop < len(h.entries) {
		h.size -= size(h.entries[drop])
		drop++
	}
	if drop > 0 {
		h.entries = slices.Clone(h.entries[drop:])
	}
}

func size(d zone.Diff) int { return len(d.Removed) + len(d.Added) }

func (h *history) forget() { h.entries, h.size = nil, 0 }

// since are the changes from a serial to the zone as it is; none when there are none. A serial that other hosts may have
// given out for the same content counts as ours, unless the SOA record's signature would differ.
func (h *history) since(z *zone.Authority, serial uint32) ([]zone.Diff, bool) {
	if int32(serial-z.Serial) >= 0 {
		return nil, true
	}
	for i, d := range h.entries {
		exact := serial == d.From
		if !exact && (z.Signer != nil || int32(serial-d.From) < 0 || int32(d.Until-serial) < 0) {
			continue
		}
		found := slices.Clone(h.entries[i:])
		if !exact {
			found[0].Removed = slices.Clone(d.Removed)
			found[0].Removed[0].Data = at(d.Removed[0].Data, serial)
		}
		return found, true
	}
	return nil, false
}

// at is a SOA record's data with another serial, which is followed by four numbers of four octets.
func at(soa string, serial uint32) string {
	i := len(soa) - 20
	return soa[:i] + string([]byte{byte(serial >> 24), byte(serial >> 16), byte(serial >> 8), byte(serial)}) + soa[i+4:]
}

// past is a zone as a run before left it.
type past struct {
	apex    string
	serial  uint32
	records map[record.Record]bool
	entries []zone.Diff
	size    int
}

// apply brings a change into the records.
func (p *past) apply(d zone.Diff) {
	for _, r := range d.Removed {
		delete(p.records, r)
	}
	for _, r := range d.Added {
		p.records[r] = true
	}
	p.serial = d.To
}

// same tells whether a set has the zone as it was.
func (p *past) same(set *zone.Set) bool {
	n := 0
	for r := range p.each(set) {
		n++
		if !p.records[r] {
			return false
		}
	}
	return n == len(p.records)
}

// each are the records of the zone in a set.
func (p *past) each(set *zone.Set) func(func(record.Record) bool) {
	return func(yield func(record.Record) bool) { set.Each(p.apex, yield) }
}

// step is the change from how the zone was to how it is; nil when it is as it was.
func (p *past) step(set *zone.Set, serial uint32) *zone.Diff {
	if serial == p.serial {
		return nil
	}
	d := &zone.Diff{Apex: p.apex, From: p.serial, Until: p.serial, To: serial}
	left := p.records
	var soa []record.Record
	for r := range p.each(set) {
		switch {
		case r.Type == record.SOA:
			soa = append(soa, r)
		case left[r]:
			delete(left, r)
		default:
			d.Added = append(d.Added, r)
		}
	}
	var oldSOA []record.Record
	for r := range left {
		if r.Type == record.SOA {
			oldSOA = append(oldSOA, r)
		} else {
			d.Removed = append(d.Removed, r)
		}
	}
	d.Removed, d.Added = append(oldSOA, d.Removed...), append(soa, d.Added...)
	return d
}

package zone

import (
	"cmp"
	"slices"
	"strings"

	"github.com/nereid-paas/nereid/cns/record"
)

// cut is where a zone ends because another of ours begins below, and what the zone above has there (RFC 1034, section
// 4.2.1). Questions are answered from the zone below; this is for those who have the zone above alone.
type cut struct {
	apex string // of the zone below
	// records are its name servers and, when it is signed, the digests of its keys (RFC 4034, section 5).
	records []record.Record
	glue    []record.Record // addresses of its name servers within it: not the zone's own, so not signed
	signed  *signed
}

// cut is the one at a name; nil: there is none.
func (z *area) cut(name string) *cut {
	i, ok := slices.BinarySearchFunc(z.cuts, name, func(c cut, name string) int { return cmp.Compare(c.apex, name) })
	if !ok {
		return nil
	}
	return &z.cuts[i]
}

// all are the records of a cut.
func (c cut) all() []record.Record { return slices.Concat(c.records, c.glue) }

// above is the zone in which another's apex lies; nil: none of ours.
func above(zones map[string]*area, apex string) *area {
	if apex == "." {
		return nil
	}
	return areaOf(zones, parent(apex))
}

// recut brings the cuts of all zones up with the zones below them.
func (e *Edit) recut(of func(apex string) *draft) {
	now := map[string][]cut{}
	for apex, below := range e.zones {
		if a := above(e.zones, apex); a != nil {
			now[a.Apex] = append(now[a.Apex], e.cutTo(below))
		}
	}
	for apex, a := range e.zones {
		cuts := now[apex]
		if len(cuts)+len(a.cuts) == 0 {
			continue
		}
		slices.SortFunc(cuts, func(x, y cut) int { return cmp.Compare(x.apex, y.apex) })
		for i := range cuts {
			if old := a.cut(cuts[i].apex); old != nil {
				cuts[i].signed = old.signed
			}
		}
		if slices.EqualFunc(cuts, a.cuts, func(x, y cut) bool {
			return x.apex == y.apex && slices.Equal(x.records, y.records) && slices.Equal(x.glue, y.glue)
		}) {
			continue
		}
		of(apex).cut(e, a, cuts)
	}
}

// cut notes the new cuts of a zone.
func (d *draft) cut(e *Edit, a *area, cuts []cut) {
	d.recut, d.cuts = true, cuts
	next := &area{cuts: cuts}
	for _, c := range cuts {
		if a.cut(c.apex) == nil {
			d.appeared = append(d.appeared, c.apex)
			d.added = append(d.added, c.all()...)
			d.names = append(d.names, c.apex)
		}
	}
	for _, c := range a.cuts {
		n := next.cut(c.apex)
		if n == nil {
			d.removed = append(d.removed, c.all()...)
			if !e.names.next.get(c.apex).present() || e.zones[c.apex] != nil { // else it is a name of the zone's own now
				d.vanished = append(d.vanished, c.apex)
			}
			continue
		}
		gone, come := differ(c.all(), n.all())
		if len(gone)+len(come) > 0 {
			d.names = append(d.names, c.apex)
		}
		d.removed, d.added = append(d.removed, gone...), append(d.added, come...)
	}
}

// cutTo is the cut above a zone.
func (e *Edit) cutTo(below *area) cut {
	c := cut{apex: below.Apex}
	set := &Set{zones: e.zones, names: e.names.next}
	for _, r := range below.apex {
		switch r.Type {
		case record.NS:
			c.records = append(c.records, r)
			if r.Target != below.Apex && !strings.HasSuffix(r.Target, "."+below.Apex) {
				continue
			}
			for _, t := range []record.Type{record.A, record.AAAA} {
				if z := areaOf(e.zones, r.Target); z != nil {
					addrs, _ := set.records(z, r.Target, t)
					c.glue = append(c.glue, addrs...)
				}
			}
		case record.CDS: // says what the zone above should say
			r.Type = record.DS
			c.records = append(c.records, r)
		}
	}
	return c
}

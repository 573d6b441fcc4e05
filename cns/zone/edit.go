package zone

import (
	"cmp"
	"maps"
	"slices"

	"github.com/nereid-paas/nereid/cns/record"
)

// Edit collects the changes from one set to the next. One goroutine uses it.
type Edit struct {
	base    *Set
	zones   map[string]*area
	names   *tableEdit
	touched map[string]bool // names
	// whole are zones that got or lost names of another zone, or that are new: no list of changes describes them.
	whole map[string]bool
	// declared are zones whose apex may say something else now.
	declared map[string]bool
	quiet    bool
	rezoned  bool // zones came or went
	diffs    []Diff
}

// Diff is what one edit changed in a zone: what an incremental transfer tells (RFC 1995), both SOA records included.
type Diff struct {
	Apex     string
	From, To uint32 // serials
	// Until is the last serial at which the zone was still what it was at From: another host, that counted changes
	// elsewhere too, may have given it out.
	Until uint32
	// Removed and Added begin with the SOA record before and after. Both are empty when Whole is set.
	Removed, Added []record.Record
	// Whole: the zone is new, or changed in a way that is not listed; Gone: it is no zone any more.
	Whole, Gone bool
}

// Edit begins the next set.
func (s *Set) Edit() *Edit {
	return &Edit{
		base: s, zones: maps.Clone(s.zones), names: s.names.edit(),
		touched: map[string]bool{}, whole: map[string]bool{}, declared: map[string]bool{},
	}
}

// Add enters a record. Added by several, it is there until all have removed it.
func (e *Edit) Add(r record.Record) { e.change(r, shown, added(r)) }

// Remove takes back one Add of the same record; without one it does nothing.
func (e *Edit) Remove(r record.Record) { e.change(r, shown, removed(r)) }

// AddHidden enters a record of a host that cannot be reached: answered by nobody, and reason enough not to say that the
// name is not there.
func (e *Edit) AddHidden(r record.Record) { e.change(r, veiled, added(r)) }

// RemoveHidden takes back one AddHidden.
func (e *Edit) RemoveHidden(r record.Record) { e.change(r, veiled, removed(r)) }

func (e *Edit) change(r record.Record, list func(*node) *[]counted, edit func([]counted) []counted) {
	e.touched[r.Name] = true
	e.names.change(r.Name, list, edit)
}

// AddZone makes an apex ours, or changes what it says of itself. Its Serial is set by Done, higher than the one given.
func (e *Edit) AddZone(z Authority) {
	e.declared[z.Apex] = true
	before, ok := e.zones[z.Apex]
	if ok {
		z.Serial = before.Serial
		e.zones[z.Apex] = &area{Authority: z, apex: z.apexRecords(), order: before.order, signed: before.signed, cuts: before.cuts}
		return
	}
	a := &area{Authority: z, apex: z.apexRecords(), order: ordered([]string{z.Apex})}
	above := areaOf(e.zones, z.Apex)
	e.zones[z.Apex] = a
	e.whole[z.Apex] = true
	e.rezoned = true
	if n := e.names.node(z.Apex); n.present() || n.below > 0 {
		e.take(a, above)
	}
}

// take gives a new zone the names that are there already, and takes them from the zone that had them.
func (e *Edit) take(a, above *area) {
	var names []string
	e.names.next.each(func(name string, n *node) {
		if n.present() && areaOf(e.zones, name) == a {
			names = append(names, name)
		}
	})
	a.order = a.order.with(names, nil)
	if above != nil && len(names) > 0 {
		e.replace(above.Apex).order = above.order.with(nil, names)
		e.whole[above.Apex] = true
	}
}

// replace gives the edit a zone of its own.
func (e *Edit) replace(apex string) *area {
	a := *e.zones[apex]
	e.zones[apex] = &a
	return &a
}

// RemoveZone gives an apex up. Records below it stay, unseen but by a zone above, until removed.
func (e *Edit) RemoveZone(apex string) {
	a, ok := e.zones[apex]
	if !ok {
		return
	}
	e.rezoned = true
	delete(e.zones, apex)
	delete(e.declared, apex)
	delete(e.whole, apex)
	if above := areaOf(e.zones, apex); above != nil {
		names := make([]string, 0, a.order.n)
		for name := range a.order.all {
			if n := e.names.node(name); n.present() {
				names = append(names, name)
			}
		}
		e.replace(above.Apex).order = above.order.with(names, nil)
		e.whole[above.Apex] = true
	}
}

// Quiet makes this an edit that the next one undoes: serials stay, and no difference is told of. It is for what this
// host alone believes.
func (e *Edit) Quiet() { e.quiet = true }

// Done returns the next set. Zones that changed get the serial, or the one after theirs if that is not higher in the
// arithmetic of RFC 1982: no serial ever stands for two contents.
func (e *Edit) Done(serial uint32) *Set {
	next := &Set{zones: e.zones, serial: e.base.serial, generation: e.base.generation + 1, layout: e.base.layout}
	if e.rezoned {
		next.layout++
	}
	if !e.quiet {
		next.serial = serial
	}
	drafts := e.drafts()
	for _, d := range drafts {
		a := e.replace(d.apex)
		if !e.quiet {
			a.Serial = after(a.Serial, serial+a.SerialBase)
		}
		a.order = a.order.with(d.appeared, d.vanished)
		if d.recut {
			a.cuts = d.cuts
		}
	}
	next.names = e.names.next
	for _, d := range drafts {
		d.finish(e, next)
	}
	for apex, a := range e.base.zones {
		if _, there := e.zones[apex]; !there {
			e.diffs = append(e.diffs, Diff{Apex: apex, From: a.Serial, Gone: true})
		}
	}
	next.names = e.names.done()
	return next
}

// Diffs are what Done changed, by apex.
func (e *Edit) Diffs() []Diff {
	slices.SortFunc(e.diffs, func(a, b Diff) int { return cmp.Compare(a.Apex, b.Apex) })
	return e.diffs
}

// after is a zone's next serial.
func after(old, wanted uint32) uint32 {
	if old != 0 && int32(wanted-old) <= 0 {
		return old + 1
	}
	return wanted
}

// draft is a zone about to change.
type draft struct {
	apex               string
	whole              bool
	names              []string // that changed
	appeared, vanished []string
	removed, added     []record.Record
	recut              bool // cuts are new
	cuts               []cut
}

// drafts are the zones that changed, and how, serial and signatures left aside.
func (e *Edit) drafts() []*draft {
	byApex := map[string]*draft{}
	of := func(apex string) *draft {
		if byApex[apex] == nil {
			byApex[apex] = &draft{apex: apex, whole: e.whole[apex]}
		}
		return byApex[apex]
	}
	for apex := range e.whole {
		of(apex)
	}
	for apex := range e.declared {
		if before := e.base.zones[apex]; before != nil && !before.same(&e.zones[apex].Authority) {
			d := of(apex)
			d.removed, d.added = differ(before.apex, e.zones[apex].apex)
		}
	}
	for name := range e.touched {
		a := areaOf(e.zones, name)
		if a == nil {
			continue
		}
		was, is := e.base.names.get(name), e.names.next.get(name)
		gone, come := differ(was.appendTo(nil), is.appendTo(nil))
		if len(gone)+len(come) > 0 {
			of(a.Apex).note(name, gone, come, was, is)
		}
	}
	e.recut(of)
	drafts := slices.Collect(maps.Values(byApex))
	slices.SortFunc(drafts, func(a, b *draft) int { return cmp.Compare(a.apex, b.apex) })
	return drafts
}

func (d *draft) note(name string, gone, come []record.Record, was, is *node) {
	d.names = append(d.names, name)
	d.removed, d.added = append(d.removed, gone...), append(d.added, come...)
	if name == d.apex { // always in the order
		return
	}
	switch {
	case !was.present() && is.present():
		d.appeared = append(d.appeared, name)
	case was.present() && !is.present():
		d.vanished = append(d.vanished, name)
	}
}

// differ is what one list has and the other has not.
func differ(before, now []record.Record) (gone, come []record.Record) {
	for _, r := range before {
		if !slices.Contains(now, r) {
			gone = append(gone, r)
		}
	}
	for _, r := range now {
		if !slices.Contains(before, r) {
			come = append(come, r)
		}
	}
	return gone, come
}

// finish signs what changed and writes down the difference.
func (d *draft) finish(e *Edit, next *Set) {
	a := e.zones[d.apex]
	before := e.base.zones[d.apex]
	gone, come := d.sign(e, next, a, before)
	if e.quiet {
		return
	}
	diff := Diff{Apex: d.apex, To: a.Serial, Whole: d.whole}
	if before == nil || d.whole {
		if before != nil {
			diff.From = before.Serial
		}
		diff.Whole = true
		e.diffs = append(e.diffs, diff)
		return
	}
	diff.From, diff.Until = before.Serial, before.Serial
	if until := e.base.serial + before.SerialBase; int32(until-before.Serial) > 0 && int32(a.Serial-until) > 0 {
		diff.Until = until
	}
	diff.Removed = slices.Concat([]record.Record{before.SOA()}, d.removed, gone)
	diff.Added = slices.Concat([]record.Record{a.SOA()}, d.added, come)
	e.diffs = append(e.diffs, diff)
}

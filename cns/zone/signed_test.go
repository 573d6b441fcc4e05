package zone_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/cns/record"
	"github.com/nereid-paas/nereid/cns/zone"
)

// stamp signs by saying what it signed.
type stamp struct {
	key   string
	epoch int
	signs *int
}

func (s *stamp) Keys(apex string, ttl uint32) []record.Record {
	return []record.Record{{Name: apex, Type: record.DNSKEY, TTL: ttl, Data: s.key}}
}

func (s *stamp) Sign(_ string, set []record.Record) []record.Record {
	if s.signs != nil {
		*s.signs++
	}
	var lines []string
	for _, r := range set {
		lines = append(lines, r.String())
	}
	slices.Sort(lines)
	return []record.Record{{Name: set[0].Name, Type: record.RRSIG, TTL: set[0].TTL, Data: s.key + " " + set[0].Type.String() + " " + strings.Join(lines, "|")}}
}

func (s *stamp) Same(other zone.Signer, name string) bool {
	o := other.(*stamp)
	return s.key == o.key && (s.epoch == o.epoch || !strings.HasPrefix(name, "web."))
}

// signedExample is example with its forward zone signed.
func signedExample(s zone.Signer) *zone.Set {
	e := example().Edit()
	e.AddZone(zone.Authority{Apex: apex, Servers: []string{"ns." + apex}, Mailbox: "hostmaster." + apex, Signer: s})
	return e.Done(20)
}

// owners are the names of the NSEC records of a proof, each with the name that comes next.
func owners(t *testing.T, proof []record.Record) []string {
	t.Helper()
	var all []string
	for _, r := range proof {
		if r.Type == record.NSEC {
			all = append(all, short(r.Name)+" to "+short(next(t, r)))
		}
	}
	return all
}

func short(name string) string { return strings.TrimSuffix(strings.TrimSuffix(name, apex), ".") }

func next(t *testing.T, nsec record.Record) string {
	t.Helper()
	var labels []string
	for b := nsec.Data; b[0] > 0; b = b[1+b[0]:] {
		labels = append(labels, b[1:1+b[0]])
	}
	return strings.Join(labels, ".") + "."
}

func TestDenialIsProven(t *testing.T) {
	set := signedExample(&stamp{key: "k"})
	tests := []struct {
		rule, name string
		typ        record.Type
		want       zone.Verdict
		proof      string
	}{
		{"no data at a name (RFC 4035, section 3.1.3.1)", "web.inst.admin." + apex, record.AAAA, zone.NoData, "web.inst.admin to ns"},
		{"no data above names: the next name is below it", "svc.admin." + apex, record.A, zone.NoData, "ns to api.shop.svc.admin"},
		{"no such name, and none from *.svc.admin (RFC 4035, section 3.1.3.2)", "nope.svc.admin." + apex, record.A, zone.NXDomain, "ns to api.shop.svc.admin"},
		{"no such name at the end", "zzz." + apex, record.A, zone.NXDomain, "ns to ,  to db.inst.admin"},
		{"no such name at the beginning", "a." + apex, record.A, zone.NXDomain, " to db.inst.admin"},
		{"no data at the apex", apex, record.A, zone.NoData, " to db.inst.admin"},
		{"below a name that is there", "x.web.svc.admin." + apex, record.A, zone.NXDomain, "web.svc.admin to ns"},
		{"of a name with an escaped dot", `a\.b.svc.admin.` + apex, record.A, zone.NXDomain, "ns to api.shop.svc.admin"},
	}
	for _, tc := range tests {
		t.Run(tc.rule, func(t *testing.T) {
			r := set.LookupSigned(tc.name, tc.typ)
			assert.Equal(t, r.Verdict, tc.want)
			for _, o := range owners(t, r.Proof) {
				assert.Assert(t, covers(o, short(tc.name)) || strings.Contains(tc.proof, o), "%s for %s", o, tc.name)
			}
			assert.Assert(t, r.Proof[0].Type == record.RRSIG && strings.HasPrefix(r.Proof[0].Data, "k SOA"))
			assert.Equal(t, len(set.Lookup(tc.name, tc.typ).Proof), 0)
		})
	}
}

// covers tells whether an interval of names has one in it, by the order of its labels from the right.
func covers(interval, name string) bool {
	from, to, _ := strings.Cut(interval, " to ")
	key := func(n string) []string {
		l := strings.Split(n, ".")
		slices.Reverse(l)
		return l
	}
	if from == "" {
		return to == "" || slices.Compare(key(name), key(to)) < 0
	}
	return slices.Compare(key(from), key(name)) <= 0 && (to == "" || slices.Compare(key(name), key(to)) < 0)
}

func TestAnswersAreSigned(t *testing.T) {
	set := signedExample(&stamp{key: "k"})
	r := set.LookupSigned("web.svc.admin."+apex, record.SRV)
	assert.Equal(t, len(r.Signatures), 1)
	assert.Assert(t, strings.HasPrefix(r.Signatures[0].Data, "k SRV"))
	assert.Equal(t, len(r.Additional), 2, "an address and its signature")
	assert.Equal(t, len(set.LookupSigned(apex, record.DNSKEY).Answer), 1)
	assert.Equal(t, len(set.LookupSigned(apex, record.NSEC).Answer), 1)
	assert.Assert(t, len(set.LookupSigned(apex, record.RRSIG).Answer) >= 4)
	assert.Equal(t, len(set.LookupSigned("3.2.1.10.in-addr.arpa.", record.PTR).Signatures), 0, "of a zone that is not signed")
}

// TestChangesSignWhatChanged: a name more costs its own signatures, those of the NSEC before, and the SOA's.
func TestChangesSignWhatChanged(t *testing.T) {
	n := 0
	set := signedExample(&stamp{key: "k", signs: &n})
	n = 0
	e := set.Edit()
	e.Add(a("new.svc.admin."+apex, "10.0.0.9"))
	set = e.Done(30)
	assert.Equal(t, n, 4, "address, its NSEC, the NSEC before, SOA")
	n = 0
	e = set.Edit()
	e.Remove(a("new.svc.admin."+apex, "10.0.0.9"))
	set = e.Done(31)
	assert.Equal(t, n, 2)

	n = 0
	e = set.Edit() // the next epoch: names whose turn it is, here two
	e.AddZone(zone.Authority{Apex: apex, Servers: []string{"ns." + apex}, Mailbox: "hostmaster." + apex, Signer: &stamp{key: "k", epoch: 1, signs: &n}})
	e.Done(32)
	assert.Equal(t, n, 1+2+3, "SOA; address and NSEC; address, SRV and NSEC")
	assert.Equal(t, len(e.Diffs()), 1)
}

// TestSignedIncrementalEqualsWhole: whatever the way, the zone and its signatures are those of building it at once, and
// the differences told lead from one to the next.
func TestSignedIncrementalEqualsWhole(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	signer := &stamp{key: "k"}
	names := []string{"a." + apex, "b.a." + apex, "c.b.a." + apex, "d.b.a." + apex, "e." + apex, "f.e." + apex, apex}
	declare := func(e *zone.Edit) {
		e.AddZone(zone.Authority{Apex: apex, Servers: []string{"ns." + apex}, Signer: signer})
	}
	e := zone.New().Edit()
	declare(e)
	set := e.Done(1)
	mirror := all(set)
	type key struct {
		r      record.Record
		hidden bool
	}
	left := map[key]int{}
	for step := range 2000 {
		k := key{a(names[rng.IntN(len(names))], fmt.Sprintf("10.0.0.%d", rng.IntN(3))), rng.IntN(3) == 0}
		e = set.Edit()
		add, remove := e.Add, e.Remove
		if k.hidden {
			add, remove = e.AddHidden, e.RemoveHidden
		}
		if rng.IntN(2) == 0 {
			add(k.r)
			left[k]++
		} else {
			remove(k.r)
			left[k] = max(0, left[k]-1)
		}
		set = e.Done(uint32(step + 2))
		for _, d := range e.Diffs() {
			assert.Assert(t, !d.Whole)
			for _, r := range d.Removed {
				assert.Assert(t, mirror[r], "step %d removes what is not there: %s", step, r)
				delete(mirror, r)
			}
			for _, r := range d.Added {
				assert.Assert(t, !mirror[r], "step %d adds what is there: %s", step, r)
				mirror[r] = true
			}
		}
		assert.Equal(t, len(mirror), len(all(set)), "step %d", step)
	}
	whole := zone.New().Edit()
	declare(whole)
	for k, n := range left {
		for range n {
			if k.hidden {
				whole.AddHidden(k.r)
			} else {
				whole.Add(k.r)
			}
		}
	}
	z, _ := set.Zone(apex)
	want := all(whole.Done(z.Serial))
	for r := range all(set) {
		assert.Assert(t, want[r] && mirror[r], "not when built at once: %s", r)
	}
	assert.Equal(t, len(want), len(mirror))
}

func all(s *zone.Set) map[record.Record]bool {
	m := map[record.Record]bool{}
	s.Each(apex, func(r record.Record) bool { m[r] = true; return true })
	return m
}

func TestHiddenRecords(t *testing.T) {
	r1, r2 := a("web.svc.admin."+apex, "10.1.2.3"), a("web.svc.admin."+apex, "10.1.2.99")
	e := example().Edit()
	e.Add(r2)
	set := e.Done(20)

	e = set.Edit() // the second host is not reachable
	e.Remove(r2)
	e.AddHidden(r2)
	set = e.Done(21)
	r := set.Lookup(r1.Name, record.A)
	assert.Equal(t, r.Verdict, zone.Answer, "what is left is answered")
	assert.Equal(t, len(r.Answer), 1)

	e = set.Edit() // nor the first
	e.Remove(r1)
	e.AddHidden(r1)
	e.Remove(record.Record{Name: r1.Name, Type: record.SRV, TTL: record.TTL, Port: 80, Target: "web.inst.admin." + apex})
	set = e.Done(22)
	for _, typ := range []record.Type{record.A, record.AAAA, record.SRV} {
		assert.Equal(t, set.Lookup(r1.Name, typ).Verdict, zone.Unsure)
	}
	transferred := 0
	set.Each(apex, func(r record.Record) bool {
		if r.Name == r1.Name {
			transferred++
		}
		return true
	})
	assert.Equal(t, transferred, 2, "a secondary cannot be unsure: it keeps them")

	e = set.Edit() // the second is back
	e.RemoveHidden(r2)
	e.Add(r2)
	set = e.Done(23)
	assert.Equal(t, set.Lookup(r1.Name, record.A).Answer[0], r2)

	e = set.Edit() // the first was removed while it could not be reached
	e.RemoveHidden(r1)
	e.Remove(r2)
	assert.Equal(t, e.Done(24).Lookup(r1.Name, record.A).Verdict, zone.NXDomain)
}

func TestAliases(t *testing.T) {
	e := example().Edit()
	e.Add(record.Record{Name: "x.cmon." + apex, Type: record.CNAME, TTL: 30, Target: "web.inst.admin." + apex})
	e.Add(record.Record{Name: "y.cmon." + apex, Type: record.CNAME, TTL: 30, Target: "elsewhere.example.com."})
	e.Add(record.Record{Name: "l.cmon." + apex, Type: record.CNAME, TTL: 30, Target: "l.cmon." + apex})
	set := e.Done(20)
	assert.Equal(t, len(set.Lookup("x.cmon."+apex, record.A).Answer), 2)
	assert.Equal(t, len(set.Lookup("x.cmon."+apex, record.CNAME).Answer), 1)
	assert.Equal(t, len(set.Lookup("x.cmon."+apex, record.AAAA).Answer), 1)
	assert.Equal(t, len(set.Lookup("y.cmon."+apex, record.A).Answer), 1)
	assert.Assert(t, len(set.Lookup("l.cmon."+apex, record.A).Answer) > 0, "a loop ends")
}

// TestZonesWithinZones: a name belongs to the zone with the longest apex, whichever came first.
func TestZonesWithinZones(t *testing.T) {
	ptr := record.Record{Name: "3.2.1.10.in-addr.arpa.", Type: record.PTR, TTL: 30, Target: "web.inst.admin." + apex}
	count := func(s *zone.Set, apex string) (n int) {
		s.Each(apex, func(r record.Record) bool {
			if r.Type == record.PTR {
				n++
			}
			return true
		})
		return n
	}
	e := zone.New().Edit()
	e.AddZone(zone.Authority{Apex: "10.in-addr.arpa.", Servers: []string{"ns."}})
	e.Add(ptr)
	set := e.Done(1)
	assert.Equal(t, count(set, "10.in-addr.arpa."), 1)

	e = set.Edit()
	e.AddZone(zone.Authority{Apex: "2.1.10.in-addr.arpa.", Servers: []string{"ns."}})
	set = e.Done(2)
	assert.Equal(t, count(set, "10.in-addr.arpa."), 0)
	assert.Equal(t, count(set, "2.1.10.in-addr.arpa."), 1)
	for _, d := range e.Diffs() {
		assert.Assert(t, d.Whole, d.Apex)
	}

	e = set.Edit()
	e.RemoveZone("2.1.10.in-addr.arpa.")
	set = e.Done(3)
	assert.Equal(t, count(set, "10.in-addr.arpa."), 1)
	assert.Equal(t, set.Lookup(ptr.Name, record.PTR).Verdict, zone.Answer)
	assert.Assert(t, e.Diffs()[1].Gone)
}

func TestQuietEditsKeepSerials(t *testing.T) {
	set := example()
	e := set.Edit()
	e.Quiet()
	r := a("web.svc.admin."+apex, "10.1.2.3")
	e.Remove(r)
	e.AddHidden(r)
	quiet := e.Done(0)
	assert.Equal(t, serial(t, quiet, apex), serial(t, set, apex))
	assert.Equal(t, len(e.Diffs()), 0)
}

// BenchmarkSignedChange: one container more in a signed zone of 100,000 names, but for the cost of signing itself.
func BenchmarkSignedChange(b *testing.B) {
	e := zone.New().Edit()
	e.AddZone(zone.Authority{Apex: apex, Servers: []string{"ns." + apex}, Signer: &stamp{key: "k"}})
	for i := range 100_000 {
		e.Add(a(fmt.Sprintf("c%d.inst.admin.%s", i, apex), fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255)))
	}
	set := e.Done(1)
	b.ResetTimer()
	for range b.N {
		e := set.Edit()
		e.Add(a("new.inst.admin."+apex, "10.9.9.9"))
		e.Done(2)
	}
}

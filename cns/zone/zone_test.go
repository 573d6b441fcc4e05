package zone_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/cns/record"
	"github.com/nereid-paas/nereid/cns/zone"
)

const apex = "dc1.cns.internal."

func a(name, addr string) record.Record {
	r := record.Record{Name: name, Type: record.A, TTL: record.TTL, Addr: netip.MustParseAddr(addr)}
	if r.Addr.Is6() {
		r.Type = record.AAAA
	}
	return r
}

// example is a forward zone with some names and a reverse zone.
func example() *zone.Set {
	e := zone.New().Edit()
	e.AddZone(zone.Authority{Apex: apex, Servers: []string{"ns." + apex}, Mailbox: "hostmaster." + apex})
	e.AddZone(zone.Authority{Apex: "2.1.10.in-addr.arpa.", Servers: []string{"ns." + apex}, Mailbox: "hostmaster." + apex})
	e.Add(a("ns."+apex, "192.0.2.1"))
	e.Add(a("web.inst.admin."+apex, "10.1.2.3"))
	e.Add(a("db.inst.admin."+apex, "10.1.2.4"))
	e.Add(a("db.inst.admin."+apex, "fd00::4"))
	e.Add(a("web.svc.admin."+apex, "10.1.2.3"))
	e.Add(record.Record{Name: "web.svc.admin." + apex, Type: record.SRV, TTL: record.TTL, Port: 80, Target: "web.inst.admin." + apex})
	e.Add(a("api.shop.svc.admin."+apex, "10.1.2.3"))
	e.Add(record.Record{Name: "3.2.1.10.in-addr.arpa.", Type: record.PTR, TTL: record.TTL, Target: "web.inst.admin." + apex})
	return e.Done(7)
}

func TestLookup(t *testing.T) {
	tests := []struct {
		rule  string // what it shows, with its source
		name  string
		typ   record.Type
		want  zone.Verdict
		lines string
	}{
		{"a record", "web.inst.admin." + apex, record.A, zone.Answer, "web.inst.admin.dc1.cns.internal. 30 IN A 10.1.2.3"},
		{"IPv6 where there is one", "db.inst.admin." + apex, record.AAAA, zone.Answer, "db.inst.admin.dc1.cns.internal. 30 IN AAAA fd00::4"},
		{"no IPv6: NODATA, not NXDOMAIN (RFC 4074, section 4.2)", "web.inst.admin." + apex, record.AAAA, zone.NoData, ""},
		{"SRV comes with its target's address (RFC 2782)", "web.svc.admin." + apex, record.SRV, zone.Answer,
			"web.svc.admin.dc1.cns.internal. 30 IN SRV 0 0 80 web.inst.admin.dc1.cns.internal.\n+ web.inst.admin.dc1.cns.internal. 30 IN A 10.1.2.3"},
		{"pointer", "3.2.1.10.in-addr.arpa.", record.PTR, zone.Answer, "3.2.1.10.in-addr.arpa. 30 IN PTR web.inst.admin.dc1.cns.internal."},
		{"empty non-terminal (RFC 4592, section 2.2.2)", "svc.admin." + apex, record.A, zone.NoData, ""},
		{"empty non-terminal, account", "admin." + apex, record.A, zone.NoData, ""},
		{"empty non-terminal, project", "shop.svc.admin." + apex, record.A, zone.NoData, ""},
		{"nothing there (RFC 2308, section 2.1)", "nope.svc.admin." + apex, record.A, zone.NXDomain, ""},
		{"nothing below a name that is there (RFC 8020)", "x.web.svc.admin." + apex, record.A, zone.NXDomain, ""},
		{"unknown account", "web.svc.bob." + apex, record.A, zone.NXDomain, ""},
		{"an asterisk is a name like others (RFC 4592, section 2.1.1)", "*.svc.admin." + apex, record.A, zone.NXDomain, ""},
		{"escaped dot is no separator (RFC 1035, section 5.1)", `a\.svc.admin.` + apex, record.A, zone.NXDomain, ""},
		{"apex has SOA", apex, record.SOA, zone.Answer,
			`dc1.cns.internal. 30 IN SOA \# 70 026e730364633103636e7308696e7465726e616c000a686f73746d61737465720364633103636e7308696e7465726e616c00000000070000003c0000000a00093a8000000005`},
		{"apex has NS, with addresses", apex, record.NS, zone.Answer,
			"dc1.cns.internal. 30 IN NS ns.dc1.cns.internal.\n+ ns.dc1.cns.internal. 30 IN A 192.0.2.1"},
		{"apex without addresses is NODATA", apex, record.A, zone.NoData, ""},
		{"apex of the reverse zone", "2.1.10.in-addr.arpa.", record.PTR, zone.NoData, ""},
		{"SOA below the apex is NODATA", "web.inst.admin." + apex, record.SOA, zone.NoData, ""},
		{"address without a container", "9.2.1.10.in-addr.arpa.", record.PTR, zone.NXDomain, ""},
		{"above the zone", "cns.internal.", record.A, zone.Refused, ""},
		{"elsewhere", "example.com.", record.A, zone.Refused, ""},
		{"the root", ".", record.NS, zone.Refused, ""},
		{"ends like the zone but for the label's start", "xdc1.cns.internal.", record.A, zone.Refused, ""},
		{"other reverse zone", "3.3.1.10.in-addr.arpa.", record.PTR, zone.Refused, ""},
	}
	set := example()
	for _, tc := range tests {
		t.Run(tc.rule, func(t *testing.T) {
			r := set.Lookup(tc.name, tc.typ)
			var lines []string
			for _, rec := range r.Answer {
				lines = append(lines, rec.String())
			}
			for _, rec := range r.Additional {
				lines = append(lines, "+ "+rec.String())
			}
			assert.Equal(t, r.Verdict, tc.want)
			assert.Equal(t, strings.Join(lines, "\n"), tc.lines)
			assert.Equal(t, r.Zone == nil, tc.want == zone.Refused)
		})
	}
}

func TestEditLeavesTheSetBefore(t *testing.T) {
	before := example()
	e := before.Edit()
	e.Remove(a("web.svc.admin."+apex, "10.1.2.3"))
	e.Remove(record.Record{Name: "web.svc.admin." + apex, Type: record.SRV, TTL: record.TTL, Port: 80, Target: "web.inst.admin." + apex})
	after := e.Done(8)

	assert.Equal(t, before.Lookup("web.svc.admin."+apex, record.A).Verdict, zone.Answer)
	assert.Equal(t, after.Lookup("web.svc.admin."+apex, record.A).Verdict, zone.NXDomain)
	assert.Equal(t, after.Lookup("svc.admin."+apex, record.A).Verdict, zone.NoData, "api.shop is still below")
}

func TestEmptyNonTerminalGoesWithTheLastNameBelow(t *testing.T) {
	e := example().Edit()
	e.Remove(a("api.shop.svc.admin."+apex, "10.1.2.3"))
	assert.Equal(t, e.Done(8).Lookup("shop.svc.admin."+apex, record.A).Verdict, zone.NXDomain)
}

func TestRecordOfTwoStaysUntilBothRemovedIt(t *testing.T) {
	r := a("x."+apex, "10.0.0.1")
	e := example().Edit()
	e.Add(r)
	e.Add(r)
	one := e.Done(8)
	assert.Equal(t, len(one.Lookup(r.Name, record.A).Answer), 1)

	e = one.Edit()
	e.Remove(r)
	two := e.Done(9)
	assert.Equal(t, len(two.Lookup(r.Name, record.A).Answer), 1)

	e = two.Edit()
	e.Remove(r)
	e.Remove(r) // once too often: nothing to remove
	three := e.Done(10)
	assert.Equal(t, three.Lookup(r.Name, record.A).Verdict, zone.NXDomain)
	assert.Equal(t, three.Lookup("ns."+apex, record.A).Verdict, zone.Answer)
}

func TestSerialGrowsWithTheZoneThatChanged(t *testing.T) {
	set := example()
	e := set.Edit()
	e.Add(a("y."+apex, "10.0.0.1"))
	set = e.Done(9)
	assert.Equal(t, serial(t, set, apex), uint32(9))
	assert.Equal(t, serial(t, set, "2.1.10.in-addr.arpa."), uint32(7))

	e = set.Edit()
	e.Remove(a("y."+apex, "10.0.0.1"))
	assert.Equal(t, serial(t, e.Done(9), apex), uint32(10), "the same serial for another content")
}

func serial(t *testing.T, s *zone.Set, name string) uint32 {
	t.Helper()
	z, ok := s.Zone(name)
	assert.Assert(t, ok)
	return z.Serial
}

func TestRemovedZoneIsRefused(t *testing.T) {
	e := example().Edit()
	e.RemoveZone("2.1.10.in-addr.arpa.")
	assert.Equal(t, e.Done(8).Lookup("3.2.1.10.in-addr.arpa.", record.PTR).Verdict, zone.Refused)
}

// TestIncrementalEqualsWhole: any order of additions and removals ends where building the rest at once ends.
func TestIncrementalEqualsWhole(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	names := []string{"a." + apex, "b.a." + apex, "c.b.a." + apex, "d.b.a." + apex, "e." + apex, "f.e." + apex}
	set := zone.New()
	e := set.Edit()
	e.AddZone(zone.Authority{Apex: apex, Servers: []string{"ns." + apex}})
	set = e.Done(1)
	left := map[record.Record]int{}
	for step := range 2000 {
		r := a(names[rng.IntN(len(names))], fmt.Sprintf("10.0.0.%d", rng.IntN(3)))
		e := set.Edit()
		if rng.IntN(2) == 0 {
			e.Add(r)
			left[r]++
		} else {
			e.Remove(r)
			left[r] = max(0, left[r]-1)
		}
		set = e.Done(uint32(step + 2))
	}
	whole := zone.New().Edit()
	whole.AddZone(zone.Authority{Apex: apex, Servers: []string{"ns." + apex}})
	for r, n := range left {
		for range n {
			whole.Add(r)
		}
	}
	want := whole.Done(1)
	assert.DeepEqual(t, lines(set), lines(want))
	for _, n := range names {
		assert.Equal(t, set.Lookup(n, record.AAAA).Verdict, want.Lookup(n, record.AAAA).Verdict, n)
	}
}

func lines(s *zone.Set) []string {
	var out []string
	for _, r := range s.Records(apex) {
		out = append(out, r.String())
	}
	return out
}

// BenchmarkChange: one container more in a zone of 100,000 names.
func BenchmarkChange(b *testing.B) {
	e := zone.New().Edit()
	e.AddZone(zone.Authority{Apex: apex, Servers: []string{"ns." + apex}})
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

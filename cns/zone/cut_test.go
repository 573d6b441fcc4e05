package zone_test

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/cns/record"
	"github.com/nereid-paas/nereid/cns/sign"
	"github.com/nereid-paas/nereid/cns/wire"
	"github.com/nereid-paas/nereid/cns/zone"
)

const (
	outer = "example.com."
	inner = "in.example.com."
	epoch = 41_000 // in which zones are signed
)

func addr(name, addr string) record.Record {
	return record.Record{Name: name, Type: record.A, TTL: 30, Addr: netip.MustParseAddr(addr)}
}

func nested(e *zone.Edit, outerSigner, innerSigner zone.Signer) {
	e.AddZone(zone.Authority{Apex: outer, Servers: []string{"ns." + outer}, Mailbox: "x." + outer, Signer: outerSigner})
	e.AddZone(zone.Authority{Apex: inner, Servers: []string{"ns." + inner, "ns.elsewhere.net."}, Mailbox: "x." + outer, Signer: innerSigner})
}

// transferred is a zone as secondaries get it, without SOA records and what is signed.
func transferred(set *zone.Set, apex string) []string {
	var all []string
	set.Each(apex, func(r record.Record) bool {
		if r.Type != record.SOA && r.Type != record.RRSIG && r.Type != record.NSEC {
			all = append(all, r.String())
		}
		return true
	})
	slices.Sort(all)
	return all
}

// TestZoneWithinAZone: who has the outer zone alone finds the way to the inner one in it.
func TestZoneWithinAZone(t *testing.T) {
	e := zone.New().Edit()
	nested(e, nil, nil)
	e.Add(addr("ns."+inner, "192.0.2.1"))
	e.Add(addr("web."+inner, "10.0.0.1"))
	e.Add(addr(inner, "10.0.0.2"))
	e.Add(addr("www."+outer, "10.0.0.3"))
	set := e.Done(1)
	cut := []string{"in.example.com. 30 IN NS ns.elsewhere.net.", "in.example.com. 30 IN NS ns.in.example.com.", "ns.in.example.com. 30 IN A 192.0.2.1"}
	own := []string{"example.com. 30 IN NS ns.example.com.", "www.example.com. 30 IN A 10.0.0.3"}
	sorted := func(lists ...[]string) []string { s := slices.Concat(lists...); slices.Sort(s); return s }
	assert.DeepEqual(t, transferred(set, outer), sorted(cut, own))
	assert.Equal(t, set.Lookup("web."+inner, record.A).Verdict, zone.Answer)
	assert.Equal(t, set.Lookup("web."+inner, record.A).Zone.Apex, inner)
	assert.Equal(t, len(set.Lookup(inner, record.A).Answer), 1)

	e = set.Edit() // glue
	e.Remove(addr("ns."+inner, "192.0.2.1"))
	e.Add(addr("ns."+inner, "192.0.2.9"))
	next := e.Done(2)
	cut[2] = "ns.in.example.com. 30 IN A 192.0.2.9"
	assert.DeepEqual(t, transferred(next, outer), sorted(cut, own))
	assert.Equal(t, len(e.Diffs()), 2)
	for _, d := range e.Diffs() {
		assert.DeepEqual(t, replay(set, d), everything(next, d.Apex))
	}
	e = next.Edit() // what is inside is nobody else's
	e.Add(addr("db."+inner, "10.0.0.9"))
	set = e.Done(3)
	assert.Equal(t, len(e.Diffs()), 1)
	e = set.Edit()
	e.RemoveZone(inner)
	set = e.Done(4)
	assert.DeepEqual(t, transferred(set, outer), sorted(own, []string{
		"db.in.example.com. 30 IN A 10.0.0.9", "in.example.com. 30 IN A 10.0.0.2", "ns.in.example.com. 30 IN A 192.0.2.9", "web.in.example.com. 30 IN A 10.0.0.1"}))
	e = set.Edit()
	e.AddZone(zone.Authority{Apex: inner, Servers: []string{"ns." + inner}, Mailbox: "x." + outer})
	set = e.Done(5)
	assert.DeepEqual(t, transferred(set, outer), sorted(own, cut[1:]))
}

// everything is all records of a zone, sorted.
func everything(set *zone.Set, apex string) []string {
	var lines []string
	set.Each(apex, func(r record.Record) bool { lines = append(lines, r.String()); return true })
	slices.Sort(lines)
	return lines
}

// replay is what a zone becomes by a difference.
func replay(set *zone.Set, d zone.Diff) []string {
	lines := everything(set, d.Apex)
	for _, r := range d.Removed {
		lines = slices.DeleteFunc(lines, func(s string) bool { return s == r.String() })
	}
	for _, r := range d.Added {
		lines = append(lines, r.String())
	}
	slices.Sort(lines)
	return lines
}

// TestSignedZoneWithinASignedZone: the outer zone vouches for the inner one's key, and is whole to a verifier.
func TestSignedZoneWithinASignedZone(t *testing.T) {
	key := func() zone.Signer {
		k, _, err := sign.Generate()
		assert.NilError(t, err)
		return sign.New([]*sign.Key{k}, epoch)
	}
	outerKey, innerKey := key(), key()
	e := zone.New().Edit()
	nested(e, outerKey, innerKey)
	e.Add(addr("ns."+inner, "192.0.2.1"))
	e.Add(addr("www."+outer, "10.0.0.3"))
	set := e.Done(1)
	verified(t, set, outer)
	ds := set.LookupSigned(inner, record.DS)
	assert.Assert(t, ds.Verdict == zone.Answer && ds.Zone.Apex == outer && len(ds.Answer) == 1 && len(ds.Signatures) == 1, "%+v", ds)
	assert.Equal(t, set.LookupSigned(inner, record.DNSKEY).Zone.Apex, inner)
	set.Each(outer, func(r record.Record) bool {
		assert.Check(t, r.Type != record.RRSIG || r.Name != inner || !strings.HasPrefix(r.Data, "\x00\x02"), "servers of the zone below are signed by it")
		return true
	})

	for what, edit := range map[string]func(*zone.Edit){
		"the inner zone's key": func(e *zone.Edit) { nested(e, outerKey, key()) },
		"not signed any more":  func(e *zone.Edit) { nested(e, outerKey, nil) },
		"glue":                 func(e *zone.Edit) { e.Add(addr("ns."+inner, "192.0.2.2")) },
		"the outer zone's key": func(e *zone.Edit) { nested(e, key(), innerKey) },
		"a name beside":        func(e *zone.Edit) { e.Add(addr("ina."+outer, "10.0.0.4")) },
		"no inner zone":        func(e *zone.Edit) { e.RemoveZone(inner) },
	} {
		t.Run(what, func(t *testing.T) {
			e := set.Edit()
			edit(e)
			next := e.Done(2)
			verified(t, next, outer)
			for _, d := range e.Diffs() {
				if !d.Gone && !d.Whole {
					assert.Equal(t, cmp.Diff(replay(set, d), everything(next, d.Apex)), "")
				}
			}
		})
	}
	e = set.Edit()
	nested(e, outerKey, nil)
	none := e.Done(2).LookupSigned(inner, record.DS)
	assert.Assert(t, none.Verdict == zone.NoData && none.Zone.Apex == outer && len(none.Proof) == 3, "%+v", none)
}

// verified has a tool of NLnet Labs look at a signed zone.
func verified(t *testing.T, set *zone.Set, apex string) {
	t.Helper()
	tool, err := exec.LookPath("ldns-verify-zone")
	if err != nil {
		t.Skip("no ldns-verify-zone")
	}
	var b strings.Builder
	set.Each(apex, func(r record.Record) bool { b.WriteString(wire.RR(r, r.Name).String() + "\n"); return true })
	file := filepath.Join(t.TempDir(), "zone")
	assert.NilError(t, os.WriteFile(file, []byte(b.String()), 0o600))
	out, err := exec.CommandContext(t.Context(), tool, "-t", sign.NextEpoch(epoch-1).UTC().Format("20060102150405"), file).CombinedOutput()
	assert.NilError(t, err, "%s\n%s", out, b.String())
}

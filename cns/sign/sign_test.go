package sign_test

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/cns/record"
	"github.com/nereid-paas/nereid/cns/sign"
	"github.com/nereid-paas/nereid/cns/wire"
)

const apex = "dc1.cns.internal."

func newKey(t *testing.T) *sign.Key {
	t.Helper()
	k, stored, err := sign.Generate()
	assert.NilError(t, err)
	again, err := sign.Parse(stored)
	assert.NilError(t, err)
	assert.Equal(t, again.Tag(), k.Tag())
	return again
}

func web() []record.Record {
	return []record.Record{
		record.Address("web."+apex, 30, netip.MustParseAddr("10.1.2.9")),
		record.Address("web."+apex, 30, netip.MustParseAddr("10.1.2.3")),
	}
}

// TestOthersVerify: another implementation takes the signatures for good.
func TestOthersVerify(t *testing.T) {
	k := newKey(t)
	now := time.Unix(1_800_000_000, 0)
	s := sign.New([]*sign.Key{k}, sign.Epoch(now))
	keys := s.Keys(apex, 30)
	assert.Equal(t, len(keys), 3)
	dnskey := wire.RR(keys[0], apex).(*dns.DNSKEY)
	assert.Equal(t, dnskey.KeyTag(), k.Tag())
	ds, err := dns.NewRR(k.DS(apex, 30))
	assert.NilError(t, err)
	assert.Equal(t, ds.String(), dnskey.ToDS(dns.SHA256).String())
	assert.Equal(t, wire.RR(keys[2], apex).(*dns.CDS).Digest, ds.(*dns.DS).Digest)

	for _, set := range [][]record.Record{
		web(), keys[:1],
		{{Name: "a." + apex, Type: record.TXT, TTL: 5, Data: "text"}},
		{{Name: "b." + apex, Type: record.SRV, TTL: 5, Port: 1, Target: "web." + apex}},
	} {
		sigs := s.Sign(apex, set)
		assert.Equal(t, len(sigs), 1)
		sig := wire.RR(sigs[0], sigs[0].Name).(*dns.RRSIG)
		assert.NilError(t, sig.Verify(dnskey, wire.RRs(set)), "%s", set[0])
		assert.Assert(t, sig.ValidityPeriod(now))
		assert.Assert(t, sig.ValidityPeriod(now.Add(7*24*time.Hour)), "a week for secondaries")
		set[0].TTL++
		assert.Assert(t, sig.Verify(dnskey, wire.RRs(web()[:1])) != nil, "verifies another set")
	}
}

func TestHostsSignAlike(t *testing.T) {
	k := newKey(t)
	a, b := sign.New([]*sign.Key{k}, 1000), sign.New([]*sign.Key{k}, 1000)
	assert.Assert(t, slices.Equal(a.Sign(apex, web()), b.Sign(apex, web())))
	set := web()
	set[0], set[1] = set[1], set[0]
	assert.Assert(t, slices.Equal(a.Sign(apex, web()), a.Sign(apex, set)))
}

// TestRenewalIsSpread: within a round every name is signed anew once, and not all in one epoch.
func TestRenewalIsSpread(t *testing.T) {
	k := newKey(t)
	names := []string{"a.", "b.", "c.", "d.", "e.", "f.", "g.", "h."}
	renewed, epochs := map[string]int{}, 0
	for e := int64(1000); e < 1014; e++ {
		before, now, some := sign.New([]*sign.Key{k}, e), sign.New([]*sign.Key{k}, e+1), false
		for _, n := range names {
			if !now.Same(before, n+apex) {
				renewed[n]++
				some = true
			}
		}
		if some {
			epochs++
		}
	}
	for _, n := range names {
		assert.Equal(t, renewed[n], 1, n)
	}
	assert.Assert(t, epochs > 2)
	assert.Assert(t, !sign.New([]*sign.Key{newKey(t)}, 1).Same(sign.New([]*sign.Key{k}, 1), "a."+apex))
}

func TestDamagedKey(t *testing.T) {
	_, err := sign.Parse([]byte("x"))
	assert.ErrorContains(t, err, "damaged")
}

func BenchmarkSign(b *testing.B) {
	k, _, err := sign.Generate()
	assert.NilError(b, err)
	s := sign.New([]*sign.Key{k}, 1000)
	set := web()
	for b.Loop() {
		s.Sign(apex, set)
	}
}

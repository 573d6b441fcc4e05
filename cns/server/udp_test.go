package server

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/zap"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/cns/cnstest"
	"github.com/nereid-paas/nereid/cns/record"
	"github.com/nereid-paas/nereid/cns/zone"
)

// source is one whose zones a test changes.
type source struct{ set *zone.Set }

func (s *source) Zones() *zone.Set { return s.set }

func testWorker(set *zone.Set) (*worker, *source) {
	src := &source{set}
	return newWorker(New(src, Config{}, zap.NewNop()), &socket{}), src
}

func request(t testing.TB, name string, qtype uint16, edit func(*dns.Msg)) []byte {
	t.Helper()
	m := new(dns.Msg).SetQuestion(name, qtype)
	if edit != nil {
		edit(m)
	}
	p, err := m.Pack()
	assert.NilError(t, err)
	return p
}

// slowly is the answer of the path that takes everything.
func (w *worker) slowly(t testing.TB, p []byte) []byte {
	t.Helper()
	req := new(dns.Msg)
	assert.NilError(t, req.Unpack(p))
	w.s.turn.Store(w.turn)
	m := w.s.reply(req)
	m.Truncate(udpLimit(req))
	m.Compress = true
	out, err := m.Pack()
	assert.NilError(t, err)
	return out
}

// TestPlainAnswersAreTheSame: what is answered at once is, octet for octet, what the other path answers; asked for the
// first time or again, each turn.
func TestPlainAnswersAreTheSame(t *testing.T) {
	set, _, err := cnstest.Zones(20_000)
	assert.NilError(t, err)
	cases, err := cnstest.Cases()
	assert.NilError(t, err)
	w, _ := testWorker(set)
	plainly, total := 0, 0
	for _, c := range cases {
		qtype, ok := dns.StringToType[c.Type]
		if !ok {
			qtype = 65280
		}
		for name, edit := range map[string]func(*dns.Msg){
			"no EDNS": nil,
			"EDNS":    func(m *dns.Msg) { m.SetEdns0(1232, false) },
			"more":    func(m *dns.Msg) { m.SetEdns0(4096, false); m.CheckingDisabled = true; m.RecursionDesired = false },
			"less":    func(m *dns.Msg) { m.SetEdns0(600, false) },
			"signed":  func(m *dns.Msg) { m.SetEdns0(1232, true) },
		} {
			p := request(t, c.Name, qtype, edit)
			for turn := range 4 {
				want := w.slowly(t, p)
				out := w.plainly(set, p, make([]byte, 0, udpSize))
				if total++; len(out) == 0 {
					continue
				}
				plainly++
				// The same, but with shorter names (see Case.Is), the server's name in the SOA record not led into the
				// question, or a name led to another record that has it, too.
				if c.Name != strings.ToLower(c.Name) || strings.HasPrefix(c.Name, "ns.") || c.Type == "SRV" && len(out) == len(want) {
					assert.Assert(t, same(t, out, want), "%s, %s", c, name)
					continue
				}
				if want[2]&bitTruncated != 0 { // what else it holds counts for nothing
					assert.Equal(t, out[2], want[2])
					continue
				}
				assert.Assert(t, bytes.Equal(out, want), "%s, %s, turn %d\ngot\n%v\nwant\n%v", c, name, turn, unpacked(out), unpacked(want))
			}
		}
	}
	t.Logf("%d of %d are answered at once", plainly, total)
	assert.Assert(t, plainly > total*2/3)
}

// TestManyRecordsTakeTurns: where an answer has no room for all records that are asked for, it begins with another one
// each time, holds as many as there is room for, and says that there are more.
func TestManyRecordsTakeTurns(t *testing.T) {
	const apex, records = "dc1.cns.internal.", 100
	e := zone.New().Edit()
	e.AddZone(zone.Authority{Apex: apex, Servers: []string{"ns." + apex}, Mailbox: "x." + apex})
	for i := range records {
		target := fmt.Sprintf("c%d.%s", i, apex)
		addr := netip.AddrFrom4([4]byte{10, 0, 1, byte(i)})
		e.Add(record.Record{Name: "web." + apex, Type: record.A, TTL: 30, Addr: addr})
		e.Add(record.Record{Name: "web." + apex, Type: record.SRV, TTL: 30, Port: 80, Target: target})
		e.Add(record.Record{Name: target, Type: record.A, TTL: 30, Addr: addr})
	}
	w, src := testWorker(e.Done(1))
	for _, qtype := range []uint16{dns.TypeA, dns.TypeSRV} {
		for name, edit := range map[string]func(*dns.Msg){
			"no EDNS": nil,
			"600":     func(m *dns.Msg) { m.SetEdns0(600, false) },
		} {
			p := request(t, "web."+apex, qtype, edit)
			seen := map[string]bool{}
			for range records {
				want := new(dns.Msg)
				assert.NilError(t, want.Unpack(w.slowly(t, p)))
				got := new(dns.Msg)
				assert.NilError(t, got.Unpack(w.plainly(src.set, p, make([]byte, 0, udpSize))), name)
				assert.Assert(t, got.Truncated && got.Authoritative && len(got.Ns) == 0)
				assert.Equal(t, got.IsEdns0() != nil, edit != nil)
				assert.Equal(t, len(got.Answer), len(want.Answer), name)
				assert.Equal(t, got.Answer[0].String(), want.Answer[0].String(), name)
				for _, rr := range got.Answer {
					seen[rr.String()] = true
				}
			}
			assert.Equal(t, len(seen), records, name)
		}
	}
}

func unpacked(p []byte) string {
	m := new(dns.Msg)
	if err := m.Unpack(p); err != nil {
		return fmt.Sprintf("%v: %x", err, p)
	}
	return m.String()
}

func same(t testing.TB, a, b []byte) bool {
	t.Helper()
	return strings.EqualFold(unpacked(a), unpacked(b))
}

// TestPlainAnswersFollowChanges: an answer made ready goes with what it rests on.
func TestPlainAnswersFollowChanges(t *testing.T) {
	const apex = "dc1.cns.internal."
	a := func(name, addr string) record.Record {
		return record.Record{Name: name, Type: record.A, TTL: 30, Addr: netip.MustParseAddr(addr)}
	}
	srv := record.Record{Name: "web." + apex, Type: record.SRV, TTL: 30, Port: 80, Target: "a." + apex}
	e := zone.New().Edit()
	e.AddZone(zone.Authority{Apex: apex, Servers: []string{"ns." + apex}, Mailbox: "x." + apex})
	e.Add(srv)
	e.Add(a("a."+apex, "10.0.0.1"))
	e.Add(a("b."+apex, "10.0.0.2"))
	w, src := testWorker(e.Done(1))
	check := func(what string) {
		t.Helper()
		for _, name := range []string{"web.", "a.", "b.", "c.", "x.c.", ""} {
			for _, qtype := range []uint16{dns.TypeA, dns.TypeSRV, dns.TypeSOA, dns.TypeNS, dns.TypeTXT} {
				p := request(t, name+apex, qtype, nil)
				want := w.slowly(t, p)
				out := w.plainly(src.set, p, make([]byte, 0, udpSize))
				assert.Assert(t, len(out) == 0 || bytes.Equal(out, want), "%s: %s%s %d\ngot\n%v\nwant\n%v", what, name, apex, qtype, unpacked(out), unpacked(want))
			}
		}
	}
	change := func(what string, edit func(*zone.Edit)) {
		t.Helper()
		e := src.set.Edit()
		edit(e)
		src.set = e.Done(uint32(src.set.Generation() + 10))
		check(what)
	}
	check("at first")
	first := w.s.answers.find(mustRead(t, w, "b."+apex), src.set)
	assert.Assert(t, first != nil)
	change("the address of a target", func(e *zone.Edit) { e.Remove(a("a."+apex, "10.0.0.1")); e.Add(a("a."+apex, "10.0.0.9")) })
	assert.Assert(t, w.s.answers.find(mustRead(t, w, "b."+apex), src.set) == first, "what did not change is kept")
	change("a target without", func(e *zone.Edit) { e.Remove(a("a."+apex, "10.0.0.9")) })
	change("with again", func(e *zone.Edit) { e.Add(a("a."+apex, "10.0.0.3")) })
	change("hidden", func(e *zone.Edit) { e.Remove(a("b."+apex, "10.0.0.2")); e.AddHidden(a("b."+apex, "10.0.0.2")) })
	change("two", func(e *zone.Edit) { e.Add(a("a."+apex, "10.0.0.4")) })
	change("an alias", func(e *zone.Edit) {
		e.Add(record.Record{Name: "c." + apex, Type: record.CNAME, TTL: 30, Target: "a." + apex})
	})
	change("what it leads to", func(e *zone.Edit) { e.Remove(a("a."+apex, "10.0.0.4")) })
	change("a zone below", func(e *zone.Edit) {
		e.AddZone(zone.Authority{Apex: "c." + apex, Servers: []string{"ns." + apex}, Mailbox: "x." + apex})
	})
	change("gone", func(e *zone.Edit) { e.RemoveZone(apex) })
}

func mustRead(t testing.TB, w *worker, name string) []byte {
	t.Helper()
	assert.Assert(t, w.q.read(request(t, name, dns.TypeA, nil)))
	return w.q.key
}

// TestPlainAnswersDoNotAllocate: neither what is there nor what is not.
func TestPlainAnswersDoNotAllocate(t *testing.T) {
	set, _, err := cnstest.Zones(20_000)
	assert.NilError(t, err)
	w, _ := testWorker(set)
	edns := func(m *dns.Msg) { m.SetEdns0(1232, true) }
	for name, p := range map[string][]byte{
		"A":        request(t, "web.svc.admin."+cnstest.Inner, dns.TypeA, nil),
		"SRV":      request(t, "web.svc.admin."+cnstest.Inner, dns.TypeSRV, edns),
		"signed":   request(t, "web.svc.admin."+cnstest.Outer, dns.TypeA, edns),
		"NODATA":   request(t, "web.svc.admin."+cnstest.Inner, dns.TypeAAAA, nil),
		"NXDOMAIN": request(t, "nope.svc.admin."+cnstest.Inner, dns.TypeA, edns),
		"REFUSED":  request(t, "example.org.", dns.TypeA, nil),
	} {
		out := make([]byte, 0, udpSize)
		assert.Assert(t, len(w.plainly(set, p, out)) > 0, name)
		got := testing.AllocsPerRun(100, func() { w.plainly(set, p, out) })
		assert.Equal(t, got, 0.0, name)
	}
}

// TestFloodOfOddRequests: requests that take longer wait in a queue of bounded size, whose oldest go.
func TestFloodOfOddRequests(t *testing.T) {
	w, _ := testWorker(zone.New())
	for i := range 3 * queueSize {
		w.s.later(w.socket, packet{data: []byte{byte(i), byte(i >> 8)}})
	}
	assert.Equal(t, len(w.s.queue), queueSize)
	assert.Equal(t, w.s.dropped.queue.Load(), uint64(2*queueSize))
	oldest := <-w.s.queue
	assert.Equal(t, int(oldest.data[0])|int(oldest.data[1])<<8, 2*queueSize)
}

// TestAnswersComeFromTheAddressAsked: at a socket for all addresses.
func TestAnswersComeFromTheAddressAsked(t *testing.T) {
	set, _, err := cnstest.Zones(20_000)
	assert.NilError(t, err)
	for _, listen := range []string{"0.0.0.0:0", "[::]:0"} {
		s := New(&source{set}, Config{Listen: []string{listen}}, zap.NewNop())
		assert.NilError(t, s.Listen(t.Context()))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		_, port, err := net.SplitHostPort(s.Addrs()[0].String())
		assert.NilError(t, err)
		client := &dns.Client{Timeout: time.Minute}
		for _, addr := range []string{"127.0.0.1", "127.8.9.10"} {
			for _, qtype := range []uint16{dns.TypeA, dns.TypeAXFR} { // at once, and later
				m, _, err := client.ExchangeContext(t.Context(), new(dns.Msg).SetQuestion("web.svc.admin."+cnstest.Inner, qtype), net.JoinHostPort(addr, port))
				assert.NilError(t, err, "%s at %s", addr, listen) // a connected socket takes nothing from elsewhere
				assert.Assert(t, m.Response)
			}
		}
		cancel()
		assert.NilError(t, <-done)
	}
}

func BenchmarkPlain(b *testing.B) {
	set, _, err := cnstest.Zones(20_000)
	assert.NilError(b, err)
	w, _ := testWorker(set)
	for name, p := range map[string][]byte{
		"A":        request(b, "web.svc.admin."+cnstest.Inner, dns.TypeA, nil),
		"NXDOMAIN": request(b, "nope.svc.admin."+cnstest.Inner, dns.TypeA, nil),
	} {
		out := make([]byte, 0, udpSize)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				w.plainly(set, p, out)
			}
		})
	}
	p := request(b, "web.svc.admin."+cnstest.Inner, dns.TypeA, nil)
	b.Run("A, the other path", func(b *testing.B) {
		for b.Loop() {
			w.slowly(b, p)
		}
	})
}

// TestMoreRecordsThanAMessageHolds take turns as well: places beyond 64 kB wrapped, and the worker panicked.
func TestMoreRecordsThanAMessageHolds(t *testing.T) {
	const apex, records = "dc1.cns.internal.", 4200
	e := zone.New().Edit()
	e.AddZone(zone.Authority{Apex: apex, Servers: []string{"ns." + apex}, Mailbox: "x." + apex})
	for i := range records {
		e.Add(record.Record{Name: "web." + apex, Type: record.A, TTL: 30, Addr: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})})
	}
	w, src := testWorker(e.Done(1))
	p := request(t, "web."+apex, dns.TypeA, nil)
	first := map[string]bool{}
	for range records {
		got := new(dns.Msg)
		assert.NilError(t, got.Unpack(w.plainly(src.set, p, make([]byte, 0, udpSize))))
		first[got.Answer[0].String()] = true
	}
	assert.Equal(t, len(first), records)
}

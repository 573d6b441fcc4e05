package server

import (
	"testing"

	"github.com/miekg/dns"
	"go.uber.org/zap"

	"github.com/nereid-paas/nereid/cns/cnstest"
	"github.com/nereid-paas/nereid/cns/zone"
)

// still is a source of zones that do not change.
type still struct{ set *zone.Set }

func (s still) Zones() *zone.Set { return s.set }

// FuzzPacket: whatever comes, the answer is none or one that can be sent, belongs to the request, and is no question.
func FuzzPacket(f *testing.F) {
	set, _, err := cnstest.Zones(20_000)
	if err != nil {
		f.Fatal(err)
	}
	cases, err := cnstest.Cases()
	if err != nil {
		f.Fatal(err)
	}
	for _, c := range cases {
		m := new(dns.Msg).SetQuestion(c.Name, dns.StringToType[c.Type])
		m.SetEdns0(1232, true)
		if b, err := m.Pack(); err == nil {
			f.Add(b)
		}
	}
	f.Add([]byte("\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\xc0\x0c\x00\x01\x00\x01")) // a name that leads to itself
	f.Add([]byte("\x00\x01\x28\x00\x00\x00\x00\x00\x00\x00\x00\x00"))
	s := New(still{set}, Config{}, zap.NewNop())
	f.Fuzz(func(t *testing.T, packet []byte) {
		req := new(dns.Msg)
		if req.Unpack(packet) != nil {
			return
		}
		m := s.reply(req)
		if m == nil {
			if !req.Response {
				t.Error("no answer to a request")
			}
			return
		}
		if m.Id != req.Id || !m.Response {
			t.Errorf("%v answers %v", m, req)
		}
		s.count(req, m)
		m.Truncate(dns.MinMsgSize)
		if b, err := m.Pack(); err != nil || len(b) > dns.MinMsgSize {
			t.Errorf("%d octets, %v: %v", len(b), err, m)
		}
	})
}

// FuzzPlain: what is answered at once is what the other path answers, and nothing else is.
func FuzzPlain(f *testing.F) {
	set, _, err := cnstest.Zones(20_000)
	if err != nil {
		f.Fatal(err)
	}
	cases, err := cnstest.Cases()
	if err != nil {
		f.Fatal(err)
	}
	for i, c := range cases {
		m := new(dns.Msg).SetQuestion(c.Name, dns.StringToType[c.Type])
		if i%2 == 0 {
			m.SetEdns0(1232, i%4 == 0)
		}
		if b, err := m.Pack(); err == nil {
			f.Add(b)
		}
	}
	w, _ := testWorker(set)
	f.Fuzz(func(t *testing.T, packet []byte) {
		if len(packet) > requestSize {
			return
		}
		out := w.plainly(set, packet, make([]byte, 0, udpSize))
		if len(out) == 0 {
			return
		}
		req, m := new(dns.Msg), new(dns.Msg)
		if err := req.Unpack(packet); err != nil {
			t.Fatalf("%x is answered, and is none: %v", packet, err)
		}
		if err := m.Unpack(out); err != nil || len(out) > udpLimit(req) {
			t.Fatalf("%d octets, %v: %x", len(out), err, out)
		}
		want := w.s.reply(req)
		if m.Id != req.Id || m.Rcode != want.Rcode || m.Authoritative != want.Authoritative || m.RecursionDesired != want.RecursionDesired ||
			m.CheckingDisabled != want.CheckingDisabled || (m.IsEdns0() == nil) != (want.IsEdns0() == nil) {
			t.Fatalf("got %v, want %v", m, want)
		}
		if !m.Truncated && (len(m.Answer) != len(want.Answer) || len(m.Ns) != len(want.Ns) || len(m.Extra) != len(want.Extra)) {
			t.Fatalf("got %v, want %v", m, want)
		}
	})
}

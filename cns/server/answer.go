package server

import (
	"context"
	"slices"

	"github.com/miekg/dns"

	"github.com/nereid-paas/nereid/cns/record"
	"github.com/nereid-paas/nereid/cns/zone"
)

// udpSize is the largest UDP answer: what fits into one packet on nearly every path (the default of the DNS flag day
// of 2020), whatever more a client says it takes.
const udpSize = 1232

// Timers of the SOA record, in seconds, for secondaries of a zone that changes with every start and stop (RFC 1912,
// section 2.2).
const (
	soaRefresh = 60
	soaRetry   = 10
	soaExpire  = 7 * 24 * 3600
)

// Answer answers a request whose question is in one of our zones; false: it is not, and nothing was done. The answer is
// whole, not yet cut to what the transport takes.
func (s *Server) Answer(ctx context.Context, req *dns.Msg) (*dns.Msg, bool) {
	if req.Response || req.Opcode != dns.OpcodeQuery || len(req.Question) != 1 || req.Question[0].Qclass != dns.ClassINET {
		return nil, false
	}
	set := s.source.Zones()
	if set == nil {
		return nil, false
	}
	if _, ours := set.Zone(zone.Canonical(req.Question[0].Name)); !ours {
		return nil, false
	}
	return s.reply(req), true
}

// ServeDNS is Answer for callers who know that the question is ours: nil when it is not, or nothing is known yet.
func (s *Server) ServeDNS(ctx context.Context, req *dns.Msg) *dns.Msg {
	m, _ := s.Answer(ctx, req)
	return m
}

// reply makes the answer to a request, whatever it is; nil when it deserves none.
func (s *Server) reply(req *dns.Msg) *dns.Msg {
	if req.Response {
		return nil // two servers that answer answers never end
	}
	m := new(dns.Msg)
	m.SetReply(req)
	m.Compress = true
	opt := req.IsEdns0()
	if opt != nil {
		m.SetEdns0(udpSize, opt.Do())
	}
	switch {
	case opt != nil && opt.Version() != 0: // RFC 6891, section 6.1.3
		m.Rcode = dns.RcodeBadVers
	case req.Opcode != dns.OpcodeQuery:
		m.Rcode = dns.RcodeNotImplemented
	case len(req.Question) != 1:
		m.Rcode = dns.RcodeFormatError
	default:
		s.answer(m, req.Question[0])
	}
	return m
}

// answer fills in what the zones say.
func (s *Server) answer(m *dns.Msg, q dns.Question) {
	if q.Qclass != dns.ClassINET || refused(q.Qtype) {
		m.Rcode = dns.RcodeRefused
		return
	}
	set := s.source.Zones()
	if set == nil { // not read yet: unsure is never "not there"
		m.Rcode = dns.RcodeServerFailure
		return
	}
	r := set.Lookup(zone.Canonical(q.Name), record.Type(q.Qtype))
	m.Authoritative = r.Verdict != zone.Refused
	switch r.Verdict {
	case zone.Refused:
		m.Rcode = dns.RcodeRefused
	case zone.Answer:
		m.Answer = s.rotate(rrs(r.Answer, q.Name))
		if record.Type(q.Qtype) == record.SOA {
			m.Answer = append(m.Answer, soa(r.Zone, record.TTL))
		}
		m.Extra = append(rrs(r.Additional, ""), m.Extra...)
	case zone.NXDomain:
		m.Rcode = dns.RcodeNameError
		m.Ns = []dns.RR{soa(r.Zone, record.NegativeTTL)}
	case zone.NoData:
		m.Ns = []dns.RR{soa(r.Zone, record.NegativeTTL)}
	}
}

// refused tells whether a type asks for more than records of one type: ANY (RFC 8482), and zone transfers.
func refused(qtype uint16) bool {
	switch qtype {
	case dns.TypeANY, dns.TypeAXFR, dns.TypeIXFR, dns.TypeMAILA, dns.TypeMAILB:
		return true
	}
	return false
}

// rotate begins each answer with another of its records, so that clients that take the first spread.
func (s *Server) rotate(answer []dns.RR) []dns.RR {
	if len(answer) < 2 {
		return answer
	}
	n := int(s.turn.Add(1) % uint64(len(answer)))
	return slices.Concat(answer[n:], answer[:n])
}

// soa is a zone's SOA record. In a negative answer its TTL is how long that may be believed (RFC 2308, section 3).
func soa(z *zone.Authority, ttl uint32) dns.RR {
	return &dns.SOA{
		Hdr:     header(z.Apex, dns.TypeSOA, ttl),
		Ns:      z.Servers[0],
		Mbox:    z.Mailbox,
		Serial:  z.Serial,
		Refresh: soaRefresh,
		Retry:   soaRetry,
		Expire:  soaExpire,
		Minttl:  record.NegativeTTL,
	}
}

func header(name string, t uint16, ttl uint32) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: t, Class: dns.ClassINET, Ttl: ttl}
}

// rrs are records as the wire library has them. Those that answer a question have its name, spelled as asked.
func rrs(records []record.Record, asked string) []dns.RR {
	out := make([]dns.RR, 0, len(records))
	for _, r := range records {
		name := r.Name
		if asked != "" {
			name = asked
		}
		out = append(out, rr(r, header(name, uint16(r.Type), r.TTL)))
	}
	return out
}

func rr(r record.Record, h dns.RR_Header) dns.RR {
	switch r.Type {
	case record.A:
		return &dns.A{Hdr: h, A: r.Addr.AsSlice()}
	case record.AAAA:
		return &dns.AAAA{Hdr: h, AAAA: r.Addr.AsSlice()}
	case record.PTR:
		return &dns.PTR{Hdr: h, Ptr: r.Target}
	case record.NS:
		return &dns.NS{Hdr: h, Ns: r.Target}
	case record.SRV:
		return &dns.SRV{Hdr: h, Priority: r.Priority, Weight: r.Weight, Port: r.Port, Target: r.Target}
	}
	panic("cns: no such type: " + r.Type.String()) // zones hold what package record makes
}

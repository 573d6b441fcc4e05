package server

import (
	"context"
	"encoding/hex"
	"slices"

	"github.com/miekg/dns"

	"github.com/nereid-paas/nereid/cns/record"
	"github.com/nereid-paas/nereid/cns/wire"
	"github.com/nereid-paas/nereid/cns/zone"
)

// udpSize is the largest UDP answer: what fits into one packet on nearly every path (the default of the DNS flag day
// of 2020), whatever more a client says it takes.
const udpSize = 1232

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
		s.identify(m.IsEdns0(), opt)
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

// identify says which server this is to who asks (RFC 5001).
func (s *Server) identify(answer, asked *dns.OPT) {
	if s.cfg.NSID != "" && slices.ContainsFunc(asked.Option, func(o dns.EDNS0) bool { return o.Option() == dns.EDNS0NSID }) {
		answer.Option = append(answer.Option, &dns.EDNS0_NSID{Code: dns.EDNS0NSID, Nsid: hex.EncodeToString([]byte(s.cfg.NSID))})
	}
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
	r := lookup(set, zone.Canonical(q.Name), record.Type(q.Qtype), m.IsEdns0())
	fill(m, r, q.Name)
	if n := min(len(r.Answer), len(m.Answer)); n > 1 {
		s.rotate(m.Answer[:n])
	}
}

// fill puts what was found for a name, as the question spelled it, into an answer.
func fill(m *dns.Msg, r zone.Result, name string) {
	switch r.Verdict {
	case zone.Refused:
		m.Rcode = dns.RcodeRefused
		return
	case zone.Unsure:
		m.Rcode = dns.RcodeServerFailure
		return
	case zone.Answer:
		m.Extra = append(wire.RRs(r.Additional), m.Extra...)
	case zone.NXDomain:
		m.Rcode = dns.RcodeNameError
		m.Ns = append([]dns.RR{soa(r.Zone)}, wire.RRs(r.Proof)...)
	case zone.NoData:
		m.Ns = append([]dns.RR{soa(r.Zone)}, wire.RRs(r.Proof)...)
	}
	m.Authoritative = true
	m.Answer = append(rrs(r.Answer, name), rrs(r.Signatures, name)...)
}

// lookup asks for signatures as well when the client wants to see them (RFC 3225).
func lookup(set *zone.Set, name string, t record.Type, opt *dns.OPT) zone.Result {
	if opt != nil && opt.Do() {
		return set.LookupSigned(name, t)
	}
	return set.Lookup(name, t)
}

// refused tells whether a type asks for more than records of one type: ANY (RFC 8482), and zone transfers.
func refused(qtype uint16) bool {
	switch qtype {
	case dns.TypeANY, dns.TypeAXFR, dns.TypeIXFR, dns.TypeMAILA, dns.TypeMAILB:
		return true
	}
	return false
}

// rotate begins each answer with another of its records, so that clients that take the first spread. An alias stays
// before what it leads to.
func (s *Server) rotate(answer []dns.RR) {
	if answer[0].Header().Rrtype == dns.TypeCNAME {
		return
	}
	n := int(s.turn.Add(1) % uint64(len(answer)))
	copy(answer, slices.Concat(answer[n:], answer[:n]))
}

// soa is the SOA record of a negative answer: its TTL is how long that may be believed (RFC 2308, section 3).
func soa(z *zone.Authority) dns.RR {
	r := z.SOA()
	r.TTL = min(r.TTL, z.Negative())
	return wire.RR(r, r.Name)
}

// rrs are records as the wire library has them. Those at the name that was asked have it as the question spelled it.
func rrs(records []record.Record, asked string) []dns.RR {
	out := make([]dns.RR, 0, len(records))
	name := zone.Canonical(asked)
	for _, r := range records {
		if r.Name == name {
			out = append(out, wire.RR(r, asked))
			continue
		}
		out = append(out, wire.RR(r, r.Name))
	}
	return out
}

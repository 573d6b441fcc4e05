package network

import (
	"math/rand/v2"
	"net/netip"
	"strconv"
	"strings"

	"github.com/miekg/dns"
)

// nameTTL is how many seconds a container may remember another's address. Addresses are used again after a stop, so
// it is short; Docker's 600 is known to send clients to containers that are gone.
const nameTTL = 10

// local answers what the host itself knows: containers, the name service's zone, and questions that make no sense.
// Nil: ask upstream.
func (r *resolver) local(query *dns.Msg) *dns.Msg {
	if query.Opcode != dns.OpcodeQuery {
		return reply(query, dns.RcodeNotImplemented)
	}
	if len(query.Question) != 1 {
		return reply(query, dns.RcodeFormatError)
	}
	q := query.Question[0]
	if q.Qclass != dns.ClassINET {
		return nil
	}
	if m := r.container(query, q); m != nil {
		return m
	}
	if m := r.cns(query, q); m != nil {
		return m
	}
	if r.sb.opts.NdotsSet && isAddressType(q.Qtype) && dns.CountLabel(q.Name) == 1 {
		return reply(query, dns.RcodeSuccess) // the client will try again with a search domain
	}
	return nil
}

func isAddressType(t uint16) bool { return t == dns.TypeA || t == dns.TypeAAAA }

// container answers for names and addresses of containers on the asker's networks.
func (r *resolver) container(query *dns.Msg, q dns.Question) *dns.Msg {
	if r.f.cfg.Names == nil {
		return nil
	}
	switch q.Qtype {
	case dns.TypeA, dns.TypeAAAA:
		return r.address(query, q)
	case dns.TypePTR:
		return r.pointer(query, q)
	case dns.TypeMX: // no error and no answer: mail goes to the address itself (RFC 5321, 5.1)
		if _, known := r.lookup(q.Name, false); known {
			return reply(query, dns.RcodeSuccess)
		}
	}
	return nil
}

func (r *resolver) lookup(name string, six bool) ([]netip.Addr, bool) {
	name = strings.TrimSuffix(name, ".")
	if name == "" {
		return nil, false
	}
	return r.f.cfg.Names.Addresses(r.sb.opts.Account, r.sb.id, name, six)
}

func (r *resolver) address(query *dns.Msg, q dns.Question) *dns.Msg {
	addrs, known := r.lookup(q.Name, q.Qtype == dns.TypeAAAA)
	if !known {
		return nil
	}
	m := reply(query, dns.RcodeSuccess)
	rand.Shuffle(len(addrs), func(i, j int) { addrs[i], addrs[j] = addrs[j], addrs[i] })
	for _, a := range addrs {
		hdr := dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: dns.ClassINET, Ttl: nameTTL}
		if q.Qtype == dns.TypeA {
			m.Answer = append(m.Answer, &dns.A{Hdr: hdr, A: a.AsSlice()})
		} else {
			m.Answer = append(m.Answer, &dns.AAAA{Hdr: hdr, AAAA: a.AsSlice()})
		}
	}
	return m
}

func (r *resolver) pointer(query *dns.Msg, q dns.Question) *dns.Msg {
	addr, ok := reverse(q.Name)
	if !ok {
		return nil
	}
	name, ok := r.f.cfg.Names.Pointer(r.sb.opts.Account, r.sb.id, addr)
	if !ok {
		return nil
	}
	m := reply(query, dns.RcodeSuccess)
	m.Answer = []dns.RR{&dns.PTR{
		Hdr: dns.RR_Header{Name: q.Name, Rrtype: dns.TypePTR, Class: dns.ClassINET, Ttl: nameTTL},
		Ptr: dns.Fqdn(name),
	}}
	return m
}

// cns answers for names below the name service's zone.
func (r *resolver) cns(query *dns.Msg, q dns.Question) *dns.Msg {
	if r.f.cfg.CNS == nil || r.f.cfg.Zone == "" || !dns.IsSubDomain(dns.CanonicalName(r.f.cfg.Zone), dns.CanonicalName(q.Name)) {
		return nil
	}
	m := r.f.cfg.CNS.ServeDNS(r.ctx, query)
	if m == nil {
		return failure(query)
	}
	m.RecursionAvailable = true
	return m
}

// reply begins an answer.
func reply(query *dns.Msg, rcode int) *dns.Msg {
	m := new(dns.Msg).SetRcode(query, rcode)
	m.RecursionAvailable = true
	if opt := query.IsEdns0(); opt != nil {
		m.SetEdns0(opt.UDPSize(), false)
	}
	return m
}

// failure is the answer of one who does not know: never that there is no such name.
func failure(query *dns.Msg) *dns.Msg { return reply(query, dns.RcodeServerFailure) }

// reverse reads the address from a name below in-addr.arpa or ip6.arpa.
func reverse(name string) (netip.Addr, bool) {
	name = dns.CanonicalName(name)
	if labels, ok := strings.CutSuffix(name, ".in-addr.arpa."); ok {
		return reverse4(strings.Split(labels, "."))
	}
	if labels, ok := strings.CutSuffix(name, ".ip6.arpa."); ok {
		return reverse6(strings.Split(labels, "."))
	}
	return netip.Addr{}, false
}

func reverse4(labels []string) (netip.Addr, bool) {
	if len(labels) != 4 {
		return netip.Addr{}, false
	}
	a, err := netip.ParseAddr(labels[3] + "." + labels[2] + "." + labels[1] + "." + labels[0])
	return a, err == nil
}

func reverse6(labels []string) (netip.Addr, bool) {
	var b [16]byte
	if len(labels) != 32 {
		return netip.Addr{}, false
	}
	for i, l := range labels {
		v, err := strconv.ParseUint(l, 16, 4)
		if err != nil || len(l) != 1 {
			return netip.Addr{}, false
		}
		b[15-i/2] |= byte(v) << (4 * (i % 2))
	}
	return netip.AddrFrom16(b), true
}

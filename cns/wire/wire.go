// Package wire makes records of the zones into those of the DNS library.
package wire

import (
	"fmt"

	"github.com/miekg/dns"

	"github.com/nereid-paas/nereid/cns/record"
)

// RR is a record as the library has it, at a name of its own: the record's, or as a question spelled it.
func RR(r record.Record, name string) dns.RR {
	h := dns.RR_Header{Name: name, Rrtype: uint16(r.Type), Class: dns.ClassINET, Ttl: r.TTL}
	switch r.Type {
	case record.A:
		return &dns.A{Hdr: h, A: r.Addr.AsSlice()}
	case record.AAAA:
		return &dns.AAAA{Hdr: h, AAAA: r.Addr.AsSlice()}
	case record.CNAME:
		return &dns.CNAME{Hdr: h, Target: r.Target}
	case record.PTR:
		return &dns.PTR{Hdr: h, Ptr: r.Target}
	case record.NS:
		return &dns.NS{Hdr: h, Ns: r.Target}
	case record.SRV:
		return &dns.SRV{Hdr: h, Priority: r.Priority, Weight: r.Weight, Port: r.Port, Target: r.Target}
	}
	return unpacked(r, h)
}

// unpacked is a record whose data are in wire form already.
func unpacked(r record.Record, h dns.RR_Header) dns.RR {
	data := record.AppendData(nil, r)
	h.Rdlength = uint16(len(data))
	rr, _, err := dns.UnpackRRWithHeader(h, data, 0)
	if err != nil { // zones hold what packages record, zone and sign make
		panic(fmt.Sprintf("cns: %s: %v", r, err))
	}
	return rr
}

// RRs are records as the library has them, at their own names.
func RRs(records []record.Record) []dns.RR {
	out := make([]dns.RR, len(records))
	for i, r := range records {
		out[i] = RR(r, r.Name)
	}
	return out
}

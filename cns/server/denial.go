package server

import (
	"encoding/binary"

	"github.com/miekg/dns"

	"github.com/nereid-paas/nereid/cns/record"
	"github.com/nereid-paas/nereid/cns/zone"
)

// denials are the SOA records of answers that say no. A worker has its own; such answers are put together anew each
// time, for there is no end of names that are not there.
type denials struct {
	layout uint64
	of     map[string]*denial // by apex
}

// denial is a zone's SOA record as it follows a question for the apex.
type denial struct {
	zone *zone.Authority // as of which it is
	body []byte
	// pointers are where names lead back into the question or the record: as much further as the question is longer.
	pointers []int
	apex     int // octets of the apex
}

// append appends the SOA record to an answer whose question is for a name in the zone.
func (d *denials) append(out []byte, set *zone.Set, z *zone.Authority, q *plain) []byte {
	if d.of == nil || d.layout != set.Layout() {
		d.of, d.layout = map[string]*denial{}, set.Layout()
	}
	n := d.of[z.Apex]
	if n == nil || n.zone != z {
		n = newDenial(z)
		d.of[z.Apex] = n
	}
	at := len(out)
	out = append(out, n.body...)
	further := uint16(len(q.question) - 4 - n.apex)
	for _, p := range n.pointers {
		b := out[at+p:]
		binary.BigEndian.PutUint16(b, binary.BigEndian.Uint16(b)+further)
	}
	return out
}

func newDenial(z *zone.Authority) *denial {
	m := new(dns.Msg).SetQuestion(z.Apex, dns.TypeSOA)
	m.Ns, m.Compress = []dns.RR{soa(z)}, true
	packed, err := m.Pack()
	if err != nil { // the zone was made of names that were checked
		panic("cns: " + err.Error())
	}
	n := &denial{zone: z, apex: len(record.AppendName(nil, z.Apex))}
	n.body = packed[headerSize+n.apex+4:]
	at := n.name(0)      // owner
	at = n.name(at + 10) // type, class, TTL, length: then the primary
	n.name(at)           // and the mailbox
	return n
}

// name notes the pointer a name ends with, if it does, and returns where the name ends.
func (n *denial) name(at int) int {
	for n.body[at] != 0 {
		if n.body[at] >= 0xc0 {
			n.pointers = append(n.pointers, at)
			return at + 2
		}
		at += int(n.body[at]) + 1
	}
	return at + 1
}

// Command nameserver answers for example. as an upstream of containers does: world.example is 192.0.2.99, big.example has
// more text than fits a small packet, asked.example tells how often other names were asked for. Nothing else is there.
package main

import (
	"log"
	"net"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/miekg/dns"
)

var asked atomic.Int64

func main() {
	for _, network := range []string{"udp", "tcp"} {
		s := &dns.Server{Addr: ":53", Net: network, Handler: dns.HandlerFunc(answer)}
		if network == "tcp" {
			log.Fatal(s.ListenAndServe())
		}
		go func() { log.Fatal(s.ListenAndServe()) }()
	}
}

func answer(w dns.ResponseWriter, query *dns.Msg) {
	m := new(dns.Msg).SetReply(query)
	q := query.Question[0]
	hdr := dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: dns.ClassINET, Ttl: 60}
	name := strings.ToLower(q.Name)
	if name != "asked.example." {
		asked.Add(1)
	}
	switch {
	case name == "world.example." && q.Qtype == dns.TypeA:
		m.Answer = append(m.Answer, &dns.A{Hdr: hdr, A: net.IPv4(192, 0, 2, 99)})
	case name == "world.example.":
	case name == "big.example.":
		for i := range 20 {
			m.Answer = append(m.Answer, &dns.TXT{Hdr: hdr, Txt: []string{strings.Repeat(string(rune('a'+i)), 200)}})
		}
	case name == "asked.example.":
		hdr.Ttl = 0
		m.Answer = append(m.Answer, &dns.TXT{Hdr: hdr, Txt: []string{strconv.FormatInt(asked.Load(), 10)}})
	default:
		m.Rcode = dns.RcodeNameError
	}
	if _, udp := w.RemoteAddr().(*net.UDPAddr); udp {
		size := dns.MinMsgSize
		if opt := query.IsEdns0(); opt != nil {
			size = int(opt.UDPSize())
		}
		m.Truncate(size)
	}
	if err := w.WriteMsg(m); err != nil {
		log.Print(err)
	}
}

package server_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/cns/record"
	"github.com/nereid-paas/nereid/cns/server"
	"github.com/nereid-paas/nereid/cns/zone"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const apex = "dc1.cns.internal."

// fixed is a source of zones that do not change.
type fixed struct{ set *zone.Set }

func (f fixed) Zones() *zone.Set { return f.set }

// example has a small service, a large one and a pointer.
func example() *zone.Set {
	e := zone.New().Edit()
	e.AddZone(zone.Authority{Apex: apex, Servers: []string{"ns." + apex}, Mailbox: "hostmaster." + apex})
	e.AddZone(zone.Authority{Apex: "2.1.10.in-addr.arpa.", Servers: []string{"ns." + apex}, Mailbox: "hostmaster." + apex})
	add := func(name string, addr netip.Addr) {
		e.Add(record.Record{Name: name, Type: record.A, TTL: record.TTL, Addr: addr})
	}
	add("web.inst.admin."+apex, netip.MustParseAddr("10.1.2.3"))
	add("web.svc.admin."+apex, netip.MustParseAddr("10.1.2.3"))
	e.Add(record.Record{Name: "web.svc.admin." + apex, Type: record.SRV, TTL: record.TTL, Port: 80, Target: "web.inst.admin." + apex})
	e.Add(record.Record{Name: "3.2.1.10.in-addr.arpa.", Type: record.PTR, TTL: record.TTL, Target: "web.inst.admin." + apex})
	for i := range 200 {
		add("big.svc.admin."+apex, netip.AddrFrom4([4]byte{10, 9, 0, byte(i)}))
	}
	return e.Done(42)
}

// start serves zones on a port of the system's choice until the test ends.
func start(t *testing.T, set *zone.Set) (s *server.Server, addr string) {
	t.Helper()
	s = server.New(fixed{set}, server.Config{Listen: []string{"127.0.0.1:0"}}, zap.NewNop())
	assert.NilError(t, s.Listen(t.Context()))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() { cancel(); assert.Check(t, <-done) })
	return s, s.Addrs()[0].String()
}

func ask(t *testing.T, network, addr string, q *dns.Msg) *dns.Msg {
	t.Helper()
	c := &dns.Client{Net: network, Timeout: time.Minute, UDPSize: dns.MaxMsgSize}
	m, _, err := c.ExchangeContext(t.Context(), q, addr)
	assert.NilError(t, err)
	return m
}

func question(name string, qtype uint16) *dns.Msg {
	return new(dns.Msg).SetQuestion(name, qtype)
}

// summary is what matters of an answer: code, flags and sections, one record a line.
func summary(m *dns.Msg) string {
	lines := []string{dns.RcodeToString[m.Rcode]}
	if m.Authoritative {
		lines[0] += " aa"
	}
	if m.Truncated {
		lines[0] += " tc"
	}
	if m.RecursionAvailable {
		lines[0] += " ra"
	}
	for _, rr := range m.Answer {
		lines = append(lines, text(rr))
	}
	for _, rr := range m.Ns {
		lines = append(lines, "ns "+text(rr))
	}
	for _, rr := range m.Extra {
		if rr.Header().Rrtype != dns.TypeOPT {
			lines = append(lines, "+ "+text(rr))
		}
	}
	return strings.Join(lines, "\n")
}

func text(rr dns.RR) string { return strings.Join(strings.Fields(rr.String()), " ") }

const negative = "\nns dc1.cns.internal. 5 IN SOA ns.dc1.cns.internal. hostmaster.dc1.cns.internal. 42 60 10 604800 5"

func TestQuestions(t *testing.T) {
	tests := []struct {
		name  string
		qname string
		qtype uint16
		want  string
	}{
		{"A", "web.inst.admin." + apex, dns.TypeA, "NOERROR aa\nweb.inst.admin.dc1.cns.internal. 30 IN A 10.1.2.3"},
		{"case is kept in the answer, ignored in the question (RFC 4343)", "WeB.inst.ADMIN." + apex, dns.TypeA, "NOERROR aa\nWeB.inst.ADMIN.dc1.cns.internal. 30 IN A 10.1.2.3"},
		{"AAAA without one", "web.inst.admin." + apex, dns.TypeAAAA, "NOERROR aa" + negative},
		{"empty non-terminal", "svc.admin." + apex, dns.TypeA, "NOERROR aa" + negative},
		{"NXDOMAIN", "nope.svc.admin." + apex, dns.TypeA, "NXDOMAIN aa" + negative},
		{"SRV", "web.svc.admin." + apex, dns.TypeSRV, "NOERROR aa\nweb.svc.admin.dc1.cns.internal. 30 IN SRV 0 0 80 web.inst.admin.dc1.cns.internal.\n+ web.inst.admin.dc1.cns.internal. 30 IN A 10.1.2.3"},
		{"PTR", "3.2.1.10.in-addr.arpa.", dns.TypePTR, "NOERROR aa\n3.2.1.10.in-addr.arpa. 30 IN PTR web.inst.admin.dc1.cns.internal."},
		{"SOA", apex, dns.TypeSOA, "NOERROR aa\ndc1.cns.internal. 30 IN SOA ns.dc1.cns.internal. hostmaster.dc1.cns.internal. 42 60 10 604800 5"},
		{"NS", apex, dns.TypeNS, "NOERROR aa\ndc1.cns.internal. 30 IN NS ns.dc1.cns.internal."},
		{"type nobody has", "web.svc.admin." + apex, 65280, "NOERROR aa" + negative},
		{"ANY", "web.svc.admin." + apex, dns.TypeANY, "REFUSED"},
		{"AXFR", apex, dns.TypeAXFR, "REFUSED"},
		{"elsewhere", "example.com.", dns.TypeA, "REFUSED"},
	}
	_, addr := start(t, example())
	for _, network := range []string{"udp", "tcp"} {
		for _, tc := range tests {
			t.Run(network+"/"+tc.name, func(t *testing.T) {
				assert.Equal(t, summary(ask(t, network, addr, question(tc.qname, tc.qtype))), tc.want)
			})
		}
	}
}

func TestRequestsThatAreNoQuestions(t *testing.T) {
	_, addr := start(t, example())
	chaos := question("version.bind.", dns.TypeTXT)
	chaos.Question[0].Qclass = dns.ClassCHAOS
	notify := new(dns.Msg).SetNotify(apex)
	none := question(apex, dns.TypeA)
	none.Question = nil
	badVersion := question(apex, dns.TypeSOA)
	badVersion.SetEdns0(1232, false)
	badVersion.IsEdns0().SetVersion(1)
	tests := []struct {
		name string
		req  *dns.Msg
		want int
	}{
		{"other class", chaos, dns.RcodeRefused},
		{"other opcode", notify, dns.RcodeNotImplemented},
		{"no question", none, dns.RcodeFormatError},
		{"EDNS version 1", badVersion, dns.RcodeBadVers},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			m := ask(t, "udp", addr, tc.req)
			assert.Equal(t, m.Rcode, tc.want)
			assert.Equal(t, m.Opcode, tc.req.Opcode)
		})
	}
}

func TestUnsureIsServfail(t *testing.T) {
	s, addr := start(t, nil)
	assert.Equal(t, ask(t, "udp", addr, question("web.svc.admin."+apex, dns.TypeA)).Rcode, dns.RcodeServerFailure)
	_, ours := s.Answer(t.Context(), question("web.svc.admin."+apex, dns.TypeA))
	assert.Assert(t, !ours)
}

func TestTruncation(t *testing.T) {
	_, addr := start(t, example())
	q := question("big.svc.admin."+apex, dns.TypeA)
	edns := q.Copy()
	edns.SetEdns0(4096, false)
	tests := []struct {
		name, network string
		req           *dns.Msg
		size          int
		truncated     bool
	}{
		{"plain UDP", "udp", q, 512, true},
		{"EDNS asks for more than we send", "udp", edns, 1232, true},
		{"TCP has it all", "tcp", q, dns.MaxMsgSize, false},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			m := ask(t, tc.network, addr, tc.req)
			assert.Equal(t, m.Truncated, tc.truncated)
			m.Compress = true
			packed, err := m.Pack()
			assert.NilError(t, err)
			assert.Assert(t, len(packed) <= tc.size, len(packed))
			assert.Equal(t, len(m.Answer) == 200, !tc.truncated)
			assert.Equal(t, m.IsEdns0() != nil, tc.req.IsEdns0() != nil)
		})
	}
}

func TestAnswersAreCounted(t *testing.T) {
	s, addr := start(t, example())
	for _, qtype := range []uint16{dns.TypeA, dns.TypeA, 65280, dns.TypeANY} {
		ask(t, "udp", addr, question("web.svc.admin."+apex, qtype))
	}
	ask(t, "tcp", addr, question("nope."+apex, dns.TypeAAAA))
	assert.NilError(t, testutil.CollectAndCompare(s, strings.NewReader(`
# HELP nereid_dns_answers_total DNS answers of the name service by type asked for and code.
# TYPE nereid_dns_answers_total counter
nereid_dns_answers_total{code="NOERROR",type="A"} 2
nereid_dns_answers_total{code="NOERROR",type="other"} 1
nereid_dns_answers_total{code="NXDOMAIN",type="AAAA"} 1
nereid_dns_answers_total{code="REFUSED",type="ANY"} 1
`), "nereid_dns_answers_total"))
}

func TestAnswersRotate(t *testing.T) {
	_, addr := start(t, example())
	first := map[string]bool{}
	for range 10 {
		m := ask(t, "tcp", addr, question("big.svc.admin."+apex, dns.TypeA))
		first[m.Answer[0].(*dns.A).A.String()] = true
	}
	assert.Equal(t, len(first), 10)
}

func TestAnswerInProcess(t *testing.T) {
	s, _ := start(t, example())
	m, ours := s.Answer(t.Context(), question("Web.svc.admin."+apex, dns.TypeA))
	assert.Assert(t, ours)
	assert.Equal(t, summary(m), "NOERROR aa\nWeb.svc.admin.dc1.cns.internal. 30 IN A 10.1.2.3")
	m, ours = s.Answer(t.Context(), question("nope."+apex, dns.TypeA))
	assert.Assert(t, ours)
	assert.Equal(t, m.Rcode, dns.RcodeNameError)
	_, ours = s.Answer(t.Context(), question("example.com.", dns.TypeA))
	assert.Assert(t, !ours)
	_, ours = s.Answer(t.Context(), new(dns.Msg))
	assert.Assert(t, !ours)
}

// TestGarbageLeavesOthersServed: what cannot be read gets an error or silence, and the next client its answer.
func TestGarbageLeavesOthersServed(t *testing.T) {
	_, addr := start(t, example())
	q, err := question("web.svc.admin."+apex, dns.TypeA).Pack()
	assert.NilError(t, err)
	response := append([]byte{}, q...)
	response[2] |= 0x80
	loop := append(append([]byte{}, q[:12]...), 0xc0, 12, 0, 1, 0, 1) // a name that points to itself
	for i, packet := range [][]byte{{}, {1}, q[:11], q[:len(q)-1], response, loop, make([]byte, 65000)} {
		conn, err := net.Dial("udp", addr)
		assert.NilError(t, err)
		_, err = conn.Write(packet)
		assert.NilError(t, err, "packet %d", i)
		assert.NilError(t, conn.Close())
	}
	assert.Equal(t, ask(t, "udp", addr, question("web.svc.admin."+apex, dns.TypeA)).Rcode, dns.RcodeSuccess)
}

func TestSlowTCPClientHoldsNobodyBack(t *testing.T) {
	_, addr := start(t, example())
	slow, err := net.Dial("tcp", addr)
	assert.NilError(t, err)
	defer slow.Close()
	assert.NilError(t, binary.Write(slow, binary.BigEndian, uint16(500))) // and never the 500 bytes
	assert.Equal(t, ask(t, "tcp", addr, question("web.svc.admin."+apex, dns.TypeA)).Rcode, dns.RcodeSuccess)
}

func TestListenOnATakenPortOpensNothing(t *testing.T) {
	_, addr := start(t, example())
	s := server.New(fixed{example()}, server.Config{Listen: []string{"127.0.0.1:0", addr}}, zap.NewNop())
	assert.ErrorContains(t, s.Listen(t.Context()), addr)
	assert.Equal(t, len(s.Addrs()), 0)
}

// TestDig asks with the tool that operators use.
func TestDig(t *testing.T) {
	dig, err := exec.LookPath("dig")
	if err != nil {
		t.Skip("no dig on this machine")
	}
	_, addr := start(t, example())
	host, port, err := net.SplitHostPort(addr)
	assert.NilError(t, err)
	tests := []struct {
		args string
		want string
	}{
		{"+short web.svc.admin." + apex, "10.1.2.3\n"},
		{"+short +tcp web.svc.admin." + apex + " SRV", "0 0 80 web.inst.admin.dc1.cns.internal.\n"},
		{"+short -x 10.1.2.3", "web.inst.admin.dc1.cns.internal.\n"},
		{"+short +noedns web.svc.admin." + apex, "10.1.2.3\n"},
		{"+noall +comments nope." + apex, "status: NXDOMAIN"},
		{"+noall +comments svc.admin." + apex, "status: NOERROR"},
		{"+noall +comments example.com", "status: REFUSED"},
	}
	for _, tc := range tests {
		t.Run(tc.args, func(t *testing.T) {
			args := append([]string{"@" + host, "-p", port, "+tries=1", "+time=5", "+norec", "+nocookie"}, strings.Fields(tc.args)...)
			out, err := exec.CommandContext(t.Context(), dig, args...).CombinedOutput()
			assert.NilError(t, err, string(out))
			assert.Assert(t, strings.Contains(string(out), tc.want), string(out))
		})
	}
}

func TestStopEndsRun(t *testing.T) {
	s := server.New(fixed{example()}, server.Config{Listen: []string{"127.0.0.1:0"}}, zap.NewNop())
	assert.NilError(t, s.Listen(t.Context()))
	addr := s.Addrs()[0].String()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	idle, err := net.Dial("tcp", addr)
	assert.NilError(t, err)
	defer idle.Close()
	assert.Equal(t, ask(t, "udp", addr, question(apex, dns.TypeSOA)).Rcode, dns.RcodeSuccess)
	cancel()
	select {
	case err := <-done:
		assert.NilError(t, err)
	case <-time.After(time.Minute):
		t.Fatal("Run did not return")
	}
	c := &dns.Client{Timeout: 200 * time.Millisecond}
	_, _, err = c.Exchange(question(apex, dns.TypeSOA), addr)
	assert.Assert(t, err != nil, fmt.Sprint("still answers on ", addr))
}
